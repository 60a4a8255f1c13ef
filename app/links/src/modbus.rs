//! Readings from Modbus units, which are asked for them.
//!
//! The master decides who is asked when; here its requests go to a serial line, which
//! several sources may share, or to a TCP connection, and what comes back goes to
//! it. Everything is done on the thread that serves the source, a step at a time.
//!
//! A unit that does not answer costs no link: its sensor falls silent. A line or a
//! host that is gone is a link that is down.

mod bus;
mod fit;
mod port;

pub use fit::misfits;

use super::{Retry, SHUTDOWN_POLL};
use anyhow::{anyhow, ensure};
use fit::{plan_for, sensor_names};
use hark_config::{ModbusLink, SourceConfig};
use hark_engine::{Reading, SensorId};
use hark_modbus::{Event, Line, Master, Next, Settings};
use hark_serve::hot_path::{HotPath, Receipt};
use hark_serve::{Fed, Feed};
use hark_threads::shutdown::Shutdown;
use port::{Opened, Port};
use std::time::{Duration, Instant};

/// A link that was lost is back with the first answer, or when it has held for so
/// long.
const UP_AFTER: Duration = Duration::from_secs(2);
/// A host from which nothing came for so many requests in a row is connected to
/// anew: it may have been exchanged, and the connection with it.
const SILENT_MAX: u32 = 3;

/// Polls that were left out because the one before took too long, in counters and
/// events.
const OVERRUN: &str = "overrun";

/// The units of a source.
pub(super) struct ModbusFeed {
    master: Master,
    /// By the master's place of each unit.
    sensors: Vec<SensorId>,
    addresses: Vec<u8>,
    port: Port,
    silence: Duration,
    poll: Duration,
    opened_at: Instant,
    /// That the link is up was told.
    is_up: bool,
    retry: Retry,
    /// Requests in a row to which nothing came at all.
    silent: u32,
    /// That the period cannot be kept, once.
    has_told_overrun: bool,
}

impl ModbusFeed {
    pub(super) fn new(
        link: &ModbusLink,
        source: &SourceConfig,
        hot_path: &mut HotPath,
    ) -> anyhow::Result<Self> {
        let misfits = misfits(source, hot_path.schema());
        let first = misfits.first();
        ensure!(first.is_none(), "{}", first.map_or("", |(_, why)| why));
        let poll = fit::poll_of(link, hot_path.schema());
        let line = match link.reach.character() {
            Some(character) => Line::Serial { character },
            None => Line::Tcp,
        };
        let settings = Settings {
            poll,
            response_timeout: Duration::from_millis(link.response_timeout_ms),
            retry_max: Duration::from_millis(link.retry_ms_max),
            line,
        };
        let sensors = sensor_names(source, link).into_iter().map(|name| {
            let sensor = hot_path.sensor(&name);
            sensor.map_err(|_| anyhow!("{name:?} cannot be the name of a sensor"))
        });
        let sensors = sensors.collect::<anyhow::Result<_>>()?;
        let now = Instant::now();
        Ok(Self {
            master: Master::new(
                &link.units,
                plan_for(link, hot_path.schema()),
                settings,
                now,
            ),
            sensors,
            addresses: link.units.clone(),
            port: Port::new(&link.reach),
            silence: line.silence(),
            poll,
            opened_at: now,
            is_up: false,
            retry: Retry::new(link.reconnect),
            silent: 0,
            has_told_overrun: false,
        })
    }

    fn step(&mut self, hot_path: &mut HotPath) -> Result<(), String> {
        if !self.port.is_open() {
            return self.open(hot_path);
        }
        let now = Instant::now();
        if !self.is_up && now.saturating_duration_since(self.opened_at) >= UP_AFTER {
            self.handle_up(hot_path);
        }
        match self.master.poll(now, self.port.others_due()) {
            Next::Ask => self.ask(hot_path),
            Next::Listen(until) => self.listen(until, hot_path),
            Next::Wait(until) if self.port.is_shared() => {
                self.port.release(self.master.next_due());
                std::thread::sleep(patience(until, hot_path));
                hot_path.handle_idle();
                Ok(())
            }
            // Nothing is awaited, and what comes all the same is dropped; but a line
            // that is pulled out is seen.
            Next::Wait(until) => self.listen(until, hot_path),
        }
    }

    fn open(&mut self, hot_path: &mut HotPath) -> Result<(), String> {
        if !self.retry.is_due() {
            hot_path.handle_idle();
            return Ok(());
        }
        match self.port.open()? {
            Opened::NotYet => {
                hot_path.handle_idle();
                Ok(())
            }
            Opened::Yes => {
                self.opened_at = Instant::now();
                self.silent = 0;
                self.master.handle_up(self.opened_at);
                if !self.is_up && !self.retry.has_failed() {
                    self.handle_up(hot_path);
                }
                Ok(())
            }
        }
    }

