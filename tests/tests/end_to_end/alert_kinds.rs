//! Alerts that no score brings, as an operator's `mosquitto_sub` sees them.

use std::fs;

use anyhow::Result;
use hark_tests::{Mosquitto, Subscription};
use serde_json::Value;

use crate::LIMIT;
use crate::alerts::payload;
use crate::bundle::LOW;
use crate::hark::{Site, count};
use crate::node::{self, ENOUGH, Node};

/// A level beyond the schema's 100 bar.
const BEYOND: f32 = 150.0;

/// The next alert, which must be of this kind and state, on the topic for that.
fn next(heard: &Subscription, sensor: &str, kind: &str, state: &str) -> Result<Value> {
    let message = heard.next(LIMIT)?;
    assert_eq!(
        message.topic,
        format!("hark/v1/gateway/alert/{sensor}/{kind}")
    );
    let alert = payload(&message)?;
    for (name, expected) in [
        ("kind", kind),
        ("state", state),
        ("sensor", sensor),
        ("source", "line"),
        ("time_of", "receipt"),
    ] {
        assert_eq!(alert[name], expected, "{alert}");
    }
    let time = alert["time"].as_str().unwrap_or_default();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{alert}");
    Ok(alert)
}

#[test]
fn values_out_of_range_raise_an_alert_with_channel_value_and_limit() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/#")?;
    let (_folder, link) = node::link()?;
    let site = Site::at(&broker, &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    node.settle(LOW)?;
    node.settle(BEYOND)?;
    let raised = next(&heard, "press-1", "range", "raised")?;
    assert_eq!(raised["channel"], "level", "{raised}");
    assert_eq!(raised["value"], 150.0, "{raised}");
    assert_eq!(raised["limit"], 100.0, "{raised}");
    assert_eq!(raised["reason"], "range", "{raised}");
    assert_eq!(raised["seq"], ENOUGH + 1, "the second of two: {raised}");
    node.settle(LOW)?;
    let cleared = next(&heard, "press-1", "range", "cleared")?;
    assert_eq!(cleared["value"], LOW, "{cleared}");
    let logged = hark.wait_for_alerts(2)?;
    assert_eq!(logged[0]["kind"], "range");
    let ended = hark.terminate()?;
    assert_eq!(ended.stdout.matches(r#""kind":"range""#).count(), 2);
    let summary = ended.summary()?;
    assert_eq!(count(&summary, "rejected"), u64::from(ENOUGH));
    assert_eq!(count(&summary, "alerts"), 1, "{summary}");
    assert_eq!(count(&summary, "alerts_by_kind.range"), 1, "{summary}");
    Ok(())
}

#[test]
fn a_silent_sensor_and_an_unplugged_line_are_told_and_cleared() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/#")?;
    let links = broker.subscribe("hark/v1/gateway/link/line")?;
    let (_folder, link) = node::link()?;
    let source = node::source(&link) + "silent_after_ms = 1000\nlink_down_ms = 2000\n";
    let site = Site::at(&broker, &source)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    links.find(LIMIT, |message| {
        message
            .text()
            .is_ok_and(|text| text.contains(r#""state":"up""#))
    })?;
    node.settle(LOW)?;
    let silent = next(&heard, "press-1", "silent", "raised")?;
    assert!(count(&silent, "silent_ms") >= 1000, "{silent}");
    node.settle(LOW)?;
    next(&heard, "press-1", "silent", "cleared")?;
    drop(node);
    next(&heard, "press-1", "silent", "raised")?;
    let away = next(&heard, "line", "link", "raised")?;
    assert!(count(&away, "down_ms") >= 2000, "{away}");
    assert!(away["reason"].is_string(), "{away}");
    links.find(LIMIT, |message| {
        message
            .text()
            .is_ok_and(|text| text.contains(r#""state":"down""#))
    })?;
    let mut node = Node::plug_in(&link, "press-1")?;
    node.meet()?;
    node.settle(LOW)?;
    let both = [heard.next(LIMIT)?, heard.next(LIMIT)?];
    for message in &both {
        assert_eq!(payload(message)?["state"], "cleared", "{both:?}");
    }
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts_by_kind.silent"), 2, "{summary}");
    assert_eq!(count(&summary, "alerts_by_kind.link"), 1, "{summary}");
    Ok(())
}

#[test]
fn a_configured_sensor_that_nobody_has_ever_heard_is_told_as_silent() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/#")?;
    let source = format!(
        "[[sources]]\nname = \"line\"\nkind = \"mqtt\"\ntopics = [\"presses/1\"]\n\
         sensor = \"press-1\"\nport = {}\nsilent_after_ms = 300\n",
        broker.port()
    );
    let site = Site::at(&broker, &source)?;
    let hark = site.run()?;
    let silent = next(&heard, "press-1", "silent", "raised")?;
    assert!(count(&silent, "silent_ms") >= 300, "{silent}");
    broker.publish("presses/1", r#"{"level":1,"flow":0}"#)?;
    let cleared = next(&heard, "press-1", "silent", "cleared")?;
    assert!(cleared["silent_ms"].is_null(), "{cleared}");
    hark.terminate()?;
    Ok(())
}

#[test]
fn a_replay_names_row_and_time_of_each_alert() -> Result<()> {
    let site = Site::new("")?;
    let row = |n: u32| {
        let level = if (10..20).contains(&n) { BEYOND } else { LOW };
        format!("2024-02-29T12:00:{n:02}Z,{level},0\n")
    };
    let rows: String = (0..30).map(row).collect();
    fs::write(
        site.path().join("rec.csv"),
        format!("ts,level,flow\n{rows}"),
    )?;
    let text = site.finish(&["replay", "rec.csv", "--model", "level"])?;
    let [raised, cleared, ..] = &text.stdout.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", text.stdout)
    };
    assert!(
        raised.starts_with(
            "RAISED recording: range: level = 150, limit 100, reading -, row 12, \
             at 2024-02-29T12:00:11Z, alert "
        ),
        "{raised}"
    );
    assert!(
        cleared.starts_with("CLEARED recording: range: level = 1,"),
        "{cleared}"
    );
    assert!(
        cleared.contains("row 22, at 2024-02-29T12:00:21Z"),
        "{cleared}"
    );
    let json = site.finish(&["replay", "rec.csv", "--model", "level", "--json"])?;
    let first: Value = serde_json::from_str(json.stdout.lines().next().unwrap_or_default())?;
    let id = first["id"].as_str().unwrap_or_default();
    assert!(
        raised.ends_with(&format!("alert {id}")),
        "{raised}: {first}"
    );
    assert_eq!(first["row"], 12, "{first}");
    assert_eq!(first["time"], "2024-02-29T12:00:11Z", "{first}");
    assert_eq!(first["time_of"], "reading", "{first}");
    Ok(())
}
