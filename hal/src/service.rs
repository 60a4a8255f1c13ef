//! The service manager that started this process: systemd's notifications.
//!
//! Without a manager (`NOTIFY_SOCKET` is not set) nothing is sent and nothing
//! fails. `WATCHDOG=1` says that the service makes progress, so it must be sent
//! by whoever sees progress, never by a timer.

use sd_notify::NotifyState;
use std::io;
use std::time::Duration;

/// What is told to the service manager.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceManager {
    /// From the last feeding to the restart, if the unit has `WatchdogSec=`.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The manager that the environment names, if it names one.
    pub fn from_environment() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// From the last feeding to the restart; none if it does not watch.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service runs, or has its new configuration.
    ///
    /// # Errors
    /// The system's: the manager's socket is gone.
    pub fn ready(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Ready])
    }

    /// The service is at something that lasts: its start or reload may take so
    /// long from now on, if that is longer than its unit leaves it.
    ///
    /// # Errors
    /// As [`ServiceManager::ready`].
    pub fn extend_timeout(&self, from_now: Duration) -> io::Result<()> {
        let us = u32::try_from(from_now.as_micros()).unwrap_or(u32::MAX);
        sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(us)])
    }

    /// The service reads its configuration anew; [`ServiceManager::ready`] ends it.
    ///
    /// # Errors
    /// As [`ServiceManager::ready`].
    pub fn reloading(&self) -> io::Result<()> {
        let now = NotifyState::monotonic_usec_now()?;
        sd_notify::notify(&[NotifyState::Reloading, now])
    }

    /// The service stops.
    ///
    /// # Errors
    /// As [`ServiceManager::ready`].
    pub fn stopping(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Stopping])
    }

    /// What the service is at, one line, for `systemctl status`.
    ///
    /// # Errors
    /// As [`ServiceManager::ready`].
    pub fn status(&self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Status(status)])
    }

    /// The service makes progress. Nothing is sent to a manager that does not
    /// watch.
    ///
    /// # Errors
    /// As [`ServiceManager::ready`].
    pub fn feed(&self) -> io::Result<()> {
        match self.watchdog {
            Some(_) => sd_notify::notify(&[NotifyState::Watchdog]),
            None => Ok(()),
        }
    }
}
