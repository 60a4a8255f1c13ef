//! Reading to sample: schema, range, rate of change, sequence and age.
//!
//! The order is fixed, so that a reading has one reason: sequence, then age,
//! then values. A duplicate or a reordered reading leaves no trace in the
//! window; any other refused reading leaves a gap of one.
//!
//! Age needs no synchronised clocks. For a node that counts its own time the
//! offset of arrival to timestamp is compared with the smallest offset seen,
//! which is the fastest that the path has ever been; that minimum leaks upward
//! by [`DRIFT_PPM`], so that a slow node clock does not age its readings. A
//! clock that began anew and jumped forward unseen shows in an age that stays:
//! after `age_max_ms` of it the offset is learnt afresh.

use crate::{CHANNELS_MAX, Reading, Rejection, Schema};

/// Consecutive backward steps, each one after the other, that are taken for a
/// node that started again rather than for late packets.
const RESTART_AFTER: u32 = 3;
/// The same where the sequence numbers have been seen: they may be delivered
/// again. A broker redelivers what was under way, mosquitto's default is 20.
const RESTART_AFTER_SEEN: u32 = 32;
/// A jump ahead by more is a node that counts from elsewhere, not a gap: at ten
/// readings a second it would be a day.
const AHEAD_MAX: u64 = 1 << 20;
/// How far a node's crystal may run slow; 100 ppm is a poor one.
const DRIFT_PPM: u64 = 100;
/// A line that catches up makes ages fall. What falls by less than this part of
/// `age_max_ms` in as long is taken for a clock that began anew.
const CATCH_UP_PART: i64 = 8;
/// Without sequence and timestamp, a silence of this many periods is a gap.
const SILENT_PERIODS: f64 = 10.0;

/// The moment of an event: a monotonic clock, and the wall clock beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of a clock that never steps.
    pub mono_us: u64,
    /// Microseconds since the Unix epoch; may step.
    pub utc_us: i64,
}

/// The return of the read that completed a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// By the clocks that the engine goes by; a recording has its own.
    pub now: Now,
    /// By whatever clock the driver's user measures latency with, nanoseconds.
    /// The engine only hands it back, with the verdict.
    pub read_ns: u64,
}

impl From<Now> for Receipt {
    /// Of a reading whose latency nobody measures.
    fn from(now: Now) -> Self {
        Self { now, read_ns: 0 }
    }
}

/// What a reading's timestamp counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeClock {
    /// Timestamps are carried along, but say nothing about age.
    #[default]
    None,
    /// The node's own clock, such as the time since its start.
    Node,
    /// The Unix epoch, from a synchronised clock.
    Utc,
}

/// How a node counts its readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counter {
    /// On and on.
    #[default]
    Endless,
    /// Perhaps on and on; where it begins anew at a usual bound, that is found out.
    FoundOut,
    /// From this on it begins at 0 again; at least 2.
    Wraps(u64),
}

/// Where counters of the field begin anew: a byte, two, four, or digits of a display.
const WRAPS: [u64; 13] = [
    10,
    100,
    1 << 8,
    1_000,
    10_000,
    1 << 16,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    1 << 32,
    10_000_000_000,
];
/// So few readings may be missing where a counter is first seen to begin anew; a
/// node that started again is seldom as near to a bound.
const WRAP_AHEAD_MAX: u64 = 8;
/// A time that goes back by more periods is a clock that was set, not a burst that
/// was delivered again.
const CLOCK_SET_PERIODS: f64 = 64.0;

/// A reading that passed validation; nobody checks it again.
pub(crate) struct Sample<'a> {
    pub(crate) reading: &'a Reading,
    /// Readings that should have come before this one and did not.
    pub(crate) missed: u64,
    /// The node started again since the last sample, so that nobody knows how
    /// many are missing.
    pub(crate) is_restart: bool,
}

