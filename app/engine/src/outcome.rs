//! What became of each reading, counted.

use crate::alert::{ALERT_KINDS, AlertKind};
use crate::{REASONS, Rejection};

/// The one outcome of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The active model gave the verdict, in time.
    Scored,
    /// A lower rung gave the verdict.
    Fallback,
    /// It went into a window that is not due yet.
    Filling,
    /// It failed validation.
    Rejected(Rejection),
    /// Admission control turned it away.
    Shed,
}

/// Counters of one engine. Each only ever grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Everything that arrived.
    pub readings: u64,
    /// Outcomes [`Outcome::Scored`].
    pub scored: u64,
    /// Outcomes [`Outcome::Fallback`].
    pub fallback: u64,
    /// Outcomes [`Outcome::Filling`].
    pub filling: u64,
    /// Outcomes [`Outcome::Rejected`], of any reason.
    pub rejected: u64,
    /// Outcomes [`Outcome::Shed`].
    pub shed: u64,
    /// Rejections by [`Rejection::index`].
    pub rejected_by_reason: [u64; REASONS],
    /// Readings that never arrived, by sequence number or timestamp.
    pub missed: u64,
    /// Windows emptied by a gap longer than they bridge.
    pub window_resets: u64,
    /// Model results that came after their verdict had been given.
    pub late_results: u64,
    /// Inferences that failed, by error or by a score that is not finite.
    pub model_faults: u64,
    /// Verdicts given after their deadline, on any rung.
    pub deadline_misses: u64,
    /// Alerts raised, of any kind.
    pub alerts: u64,
    /// The same by [`AlertKind::index`].
    pub alerts_by_kind: [u64; ALERT_KINDS],
    /// Sensors without a verdict that fell silent and were not told: too many did.
    pub silences_untold: u64,
    /// Verdicts by a model that was not run, for features just scored.
    pub cache_hits: u64,
    /// Of `fallback`: readings that the rule answered because no window of theirs is
    /// ever full.
    pub windowless: u64,
    /// Changes of the standing rung.
    pub ladder_steps: u64,
    /// Trials of a rung that had stepped down.
    pub probes: u64,
    /// Trials that failed.
    pub probes_failed: u64,
    /// Instances of a model given up with the thread that is stuck in them.
    pub hangs: u64,
    /// Sensors whose place was given to a newcomer.
    pub sensors_replaced: u64,
    /// Alerts, and verdicts where that is asked for, whose causes nobody knows: the
    /// model had no time for them, or says the same without any one channel.
    pub causes_unknown: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Scored => self.scored += 1,
            Outcome::Fallback => self.fallback += 1,
            Outcome::Filling => self.filling += 1,
            Outcome::Shed => self.shed += 1,
            Outcome::Rejected(reason) => {
                self.rejected += 1;
                self.rejected_by_reason[reason.index()] += 1;
            }
        }
    }

    pub(crate) fn count_alert(&mut self, kind: AlertKind) {
        self.alerts += 1;
        self.alerts_by_kind[kind.index()] += 1;
    }

    /// Readings that have an outcome. It equals `readings` less the readings
    /// whose inference is under way.
    pub fn outcomes(&self) -> u64 {
        self.scored + self.fallback + self.filling + self.rejected + self.shed
    }

    /// Adds the counters of another engine.
    pub fn add(&mut self, other: &Counters) {
        self.readings += other.readings;
        self.scored += other.scored;
        self.fallback += other.fallback;
        self.filling += other.filling;
        self.rejected += other.rejected;
        self.shed += other.shed;
        let reasons = self.rejected_by_reason.iter_mut();
        reasons
            .zip(other.rejected_by_reason)
            .for_each(|(sum, n)| *sum += n);
        self.missed = self.missed.saturating_add(other.missed);
        self.window_resets += other.window_resets;
        self.late_results += other.late_results;
        self.model_faults += other.model_faults;
        self.deadline_misses += other.deadline_misses;
        self.alerts += other.alerts;
        let kinds = self.alerts_by_kind.iter_mut();
        kinds
            .zip(other.alerts_by_kind)
            .for_each(|(sum, n)| *sum += n);
        self.silences_untold += other.silences_untold;
        self.cache_hits += other.cache_hits;
        self.windowless += other.windowless;
        self.ladder_steps += other.ladder_steps;
        self.probes += other.probes;
        self.probes_failed += other.probes_failed;
        self.hangs += other.hangs;
        self.sensors_replaced += other.sensors_replaced;
        self.causes_unknown += other.causes_unknown;
    }
}
