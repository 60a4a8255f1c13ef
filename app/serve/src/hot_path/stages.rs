//! How long each stage takes: a histogram and a breach counter for each.
//!
//! One clock reading ends a stage and begins the next, so that the stages of a
//! reading add up to its time on the thread.

use hark_config::BudgetConfig;
use hark_engine::{STAGES, Stage};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// The longest latency that is told apart, nanoseconds: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Three significant digits, up to a minute; for the figures of the summary.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are valid constants")
}

/// Two significant digits: a tenth of the memory, for six stages of each source.
fn stage_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are valid constants")
}

/// The stages of one source.
pub struct Stages {
    mark: Instant,
    budgets_ns: [u64; STAGES],
    breaches: [u64; STAGES],
    taken_ns: [Histogram<u64>; STAGES],
    busy_ns: u64,
}

/// What one stage took.
pub struct StageResult {
    /// Nanoseconds.
    pub taken_ns: Histogram<u64>,
    /// What it may take, nanoseconds.
    pub budget_ns: u64,
    /// How often it took longer.
    pub breaches: u64,
}

impl Stages {
    pub(super) fn new(budget: &BudgetConfig) -> Self {
        Self {
            mark: Instant::now(),
            budgets_ns: Stage::ALL.map(|stage| budget.stage_ns(stage)),
            breaches: [0; STAGES],
            taken_ns: Stage::ALL.map(|_| stage_histogram()),
            busy_ns: 0,
        }
    }

    /// The first stage begins at `at`.
    pub(super) fn begin(&mut self, at: Instant) {
        self.mark = at;
    }

    /// The end of the last stage.
    pub(super) fn mark(&self) -> Instant {
        self.mark
    }

    /// `stage` ends now.
    pub(super) fn end(&mut self, stage: Stage) {
        let now = Instant::now();
        self.record(stage, now - self.mark);
        self.mark = now;
    }

    /// `stage` took so long, which the mark knows nothing of.
    pub(super) fn record(&mut self, stage: Stage, taken: Duration) {
        let taken_ns = taken.as_nanos() as u64;
        self.taken_ns[stage.index()].saturating_record(taken_ns);
        self.breaches[stage.index()] += u64::from(taken_ns > self.budgets_ns[stage.index()]);
        self.busy_ns += taken_ns;
    }

    /// Time spent in stages since this was last asked, microseconds.
    pub(super) fn take_busy_us(&mut self) -> u64 {
        let busy_us = self.busy_ns / 1000;
        self.busy_ns %= 1000;
        busy_us
    }

    /// By [`Stage::index`].
    pub(super) fn finish(self) -> Vec<StageResult> {
        let figures = self
            .taken_ns
            .into_iter()
            .zip(self.budgets_ns.into_iter().zip(self.breaches));
        figures
            .map(|(taken_ns, (budget_ns, breaches))| StageResult {
                taken_ns,
                budget_ns,
                breaches,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_over_its_budget_is_a_breach() {
        let budget = BudgetConfig {
            stages_ms: [1.0; STAGES],
        };
        let mut stages = Stages::new(&budget);
        stages.record(Stage::Decode, Duration::from_micros(1_000));
        stages.record(Stage::Decode, Duration::from_micros(1_001));
        assert_eq!(stages.take_busy_us(), 2_001);
        let results = stages.finish();
        assert_eq!(results[Stage::Decode.index()].breaches, 1);
        assert_eq!(results[Stage::Output.index()].breaches, 0);
    }
}
