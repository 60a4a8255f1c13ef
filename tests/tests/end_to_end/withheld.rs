//! A model that cost a reset is not run again until its file changes or the operator
//! says so. The reset is played by a kill, once the watchdog is not fed any more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_tests::{Mosquitto, Subscription, wait_until};
use serde_json::Value;

use crate::LIMIT;
use crate::alerts::payload;
use crate::bundle::{self, LOW};
use crate::hark::{Hark, Site, count};
use crate::node::{self, Node};
use crate::systemd::Manager;

const ALERT: &str = "hark/v1/gateway/alert/line/model";
/// Its model hangs at every try, for as long as it runs.
const HANG: [&str; 6] = [
    "--inject",
    "hang",
    "--inject-after",
    "0s",
    "--inject-for",
    "1h",
];

/// A site whose first hanging thread is the last that may be lost.
fn site(broker: &Mosquitto, link: &Path) -> Result<Site> {
    let tables = format!(
        "ladder = {{ hang_ms = 200, threads_abandoned_max = 1, probe_ms_max = 1000 }}\n\
         [mqtt]\nverdicts = true\nport = {}\n",
        broker.port()
    );
    Site::with(&tables, &(node::source(link) + "silent_after_ms = 0\n"))
}

/// The names of the files that keep models from being run.
fn records(site: &Site, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(site.path().join("data/withheld"));
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(extension)).collect()
}

/// Runs hark until its model has cost every thread, and the watchdog starves.
fn hang(manager: &mut Manager, site: &Site, node: &mut Node) -> Result<Hark> {
    let hark = manager.run(site, &HANG)?;
    node.meet()?;
    wait_for(&hark, "fault_injected")?;
    node.settle(LOW)?;
    wait_for(&hark, "no_relief")?;
    wait_until(LIMIT, "the record", || {
        (records(site, ".json").len() == 1).then_some(())
    })?;
    Ok(hark)
}

fn wait_for(hark: &Hark, name: &str) -> Result<Value> {
    hark.wait_for_event(name, |event| event["event"] == name)
}

/// Waits for the alert of the model in this state.
fn next_alert(heard: &Subscription, state: &str) -> Result<Value> {
    let alert = payload(&heard.next(LIMIT)?)?;
    assert_eq!(alert["state"], state, "{alert}");
    assert_eq!(alert["kind"], "model", "{alert}");
    Ok(alert)
}

/// How long a verdict is waited for: the first reading of a window has none.
const VERDICT: Duration = Duration::from_millis(300);

/// Sends readings until a verdict is of this rung.
fn wait_for_rung(heard: &Subscription, node: &mut Node, rung: &str) -> Result<()> {
    wait_until(LIMIT, &format!("a verdict of the {rung}"), || {
        node.send(LOW).ok()?;
        let verdict = payload(&heard.next(VERDICT).ok()?).ok()?;
        (verdict["rung"] == rung).then_some(())
    })
}

