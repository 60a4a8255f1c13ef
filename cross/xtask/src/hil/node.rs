//! The sensor node: its real firmware on an emulated Cortex-M4.
//!
//! What it plays is told at its start through semihosting, in the words of
//! `hark simulate`: `fault=imbalance@2s`. A fault is caused by starting the
//! node anew with one, as if it sat on another machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::hil::wire::End;
use crate::qemu::{self, Machine};

/// The name that the firmware has unless told otherwise.
pub(crate) const NAME: &str = "pump-1";

/// A node that is well for good.
const HEALTHY: &str = "fault=none";

/// What the node does when a scenario wants an alert: soon after the start, but
/// after the gateway has had a window of health, and for good.
const FAULTY: &str = "fault=outer_race@5s";

/// The node's machine.
pub(crate) struct Node {
    folder: PathBuf,
    elf: PathBuf,
    machine: Option<Machine>,
}

impl Node {
    /// A node that is off.
    pub(crate) fn new(folder: &Path, elf: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            elf: elf.to_owned(),
            machine: None,
        }
    }

    /// Its end of the serial line.
    pub(crate) fn line_end(&self) -> End {
        End::Socket(self.folder.join("node.sock"))
    }

    /// Starts it anew, healthy.
    pub(crate) fn start_healthy(&mut self) -> Result<()> {
        self.start(HEALTHY)
    }

    /// Starts it anew on a machine whose bearing fails.
    pub(crate) fn start_faulty(&mut self) -> Result<()> {
        self.start(FAULTY)
    }

    /// How its machine was started.
    pub(crate) fn describe(&self) -> String {
        let line = self.machine.as_ref().map(Machine::line);
        line.unwrap_or("off").to_owned()
    }

    fn start(&mut self, settings: &str) -> Result<()> {
        // The old machine first: both listen at the same path.
        self.machine = None;
        let socket = self.folder.join("node.sock");
        fs::remove_file(&socket).ok();
        let line = format!(
            "socket,id=line,path={},server=on,wait=off",
            socket.display()
        );
        let elf = self.elf.display().to_string();
        let args = [
            "-M",
            "mps2-an386",
            "-kernel",
            &elf,
            "-semihosting",
            "-append",
            settings,
            "-chardev",
            &line,
            "-serial",
            "chardev:line",
        ]
        .map(OsString::from);
        let machine = Machine::start("node", qemu::ARM, &args, &self.folder);
        self.machine = Some(machine.context("starting the node")?);
        Ok(())
    }
}
