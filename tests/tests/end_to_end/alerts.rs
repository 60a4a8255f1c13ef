//! From a fault on a serial line to an alert on MQTT and back, by the built-in
//! model.

use std::fs;

use anyhow::{Context, Result, ensure};
use hark_tests::{Message, Mosquitto, Subscription};
use serde_json::Value;

use crate::LIMIT;
use crate::hark::{Site, count};
use crate::node::{self, Node};

/// A bearing that fails after 20 s for 40 s, and time to recover; played in
/// four seconds.
const PUMP: [&str; 10] = [
    "--sensor",
    "pump-9",
    "--speed",
    "30",
    "--for",
    "120s",
    "--fault",
    "outer_race@20s+40s",
    "--seed",
    "5",
];

/// What design.md says that each alert carries.
const FIELDS: [&str; 11] = [
    "sensor",
    "seq",
    "ts",
    "score",
    "threshold",
    "state",
    "rung",
    "model",
    "deadline",
    "latency_us",
    "source",
];

#[test]
fn a_fault_on_a_serial_line_raises_an_alert_on_mqtt() -> Result<()> {
    check_fault("5").context("MQTT 5")?;
    check_fault("3.1.1").context("MQTT 3.1.1")
}

fn check_fault(protocol: &str) -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/+/alert/+")?;
    let (_folder, link) = node::link()?;
    let site = Site::new("")?;
    let config = format!(
        "inherit = \"base.toml\"\ndevice = {{ name = \"gateway\", data_dir = \"data\" }}\n\
         mqtt = {{ port = {}, protocol = \"{protocol}\" }}\n{}",
        broker.port(),
        node::source(&link)
    );
    fs::write(site.path().join("hark.toml"), config)?;
    let hark = site.run()?;
    let pump = Site::new("")?;
    let path = link.to_str().context("a path of text")?;
    let pump = pump.start(&[["simulate", "--pty", path].as_slice(), &PUMP].concat())?;

    let raised = next_alert(&heard, "raised")?;
    let cleared = next_alert(&heard, "cleared")?;
    ensure!(count(&raised, "seq") >= 200, "before the fault: {raised}");
    ensure!(count(&cleared, "seq") >= 600, "during the fault: {cleared}");
    pump.wait()?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 1, "{summary}");
    assert_eq!(count(&summary, "outputs.alerts_published"), 2, "{summary}");
    assert!(count(&summary, "scored") > 0);
    assert_eq!(count(&summary, "rejected"), 0, "{summary}");

    let late = broker.subscribe("hark/v1/gateway/alert/pump-9")?;
    let kept = late.next(LIMIT)?;
    assert!(kept.is_retained);
    assert_eq!(payload(&kept)?, cleared);
    Ok(())
}

fn next_alert(heard: &Subscription, state: &str) -> Result<Value> {
    let message = heard.next(LIMIT)?;
    assert_eq!(message.topic, "hark/v1/gateway/alert/pump-9");
    let alert = payload(&message)?;
    for field in FIELDS {
        assert!(!alert[field].is_null(), "no {field} in {alert}");
    }
    assert_eq!(alert["state"], state, "{alert}");
    assert_eq!(alert["sensor"], "pump-9");
    assert_eq!(alert["source"], "line");
    assert_eq!(alert["deadline"], "met");
    let model = &alert["model"];
    assert_eq!(model["name"], "pump-rig");
    assert!(model["version"].as_str().is_some_and(|v| !v.is_empty()));
    assert_eq!(model["sha256"].as_str().map(str::len), Some(64));
    let is_above = alert["score"].as_f64() > alert["threshold"].as_f64();
    assert_eq!(is_above, state == "raised", "{alert}");
    Ok(alert)
}

pub(crate) fn payload(message: &Message) -> Result<Value> {
    serde_json::from_str(message.text()?).with_context(|| format!("parsing {message:?}"))
}

#[test]
fn an_alert_rises_and_clears_at_the_very_reading() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/press-1")?;
    let (_folder, link) = node::link()?;
    let site = Site::at(&broker, &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    for level in [1.0, 1.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0] {
        node.send(level)?;
    }
    // Means of two: 1, 5, 9, 9, 5, 1, 1. Five is not above the threshold.
    let expected = [("raised", 4, 9.0), ("cleared", 7, 1.0)];
    for (state, sequence, score) in expected {
        let alert = payload(&heard.next(LIMIT)?)?;
        assert_eq!(alert["state"], state, "{alert}");
        assert_eq!(alert["seq"], sequence, "{alert}");
        assert_eq!(alert["ts"], sequence * 100_000, "{alert}");
        assert_eq!(alert["score"], score, "{alert}");
        assert_eq!(alert["rung"], "model", "{alert}");
    }
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "readings"), node.readings());
    assert_eq!(count(&summary, "scored"), 7);
    assert_eq!(count(&summary, "filling"), 1);
    Ok(())
}