/// The last readings of one sensor, as far as the next one is judged by them.
#[derive(Clone, Debug)]
pub(crate) struct Validator {
    sequence: SequenceState,
    /// Of readings without a sequence.
    order: TimeOrder,
    /// The last reading in range, accepted or not: the rate of change is taken
    /// from here, so that a step costs one rejection and not all that follow.
    values: [f32; CHANNELS_MAX],
    /// Its timestamp and its arrival, microseconds; none before the first.
    values_at: Option<(Option<i64>, u64)>,
    timestamp_us: Option<i64>,
    arrival_us: Option<u64>,
    /// Smallest arrival − timestamp seen, and when; of [`NodeClock::Node`].
    offset_min: Option<(i64, u64)>,
    /// The first of the stale readings in a row: its age and its arrival.
    stale_since: Option<(i64, u64)>,
    /// Readings missing or refused since the last sample.
    missed: u64,
    /// The node started again since the last sample.
    is_restart: bool,
    /// Of the change that was last refused, per second.
    rate: f32,
}

#[derive(Clone, Debug, Default)]
struct SequenceState {
    last: Option<u64>,
    /// Bit `i` is set if `last − i` has been seen.
    seen: u64,
    backward: Option<u64>,
    backward_run: u32,
    /// Where the counter begins anew, as far as that was found out.
    wraps: Option<u64>,
}

/// The times of readings that nobody counts.
#[derive(Clone, Debug, Default)]
struct TimeOrder {
    last_us: Option<i64>,
    backward_us: i64,
    backward_run: u32,
}

impl TimeOrder {
    /// An equal time is a reading again, an older one comes too late; several older
    /// ones, each after the other, are a clock that was set.
    fn handle(&mut self, us: i64, schema: &Schema) -> Result<Continuity, Rejection> {
        let Some(last_us) = self.last_us.filter(|last_us| us <= *last_us) else {
            self.last_us = Some(us);
            self.backward_run = 0;
            return Ok(Continuity::Uncounted);
        };
        if us == last_us {
            return Err(Rejection::Duplicate);
        }
        let continues = self.backward_run > 0 && us > self.backward_us;
        self.backward_run = if continues { self.backward_run + 1 } else { 1 };
        self.backward_us = us;
        let behind = last_us.saturating_sub(us) as f64 / (schema.period_ms * 1e3);
        let restart_after = if behind > CLOCK_SET_PERIODS {
            RESTART_AFTER
        } else {
            RESTART_AFTER_SEEN
        };
        if self.backward_run < restart_after {
            return Err(Rejection::Reordered);
        }
        self.last_us = Some(us);
        self.backward_run = 0;
        Ok(Continuity::Restart)
    }
}

impl Validator {
    pub(crate) fn new() -> Self {
        Self {
            sequence: SequenceState::default(),
            order: TimeOrder::default(),
            values: [0.0; CHANNELS_MAX],
            values_at: None,
            timestamp_us: None,
            arrival_us: None,
            offset_min: None,
            stale_since: None,
            missed: 0,
            is_restart: false,
            rate: 0.0,
        }
    }

    /// How fast the value changed that was last refused for that, per second.
    pub(crate) fn rate(&self) -> f32 {
        self.rate
    }

