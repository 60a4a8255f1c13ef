//! The time of one source: the machine's, or that of a recording.

use hark_engine::Now;
use hark_hal::{Clock, wall_us};
use std::time::Instant;

/// From moments of this machine to the engine's time, and back.
pub(super) struct SourceClock {
    clock: Clock,
    /// Added to the clock while a recording is replayed, so that the engine sees
    /// its time. Microseconds.
    replay_offset_us: i64,
    /// The wall clock at the last receipt.
    utc_us: i64,
}

impl SourceClock {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            replay_offset_us: 0,
            utc_us: 0,
        }
    }

    /// A read has returned.
    pub(super) fn handle_receipt(&mut self) {
        self.utc_us = (wall_us() as i64).saturating_add(self.replay_offset_us);
    }

    /// A row of a recording has come at `at`, which is `recorded_us` there.
    pub(super) fn handle_recorded(
        &mut self,
        at: Instant,
        recorded_us: u64,
        timestamp_us: Option<i64>,
    ) {
        let at_us = self.clock.us_at(at) as i64;
        // Anew with each row, so that the recording's clock passes while a model runs:
        // a deadline is of this machine, whatever it replays.
        self.replay_offset_us = (recorded_us as i64).saturating_sub(at_us);
        self.utc_us = timestamp_us.unwrap_or(recorded_us as i64);
    }

    /// The engine's time of `at`, microseconds.
    pub(super) fn us_at(&self, at: Instant) -> u64 {
        self.clock
            .us_at(at)
            .saturating_add_signed(self.replay_offset_us)
    }

    /// As [`SourceClock::us_at`], with the wall clock of the last receipt: asking
    /// for it at every stage would cost more than the stage.
    pub(super) fn now_at(&self, at: Instant) -> Now {
        Now {
            mono_us: self.us_at(at),
            utc_us: self.utc_us,
        }
    }

    /// `engine_us` on the clock that all threads share, microseconds.
    pub(super) fn shared_us(&self, engine_us: u64) -> u64 {
        engine_us.saturating_add_signed(self.replay_offset_us.saturating_neg())
    }
}
