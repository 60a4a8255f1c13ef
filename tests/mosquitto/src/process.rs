//! Child processes of tests: ended by signals, and waited for with a limit.

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often [`wait_until`] looks: often against the seconds that these tests
/// take, seldom against what a look costs.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

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