    /// Judges one reading.
    pub(crate) fn validate<'a>(
        &mut self,
        schema: &Schema,
        (clock, counter): (NodeClock, Counter),
        reading: &'a Reading,
        now: Now,
    ) -> Result<Sample<'a>, Rejection> {
        let step = match (reading.sequence, reading.timestamp_us) {
            (None, Some(timestamp_us)) => self.order.handle(timestamp_us, schema)?,
            (sequence, _) => self.sequence.handle(sequence, counter)?,
        };
        let result = self
            .check_age(schema, clock, reading, now)
            .and_then(|()| self.check_values(schema, reading, now));
        self.missed = self.missed.saturating_add(match step {
            Continuity::Skipped(count) => count,
            Continuity::Restart => 0,
            Continuity::Uncounted => self.missed_by_time(schema, reading, now),
        });
        self.is_restart |= step == Continuity::Restart;
        self.timestamp_us = reading.timestamp_us;
        self.arrival_us = Some(now.mono_us);
        if let Err(reason) = result {
            self.missed = self.missed.saturating_add(1);
            return Err(reason);
        }
        Ok(Sample {
            reading,
            missed: std::mem::take(&mut self.missed),
            is_restart: std::mem::take(&mut self.is_restart),
        })
    }

    fn check_age(
        &mut self,
        schema: &Schema,
        clock: NodeClock,
        reading: &Reading,
        now: Now,
    ) -> Result<(), Rejection> {
        let (Some(age_max_ms), Some(timestamp_us)) = (schema.age_max_ms, reading.timestamp_us)
        else {
            return Ok(());
        };
        let age_max_us = (age_max_ms * 1e3) as i64;
        let age_us = match clock {
            NodeClock::None => return Ok(()),
            NodeClock::Utc => now.utc_us.saturating_sub(timestamp_us),
            NodeClock::Node => {
                let age_us = self.relative_age_us(timestamp_us, now.mono_us);
                if self.has_begun_anew(age_us, age_max_us, now.mono_us) {
                    self.offset_min = None;
                    self.relative_age_us(timestamp_us, now.mono_us)
                } else {
                    age_us
                }
            }
        };
        if age_us > age_max_us {
            return Err(Rejection::Stale);
        }
        if age_us < -age_max_us {
            return Err(Rejection::Future);
        }
        Ok(())
    }

    /// How much longer than the fastest ever this reading was under way.
    fn relative_age_us(&mut self, timestamp_us: i64, mono_us: u64) -> i64 {
        let offset = (mono_us as i64).saturating_sub(timestamp_us);
        let went_back = self.timestamp_us.is_some_and(|last| timestamp_us < last);
        let leaked = self.offset_min.filter(|_| !went_back).map(|(min, since)| {
            let drift = mono_us.saturating_sub(since) / 1_000_000 * DRIFT_PPM;
            min.saturating_add(drift as i64)
        });
        match leaked {
            Some(min) if min <= offset => offset.saturating_sub(min),
            _ => {
                self.offset_min = Some((offset, mono_us));
                0
            }
        }
    }

    /// Whether readings have been stale for `age_max_us` and do not get fresher.
    fn has_begun_anew(&mut self, age_us: i64, age_max_us: i64, mono_us: u64) -> bool {
        if age_us <= age_max_us {
            self.stale_since = None;
            return false;
        }
        let (first_age_us, since) = *self.stale_since.get_or_insert((age_us, mono_us));
        if age_us < first_age_us.saturating_sub(age_max_us / CATCH_UP_PART) {
            self.stale_since = Some((age_us, mono_us));
            return false;
        }
        let has_begun_anew = mono_us.saturating_sub(since) >= age_max_us as u64;
        if has_begun_anew {
            self.stale_since = None;
        }
        has_begun_anew
    }

    fn check_values(
        &mut self,
        schema: &Schema,
        reading: &Reading,
        now: Now,
    ) -> Result<(), Rejection> {
        let values = reading.values();
        if values.len() != schema.channels.len() {
            return Err(Rejection::ChannelCount);
        }
        for (channel, (declared, &x)) in (0_u8..).zip(schema.channels.iter().zip(values)) {
            if !x.is_finite() {
                return Err(Rejection::NotFinite { channel });
            }
            if x < declared.min || x > declared.max {
                return Err(Rejection::Range { channel });
            }
        }
        let result = self.check_rates(schema, reading, now);
        self.values[..values.len()].copy_from_slice(values);
        self.values_at = Some((reading.timestamp_us, now.mono_us));
        result
    }

    fn check_rates(
        &mut self,
        schema: &Schema,
        reading: &Reading,
        now: Now,
    ) -> Result<(), Rejection> {
        let Some(values_at) = self.values_at else {
            return Ok(());
        };
        let elapsed_s = elapsed_s(values_at, schema, reading, now);
        let channels = schema.channels.iter().zip(reading.values());
        for (channel, ((declared, &x), &last)) in (0_u8..).zip(channels.zip(&self.values)) {
            let is_too_fast = declared
                .rate_max
                .is_some_and(|max| f64::from((x - last).abs()) > f64::from(max) * elapsed_s);
            if is_too_fast {
                self.rate = (f64::from((x - last).abs()) / elapsed_s) as f32;
                return Err(Rejection::RateOfChange { channel });
            }
        }
        Ok(())
    }

    /// Readings missing by the clock, for sources that count none.
    fn missed_by_time(&self, schema: &Schema, reading: &Reading, now: Now) -> u64 {
        let Some(arrival_us) = self.arrival_us else {
            return 0;
        };
        let period_us = schema.period_ms * 1e3;
        if let (Some(last), Some(this)) = (self.timestamp_us, reading.timestamp_us) {
            let periods = this.saturating_sub(last) as f64 / period_us;
            // Cast: saturates at both ends, as wanted for absurd timestamps.
            return (periods.round() as u64).saturating_sub(1);
        }
        let silence = now.mono_us.saturating_sub(arrival_us) as f64 / period_us;
        if silence > SILENT_PERIODS {
            silence as u64
        } else {
            0
        }
    }
}

