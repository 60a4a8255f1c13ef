//! What the broker keeps is true after any end and start of hark, and what it has not
//! taken is not lost.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_tests::{Message, Mosquitto, Persistence, Subscription};

use crate::LIMIT;
use crate::alerts::payload;
use crate::bundle::{HIGH, LOW};
use crate::hark::{Hark, Site, count};
use crate::node::{self, Node};

/// What the issue grants from the first verdict to the cleared state.
const CLEARED_WITHIN: Duration = Duration::from_secs(5);
const TOPIC: &str = "hark/v1/gateway/alert/press-1";
const LINK: &str = "hark/v1/gateway/link/line";
/// What deletes a retained message.
const EMPTY: &str = "";

/// A site whose node sends by hand: it is not to be called silent meanwhile.
fn site(broker: &Mosquitto, link: &std::path::Path) -> Result<Site> {
    Site::at(broker, &(node::source(link) + "silent_after_ms = 0\n"))
}

fn is(state: &str) -> impl Fn(&Message) -> bool {
    let state = format!(r#""state":"{state}""#);
    move |message| message.text().is_ok_and(|text| text.contains(&state))
}

/// The state that the broker keeps.
fn retained(broker: &Mosquitto, topic: &str) -> Result<String> {
    let kept = broker.subscribe(topic)?.next(LIMIT)?;
    ensure!(kept.is_retained, "{kept:?}");
    Ok(payload(&kept)?["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Raises the alert of the node.
fn raise(node: &mut Node, hark: &Hark) -> Result<()> {
    node.meet()?;
    node.settle(HIGH)?;
    hark.wait_for_alerts(1)?;
    Ok(())
}

#[test]
fn an_alert_that_is_over_after_a_kill_is_cleared() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe(TOPIC)?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    raise(&mut node, &hark)?;
    heard.find(LIMIT, is("raised"))?;
    // Else it would be published again: at least once.
    hark.wait_for_file("data/standing.jsonl", r#"{"sent":"#)?;
    hark.kill()?;

    let hark = site.run()?;
    node.meet()?;
    node.settle(LOW)?;
    let cleared = heard.next(CLEARED_WITHIN)?;
    ensure!(is("cleared")(&cleared), "{cleared:?}");
    assert_eq!(retained(&broker, TOPIC)?, "cleared");
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 0, "nothing rose: {summary}");
    Ok(())
}

#[test]
fn an_alert_that_still_holds_after_a_kill_is_not_raised_again() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/#")?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    raise(&mut node, &hark)?;
    heard.find(LIMIT, is("raised"))?;
    // Else it would be published again: at least once.
    hark.wait_for_file("data/standing.jsonl", r#"{"sent":"#)?;
    hark.kill()?;

    let hark = site.run()?;
    node.meet()?;
    node.settle(HIGH)?;
    node.settle(HIGH)?;
    // The next that is heard is the end of it.
    node.settle(LOW)?;
    let next = heard.next(LIMIT)?;
    ensure!(is("cleared")(&next), "{next:?}");
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn an_alert_raised_while_the_broker_is_away_outlives_a_kill() -> Result<()> {
    let mut broker = Mosquitto::start_with(Persistence::On)?;
    let heard = broker.subscribe_with_session("hark/v1/+/alert/+", "operator")?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    broker.kill()?;
    raise(&mut node, &hark)?;
    // The log is synced by a thread of its own: the journal may be a moment behind.
    hark.wait_for_file("data/standing.jsonl", r#"\"state\":\"raised\""#)?;
    hark.kill()?;

    broker.restart_on_same_port()?;
    let hark = site.run()?;
    node.meet()?;
    node.settle(LOW)?;
    let raised = heard.next(LIMIT)?;
    ensure!(is("raised")(&raised), "{raised:?}");
    heard.find(CLEARED_WITHIN, is("cleared"))?;
    assert_eq!(retained(&broker, TOPIC)?, "cleared");
    hark.terminate()?.summary()?;
    Ok(())
}

/// How hark goes on with its alerts.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Term,
    Hup,
}

#[test]
fn stop_and_reload_lose_no_alert_that_waits_for_the_broker() -> Result<()> {
    check_turn(Turn::Term).context("TERM")?;
    check_turn(Turn::Hup).context("HUP")
}

fn check_turn(turn: Turn) -> Result<()> {
    let mut broker = Mosquitto::start_with(Persistence::On)?;
    let heard = broker.subscribe_with_session("hark/v1/+/alert/+", "operator")?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut hark = site.run()?;
    node.meet()?;
    broker.stop()?;
    raise(&mut node, &hark)?;
    let hark = match turn {
        Turn::Term => {
            let summary = hark.terminate()?.summary()?;
            assert_eq!(count(&summary, "outputs.alerts_waiting"), 1, "{summary}");
            assert_eq!(count(&summary, "outputs.alerts_unsaved"), 0, "{summary}");
            site.run()?
        }
        Turn::Hup => {
            hark.signal("HUP")?;
            hark.wait_for_stderr("serving by the new configuration")?;
            hark
        }
    };
    broker.restart_on_same_port()?;
    let raised = heard.next(LIMIT)?;
    ensure!(is("raised")(&raised), "{raised:?}");
    node.meet()?;
    node.settle(LOW)?;
    // Whoever subscribes anew is told the retained state once more.
    heard.find(LIMIT, is("cleared"))?;
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn what_is_no_longer_configured_is_emptied() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/#")?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut hark = site.run()?;
    raise(&mut node, &hark)?;
    find_all(&heard, &[(TOPIC, "raised"), (LINK, "up")])?;

    let config = site.path().join("hark.toml");
    let renamed = fs::read_to_string(&config)?.replace("name = \"line\"", "name = \"other\"");
    fs::write(&config, renamed)?;
    hark.signal("HUP")?;
    find_all(
        &heard,
        &[
            (TOPIC, EMPTY),
            (LINK, EMPTY),
            ("hark/v1/gateway/ladder/line", EMPTY),
            ("hark/v1/gateway/link/other", "up"),
        ],
    )?;
    let cleared = hark.wait_for_event("the end of the alert", |event| {
        event["event"] == "alert" && event["state"] == "cleared"
    })?;
    assert_eq!(cleared["reason"], "it is no longer configured", "{cleared}");
    hark.terminate()?.summary()?;
    Ok(())
}

/// Waits until each of these topics has had this state, in whatever order.
fn find_all(heard: &Subscription, wanted: &[(&str, &str)]) -> Result<()> {
    let mut left = wanted.to_vec();
    while !left.is_empty() {
        let message = heard
            .next(LIMIT)
            .with_context(|| format!("before {left:?}"))?;
        left.retain(|(topic, state)| {
            let is_it = match *state {
                EMPTY => message.payload.is_empty(),
                state => is(state)(&message),
            };
            message.topic != *topic || !is_it
        });
    }
    Ok(())
}

#[test]
fn a_damaged_file_of_standing_alerts_is_told_and_set_aside() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let data = site.path().join("data");
    fs::create_dir(&data)?;
    fs::write(data.join("standing.jsonl"), "\u{0}\u{1}garbage\nmore\n")?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    hark.wait_for_stderr("standing.jsonl.damaged")?;
    raise(&mut node, &hark)?;
    hark.terminate()?.summary()?;
    let kept = fs::read_to_string(data.join("standing.jsonl"))?;
    assert!(kept.contains("press-1"), "{kept}");
    assert!(data.join("standing.jsonl.damaged").exists());
    Ok(())
}
