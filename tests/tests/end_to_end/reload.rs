//! What a reload keeps: windows, what the rules have learnt, alerts, who the nodes are.

use std::fs;

use anyhow::{Context, Result, ensure};
use hark_tests::{Mosquitto, Subscription, wait_until};
use serde_json::{Value, json};

use crate::alerts::payload;
use crate::bundle::{self, HIGH, LOW};
use crate::hark::{Hark, Site, count};
use crate::node::{self, Node};
use crate::{LIMIT, systemd::Manager};

/// More than the rule learns from before it has an opinion.
const LEARNT: u32 = 140;
const ALERT: &str = "hark/v1/gateway/alert/press-1";

/// A site that publishes its verdicts, whose sensors are not to be called silent.
fn site(broker: &Mosquitto, source: &str) -> Result<Site> {
    let mqtt = format!("[mqtt]\nverdicts = true\nport = {}\n", broker.port());
    Site::with(&mqtt, &format!("{source}silent_after_ms = 0\n"))
}

fn manifest() -> String {
    format!("{}/manifest.toml", bundle::NAME)
}

/// Changes a file of the site: `from`, which is there once, to `to`.
fn edit(site: &Site, file: &str, from: &str, to: &str) -> Result<()> {
    let path = site.path().join(file);
    let text = fs::read_to_string(&path)?;
    ensure!(text.matches(from).count() == 1, "{from:?} in {text}");
    fs::write(path, text.replacen(from, to, 1))?;
    Ok(())
}

/// Reloads, and waits until the source listens again.
fn reload(hark: &mut Hark) -> Result<()> {
    hark.signal("HUP")?;
    wait_until(LIMIT, "the link after the reload", || {
        let events = hark.events();
        let links = events.iter().filter(|event| event["event"] == "link_up");
        (links.count() == 2).then_some(())
    })
}

fn event(hark: &Hark, name: &str) -> Result<Value> {
    hark.wait_for_event(name, |event| event["event"] == name)
}

/// The next `count` verdicts: sequence, rung and score of each.
fn verdicts(heard: &Subscription, count: usize) -> Result<Vec<[Value; 3]>> {
    let verdicts = (0..count).map(|_| {
        let verdict = payload(&heard.next(LIMIT)?)?;
        Ok(["seq", "rung", "score"].map(|key| verdict[key].clone()))
    });
    verdicts.collect()
}

/// Nothing went into a window that was not due, after the last reload.
fn check_no_filling(hark: Hark) -> Result<()> {
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "filling"), 0, "{summary}");
    assert_eq!(count(&summary, "rejected"), 0, "{summary}");
    Ok(())
}

/// What the rule says of a stream, with or without a reload before its last readings.
/// The model has expired, so that every verdict is the rule's.
fn rule_scores(is_reloaded: bool) -> Result<Vec<[Value; 3]>> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/verdict/press-1")?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &node::source(&link))?;
    let version = "version = \"1.0.0\"";
    let expired = format!("{version}\nvalid_until = \"2020-01-01T00:00:00Z\"");
    edit(&site, &manifest(), version, &expired)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut hark = site.run()?;
    node.meet()?;
    (0..LEARNT).try_for_each(|n| node.send((n % 7) as f32))?;
    let mut said = verdicts(&heard, LEARNT as usize - 1)?;
    if is_reloaded {
        // Neither is what windows and rules depend on.
        let deadline = "data_dir = \"data\", deadline_ms = 20";
        edit(&site, "hark.toml", "data_dir = \"data\"", deadline)?;
        edit(&site, "hark.toml", "reconnect_ms_max = 200", "baud = 9600")?;
        reload(&mut hark)?;
        let kept = event(&hark, "sensors_kept")?;
        assert_eq!(kept["source"], "line", "{kept}");
        assert_eq!(kept["sensors"], 1, "{kept}");
        // No Hello: the node does not know of any reload.
        node.wait_for_reader()?;
    }
    (0..5).try_for_each(|n| node.send(n as f32 * 3.0))?;
    said.extend(verdicts(&heard, 5)?);
    if is_reloaded {
        check_no_filling(hark)?;
    }
    Ok(said)
}

