//! `hark demo`, as the first minute of a new user.

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::LIMIT;
use crate::hark::{Hark, Site, count};

/// Held from the start of a demo until it listens: each takes the usual port of
/// MQTT if it is free, and two at once may both find it so.
static PORT: Mutex<()> = Mutex::new(());

#[test]
fn the_demo_raises_an_alert_and_none_in_its_healthy_part() -> Result<()> {
    let site = Site::new("")?;
    let (demo, subscribe) = start(&site, &["--for", "20s"])?;
    check_broker(&subscribe)?;
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
    for part in [
        "a fault begins in pump-a",
        "4 of 6 windows above it raise an alert",
    ] {
        ensure!(ended.stderr.contains(part), "no {part:?}: {}", ended.stderr);
    }
    Ok(())
}

/// Starts a demo, and returns the line by which it says how to listen in.
fn start(site: &Site, args: &[&str]) -> Result<(Hark, String)> {
    let _port = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    let args = [&["demo", "--json", "--data-dir", "data"], args].concat();
    let demo = site.start(&args)?;
    let subscribe = demo.wait_for_stderr("subscribe:")?;
    Ok((demo, subscribe))
}

/// Its own broker answers a stranger at the address that it prints.
fn check_broker(line: &str) -> Result<()> {
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
    let (demo, _) = start(&site, &["--for", "8s", "--healthy"])?;
    let summary = demo.wait()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 0, "{summary}");
    assert!(count(&summary, "scored") > 0, "{summary}");
    Ok(())
}

#[test]
fn a_model_that_hangs_is_given_up_and_comes_back() -> Result<()> {
    check_fault("hang", "hang")
}

#[test]
fn a_model_that_is_slow_steps_down_and_comes_back() -> Result<()> {
    check_fault("slow", "deadline")
}

#[test]
fn a_model_that_panics_steps_down_and_comes_back() -> Result<()> {
    check_fault("panic", "panic")
}

#[test]
fn a_model_that_answers_nonsense_steps_down_and_comes_back() -> Result<()> {
    check_fault("nan", "not_finite")
}

#[test]
fn a_model_whose_files_are_gone_is_loaded_when_they_are_back() -> Result<()> {
    check_fault("missing", "missing")
}

/// Demos that may be spoilt by a machine that stalls just when the fault begins.
const ATTEMPTS: usize = 3;

/// With the model at fault for a while every reading has its verdict, by the
/// rule meanwhile, and the ladder of each source goes down for `reason` and
/// comes up again.
///
/// A machine that stalls makes a good model late too; the ladder then steps
/// down for that, truly, and perhaps before the fault. Such a demo proves
/// nothing about the fault and is made again.
fn check_fault(fault: &str, reason: &str) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if run_with_fault(fault, reason)? {
            return Ok(());
        }
        println!("{fault}: the machine stalled; once more");
    }
    anyhow::bail!("{fault}: the ladder never went down for {reason}")
}

/// Whether both sources stepped down for `reason` first; false if one of them
/// did so because the machine stalled.
fn run_with_fault(fault: &str, reason: &str) -> Result<bool> {
    let site = Site::new("")?;
    let (demo, _) = start(&site, &["--for", "18s", "--inject", fault])?;
    let (events, ended) = demo.wait_with_events()?;
    let summary = ended.summary()?;
    let mut is_proof = true;
    for source in ["serial", "mqtt"] {
        let steps: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "ladder" && event["source"] == source)
            .collect();
        let down = steps.first().context("the ladder did not go down")?;
        ensure!(down["from"] == "model" && down["to"] == "rule", "{down}");
        if down["reason"] != reason {
            let is_stall = down["reason"] == "hang" || down["reason"] == "deadline";
            ensure!(is_stall, "{source}: not for {reason}: {down}");
            is_proof = false;
        }
        let has_recovered = steps
            .iter()
            .any(|step| step["to"] == "model" && step["reason"] == "recovered");
        ensure!(
            has_recovered,
            "{source}: the ladder did not go up: {steps:?}"
        );
        let scored = count(&summary, &format!("sources.{source}.scored"));
        let fallback = count(&summary, &format!("sources.{source}.fallback"));
        ensure!(scored > 0 && fallback > 0, "{source}: {summary}");
    }
    let unanswered = count(&summary, "rejected") + count(&summary, "shed");
    ensure!(unanswered == 0, "{summary}");
    let warned = |line: &str| {
        line.contains(" WARN ") && line.contains("the rule answers, no longer the model: ")
    };
    ensure!(ended.stderr.lines().any(warned), "{}", ended.stderr);
    // A loaded machine may be late; it must say so, and nothing else.
    println!(
        "{fault}: {} deadlines missed",
        count(&summary, "deadline_misses")
    );
    Ok(is_proof)
}
