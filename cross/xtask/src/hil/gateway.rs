//! A gateway under test, emulated or real.
//!
//! A scenario knows only this trait, so that it runs on both. What a kind of
//! gateway cannot do it says by [`Gateway::lacks`], and the scenarios that need
//! it are skipped with that reason.

mod disk;
mod emulated;
mod pl061;
mod real;
mod ssh;

use anyhow::Result;

pub(crate) use disk::Disk;
pub(crate) use emulated::Emulated;
pub(crate) use real::Real;

use crate::hil::wire::End;

/// What some scenarios need beyond a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    /// To take the serial port away from the running kernel and bring it back.
    Unplug,
    /// A watchdog that resets the board.
    Watchdog,
    /// An alarm output that can be read.
    Alarm,
    /// The node's ELF, to read its log with.
    NodeLog,
    /// Two system slots on a disk that may be cut off at any moment.
    Slots,
}

/// What a scenario does to a gateway and asks of it.
pub(crate) trait Gateway {
    /// What it is, for the report.
    fn describe(&self) -> String;

    /// Why it has not this ability; `None` if it has.
    fn lacks(&self, ability: Ability) -> Option<&'static str>;

    /// Its end of the serial line.
    fn line_end(&self) -> End;

    /// Switches it on with hark configured, and waits for a shell.
    fn power_on(&mut self) -> Result<()>;

    /// Cuts its power, without a warning.
    fn cut_power(&mut self) -> Result<()>;

    /// What a shell command prints.
    ///
    /// # Errors
    /// If it exits with another status than 0.
    fn shell(&mut self, script: &str) -> Result<String>;

    /// Stops hark in order and starts it with `options`, until the next boot.
    fn restart_hark(&mut self, options: &str) -> Result<()>;

    /// Everything that hark has logged since the first boot.
    fn log(&mut self) -> Result<String>;

    /// Whether the alarm output is driven active.
    fn is_alarm_active(&mut self) -> Result<bool>;

    /// How often the watchdog has reset it.
    fn watchdog_resets(&mut self) -> Result<usize>;

    /// Takes the serial port away, or brings it back.
    fn set_plugged(&mut self, is_plugged: bool) -> Result<()>;

    /// The gateway that boots the disk image, if it is that.
    fn as_disk(&mut self) -> Option<&mut Disk> {
        None
    }
}