/// Time since the reading whose values are compared, by timestamps where both have
/// one. Never less than a period: jitter must not make a change look faster.
fn elapsed_s(
    (timestamp_us, arrival_us): (Option<i64>, u64),
    schema: &Schema,
    reading: &Reading,
    now: Now,
) -> f64 {
    let elapsed_us = match (timestamp_us, reading.timestamp_us) {
        (Some(last), Some(this)) => this.saturating_sub(last).max(0) as f64,
        _ => now.mono_us.saturating_sub(arrival_us) as f64,
    };
    (elapsed_us / 1e6).max(schema.period_ms / 1e3)
}

/// What a sequence number says about the readings before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continuity {
    /// So many were skipped.
    Skipped(u64),
    /// The count began anew.
    Restart,
    /// There are no sequence numbers.
    Uncounted,
}

impl SequenceState {
    fn handle(&mut self, sequence: Option<u64>, counter: Counter) -> Result<Continuity, Rejection> {
        let Some(sequence) = sequence else {
            return Ok(Continuity::Uncounted);
        };
        let Some(sequence) = self.endless(sequence, counter) else {
            self.restart_at(sequence);
            return Ok(Continuity::Restart);
        };
        let Some(last) = self.last else {
            self.restart_at(sequence);
            return Ok(Continuity::Skipped(0));
        };
        if sequence > last {
            let ahead = sequence - last;
            if ahead > AHEAD_MAX {
                self.restart_at(sequence);
                return Ok(Continuity::Restart);
            }
            self.seen = if ahead < 64 {
                self.seen << ahead | 1
            } else {
                1
            };
            self.last = Some(sequence);
            self.backward_run = 0;
            return Ok(Continuity::Skipped(ahead - 1));
        }
        self.handle_backward(sequence, last - sequence)
    }

    /// What an endless counter would show: of all turns the one nearest to the last
    /// reading. None: it does not begin anew where it was found to.
    fn endless(&mut self, sequence: u64, counter: Counter) -> Option<u64> {
        let last = match (counter, self.last) {
            (Counter::Endless, _) | (_, None) => return Some(sequence),
            (Counter::FoundOut | Counter::Wraps(_), Some(last)) => last,
        };
        let wraps = match counter {
            Counter::Wraps(wraps) => Some(wraps),
            _ => self.wraps,
        };
        let Some(wraps) = wraps else {
            let bound = WRAPS.into_iter().find(|bound| *bound > last);
            let bound =
                bound.filter(|bound| sequence < last && bound - last + sequence <= WRAP_AHEAD_MAX);
            self.wraps = bound;
            return Some(sequence + bound.unwrap_or(0));
        };
        if sequence >= wraps {
            return None;
        }
        let turn = last - last % wraps;
        let near = turn.saturating_add(sequence);
        Some(if near.saturating_add(wraps / 2) < last {
            near.saturating_add(wraps)
        } else if near > last.saturating_add(wraps / 2) {
            near.checked_sub(wraps).unwrap_or(near)
        } else {
            near
        })
    }

    fn handle_backward(&mut self, sequence: u64, behind: u64) -> Result<Continuity, Rejection> {
        let continues = self.backward.and_then(|b| b.checked_add(1)) == Some(sequence);
        self.backward_run = if continues { self.backward_run + 1 } else { 1 };
        self.backward = Some(sequence);
        let is_seen = behind < 64 && self.seen >> behind & 1 == 1;
        let restart_after = if is_seen {
            RESTART_AFTER_SEEN
        } else {
            RESTART_AFTER
        };
        if self.backward_run >= restart_after {
            self.restart_at(sequence);
            return Ok(Continuity::Restart);
        }
        if is_seen {
            return Err(Rejection::Duplicate);
        }
        if behind < 64 {
            self.seen |= 1 << behind;
        }
        Err(Rejection::Reordered)
    }

    fn restart_at(&mut self, sequence: u64) {
        *self = Self {
            last: Some(sequence),
            seen: 1,
            backward: None,
            backward_run: 0,
            wraps: None,
        };
    }
}

#[cfg(test)]
mod tests;
