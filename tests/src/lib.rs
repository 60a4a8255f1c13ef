//! Support for tests that run hark from outside, against a real broker.
//!
//! A missing tool is an error that says how to install it, never a skipped
//! test. Everything here listens on the loopback only, on a free port, and ends
//! with the test that started it, by its own process handle.

mod mosquitto;
mod subscription;

use std::env;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use mosquitto::{Mosquitto, Persistence};
pub use subscription::{Message, Subscription};

/// How often [`wait_until`] looks: often against the seconds that these tests
/// take, seldom against what a look costs.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

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

/// Asks `child` to end, as a service manager would.
///
/// # Errors
/// If no signal reaches it, because it has been waited for.
pub fn terminate(child: &mut Child) -> Result<()> {
    send_signal(child, "TERM")
}

/// Sends `child` the signal of this name, such as `HUP`.
///
/// # Errors
/// If no signal reaches it, because it has been waited for.
pub fn send_signal(child: &mut Child, signal: &str) -> Result<()> {
    // std can only kill, and not every system has a `kill` outside the shell.
    // While `child` is borrowed nobody waits for it: its id names nobody else.
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {}", child.id())])
        .status()
        .context("sending a signal")?;
    ensure!(status.success(), "no signal reached process {}", child.id());
    Ok(())
}

/// Calls `look` until it returns a value, and returns that.
///
/// # Errors
/// If `limit` passes first; the message names `what` was waited for. `look` is
/// called at least once, and once more after the limit.
pub fn wait_until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let is_last = started.elapsed() >= limit;
        if let Some(found) = look() {
            return Ok(found);
        }
        if is_last {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(LOOK_INTERVAL);
    }
}
