//! A QEMU machine under a test's control.
//!
//! Started with a QMP socket in its folder, and killed with its handle: a
//! power cut is [`Machine::cut_power`], and nothing is flushed then. Paths of
//! sockets are relative to the working directory of xtask, because a Unix
//! socket's path may have no more than 107 bytes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::hil::child::Process;
use crate::hil::wait;
use crate::process::{command, find_program, output};
use crate::qmp::Qmp;

/// Emulates the gateway.
pub(crate) const AARCH64: &str = "qemu-system-aarch64";
/// Emulates the sensor node.
pub(crate) const ARM: &str = "qemu-system-arm";

/// A running machine.
pub(crate) struct Machine {
    process: Process,
    qmp: Qmp,
}

impl Machine {
    /// Starts `program` with `args`; its log is `folder/name.qemu.log`.
    ///
    /// # Errors
    /// If it ends at once, with what it said.
    pub(crate) fn start(
        name: &str,
        program: &str,
        args: &[OsString],
        folder: &Path,
    ) -> Result<Self> {
        let socket = folder.join(format!("{name}.qmp"));
        std::fs::remove_file(&socket).ok();
        let mut all = args.to_vec();
        all.extend(["-display".into(), "none".into(), "-qmp".into()]);
        all.push(listening(&socket));
        let log = folder.join(format!("{name}.qemu.log"));
        let mut process = Process::start(&find(program)?, &all, &log)?;
        let qmp = wait::until(&format!("{name} to be started"), || {
            process.check_running()?;
            Ok(Qmp::connect(&socket).ok())
        })?;
        Ok(Self { process, qmp })
    }

    /// The command line, as it can be pasted.
    pub(crate) fn line(&self) -> &str {
        self.process.line()
    }

    /// Its control connection.
    ///
    /// # Errors
    /// If the machine has ended.
    pub(crate) fn qmp(&mut self) -> Result<&mut Qmp> {
        self.process.check_running()?;
        Ok(&mut self.qmp)
    }

    /// Ends it as a power cut does.
    pub(crate) fn cut_power(mut self) {
        self.process.kill();
    }
}

/// What `program` says of its version, on one line.
pub(crate) fn version(program: &str) -> Result<String> {
    let mut version = command(find(program)?);
    version.arg("--version");
    let said = output(version)?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// The option value by which QEMU listens at `socket` without waiting.
fn listening(socket: &Path) -> OsString {
    let mut value = OsString::from("unix:");
    value.push(socket);
    value.push(",server=on,wait=off");
    value
}

fn find(program: &str) -> Result<PathBuf> {
    find_program(program).with_context(|| format!("`{program}` is not installed"))
}
