//! Verdicts and alerts reach those who wait for them.

use anyhow::Result;

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
    stand.cause("let the bearing of the node's machine fail", |stand| {
        stand.node.start_faulty()
    })?;
    stand.step(
        "wait",
        "an alert without a broker: in hark's own log",
        |stand| {
            let event = r#"grep '"state":"raised"' /var/lib/hark/events.jsonl || true"#;
            wait::until("an alert in events.jsonl", || {
                let alert = stand.gateway.shell(event)?;
                Ok((!alert.is_empty()).then_some(alert))
            })
        },
    )?;
    stand.alarm_becomes(true)?;
    stand.step(
        "start the broker again",
        "the alert arrives, none is lost",
        |stand| {
            stand.broker.restart()?;
            Ok(stand.alert_after(mark, "raised")?.payload)
        },
    )?;
    stand.step("wait", "verdicts arrive again", |stand| {
        let mark = stand.broker.mark()?;
        stand.verdict_after(mark)
    })
}
