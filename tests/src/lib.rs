//! Support for tests that run hark from outside, against a real broker.
//!
//! A missing tool is an error that says how to install it, never a skipped test.

mod modbus;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub use modbus::{ModbusBus, ModbusServer, mbpoll};

pub use hark_mosquitto::{
    Authority, Issued, Message, Mosquitto, Persistence, Settings, Subject, Subscription, Tls,
    send_signal, terminate, wait_until,
};

/// A command that runs the hark binary of the profile that the test was built in.
///
/// Cargo tells only a package's own tests where its binary lies, so this looks
/// beside the folder of the running test executable.
///
/// # Errors
/// If the binary was not built; the message holds the command that builds it.
pub fn hark_command() -> Result<Command> {
    let test = env::current_exe().context("finding the running test")?;
    let profile = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("the running test lies in no target folder")?;
    let hark: PathBuf = profile.join(format!("hark{}", env::consts::EXE_SUFFIX));
    ensure!(
        hark.is_file(),
        "{} is missing; build it with `cargo build --release -p hark`",
        hark.display()
    );
    Ok(Command::new(hark))
}