#[test]
fn a_model_that_cost_a_reset_is_not_run_again_until_the_operator_says_so() -> Result<()> {
    let broker = Mosquitto::start()?;
    let alerts = broker.subscribe(ALERT)?;
    let verdicts = broker.subscribe("hark/v1/gateway/verdict/press-1")?;
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    hang(&mut manager, &site, &mut node)?.kill()?;

    // It would hang again.
    let hark = manager.run(&site, &HANG)?;
    let raised = next_alert(&alerts, "raised")?;
    assert_eq!(raised["rung"], "model", "{raised}");
    assert_eq!(raised["model"]["name"], bundle::NAME, "{raised}");
    let reason = raised["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("hark model retry level"), "{reason}");
    hark.wait_for_event("the step", |event| {
        event["event"] == "ladder" && event["reason"] == "withheld"
    })?;
    hark.wait_for_file("data/alerts.jsonl", "hark model retry level")?;
    hark.wait_for_file("stdout", "hark model retry level")?;
    node.meet()?;
    wait_for(&hark, "fault_injected")?;
    wait_for_rung(&verdicts, &mut node, "rule")?;
    manager.drain()?;
    for _ in 0..2 {
        manager.wait_for("WATCHDOG=1")?;
        wait_for_rung(&verdicts, &mut node, "rule")?;
    }
    let events = hark.events();
    let lost = events.iter().filter(|event| event["event"] == "no_relief");
    assert_eq!(lost.count(), 1, "of the first run alone");
    // Else it would be published again: at least once.
    hark.wait_for_file("data/standing.jsonl", r#"{"sent":"#)?;
    hark.kill()?;

    let hark = site.run()?;
    node.meet()?;
    wait_for_rung(&verdicts, &mut node, "rule")?;
    let retried = site.finish(&["model", "retry", "--config", "hark.toml", "other"])?;
    assert_eq!(retried.status.code(), Some(1));
    ensure!(retried.stderr.contains("level"), "{}", retried.stderr);
    let retried = site.finish(&["model", "retry", "--config", "hark.toml", "level"])?;
    ensure!(retried.status.success(), "{}", retried.stderr);
    wait_for_rung(&verdicts, &mut node, "model")?;
    // The next that is heard is its end: it was not raised again.
    next_alert(&alerts, "cleared")?;
    let kept = broker.subscribe(ALERT)?.next(LIMIT)?;
    ensure!(kept.is_retained, "{kept:?}");
    assert_eq!(payload(&kept)?["state"], "cleared");
    // What commands print went where hark's own output goes.
    hark.kill()
}

#[test]
fn a_model_whose_file_changed_is_run_again() -> Result<()> {
    let broker = Mosquitto::start()?;
    let alerts = broker.subscribe(ALERT)?;
    let verdicts = broker.subscribe("hark/v1/gateway/verdict/press-1")?;
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    hang(&mut manager, &site, &mut node)?.kill()?;
    let mut hark = site.run()?;
    next_alert(&alerts, "raised")?;
    bundle::write_with(site.path(), &bundle::chain(3), &bundle::golden(3.0))?;
    hark.signal("HUP")?;
    next_alert(&alerts, "cleared")?;
    hark.wait_for_stderr("serving by the new configuration")?;
    node.wait_for_reader()?;
    node.meet()?;
    wait_for_rung(&verdicts, &mut node, "model")?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 0, "nothing rose: {summary}");
    Ok(())
}

#[test]
fn a_stop_in_order_before_the_reset_withholds_nothing() -> Result<()> {
    let broker = Mosquitto::start()?;
    let verdicts = broker.subscribe("hark/v1/gateway/verdict/press-1")?;
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    hang(&mut manager, &site, &mut node)?.terminate()?;
    assert_eq!(records(&site, "").len(), 0);
    let hark = site.run()?;
    node.meet()?;
    wait_for_rung(&verdicts, &mut node, "model")?;
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_model_whose_load_ends_hark_each_time_is_withheld() -> Result<()> {
    let broker = Mosquitto::start()?;
    let (_folder, link) = node::link()?;
    let site = site(&broker, &link)?;
    bundle::write_slow(site.path())?;
    for unfinished in 1..=3 {
        let hark = site.run()?;
        wait_until(LIMIT, "the note of the load", || {
            let name = records(&site, ".loading").pop()?;
            let path = site.path().join("data/withheld").join(name);
            let begun: u32 = fs::read_to_string(path).ok()?.parse().ok()?;
            (begun == unfinished).then_some(())
        })?;
        hark.kill()?;
    }
    let hark = site.run()?;
    let raised = hark.wait_for_event("the alert", |event| event["kind"] == "model")?;
    let reason = raised["reason"].as_str().context("a reason")?;
    ensure!(reason.contains("while it was loaded"), "{reason}");
    hark.terminate()?.summary().map(drop)
}
