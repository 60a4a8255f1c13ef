//! A hardware watchdog: a device that resets the board unless it is fed.
//!
//! It runs from [`Watchdog::open`] on. Dropping a [`Watchdog`], or the end of its
//! process however it comes, leaves it running, and the board is reset;
//! [`Watchdog::disarm`] alone stops it, if the kernel lets it be stopped
//! (`nowayout`). When to feed it is the caller's business, and must never be a
//! timer's.

use crate::ioctl;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::c_int;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Written before the close it says that the close is meant ("magic close",
/// Linux's `Documentation/watchdog/watchdog-api.rst`).
const MAGIC_CLOSE: &[u8] = b"V";

/// What went wrong with a watchdog, by what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// There is no such device.
    #[error("no watchdog {}; {}", device.display(), listed(available))]
    NotFound {
        /// The device that was named.
        device: PathBuf,
        /// The watchdogs that there are.
        available: Vec<String>,
    },
    /// The path names something else.
    #[error("{} is not a watchdog; {}", device.display(), listed(available))]
    NotWatchdog {
        /// The path that was named.
        device: PathBuf,
        /// The watchdogs that there are.
        available: Vec<String>,
    },
    /// This user may not open the device.
    #[error("no permission to open {}: only root may, unless a udev rule says otherwise", device.display())]
    Denied {
        /// The device.
        device: PathBuf,
    },
    /// Another process feeds it.
    #[error(
        "{} is in use by another process: systemd feeds it if RuntimeWatchdogSec= is set in \
         system.conf", device.display()
    )]
    Busy {
        /// The device.
        device: PathBuf,
    },
    /// The device cannot wait for so long, or not for so short a time.
    #[error("{} cannot have a timeout of {timeout:?}: its own is {current:?}", device.display())]
    Timeout {
        /// The device.
        device: PathBuf,
        /// What was asked for.
        timeout: Duration,
        /// What it has, if it says.
        current: Option<Duration>,
    },
    /// Anything else.
    #[error("cannot use the watchdog {}: {cause}", device.display())]
    Io {
        /// The device.
        device: PathBuf,
        /// What the system says.
        cause: Errno,
    },
}

/// A watchdog that runs.
#[derive(Debug)]
pub struct Watchdog {
    device: PathBuf,
    fd: OwnedFd,
    timeout: Duration,
}

impl Watchdog {
    /// Starts the watchdog `device`, which resets the board if it is not fed for
    /// `timeout`, in whole seconds.
    ///
    /// # Errors
    /// [`WatchdogError`]; the device is left stopped then, if it can be.
    pub fn open(device: &Path, timeout: Duration) -> Result<Self, WatchdogError> {
        let failed = |errno| WatchdogError::from_errno(device, errno);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::open(device, flags, Mode::empty()).map_err(failed)?;
        // This tells a watchdog from any other file before one is written to.
        let current = match ioctl::watchdog_timeout(&fd) {
            Ok(seconds) => Some(seconds_of(seconds)),
            Err(Errno::OPNOTSUPP) => None,
            Err(errno) => return Err(failed(errno)),
        };
        let mut watchdog = Self {
            device: device.to_owned(),
            fd,
            timeout,
        };
        let seconds = c_int::try_from(timeout.as_secs()).unwrap_or(c_int::MAX);
        match ioctl::watchdog_set_timeout(&watchdog.fd, seconds) {
            Ok(chosen) => watchdog.timeout = seconds_of(chosen),
            // It cannot be set, and is right as it is.
            Err(_) if current == Some(timeout) => {}
            Err(_) => {
                watchdog.disarm()?;
                return Err(WatchdogError::Timeout {
                    device: device.to_owned(),
                    timeout,
                    current,
                });
            }
        }
        Ok(watchdog)
    }

    /// From the last feeding to the reset, as the driver has it: it may round.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Puts the reset off by [`Watchdog::timeout`] from now.
    ///
    /// # Errors
    /// [`WatchdogError::Io`].
    pub fn feed(&self) -> Result<(), WatchdogError> {
        ioctl::watchdog_keep_alive(&self.fd)
            .map_err(|errno| WatchdogError::from_errno(&self.device, errno))
    }

    /// Stops it: for an orderly stop only.
    ///
    /// # Errors
    /// [`WatchdogError::Io`]; it then goes on running.
    pub fn disarm(self) -> Result<(), WatchdogError> {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, MAGIC_CLOSE));
        written
            .map(drop)
            .map_err(|errno| WatchdogError::from_errno(&self.device, errno))
    }
}

impl WatchdogError {
    fn from_errno(device: &Path, errno: Errno) -> Self {
        let device = device.to_owned();
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO => Self::NotFound {
                device,
                available: watchdogs(),
            },
            Errno::NOTTY | Errno::ISDIR | Errno::INVAL => Self::NotWatchdog {
                device,
                available: watchdogs(),
            },
            Errno::ACCESS | Errno::PERM => Self::Denied { device },
            Errno::BUSY => Self::Busy { device },
            cause => Self::Io { device, cause },
        }
    }
}

fn seconds_of(seconds: c_int) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The watchdogs of this machine, such as `/dev/watchdog0`, sorted.
pub fn watchdogs() -> Vec<String> {
    crate::ports::names(Path::new("/dev"))
        .into_iter()
        .filter(|name| name.starts_with("watchdog"))
        .map(|name| format!("/dev/{name}"))
        .collect()
}

fn listed(available: &[String]) -> String {
    if available.is_empty() {
        "this machine has none: its driver may not be loaded (softdog is one without hardware)"
            .to_owned()
    } else {
        format!("there are: {}", available.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &Path, expected: &str) {
        let error = Watchdog::open(path, Duration::from_secs(15)).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected), "{said}");
        assert!(said.contains(&path.display().to_string()), "{said}");
    }

    #[test]
    fn what_is_no_watchdog_is_refused_by_name_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder.path().join("watchdog7"), "no watchdog");
        let file = folder.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        check(&file, "is not a watchdog");
        assert_eq!(std::fs::read(&file).unwrap(), b"kept");
        check(Path::new("/dev/null"), "is not a watchdog");
        check(folder.path(), "is not a watchdog");
    }
}
