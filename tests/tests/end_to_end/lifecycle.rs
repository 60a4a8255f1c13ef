//! The end, however it comes: TERM, a power cut, with or without a network.

use anyhow::{Context, Result};
use hark_tests::{Message, Mosquitto};
use serde_json::Value;

use crate::LIMIT;
use crate::alerts::payload;
use crate::hark::{Site, count};
use crate::node::{self, Node};

/// A port on which nobody listens: reserved, and never given out (RFC 6335).
const DEAD_BROKER: &str = "[mqtt]\nport = 1\n";

#[test]
fn term_ends_it_with_the_summary_and_exit_0() -> Result<()> {
    let broker = Mosquitto::start()?;
    let live = format!("[mqtt]\nport = {}\n", broker.port());
    check_term(&live).context("with a broker")?;
    check_term(DEAD_BROKER).context("without a broker")
}

/// Stops hark while it listens to a node, an MQTT topic and a port that does
/// not exist.
fn check_term(mqtt: &str) -> Result<()> {
    let (folder, link) = node::link()?;
    let sources = format!(
        "{}\n[[sources]]\nname = \"absent\"\nkind = \"serial\"\nport = \"{}\"\n\
         [[sources]]\nname = \"mqtt\"\nkind = \"mqtt\"\ntopics = [\"sensors/{{sensor}}\"]\n",
        node::source(&link),
        folder.path().join("absent").display()
    );
    let site = Site::with(mqtt, &sources)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    node.settle(9.0)?;
    hark.wait_for_alerts(1)?;
    let down = hark.wait_for_event("the absent port", |event| {
        event["event"] == "link_down" && event["source"] == "absent"
    })?;
    let reason = down["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("absent"), "the port is not named: {reason}");

    let ended = hark.terminate()?;
    let summary = ended.summary()?;
    assert_eq!(count(&summary, "readings"), node.readings());
    assert_eq!(count(&summary, "alerts"), 1);
    assert_eq!(count(&summary, "sources.absent.connects"), 0);
    assert_eq!(count(&summary, "sources.line.connects"), 1);
    // One line for the alert, one for the summary.
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
    // A broker that is away is told of once, not at every try.
    let complaints = ended.stderr.matches("alerts wait").count();
    let is_live = mqtt != DEAD_BROKER;
    assert_eq!(complaints, usize::from(!is_live), "{}", ended.stderr);
    let (published, waiting) = (u64::from(is_live), u64::from(!is_live));
    assert_eq!(count(&summary, "outputs.alerts_published"), published);
    assert_eq!(count(&summary, "outputs.alerts_waiting"), waiting);
    Ok(())
}

#[test]
fn the_status_tells_a_stop_from_a_power_cut() -> Result<()> {
    for protocol in ["5", "3.1.1"] {
        check_status(protocol).with_context(|| format!("MQTT {protocol}"))?;
    }
    Ok(())
}

fn check_status(protocol: &str) -> Result<()> {
    let broker = Mosquitto::start()?;
    let status = broker.subscribe("hark/v1/gateway/status")?;
    let mqtt = format!(
        "[mqtt]\nport = {}\nprotocol = \"{protocol}\"\n",
        broker.port()
    );
    let site = Site::with(
        &mqtt,
        "[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n",
    )?;
    let hark = site.run()?;
    expect_state(&status.next(LIMIT)?, "online")?;
    hark.terminate()?.summary()?;
    expect_state(&status.next(LIMIT)?, "stopped")?;

    let hark = site.run()?;
    expect_state(&status.next(LIMIT)?, "online")?;
    hark.kill()?;
    expect_state(&status.next(LIMIT)?, "offline")?;
    let kept = broker.subscribe("hark/v1/gateway/status")?.next(LIMIT)?;
    assert!(kept.is_retained);
    expect_state(&kept, "offline")
}

fn expect_state(message: &Message, state: &str) -> Result<()> {
    let status: Value = payload(message)?;
    assert_eq!(status["state"], state, "{status}");
    assert_eq!(status["device"], "gateway", "{status}");
    Ok(())
}

#[test]
fn a_time_limit_ends_it_as_well() -> Result<()> {
    let site = Site::with(
        DEAD_BROKER,
        "[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n",
    )?;
    let summary = site
        .finish(&["run", "--config", "hark.toml", "--json", "--for", "300ms"])?
        .summary()?;
    assert_eq!(count(&summary, "readings"), 0);
    Ok(())
}
