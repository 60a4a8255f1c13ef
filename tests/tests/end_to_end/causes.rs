//! Why an alert was raised, in the alert and by `hark explain`.

use std::fs;

use anyhow::{Context, Result};
use hark_tests::Mosquitto;
use serde_json::Value;

use crate::LIMIT;
use crate::alerts::payload;
use crate::bundle::{HIGH, LOW};
use crate::hark::{Site, count};
use crate::node::{self, Node};

/// The built-in pump, as a recording that hark listens to.
const CONFIG: &str = r#"
device = { name = "gateway", data_dir = "data" }
mqtt.enabled = false
[[sources]]
name = "pump"
kind = "file"
path = "rec.csv"
"#;
/// From this row on one channel is disturbed.
const DISTURBED_FROM: usize = 600;

/// Two minutes of a healthy pump, of which `channel` is `by` higher at the end.
fn record(site: &Site, channel: &str, by: f64) -> Result<()> {
    let args = ["simulate", "--csv", "healthy.csv", "--for", "120s"];
    assert!(site.finish(&args)?.status.success());
    let healthy = fs::read_to_string(site.path().join("healthy.csv"))?;
    let mut lines = healthy.lines();
    let header = lines.next().context("a recording has a header")?;
    let column = header.split(',').position(|name| name == channel);
    let column = column.context("a recording has the channel")?;
    let disturbed = lines.enumerate().map(|(row, line)| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if row >= DISTURBED_FROM {
            let value: f64 = cells[column].parse().expect("a cell is a number");
            cells[column] = (value + by).to_string();
        }
        cells.join(",") + "\n"
    });
    let recording: String = disturbed.collect();
    fs::write(
        site.path().join("rec.csv"),
        format!("{header}\n{recording}"),
    )?;
    fs::write(site.path().join("pump.toml"), CONFIG)?;
    Ok(())
}

fn first_channel(alert: &Value) -> &str {
    alert["causes"][0]["channel"].as_str().unwrap_or_default()
}

