//! Which reading is due when: a rig, a pace and an end.
//!
//! Every reading is due at the start plus its own time over the speed, so that
//! a late one delays none after it and nothing drifts. The clock is the
//! caller's: [`Schedule::poll`] is told how long ago the start was.

use hark_rig::{Rig, RigReading};
use std::iter::Peekable;
use std::str::FromStr;
use std::time::Duration;

/// The slowest pace: a reading of the longest period in three hours.
pub const SPEED_MIN: f64 = 0.001;
/// The fastest pace, the same as of a replayed file; beyond it there is 0.
pub const SPEED_MAX: f64 = 1_000_000.0;

/// How fast simulated time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// 0, or [`SPEED_MIN`]..=[`SPEED_MAX`].
    speed: f64,
}

/// A speed is not 0 and not within [`SPEED_MIN`]..=[`SPEED_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 0 (as fast as possible), 1 (real time) or another number from {SPEED_MIN} to {SPEED_MAX}"
)]
pub struct InvalidSpeed;

impl Pace {
    /// One second a second.
    pub const REAL_TIME: Self = Self { speed: 1.0 };
    /// As fast as possible.
    pub const UNLIMITED: Self = Self { speed: 0.0 };

    /// `speed` times real time; 0: as fast as possible.
    ///
    /// # Errors
    /// [`InvalidSpeed`].
    pub fn new(speed: f64) -> Result<Self, InvalidSpeed> {
        if speed == 0.0 || (SPEED_MIN..=SPEED_MAX).contains(&speed) {
            Ok(Self { speed })
        } else {
            Err(InvalidSpeed)
        }
    }

    /// Whether nothing is ever waited for but the reader.
    pub fn is_unlimited(self) -> bool {
        self.speed == 0.0
    }

    /// How long after the start the simulated time `time_us`, µs, is reached.
    pub fn due_after(self, time_us: u64) -> Duration {
        if self.is_unlimited() {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(time_us as f64 / 1_000_000.0 / self.speed)
        }
    }
}

impl FromStr for Pace {
    type Err = InvalidSpeed;

    fn from_str(text: &str) -> Result<Self, InvalidSpeed> {
        text.parse().map_err(|_| InvalidSpeed).and_then(Self::new)
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Due {
    /// This reading is due.
    Play(RigReading),
    /// Nothing is due for this long; never zero.
    Wait(Duration),
    /// There are no more readings.
    End,
}

/// The readings of a rig, each when it is due.
#[derive(Debug)]
pub struct Schedule {
    rig: Peekable<Rig>,
    pace: Pace,
    end: Option<Duration>,
}

impl Schedule {
    /// The readings of `rig` before `end` of simulated time; all of them, so
    /// without end, if there is none.
    pub fn new(rig: Rig, pace: Pace, end: Option<Duration>) -> Self {
        Self {
            rig: rig.peekable(),
            pace,
            end,
        }
    }

    /// The pace.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// What to do when the start was `elapsed` ago.
    pub fn poll(&mut self, elapsed: Duration) -> Due {
        let Some(next) = self.rig.peek() else {
            return Due::End;
        };
        let is_after = |end| Duration::from_micros(next.time_us) >= end;
        if self.end.is_some_and(is_after) {
            return Due::End;
        }
        let wait = self.pace.due_after(next.time_us).saturating_sub(elapsed);
        if wait.is_zero() {
            self.rig.next().map_or(Due::End, Due::Play)
        } else {
            Due::Wait(wait)
        }
    }
}
