//! When the watchdogs are fed: the decision, without a device, a thread or a
//! clock.
//!
//! Watchdogs are fed because of progress, never because of time: only if *every*
//! loop of the pipeline has passed since they were fed last, and no source has
//! spent the threads that could relieve it. A loop that has not passed for
//! [`Supervision::new`]'s `stall` is a fault, told once. A source without
//! readings passes all the same, and one whose model hangs is passed on by the
//! thread that relieves it.
//!
//! The threads that write to disks and pipes are not among the loops: a disk under
//! load holds a sync up for many seconds, and a reset would not make it faster.
//!
//! Driven by [`Supervision::handle_look`], a few times a second.

use std::time::{Duration, Instant};

/// What one look may add to the time for which a loop has not passed. A machine
/// that slept, or left no time for the look itself, has not let the loops run
/// either.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What a look at one loop shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// How often it has passed; it may wrap.
    pub passes: u64,
    /// It waits for a model, under a deadline that the keeper watches: the
    /// keeper's loop stands for this one.
    pub is_lent: bool,
    /// It has ended, as a recording does.
    pub has_ended: bool,
    /// So many of its threads hang in models that nobody could take over.
    pub lacks_relief: bool,
}

/// A loop that stalled, or came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has not passed for `silent`.
    Stalled {
        /// Which, in the order of the sights.
        index: usize,
        /// For how long.
        silent: Duration,
    },
    /// It passes again.
    Recovered {
        /// Which.
        index: usize,
        /// For how long it had not passed.
        silent: Duration,
    },
}

/// What a look asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Feed the watchdogs.
    pub feeds: bool,
    /// A loop is stalled, or lacks relief: the alarm is due whatever the readings
    /// say.
    pub is_at_fault: bool,
    /// What is to be told.
    pub changes: Vec<Change>,
}

/// The progress of all loops, as far as feeding depends on it.
#[derive(Debug)]
pub struct Supervision {
    stall: Duration,
    period: Duration,
    looked_at: Instant,
    fed_at: Option<Instant>,
    loops: Vec<Loop>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Loop {
    passes: u64,
    has_passed_since_fed: bool,
    silent: Duration,
    is_stalled: bool,
}

impl Supervision {
    /// Of so many loops. One that has not passed for `stall` is at fault; the
    /// watchdogs are fed at most once in a `period`.
    pub fn new(loops: usize, stall: Duration, period: Duration, now: Instant) -> Self {
        Self {
            stall,
            period,
            looked_at: now,
            fed_at: None,
            loops: vec![Loop::default(); loops],
        }
    }

    /// Takes in a look at every loop, in the same order each time.
    ///
    /// # Panics
    /// If it is not of as many loops as were announced.
    pub fn handle_look(&mut self, now: Instant, sights: &[Sight]) -> Actions {
        assert_eq!(sights.len(), self.loops.len(), "a look sees every loop");
        let elapsed = now.saturating_duration_since(self.looked_at).min(LOOK_MAX);
        self.looked_at = now;
        let mut actions = Actions::default();
        for (index, (watched, sight)) in self.loops.iter_mut().zip(sights).enumerate() {
            let change = watched.handle_sight(index, sight, elapsed, self.stall);
            actions.changes.extend(change);
            actions.is_at_fault |= watched.is_stalled || sight.lacks_relief;
        }
        let has_passed = self
            .loops
            .iter()
            .all(|watched| watched.has_passed_since_fed);
        let is_due = self
            .fed_at
            .is_none_or(|fed_at| now.saturating_duration_since(fed_at) >= self.period);
        actions.feeds = has_passed && is_due && !actions.is_at_fault;
        if actions.feeds {
            self.fed_at = Some(now);
            for watched in &mut self.loops {
                watched.has_passed_since_fed = false;
            }
        }
        actions
    }

    /// Whether the watchdogs have been fed at all.
    pub fn has_fed(&self) -> bool {
        self.fed_at.is_some()
    }
}

impl Loop {
    fn handle_sight(
        &mut self,
        index: usize,
        sight: &Sight,
        elapsed: Duration,
        stall: Duration,
    ) -> Option<Change> {
        let passes = sight.passes != self.passes || sight.is_lent || sight.has_ended;
        self.passes = sight.passes;
        if !passes {
            self.silent += elapsed;
            let silent = self.silent;
            let has_stalled = !self.is_stalled && silent >= stall;
            self.is_stalled |= has_stalled;
            return has_stalled.then_some(Change::Stalled { index, silent });
        }
        self.has_passed_since_fed = true;
        let silent = std::mem::take(&mut self.silent);
        let has_recovered = std::mem::take(&mut self.is_stalled);
        has_recovered.then_some(Change::Recovered { index, silent })
    }
}

#[cfg(test)]
mod tests;
