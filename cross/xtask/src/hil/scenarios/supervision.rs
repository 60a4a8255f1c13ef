//! What hangs or loses power comes back by itself.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::hil::site::WATCHDOG_S;
use crate::hil::stand::Stand;
use crate::hil::wait;

pub(super) fn hang(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let mark = stand.broker.mark()?;
    stand.cause("let the model never answer", |stand| {
        stand
            .gateway
            .restart_hark("--inject hang --inject-after 2s --inject-for 120s")
    })?;
    stand.step("wait", "verdicts of a lower rung", |stand| {
        let what = "a verdict that is not the model's";
        let verdict = stand.broker.wait(mark, what, |message| {
            message.topic.starts_with("verdict/") && !message.payload.contains(r#""rung":"model""#)
        })?;
        Ok(verdict.payload)
    })?;
    stand.step(
        "wait for two of the watchdog's times",
        "verdicts go on, and no reset",
        |stand| {
            let resets = stand.gateway.watchdog_resets()?;
            // It is this long that must pass without a reset.
            std::thread::sleep(Duration::from_secs(2 * WATCHDOG_S));
            let mark = stand.broker.mark()?;
            let verdict = stand.verdict_after(mark)?;
            ensure!(
                !verdict.contains(r#""rung":"model""#),
                "the hang was over: {verdict}"
            );
            let resets = stand.gateway.watchdog_resets()? - resets;
            ensure!(resets == 0, "{resets} resets");
            Ok(format!("no reset; {verdict}"))
        },
    )
}

pub(super) fn stall(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let resets = stand.gateway.watchdog_resets()?;
    stand.cause(
        "let the serving thread hang outside of the model",
        |stand| {
            stand
                .gateway
                .restart_hark("--inject stall --inject-after 2s")
        },
    )?;
    // Fail-safe: whoever hangs cannot say that all is well.
    stand.alarm_becomes(true)?;
    stand.step("wait", "the watchdog resets the board", |stand| {
        wait::until("a reset by the watchdog", || {
            let now = stand.gateway.watchdog_resets()?;
            Ok((now > resets).then(|| format!("{} reset by the watchdog", now - resets)))
        })
    })?;
    stand.step("wait", "it boots, and verdicts arrive again", |stand| {
        let mark = stand.broker.mark()?;
        stand.verdict_after(mark)
    })
}

pub(super) fn power_cut(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let mark = stand.broker.mark()?;
    stand.cause("let the bearing of the node's machine fail", |stand| {
        stand.node.start_faulty()
    })?;
    stand.step(
        "wait for the alert, and cut the power at once",
        "darkness",
        |stand| {
            let alert = stand.alert_after(mark, "raised")?;
            stand.gateway.cut_power()?;
            Ok(alert.payload)
        },
    )?;
    stand.step(
        "switch it on again",
        "it boots, and verdicts arrive again",
        |stand| {
            // Healthy, so that an alert in the log is that from before the cut.
            stand.node.start_healthy()?;
            stand.gateway.power_on()?;
            let mark = stand.broker.mark()?;
            stand.verdict_after(mark)
        },
    )?;
    stand.step(
        "look into the event log",
        "the alert from before the cut",
        |stand| {
            let event = r#"grep -h '"state":"raised"' /var/lib/hark/events.jsonl* | head -n 1"#;
            let alert = stand.gateway.shell(event)?;
            ensure!(!alert.is_empty(), "there is no alert");
            Ok(alert)
        },
    )
}
