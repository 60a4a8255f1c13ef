//! What hangs or loses power comes back by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::hil::broker::Message;
use crate::hil::site::WATCHDOG_S;
use crate::hil::stand::Stand;
use crate::hil::wait;

/// Long enough to cost threads, and short of all that may be lost.
const HANG_S: u64 = 8;
/// A model that hangs at every try costs the last thread, then the watchdog its
/// patience, in less than so long.
const RESET_S: u64 = 60;
/// Its model never answers, for as long as hark runs.
const HANG_FOR_GOOD: &str = "--inject hang --inject-after 2s --inject-for 1h";

pub(super) fn hang(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let resets = stand.gateway.watchdog_resets()?;
    let mark = stand.broker.mark()?;
    stand.cause("let the model never answer", |stand| {
        let options = format!("--inject hang --inject-after 2s --inject-for {HANG_S}s");
        stand.gateway.restart_hark(&options)
    })?;
    let hung = Instant::now();
    stand.step("wait", "verdicts of a lower rung", |stand| {
        let what = "a verdict that is not the model's";
        let verdict = stand
            .broker
            .wait(mark, what, |message| is_verdict(message, false))?;
        Ok(verdict.payload)
    })?;
    stand.step(
        "wait for the end of the hang",
        "the model's verdicts again",
        |stand| {
            std::thread::sleep(Duration::from_secs(HANG_S).saturating_sub(hung.elapsed()));
            let mark = stand.broker.mark()?;
            let what = "a verdict of the model";
            let verdict = stand
                .broker
                .wait(mark, what, |message| is_verdict(message, true))?;
            Ok(verdict.payload)
        },
    )?;
    stand.step(
        "wait for two of the watchdog's times since the hang",
        "no reset",
        |stand| {
            // It is this long that must pass without a reset.
            let bites = Duration::from_secs(HANG_S + 2 * WATCHDOG_S);
            std::thread::sleep(bites.saturating_sub(hung.elapsed()));
            let resets = stand.gateway.watchdog_resets()? - resets;
            ensure!(resets == 0, "{resets} resets");
            Ok("no reset".to_owned())
        },
    )
}

fn is_verdict(message: &Message, by_model: bool) -> bool {
    message.topic.starts_with("verdict/")
        && message.payload.contains(r#""rung":"model""#) == by_model
}

pub(super) fn withheld(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    let (resets, mark) = (stand.gateway.watchdog_resets()?, stand.broker.mark()?);
    stand.cause("let the model hang at every try", |stand| {
        stand.gateway.restart_hark(HANG_FOR_GOOD)
    })?;
    stand.step("wait", "the watchdog resets the board", |stand| {
        wait::until("a reset by the watchdog", || {
            let now = stand.gateway.watchdog_resets()?;
            Ok((now > resets).then(|| format!("{} reset by the watchdog", now - resets)))
        })
    })?;
    let resets = stand.gateway.watchdog_resets()?;
    stand.step(
        "wait",
        "it boots, and says that the model is withheld",
        |stand| {
            let alert = stand.model_alert_after(mark, "raised")?;
            Ok(alert.payload)
        },
    )?;
    stand.step(
        "have the model hang again, if it is run",
        "verdicts of a lower rung, and no reset",
        |stand| {
            stand.gateway.restart_hark(HANG_FOR_GOOD)?;
            std::thread::sleep(Duration::from_secs(RESET_S));
            let mark = stand.broker.mark()?;
            let what = "a verdict that is not the model's";
            let is_fallback = |message: &Message| is_verdict(message, false);
            let verdict = stand.broker.wait(mark, what, is_fallback)?;
            let resets = stand.gateway.watchdog_resets()? - resets;
            ensure!(resets == 0, "{resets} resets");
            Ok(verdict.payload)
        },
    )?;
    stand.step(
        "hark model retry, of a model that is well again",
        "the model's verdicts, and the end of the alert",
        |stand| {
            stand.gateway.restart_hark("")?;
            let mark = stand.broker.mark()?;
            let retry = "cd /var/lib/hark && hark model retry --config hark.toml";
            stand.gateway.shell(retry)?;
            let what = "a verdict of the model";
            let is_scored = |message: &Message| is_verdict(message, true);
            stand.broker.wait(mark, what, is_scored)?;
            Ok(stand.model_alert_after(mark, "cleared")?.payload)
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
    let mut alert = None;
    stand.step(
        "wait for the alert, and cut the power at once",
        "darkness",
        |stand| {
            let raised = stand.alert_after(mark, "raised")?;
            stand.gateway.cut_power()?;
            Ok(alert.insert(raised).payload.clone())
        },
    )?;
    stand.step(
        "switch it on again",
        "it boots, and verdicts arrive again",
        |stand| {
            stand.node.start_healthy()?;
            stand.gateway.power_on()?;
            let mark = stand.broker.mark()?;
            stand.verdict_after(mark)
        },
    )?;
    stand.step(
        "look into the event log",
        "the very alert that the broker got before the cut",
        |stand| {
            let alert = alert.take().context("no alert was seen")?;
            let logged = stand.alert_in_event_log(&alert)?;
            logged.context("it is not there")
        },
    )
}
