//! What the threads of the pipeline show of themselves while they run: that
//! their loops pass, and whether an alert is raised.
//!
//! Showing costs a store or two, without a lock, an allocation or a look at the
//! clock: it is done at every turn of the hot path. Whoever looks, a few times a
//! second, decides what it means ([`Supervision`](crate::watchdog::Supervision)).

use hark_engine::Rung;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::Thread;

/// By what [`Progress`] keeps of a rung.
const RUNGS: [Rung; 5] = [
    Rung::Delegate,
    Rung::Model,
    Rung::Previous,
    Rung::Rule,
    Rung::Last,
];

/// The progress of one loop. One thread at a time writes; a stand-in goes on
/// where the thread before it was given up.
#[derive(Debug, Default)]
pub struct Progress {
    passes: AtomicU64,
    readings: AtomicU64,
    rung: AtomicU8,
    has_ended: AtomicBool,
    lacks_relief: AtomicBool,
}

impl Progress {
    /// The loop has passed once more.
    pub fn pass(&self) {
        // No other thread adds: a load and a store are cheaper than an addition
        // that others may see halfway.
        let passes = self.passes.load(Ordering::Relaxed);
        self.passes.store(passes.wrapping_add(1), Ordering::Relaxed);
    }

    /// As [`Progress::pass`], of a source that has taken in so many readings.
    pub fn pass_with(&self, readings: u64, rung: Rung) {
        self.pass();
        self.readings.store(readings, Ordering::Relaxed);
        self.rung.store(rung as u8, Ordering::Relaxed);
    }

    /// How often the loop has passed; it wraps.
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// Readings taken in, if it is a source's.
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// The rung that stands, if it is a source's.
    pub fn rung(&self) -> Rung {
        let rung = usize::from(self.rung.load(Ordering::Relaxed));
        RUNGS[rung.min(RUNGS.len() - 1)]
    }

    /// The loop has ended as it should, as that of a recording does. One that
    /// panicked has not.
    pub fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Whether the loop has ended as it should.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Notes whether so many threads hang that no other could take over.
    pub fn set_lacks_relief(&self, lacks_relief: bool) {
        self.lacks_relief.store(lacks_relief, Ordering::Relaxed);
    }

    /// Whether so many threads hang that no other could take over.
    pub fn lacks_relief(&self) -> bool {
        self.lacks_relief.load(Ordering::Relaxed)
    }
}

/// The alerts that stand, for an output that is to follow them with nothing in
/// between that can be slow: no disk, no network.
#[derive(Debug, Default)]
pub struct Alarms {
    standing: AtomicU64,
    raised: AtomicU64,
    /// Who drives the output.
    listener: OnceLock<Thread>,
}

impl Alarms {
    /// An alert was raised, or cleared after it was raised. Never waits.
    pub fn note(&self, is_raised: bool) {
        if is_raised {
            self.standing.fetch_add(1, Ordering::Relaxed);
            self.raised.fetch_add(1, Ordering::Relaxed);
        } else {
            self.standing.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(listener) = self.listener.get() {
            listener.unpark();
        }
    }

    /// An alert stands that was raised before the start.
    pub fn restore(&self) {
        self.standing.fetch_add(1, Ordering::Relaxed);
    }

    /// Alerts that stand now.
    pub fn standing(&self) -> u64 {
        self.standing.load(Ordering::Relaxed)
    }

    /// Alerts raised since the start.
    pub fn raised(&self) -> u64 {
        self.raised.load(Ordering::Relaxed)
    }

    /// The calling thread is woken by each change from now on; the first that
    /// asks is the one.
    pub fn listen(&self) {
        self.listener.get_or_init(std::thread::current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_is_shown_as_it_is() {
        let progress = Progress::default();
        for rung in RUNGS {
            progress.pass_with(7, rung);
            assert_eq!(progress.rung(), rung);
        }
        assert_eq!((progress.passes(), progress.readings()), (5, 7));
    }

    #[test]
    fn an_alarm_stands_until_the_last_alert_is_cleared() {
        let alarms = Alarms::default();
        for (is_raised, standing) in [(true, 1), (true, 2), (false, 1), (true, 2), (false, 1)] {
            alarms.note(is_raised);
            assert_eq!(alarms.standing(), standing);
        }
        alarms.note(false);
        assert_eq!((alarms.standing(), alarms.raised()), (0, 3));
    }

    #[test]
    fn a_change_wakes_who_listens() {
        let alarms = std::sync::Arc::new(Alarms::default());
        alarms.listen();
        let other = std::sync::Arc::clone(&alarms);
        let thread = std::thread::spawn(move || other.note(true));
        while alarms.standing() == 0 {
            std::thread::park();
        }
        thread.join().unwrap();
    }
}