#[test]
fn a_reload_in_the_middle_of_a_window_keeps_it_and_what_the_rule_has_learnt() -> Result<()> {
    let expected = rule_scores(false)?;
    let last = expected.last().context("verdicts")?;
    assert_eq!(last[1], "rule", "{last:?}");
    ensure!(last[2].as_f64() > Some(0.0), "it has an opinion: {last:?}");
    assert_eq!(rule_scores(true)?, expected);
    Ok(())
}

#[test]
fn a_reload_that_changes_the_pipeline_begins_anew_and_says_so() -> Result<()> {
    let broker = Mosquitto::start()?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut hark = site.run()?;
    node.meet()?;
    node.settle(LOW)?;
    edit(&site, &manifest(), "max = 100.0", "max = 90.0")?;
    reload(&mut hark)?;
    let anew = event(&hark, "sensors_anew")?;
    assert_eq!(anew["source"], "line", "{anew}");
    assert_eq!(anew["reason"], "the schema changed", "{anew}");
    hark.wait_for_stderr("windows and rules begin anew: the schema changed")?;
    node.meet()?;
    node.settle(LOW)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "filling"), 1, "{summary}");
    Ok(())
}

#[test]
fn a_reload_that_replaces_the_model_keeps_windows_and_alerts() -> Result<()> {
    let broker = Mosquitto::start()?;
    let verdicts = broker.subscribe("hark/v1/gateway/verdict/press-1")?;
    let alerts = broker.subscribe(ALERT)?;
    let source = "[[sources]]\nname = \"plant\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n";
    let site = site(&broker, source)?;
    let mut hark = site.run()?;
    let publish = |seq: u32, level: f32| {
        let reading = format!(r#"{{"seq":{seq},"values":{{"level":{level},"flow":0}}}}"#);
        let topic = if seq < 3 { "s/press-1" } else { "t/press-1" };
        broker.publish_bytes(topic, reading.as_bytes())?;
        anyhow::Ok(())
    };
    hark.wait_for_link("plant")?;
    (0..3).try_for_each(|seq| publish(seq, HIGH))?;
    assert_eq!(payload(&alerts.next(LIMIT)?)?["state"], "raised");
    self::verdicts(&verdicts, 2)?;

    // Another file, another threshold, another topic, the same features.
    bundle::write_with(site.path(), &bundle::chain(3), &bundle::golden(3.0))?;
    edit(&site, &manifest(), "threshold = 5.0", "threshold = 6.0")?;
    edit(&site, "hark.toml", "s/{sensor}", "t/{sensor}")?;
    reload(&mut hark)?;
    event(&hark, "sensors_kept")?;
    publish(3, HIGH)?;
    let verdict = payload(&verdicts.next(LIMIT)?)?;
    let found = ["seq", "rung", "state"].map(|key| &verdict[key]);
    assert_eq!(json!(found), json!([3, "model", "raised"]), "{verdict}");
    (4..8).try_for_each(|seq| publish(seq, LOW))?;
    let cleared = payload(&alerts.next(LIMIT)?)?;
    assert_eq!(cleared["state"], "cleared", "not raised again: {cleared}");
    assert_eq!(cleared["threshold"], 6.0, "{cleared}");
    self::verdicts(&verdicts, 4)?;
    check_no_filling(hark)
}

#[test]
fn a_reload_that_fails_keeps_everything() -> Result<()> {
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = Site::new(&(node::source(&link) + "silent_after_ms = 0\n"))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut hark = manager.run(&site, &[])?;
    manager.wait_for("READY=1")?;
    node.meet()?;
    node.settle(HIGH)?;
    hark.wait_for_alerts(1)?;
    // Sound, but for what only a start can find out.
    edit(
        &site,
        "hark.toml",
        "inherit = \"base.toml\"",
        "inherit = \"base.toml\"\nwatchdog.device = \"/dev/null\"",
    )?;
    reload(&mut hark)?;
    hark.wait_for_stderr("/dev/null is not a watchdog")?;
    event(&hark, "sensors_kept")?;
    node.wait_for_reader()?;
    node.settle(HIGH)?;
    node.settle(LOW)?;
    let alerts = hark.wait_for_alerts(2)?;
    assert_eq!(alerts[1]["state"], "cleared", "{alerts:?}");
    check_no_filling(hark)
}
