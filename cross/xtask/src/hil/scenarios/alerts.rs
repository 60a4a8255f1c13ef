//! Verdicts and alerts reach those who wait for them.

use anyhow::{Context, Result};

use crate::hil::stand::Stand;
use crate::hil::wait;

pub(super) fn boot(stand: &mut Stand) -> Result<()> {
    stand.cause("wire the node to the gateway and switch it on", |stand| {
        stand.node.start_healthy()
    })?;
    stand.step(
        "switch the gateway on",
        "a kernel that says what it is",
        |stand| {
            stand.gateway.power_on()?;
            stand.gateway.shell("uname -a")
        },
    )?;
    stand.step("wait", "the first verdict at the broker", |stand| {
        stand.verdict_after(0)
    })?;
    stand.step(
        "ask the kernel for its uptime",
        "what it took from power-on, in the gateway's own seconds",
        |stand| stand.gateway.shell("cut -d' ' -f1 /proc/uptime"),
    )
}

pub(super) fn alert(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    stand.alarm_becomes(false)?;
    let mark = stand.broker.mark()?;
    stand.cause("let the bearing of the node's machine fail", |stand| {
        stand.node.start_faulty()
    })?;
    stand.step("wait", "an alert on MQTT that is raised", |stand| {
        Ok(stand.alert_after(mark, "raised")?.payload)
    })?;
    stand.alarm_becomes(true)?;
    stand.step(
        "stop hark in order, and let it start again",
        "it starts",
        |stand| {
            stand.node.start_healthy()?;
            stand
                .gateway
                .restart_hark("")
                .map(|()| "started".to_owned())
        },
    )?;
    stand.alarm_becomes(false)
}

pub(super) fn broker(stand: &mut Stand) -> Result<()> {
    stand.boot()?;
    stand.step("kill the broker", "hark sees it", |stand| {
        let from = stand.gateway.log()?.len();
        stand.broker.kill();
        stand.logged(from, &["WARN", "broker"])
    })?;
    let mark = stand.broker.mark()?;
    // A real board remembers alerts of earlier runs.
    let raised = r#"cat /var/lib/hark/events.jsonl* | grep -c '"state":"raised"' || true"#;
    let before = count(&stand.gateway.shell(raised)?)?;
    stand.cause("let the bearing of the node's machine fail", |stand| {
        stand.node.start_faulty()
    })?;
    stand.step(
        "wait",
        "an alert without a broker: in hark's own log",
        |stand| {
            wait::until("one more alert in events.jsonl", || {
                let now = count(&stand.gateway.shell(raised)?)?;
                Ok((now > before).then(|| format!("{now} after {before}")))
            })
        },
    )?;
    stand.alarm_becomes(true)?;
    stand.step(
        "start the broker again",
        "the alert arrives, none is lost",
        |stand| {
            stand.broker.restart()?;
            let alert = stand.alert_after(mark, "raised")?;
            let logged = stand.alert_in_event_log(&alert)?;
            logged.context("it is not the one in hark's log")
        },
    )?;
    stand.step("wait", "verdicts arrive again", |stand| {
        let mark = stand.broker.mark()?;
        stand.verdict_after(mark)
    })
}

fn count(text: &str) -> Result<u64> {
    let counted = text.trim().parse();
    counted.with_context(|| format!("counting alerts: {text}"))
}
