//! `hark demo`, as the first minute of a new user.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::LIMIT;
use crate::hark::{Hark, Site, count};

#[test]
fn the_demo_raises_an_alert_and_none_in_its_healthy_part() -> Result<()> {
    let site = Site::new("")?;
    let demo = site.start(&["demo", "--for", "20s", "--json", "--data-dir", "data"])?;
    check_broker(&demo)?;
    demo.wait_for_alerts(1)?;
    let events = demo.events();
    let ended = demo.wait()?;
    let summary = ended.summary()?;

    check_order(&events)?;
    assert!(count(&summary, "alerts") >= 1, "{summary}");
    for source in ["serial", "mqtt"] {
        let scored = count(&summary, &format!("sources.{source}.scored"));
        assert!(scored > 0, "{source}: {summary}");
    }
    assert_eq!(count(&summary, "rejected"), 0, "{summary}");
    let latency = &summary["verdict_latency_us"];
    assert!(
        latency["p99"].as_f64() >= latency["p50"].as_f64(),
        "{summary}"
    );
    ensure!(
        ended.stderr.contains("a fault begins in pump-a"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// Its own broker answers a stranger at the address that it prints.
fn check_broker(demo: &Hark) -> Result<()> {
    let line = demo.wait_for_stderr("subscribe:")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let port = words.iter().position(|word| *word == "-p");
    let port = port.and_then(|at| words.get(at + 1)).context("no port")?;
    let limit = LIMIT.as_secs().to_string();
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", port, "-W", &limit, "-C", "1"])
        .args(["-t", "sensors/pump-b"])
        .stdin(Stdio::null())
        .output()
        .context("starting mosquitto_sub")?;
    let reading: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{line:?} gave {output:?}"))?;
    ensure!(reading["values"].is_object(), "no reading: {reading}");
    Ok(())
}

/// No alert before the first fault.
fn check_order(events: &[Value]) -> Result<()> {
    let first = |name: &str| events.iter().position(|event| event["event"] == name);
    let fault = first("fault_injected").context("no fault was logged")?;
    let alert = first("alert").context("no alert was logged")?;
    ensure!(fault < alert, "a false alarm: {}", events[alert]);
    Ok(())
}

#[test]
fn a_healthy_demo_raises_no_alert() -> Result<()> {
    let site = Site::new("")?;
    let args = [
        "demo",
        "--for",
        "8s",
        "--healthy",
        "--json",
        "--data-dir",
        "data",
    ];
    let summary = site.finish(&args)?.summary()?;
    assert_eq!(count(&summary, "alerts"), 0, "{summary}");
    assert!(count(&summary, "scored") > 0, "{summary}");
    Ok(())
}