    fn handle_up(&mut self, hot_path: &mut HotPath) {
        self.is_up = true;
        self.retry.handle_up();
        hot_path.handle_link_up();
    }

    /// Sends the next request, once the line is this source's and quiet.
    fn ask(&mut self, hot_path: &mut HotPath) -> Result<(), String> {
        let soon = Instant::now() + SHUTDOWN_POLL;
        if !self.port.take(patience(soon, hot_path)) {
            hot_path.handle_idle();
            return Ok(());
        }
        self.port.settle(self.silence)?;
        hot_path.handle_idle();
        let request = self.master.ask(hot_path.mark());
        self.port.write_all(request)
    }

    fn listen(&mut self, until: Instant, hot_path: &mut HotPath) -> Result<(), String> {
        let patience = patience(until, hot_path);
        let is_asked = self.master.is_polling();
        let len = match self.port.read(self.master.space(), patience) {
            Ok(len) => len,
            // Many a host closes a connection on which nothing is asked for a while.
            Err(_) if !is_asked && self.port.is_renewable() => {
                self.port.close();
                return Ok(());
            }
            Err(reason) => return Err(reason),
        };
        let receipt = (len > 0).then(|| hot_path.receive());
        let event = match receipt {
            Some(_) => {
                self.silent = 0;
                self.master.handle_bytes(len, hot_path.mark())
            }
            None => {
                hot_path.handle_idle();
                self.master.handle_time(hot_path.mark())
            }
        };
        // Not with the first bytes: what is no Modbus brings some, too.
        let is_answer = !matches!(event, None | Some(Event::Broken));
        if receipt.is_some() && is_answer && !self.is_up {
            self.handle_up(hot_path);
        }
        let result = match (event, receipt) {
            (Some(event), receipt) => self.handle(event, receipt, hot_path),
            (None, _) => Ok(()),
        };
        if !self.master.is_polling() {
            self.port.release(self.master.next_due());
        }
        result
    }

    fn handle(
        &mut self,
        event: Event,
        receipt: Option<Receipt>,
        hot_path: &mut HotPath,
    ) -> Result<(), String> {
        match event {
            Event::Reading {
                unit,
                sequence,
                missed,
                overrun,
            } => {
                let values = self.master.values();
                let mut reading = Reading::empty(values.len());
                reading.sequence = Some(sequence);
                reading.values_mut().copy_from_slice(values);
                let receipt = receipt.unwrap_or_else(|| hot_path.receive());
                hot_path.handle_reading(self.sensors[unit], &reading, receipt);
                if let Some(polls) = missed {
                    let (source, address) = (hot_path.source(), self.addresses[unit]);
                    tracing::info!(peer = %source, "{source}: unit {address} answers again, after {polls} polls without");
                }
                if overrun > 0 {
                    hot_path.note_fault(OVERRUN, overrun);
                    self.tell_overrun(unit, hot_path);
                }
            }
            Event::Failed {
                unit,
                fault,
                is_news,
            } => {
                hot_path.note_fault(fault.name(), 1);
                if is_news {
                    let detail = self.master.explain(unit, fault);
                    hot_path.tell_fault(self.sensors[unit], fault.name(), detail);
                }
                if receipt.is_none() {
                    self.silent += 1;
                }
                if self.silent >= SILENT_MAX && self.port.is_renewable() {
                    self.port.close();
                }
            }
            Event::Broken => return Err(self.port.explain_strange()),
        }
        Ok(())
    }

    /// A unit that has just died may hold a round up; a line that is too slow does
    /// in each.
    fn tell_overrun(&mut self, unit: usize, hot_path: &mut HotPath) {
        let (round, poll) = (self.master.round(), self.poll);
        if self.has_told_overrun || round <= poll {
            return;
        }
        self.has_told_overrun = true;
        let (round_ms, poll_ms) = (round.as_millis(), poll.as_millis());
        let detail = format!(
            "a poll of all units takes {round_ms} ms, so poll_ms = {poll_ms} cannot be kept: write a \
             longer `poll_ms`, raise `baud`, or spread the units over more lines"
        );
        hot_path.tell_fault(self.sensors[unit], OVERRUN, detail);
    }
}

impl Feed for ModbusFeed {
    /// An answer is one reading at most.
    fn has_more(&self) -> bool {
        false
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        if shutdown.is_requested() {
            return Fed::Ended;
        }
        if let Err(reason) = self.step(hot_path) {
            self.is_up = false;
            self.port.close();
            self.master.handle_down();
            self.port.release(None);
            self.retry.handle_down(reason, hot_path);
        }
        Fed::Open
    }
}

/// How long may be waited in one go: not at all while windows wait for a model.
fn patience(until: Instant, hot_path: &HotPath) -> Duration {
    if hot_path.has_waiting() {
        return Duration::ZERO;
    }
    let left = until.saturating_duration_since(Instant::now());
    left.min(SHUTDOWN_POLL)
}
