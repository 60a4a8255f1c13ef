//! Payloads that lie ready: what a benchmark feeds to the hot path without a
//! link.
//!
//! Open loop: each payload is due at its time whether or not the one before is
//! done, and its latency counts from there.

use super::{Named, StreamDecoder};
use anyhow::{Context, anyhow};
use hark_config::Config;
use hark_engine::{Admission, SensorId};
use hark_serve::hot_path::HotPath;
use hark_serve::{Fed, Feed};
use hark_threads::shutdown::Shutdown;
use std::time::{Duration, Instant};

/// Between two looks at the shutdown, in payloads.
const SHUTDOWN_EVERY: u64 = 256;
/// A payload that is further away than this is slept for, a nearer one is
/// waited for in a loop: a sleep ends some tens of microseconds late.
const SPIN: Duration = Duration::from_micros(200);
/// Payloads that are queued before they are served when there is no rate: what
/// a read of a busy socket returns.
const AT_ONCE: u64 = 32;
/// The first sequence number: it has as many digits as any that follows, so
/// that it can be overwritten in place.
pub const SEQUENCE_FIRST: u64 = 1_000_000_000;
/// Where a payload keeps its sequence number: after `{"seq":`.
const SEQUENCE_AT: usize = 7;

/// Payloads that are played over and over, one sensor after the other.
pub struct MemoryFeed {
    admission: Admission,
    decoder: StreamDecoder,
    payloads: Vec<Box<[u8]>>,
    sensors: Vec<SensorId>,
    /// Between two payloads; none: as fast as they are served.
    period: Option<Duration>,
    count: u64,
    next: u64,
    started: Option<Instant>,
}

impl MemoryFeed {
    /// Plays `count` payloads of `sensors` sensors, one each `period`. Each of
    /// `payloads` starts with `{"seq":` and a number of ten digits, which is
    /// overwritten.
    ///
    /// What waited too long is shed as by a source with a queue.
    ///
    /// # Errors
    /// If the mapping does not fit the model's schema, or the engine takes
    /// fewer sensors.
    pub fn new(
        config: &Config,
        hot_path: &mut HotPath,
        payloads: Vec<Box<[u8]>>,
        sensors: usize,
        period: Option<Duration>,
        count: u64,
    ) -> anyhow::Result<Self> {
        assert!(
            !payloads.is_empty() && sensors > 0,
            "there is something to play"
        );
        let source = config.sources.first().context("there is one source")?;
        let decoder = StreamDecoder::new(source, hot_path)?;
        let named = |index| {
            let sensor = hot_path.sensor(&format!("s{index}"));
            sensor.map_err(|_| anyhow!("there is no room for sensor {index}"))
        };
        Ok(Self {
            admission: Admission::new(config.wait_us_max(), 1),
            decoder,
            payloads,
            sensors: (0..sensors).map(named).collect::<anyhow::Result<_>>()?,
            period,
            count,
            next: 0,
            started: None,
        })
    }
}

impl Feed for MemoryFeed {
    fn has_more(&self) -> bool {
        self.period.is_none() && !self.next.is_multiple_of(AT_ONCE) && self.next < self.count
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        let is_over = self.next >= self.count && !hot_path.has_waiting();
        if is_over || self.next.is_multiple_of(SHUTDOWN_EVERY) && shutdown.is_requested() {
            return Fed::Ended;
        }
        if self.next >= self.count {
            hot_path.handle_idle();
            return Fed::Open;
        }
        let now = Instant::now();
        let started = *self.started.get_or_insert(now);
        let due = match self.period {
            None => now,
            Some(period) => started + period.mul_f64(self.next as f64),
        };
        let early = due.saturating_duration_since(now);
        if early > Duration::ZERO && hot_path.has_waiting() {
            hot_path.handle_idle();
            return Fed::Open;
        }
        wait_until(due);
        let receipt = hot_path.receive_at(due);
        let waited_us = now.saturating_duration_since(due).as_micros() as u64;
        if !self.admission.is_admitted(0, waited_us) {
            hot_path.handle_shed(&receipt);
            self.next += 1;
            return Fed::Open;
        }
        let sensor = self.sensors[(self.next % self.sensors.len() as u64) as usize];
        let round = self.next / self.sensors.len() as u64;
        let at = (round % self.payloads.len() as u64) as usize;
        write_sequence(&mut self.payloads[at], SEQUENCE_FIRST + round);
        self.next += 1;
        let named = Named::Known(sensor);
        self.decoder
            .handle_payload(&self.payloads[at], "", named, receipt, hot_path);
        Fed::Open
    }
}

/// Waits for `due`, neither late nor early by more than a loop's turn.
pub fn wait_until(due: Instant) {
    let early = due.saturating_duration_since(Instant::now());
    if early > SPIN {
        std::thread::sleep(early - SPIN);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// Overwrites the number in a payload that starts with `{"seq":` and ten digits.
pub fn write_sequence(payload: &mut [u8], mut sequence: u64) {
    for digit in payload[SEQUENCE_AT..SEQUENCE_AT + 10].iter_mut().rev() {
        *digit = b'0' + (sequence % 10) as u8;
        sequence /= 10;
    }
}