#[test]
fn the_disturbed_channel_is_the_first_cause_and_explain_shows_it() -> Result<()> {
    let site = Site::new("")?;
    record(&site, "temperature", 15.0)?;
    let hark = site.start(&["run", "--config", "pump.toml", "--json"])?;
    let alert = hark.wait_for_alerts(1)?.swap_remove(0);
    let ended = hark.terminate()?;
    assert!(
        ended
            .stdout
            .contains(r#""causes":[{"channel":"temperature""#)
    );
    assert_eq!(first_channel(&alert), "temperature", "{alert}");
    let first = &alert["causes"][0];
    assert!(first["share"].as_f64() > Some(0.8), "{alert}");
    let distance = first["value"].as_f64().zip(first["normal"].as_f64());
    assert!(distance.is_some_and(|(value, normal)| value - normal > 5.0));
    assert_eq!(first["unit"], "degC", "{alert}");

    let id = alert["id"].as_str().context("an alert has an id")?;
    for which in ["--last", id, &id[..6]] {
        let shown = site.finish(&["explain", which, "--config", "pump.toml"])?;
        assert!(shown.status.success(), "{}", shown.stderr);
        let mut causes = shown.stdout.lines().skip_while(|line| !line.is_empty());
        let first = causes.nth(2).unwrap_or_default();
        assert!(first.contains("temperature"), "{}", shown.stdout);
        assert!(shown.stdout.contains(&format!("alert {id}")));
    }
    let shown = site.finish(&["explain", "--last", "--data-dir", "data", "--json"])?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    assert_eq!(shown, alert);
    Ok(())
}

#[test]
fn a_replay_names_the_first_cause_and_can_be_explained() -> Result<()> {
    let site = Site::new("")?;
    record(&site, "pressure", -1.5)?;
    let text = site.finish(&["replay", "rec.csv"])?.stdout;
    let raised = text.lines().next().unwrap_or_default();
    assert!(raised.contains(", mainly pressure ("), "{raised}");
    let json = site.finish(&["replay", "rec.csv", "--json"])?.stdout;
    fs::write(site.path().join("alerts.jsonl"), json)?;
    let (_, id) = raised.rsplit_once("alert ").context("no identifier")?;
    let shown = site.finish(&["explain", id, "--file", "alerts.jsonl"])?;
    assert!(shown.stdout.contains("pressure"), "{}", shown.stderr);
    Ok(())
}

#[test]
fn each_verdict_says_why_where_that_is_asked_for() -> Result<()> {
    let site = Site::new("")?;
    record(&site, "flow", 60.0)?;
    let args = ["replay", "rec.csv", "--json", "--verdicts"];
    let silent = site.finish(&args)?.stdout;
    let asked = site.finish(&[&args[..], &["--causes"]].concat())?.stdout;
    let verdicts = |text: &str| -> Result<Vec<Value>> {
        let lines = text.lines().filter(|l| l.contains(r#""event":"verdict""#));
        Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    assert!(verdicts(&silent)?.iter().all(|v| v["causes"].is_null()));
    let asked = verdicts(&asked)?;
    assert!(asked.len() > 1_000);
    for verdict in &asked {
        let causes = verdict["causes"].as_array().context("causes")?;
        let shares: Option<Vec<f64>> = causes.iter().map(|c| c["share"].as_f64()).collect();
        let shares = shares.context("each has a share")?;
        assert!((1..=5).contains(&shares.len()), "{verdict}");
        assert!(shares.is_sorted_by(|a, b| a >= b), "{verdict}");
        assert!(shares.iter().sum::<f64>() < 1.0 + 1e-6, "{verdict}");
    }
    let last = asked.last().context("verdicts")?;
    assert_eq!(first_channel(last), "flow", "{last}");
    Ok(())
}

#[test]
fn an_alert_that_is_not_there_is_an_error_that_says_where_else_to_look() -> Result<()> {
    let site = Site::new("")?;
    fs::write(site.path().join("alerts.jsonl"), "{}\n")?;
    let check = |args: &[&str], code: i32, part: &str| -> Result<()> {
        let ended = site.finish(&[&["explain"], args].concat())?;
        assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
        Ok(())
    };
    check(&[], 2, "<ID|--last>")?;
    check(
        &["ab12"],
        1,
        "hark-data/alerts.jsonl: --config or --data-dir",
    )?;
    check(
        &["--last", "--file", "alerts.jsonl"],
        1,
        "no anomaly was raised in alerts.jsonl, which holds 0 alerts",
    )?;
    check(&["ab12", "--file", "alerts.jsonl"], 1, "no alert \"ab12\"")?;
    check(&["ab12", "--file", "absent"], 1, "reading absent")
}

/// The score of this bundle is what its model says, and no sum of parts.
#[test]
fn an_alert_of_a_model_that_is_no_reconstruction_is_said_once_and_with_its_causes() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/press-1")?;
    let (_folder, link) = node::link()?;
    let site = Site::at(&broker, &node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.meet()?;
    for level in [LOW, LOW, HIGH] {
        node.settle(level)?;
    }
    let raised = payload(&heard.next(LIMIT)?)?;
    assert_eq!(raised["state"], "raised", "{raised}");
    assert_eq!(first_channel(&raised), "level", "{raised}");
    let first = &raised["causes"][0];
    assert_eq!(
        (&first["feature"], &first["unit"]),
        (&"mean".into(), &"bar".into())
    );
    assert_eq!(first["value"], HIGH, "{raised}");
    assert!(first["normal"].as_f64() < Some(f64::from(HIGH)), "{raised}");
    node.settle(LOW)?;
    let cleared = payload(&heard.next(LIMIT)?)?;
    assert_eq!(cleared["state"], "cleared", "{cleared}");
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 1, "{summary}");
    assert_eq!(count(&summary, "causes_unknown"), 0, "{summary}");
    Ok(())
}
