//! The board's own hardware: the alarm output, the heartbeat LED, the watchdog,
//! and the service manager's watchdog beside it.
//!
//! | | at the start | in service | at an orderly stop | if the process dies |
//! |---|---|---|---|---|
//! | alarm | inactive | active while an alert stands or the pipeline is at fault | inactive | as the GPIO driver leaves it |
//! | fail-safe alarm | active, until the watchdogs are first fed | the same | active | as the GPIO driver leaves it |
//! | heartbeat | inactive | toggles each time the watchdogs are fed | inactive | stands still |
//! | watchdog | starts | fed by progress | disarmed | resets the board |
//!
//! An alarm that is active low is fail-safe: it is held off only while hark says
//! that all is well. What a driver does with the line of a process that died
//! differs; the next hark makes it active again. What fails in service is told
//! once, and tried again.

mod supervisor;

pub use supervisor::{Watched, supervise};

use anyhow::Context;
use hark_config::{Config, GpioConfig};
use hark_hal::{Output, OutputSettings, ServiceManager, Watchdog, WatchdogError};
use std::fmt::Display;
use std::time::Duration;

/// The board, opened.
#[derive(Debug)]
pub struct Board {
    alarm: Option<Output>,
    heartbeat: Option<Output>,
    watchdog: Option<Watchdog>,
    service: ServiceManager,
    /// The alarm stands whenever nobody says that all is well.
    is_fail_safe: bool,
    is_alarm_on: bool,
    is_heartbeat_on: bool,
    /// Of alarm, heartbeat, watchdog and service manager: a failure was told,
    /// and nothing has worked since.
    told: [bool; 4],
}

/// The places in [`Board::told`].
const ALARM: usize = 0;
const HEARTBEAT: usize = 1;
const WATCHDOG: usize = 2;
const SERVICE: usize = 3;

impl Board {
    /// Opens what the configuration names, and starts the watchdog.
    ///
    /// # Errors
    /// What cannot be opened, with what there is: a gateway that was to be
    /// watched, and is not, is misconfigured.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let gpio = &config.gpio;
        let is_fail_safe = gpio.is_alarm_active_low;
        let alarm = open_output(gpio, gpio.alarm_line, is_fail_safe);
        let heartbeat = open_output(gpio, gpio.heartbeat_line, false);
        let (alarm, heartbeat) = (
            alarm.context("gpio.alarm_line")?,
            heartbeat.context("gpio.heartbeat_line")?,
        );
        let service = ServiceManager::from_environment();
        // The last, for it runs from here on.
        let watchdog = open_watchdog(config, service).context("watchdog.device")?;
        let timeout = config.watchdog.timeout;
        if let Some(watchdog) = &watchdog
            && watchdog.timeout() != timeout
        {
            let chosen = watchdog.timeout();
            tracing::warn!("the watchdog's timeout is {chosen:?}, not {timeout:?}");
        }
        Ok(Self {
            alarm,
            heartbeat,
            watchdog,
            service,
            is_fail_safe,
            is_alarm_on: is_fail_safe,
            is_heartbeat_on: false,
            told: [false; 4],
        })
    }

    /// The shortest time after which something resets the board or restarts the
    /// process, if anything does.
    pub fn patience(&self) -> Option<Duration> {
        let watchdog = self.watchdog.as_ref().map(Watchdog::timeout);
        [watchdog, self.service.watchdog()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Feeds every watchdog, and moves the heartbeat.
    fn feed(&mut self) {
        let fed = self.watchdog.as_ref().map_or(Ok(()), Watchdog::feed);
        self.note(WATCHDOG, fed);
        let fed = self.service.feed();
        self.note(SERVICE, fed);
        self.is_heartbeat_on = !self.is_heartbeat_on;
        let set = set(self.heartbeat.as_ref(), self.is_heartbeat_on);
        self.note(HEARTBEAT, set);
    }

    /// Whether the alarm stands until the pipeline has shown that it runs.
    fn is_fail_safe(&self) -> bool {
        self.is_fail_safe
    }

    fn set_alarm(&mut self, is_on: bool) {
        if is_on != self.is_alarm_on {
            let set = set(self.alarm.as_ref(), is_on);
            // What failed is tried again at the next look.
            if self.note(ALARM, set) {
                self.is_alarm_on = is_on;
            }
        }
    }

    fn tell_status(&mut self, status: &str) {
        let told = self.service.status(status);
        self.note(SERVICE, told);
    }

    /// What fails goes on failing, mostly: it is told once, until it works again.
    /// Whether it worked.
    fn note<E: Display>(&mut self, part: usize, result: Result<(), E>) -> bool {
        let told = &mut self.told[part];
        match result {
            Ok(()) => *told = false,
            Err(error) if !*told => {
                tracing::error!("{error}");
                *told = true;
            }
            Err(_) => {}
        }
        !*told
    }

    /// Leaves the board after an orderly stop: outputs inactive but for a fail-safe
    /// alarm, the watchdog disarmed.
    pub fn release(mut self) {
        let left = set(self.alarm.as_ref(), self.is_fail_safe);
        self.note(ALARM, left);
        let off = set(self.heartbeat.as_ref(), false);
        self.note(HEARTBEAT, off);
        if let Some(watchdog) = self.watchdog.take() {
            let disarmed = watchdog.disarm();
            self.note(WATCHDOG, disarmed);
        }
    }
}

/// The watchdog that the configuration names, started.
///
/// One that somebody else feeds, mostly systemd, is left to it where systemd
/// watches this process in turn: that is a chain too.
fn open_watchdog(config: &Config, service: ServiceManager) -> anyhow::Result<Option<Watchdog>> {
    let Some(device) = &config.watchdog.device else {
        return Ok(None);
    };
    match Watchdog::open(device, config.watchdog.timeout) {
        Err(error @ WatchdogError::Busy { .. }) if service.watchdog().is_some() => {
            tracing::warn!("{error}; it stays so, and systemd watches hark");
            Ok(None)
        }
        opened => Ok(Some(opened?)),
    }
}

fn set(output: Option<&Output>, is_on: bool) -> Result<(), hark_hal::GpioError> {
    output.map_or(Ok(()), |output| output.set(is_on))
}

fn open_output(
    gpio: &GpioConfig,
    line: Option<u32>,
    is_active_low: bool,
) -> Result<Option<Output>, hark_hal::GpioError> {
    let (Some(chip), Some(line)) = (&gpio.chip, line) else {
        return Ok(None);
    };
    let settings = OutputSettings {
        chip: chip.clone(),
        line,
        is_active_low,
    };
    // Active low is fail-safe: what nobody drives is an alarm.
    Output::open(&settings, is_active_low).map(Some)
}
