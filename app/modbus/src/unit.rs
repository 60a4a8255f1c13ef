//! One unit of a line: when it is due, and how it has done.

use crate::fault::Fault;
use std::time::{Duration, Instant};

/// A unit that answers, but not rightly, is asked in each period for so many times;
/// then as one that is silent.
const PATIENCE: u32 = 3;
/// After so many good polls a fault that was told before is news again.
const GOOD_TO_FORGET: u32 = 100;

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) address: u8,
    /// Not before that.
    pub(crate) due: Instant,
    /// When it was last asked; of several that are due the one that has waited for
    /// longest comes first.
    pub(crate) asked_at: Option<Instant>,
    /// It answered the last time: the others give way to nobody else.
    pub(crate) is_living: bool,
    /// In a row.
    pub(crate) failures: u32,
    /// Kinds of faults that were told.
    told: u32,
    good: u32,
    /// That it does not answer was told, and that it does again is not yet.
    is_missed: bool,
}

impl Unit {
    pub(crate) fn new(address: u8, now: Instant) -> Self {
        Self {
            address,
            due: now,
            asked_at: None,
            is_living: false,
            failures: 0,
            told: 0,
            good: 0,
            is_missed: false,
        }
    }

    /// How long it is left alone after its last failure: twice as long each time.
    pub(crate) fn wait(&self, poll: Duration, longest: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        poll.saturating_mul(1 << doublings).min(longest.max(poll))
    }

    /// Whether an answer may be slow: at the first try nobody knows, and later every
    /// third is heard out.
    pub(crate) fn wants_patience(&self) -> bool {
        self.failures.is_multiple_of(3)
    }

    /// A poll brought a reading; for how many polls it was missed before, if that
    /// is to be told.
    pub(crate) fn handle_good(&mut self) -> Option<u32> {
        self.is_living = true;
        self.good += 1;
        if self.good >= GOOD_TO_FORGET {
            self.told = 0;
        }
        let failures = std::mem::take(&mut self.failures);
        std::mem::take(&mut self.is_missed).then_some(failures)
    }

    /// A poll brought none.
    pub(crate) fn handle_failure(&mut self, fault: Fault) {
        self.failures = self.failures.saturating_add(1);
        if fault.is_silence() || self.failures >= PATIENCE {
            self.is_living = false;
        }
    }

    /// Whether that is to be told: once, until it has done well for long.
    pub(crate) fn is_news(&mut self, fault: Fault) -> bool {
        self.good = 0;
        let kind = match fault {
            Fault::Timeout => 0,
            Fault::Crc => 1,
            Fault::Malformed => 2,
            Fault::Exception(code) => 3 + u32::from(code.min(15)),
        };
        let is_news = self.told & 1 << kind == 0;
        self.told |= 1 << kind;
        self.is_missed |= is_news && fault.is_silence();
        is_news
    }
}
