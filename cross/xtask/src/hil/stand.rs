//! The test stand of one scenario: gateway, node, the line between them, a
//! broker, and the report that is written meanwhile.
//!
//! A stand is built for each scenario in a folder of its own and taken down at
//! its end, so that no scenario sees what an earlier one left behind.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::hil::broker::{Broker, Message};
use crate::hil::gateway::{Ability, Disk, Emulated, Gateway, Real};
use crate::hil::initramfs::System;
use crate::hil::node::{self, Node};
use crate::hil::report::Report;
use crate::hil::wait;
use crate::hil::wire::Wire;

/// The noise of every line comes from it, so that a failure can be repeated.
const SEED: u64 = 4;

/// The gateway that scenarios run against.
#[derive(Clone)]
pub(crate) enum Target {
    /// Kernel and RAM disk in QEMU.
    Emulated(System),
    /// A board on the desk: a serial device of this host that is wired to the
    /// board's serial port, and where to reach the board by SSH.
    Real {
        line: PathBuf,
        host: String,
        port: String,
    },
}

/// What an emulated gateway boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boots {
    /// Kernel and RAM disk: quick.
    RamDisk,
    /// The disk image, flashed by `flash.sh`.
    Image,
}

/// Everything that a scenario acts on.
pub(crate) struct Stand {
    pub(crate) gateway: Box<dyn Gateway>,
    pub(crate) node: Node,
    pub(crate) wire: Wire,
    pub(crate) broker: Broker,
    pub(crate) report: Report,
    pub(crate) folder: PathBuf,
    pub(crate) plan: Plan,
}

/// How a scenario is run.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Whether its cause is withheld, to see that it fails.
    pub(crate) is_broken: bool,
    /// Power cuts within an update.
    pub(crate) cuts: u32,
}

impl Stand {
    /// Builds a stand whose machines are off.
    pub(crate) fn new(
        folder: &Path,
        target: &Target,
        boots: Boots,
        node: &Path,
        plan: Plan,
    ) -> Result<Self> {
        let node = Node::new(folder, node);
        let is_open = matches!(target, Target::Real { .. });
        let broker = Broker::start(folder, is_open)?;
        let port = broker.port();
        let gateway: Box<dyn Gateway> = match (target, boots) {
            (Target::Emulated(system), Boots::RamDisk) => {
                Box::new(Emulated::new(folder, system, port)?)
            }
            (Target::Emulated(system), Boots::Image) => {
                Box::new(Disk::new(folder, &system.efi, port)?)
            }
            (
                Target::Real {
                    line,
                    host,
                    port: name,
                },
                _,
            ) => Box::new(Real::new(line, host, name, port)?),
        };
        let wire = Wire::join(node.line_end(), gateway.line_end(), SEED);
        Ok(Self {
            gateway,
            node,
            wire,
            broker,
            report: Report::default(),
            folder: folder.to_owned(),
            plan,
        })
    }

    /// Does something or looks for something, and reports it.
    pub(crate) fn step(
        &mut self,
        did: &str,
        expected: &str,
        look: impl FnOnce(&mut Self) -> Result<String>,
    ) -> Result<()> {
        println!("   {}: {did}", self.plan.name);
        let started = Instant::now();
        let seen = look(self);
        self.report.record(did, expected, started, &seen);
        seen.map(drop).with_context(|| did.to_owned())
    }

    /// What the scenario is about: withheld if it is to be seen failing.
    pub(crate) fn cause(
        &mut self,
        did: &str,
        cause: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let is_broken = self.plan.is_broken;
        self.step(did, "it happens", |stand| {
            if is_broken {
                return Ok("withheld, because of --break".to_owned());
            }
            cause(stand).map(|()| "done".to_owned())
        })
    }

    /// Starts a healthy node, switches the gateway on and waits for a verdict.
    pub(crate) fn boot(&mut self) -> Result<()> {
        self.step(
            "switch on gateway and node",
            "a kernel that says what it is, and hark's first verdict",
            |stand| {
                stand.node.start_healthy()?;
                stand.gateway.power_on()?;
                let kernel = stand.gateway.shell("uname -a")?;
                let verdict = stand.verdict_after(0)?;
                Ok(format!("{kernel}; {verdict}"))
            },
        )
    }

    /// Waits for a verdict that comes after `mark`.
    pub(crate) fn verdict_after(&self, mark: usize) -> Result<String> {
        let topic = format!("verdict/{}", node::NAME);
        let verdict = self
            .broker
            .wait(mark, "a verdict", |message| message.topic == topic);
        Ok(verdict?.payload)
    }

    /// Waits for an alert in `state` that comes after `mark`.
    pub(crate) fn alert_after(&self, mark: usize, state: &str) -> Result<Message> {
        let topic = format!("alert/{}", node::NAME);
        self.broker
            .wait(mark, &format!("an alert that is {state}"), |message| {
                message.topic == topic && message.payload.contains(&format!("\"{state}\""))
            })
    }

    /// Waits for the alert of the source's model in `state` that comes after `mark`.
    pub(crate) fn model_alert_after(&self, mark: usize, state: &str) -> Result<Message> {
        self.broker.wait(
            mark,
            &format!("a model's alert that is {state}"),
            |message| {
                message.topic == "alert/line-1/model"
                    && message.payload.contains(&format!("\"{state}\""))
            },
        )
    }

    /// The line of hark's own event log that is this alert, if there is one.
    pub(crate) fn alert_in_event_log(&mut self, alert: &Message) -> Result<Option<String>> {
        let alert: Value = serde_json::from_str(&alert.payload).context("reading an alert")?;
        let script = r#"grep -h '"event":"alert"' /var/lib/hark/events.jsonl* || true"#;
        let log = self.gateway.shell(script)?;
        let is_it = |line: &&str| {
            let logged: Value = serde_json::from_str(line).unwrap_or_default();
            ["sensor", "seq", "ts", "state"]
                .iter()
                .all(|key| !alert[key].is_null() && logged[key] == alert[key])
        };
        Ok(log.lines().find(is_it).map(|line| line.trim().to_owned()))
    }

    /// Waits for a line of hark's log, beyond its first `from` bytes, that
    /// contains every one of `parts`.
    pub(crate) fn logged(&mut self, from: usize, parts: &[&str]) -> Result<String> {
        let gateway = &mut self.gateway;
        wait::until(&format!("a line of the log with {parts:?}"), || {
            let log = gateway.log()?;
            let new = log.get(from..).unwrap_or_default();
            let is_it = |line: &&str| parts.iter().all(|part| line.contains(part));
            Ok(new.lines().find(is_it).map(|line| line.trim().to_owned()))
        })
    }

    /// Reads the alarm output from outside of the gateway, until it is as
    /// expected; says so where nothing can read it.
    pub(crate) fn alarm_becomes(&mut self, is_active: bool) -> Result<()> {
        let expected = if is_active { "active" } else { "inactive" };
        self.step("read the alarm output from outside", expected, |stand| {
            if let Some(why) = stand.gateway.lacks(Ability::Alarm) {
                return Ok(format!("NOT LOOKED AT: {why}"));
            }
            wait::until(&format!("an {expected} alarm output"), || {
                Ok((stand.gateway.is_alarm_active()? == is_active).then_some(()))
            })?;
            Ok(expected.to_owned())
        })
    }

    /// The two ends of the wire, for the report.
    pub(crate) fn machines(&self) -> [String; 2] {
        [self.gateway.describe(), self.node.describe()]
    }
}
