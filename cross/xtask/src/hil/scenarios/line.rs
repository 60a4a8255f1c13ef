//! The serial line and the node at its end.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::hil::node;
use crate::hil::stand::Stand;
use crate::hil::wait;

/// Disturbances after which the line clears up: most of a hundred frames are hit.
const DISTURBED_MIN: u64 = 100;

/// Far more than joining a line in the middle of a frame costs, and less than
/// half of what the disturbances hit.
const CORRUPT_MIN: u64 = 20;

pub(super) fn node_log(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let from = stand.gateway.log()?.len();
    stand.cause("start the node anew", |stand| stand.node.start_healthy())?;
    stand.step(
        "wait",
        "a line of the node's own log, with its name",
        |stand| {
            // It says so at each Hello that it is asked for; what it said at its
            // start may have found no line.
            stand.logged(from, &["node", node::NAME, "taken: a reading every"])
        },
    )
}

pub(super) fn noise(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let mark = stand.broker.mark()?;
    stand.cause("flip, lose and insert bytes on the line", |stand| {
        stand.wire.disturb();
        wait::until("enough disturbances", || {
            Ok((stand.wire.counts().1 >= DISTURBED_MIN).then_some(()))
        })
    })?;
    stand.step("clear the line", "verdicts go on", |stand| {
        stand.wire.clear();
        let mark = stand.broker.mark()?;
        stand.verdict_after(mark)
    })?;
    stand.step(
        "look at what came meanwhile",
        "no alert out of noise",
        |stand| {
            let messages = stand.broker.messages()?;
            let alerts = messages[mark..]
                .iter()
                .filter(|message| message.topic.starts_with("alert/"));
            let alerts = alerts.count();
            ensure!(alerts == 0, "{alerts} alerts");
            Ok("none".to_owned())
        },
    )?;
    stand.step(
        "stop hark in order",
        "a summary in which every reading has an outcome, and many were `corrupt`",
        |stand| {
            let from = stand.gateway.log()?.len();
            stand.gateway.restart_hark("")?;
            let summary = stand.logged(from, &["{\"readings\":"])?;
            check_summary(&summary)
        },
    )
}

pub(super) fn unplug(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let from = stand.gateway.log()?.len();
    stand.cause("unplug the serial adapter", |stand| {
        stand.gateway.set_plugged(false)
    })?;
    stand.step("wait", "a line of hark's log that says so", |stand| {
        stand.logged(from, &["WARN", "line-1"])
    })?;
    stand.step("look for the device", "it is gone", |stand| {
        wait::until("no /dev/ttyUSB0", || {
            let seen = stand.gateway.shell("ls /dev/ttyUSB0 2>/dev/null || true")?;
            Ok(seen.is_empty().then(|| "gone".to_owned()))
        })
    })?;
    let mark = stand.broker.mark()?;
    stand.step("plug it in again", "verdicts arrive again", |stand| {
        stand.gateway.set_plugged(true)?;
        stand.verdict_after(mark)
    })
}

/// The counts of a summary that adds up and has corrupt frames.
fn check_summary(line: &str) -> Result<String> {
    let summary: Value = serde_json::from_str(line).with_context(|| format!("reading {line}"))?;
    let count = |key: &str| {
        let count = summary.get(key).and_then(Value::as_u64);
        count.with_context(|| format!("the summary has no number `{key}`"))
    };
    let mut outcomes = 0;
    for outcome in ["scored", "fallback", "filling", "rejected", "shed"] {
        outcomes += count(outcome)?;
    }
    let (readings, rejected) = (count("readings")?, count("rejected")?);
    ensure!(
        readings == outcomes,
        "{readings} readings, but {outcomes} outcomes"
    );
    let reasons = &summary["rejections"];
    let corrupt = reasons["corrupt"].as_u64().unwrap_or(0);
    ensure!(
        corrupt >= CORRUPT_MIN,
        "only {corrupt} of {readings} readings were corrupt; rejected: {reasons}"
    );
    Ok(format!(
        "{readings} readings, {outcomes} outcomes, {rejected} rejected: {reasons}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(corrupt: u64, readings: u64) -> Result<String> {
        check_summary(&format!(
            r#"{{"readings":{readings},"scored":5,"fallback":0,"filling":2,"rejected":{corrupt},
            "shed":0,"rejections":{{"corrupt":{corrupt}}}}}"#
        ))
    }

    #[test]
    fn a_summary_must_add_up_and_have_corrupt_frames() {
        assert!(check(CORRUPT_MIN, CORRUPT_MIN + 7).is_ok());
        assert!(check(CORRUPT_MIN, CORRUPT_MIN + 8).is_err());
        assert!(check(CORRUPT_MIN - 1, CORRUPT_MIN + 6).is_err());
    }
}
