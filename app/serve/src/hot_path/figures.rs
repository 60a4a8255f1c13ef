//! What one source counts and measures of itself.
//!
//! Each stage has a histogram and a breach counter. One clock reading ends a
//! stage and begins the next, so that the stages of a reading add up to its time
//! on the thread.

use crate::report::ModelIdentity;
use hark_config::BudgetConfig;
use hark_engine::{Counters, Load, LoadFigures, Receipt, Rung, STAGES, Stage, Verdict};
use hark_threads::allocations;
use hdrhistogram::Histogram;
use std::sync::Arc;
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

/// Figures of one source, as they grow.
pub(super) struct Figures {
    /// Receipts are stamped with the time since then.
    began: Instant,
    pub(super) stages: Stages,
    pub(super) load: Load,
    pub(super) latency_ns: Histogram<u64>,
    pub(super) inference_ns: Histogram<u64>,
    allocations: Allocations,
    pub(super) connects: u64,
    pub(super) link_losses: u64,
    /// By their names, those that there were.
    pub(super) link_faults: Vec<(&'static str, u64)>,
}

/// Allocations of the serving thread, the model runtime's left out, since its first
/// read after whatever allocates once: a new sensor, another thread.
#[derive(Clone, Copy, Debug, Default)]
struct Allocations {
    /// What the thread had allocated at that read; none before it.
    from: Option<u64>,
    by_models: u64,
    readings: u64,
}

/// What is left of a source when it has ended.
pub struct SourceResult {
    /// The source's name.
    pub source: Arc<str>,
    /// Its outcomes.
    pub counters: Counters,
    /// Sensors seen.
    pub sensors: usize,
    /// Times that the link was made.
    pub connects: u64,
    /// Times that the link was lost.
    pub link_losses: u64,
    /// What else went wrong on it, by its name.
    pub link_faults: Vec<(&'static str, u64)>,
    /// From read to verdict, nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// Of the model alone, nanoseconds.
    pub inference_ns: Histogram<u64>,
    /// By [`Stage::index`].
    pub stages: Vec<StageResult>,
    /// Arrivals and capacity over the last seconds.
    pub load: LoadFigures,
    /// The first rejection of each reason.
    pub examples: Vec<(&'static str, String)>,
    /// The active model.
    pub identity: Arc<ModelIdentity>,
    /// The rung that stood at the end.
    pub rung: Rung,
    /// Allocations for each reading since the first read after the last new sensor,
    /// or on the thread that serves now, without the model runtime's; None before
    /// that read.
    pub allocations_per_reading: Option<f64>,
    /// Processor time of the thread that ended, its abandoned ones left out.
    pub cpu: Duration,
}

impl Figures {
    pub(super) fn new(budget: &BudgetConfig) -> Self {
        Self {
            began: Instant::now(),
            stages: Stages::new(budget),
            load: Load::default(),
            latency_ns: histogram(),
            inference_ns: histogram(),
            allocations: Allocations::default(),
            connects: 0,
            link_losses: 0,
            link_faults: Vec::new(),
        }
    }

    /// Something went wrong on the link, `count` times.
    pub(super) fn note_fault(&mut self, fault: &'static str, count: u64) {
        let mut faults = self.link_faults.iter_mut();
        match faults.find(|(name, _)| *name == fault) {
            Some((_, counted)) => *counted += count,
            None => self.link_faults.push((fault, count)),
        }
    }

    /// What a receipt at `at` is stamped with, nanoseconds.
    pub(super) fn stamp_ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// How long ago `receipt` was, as of the end of the last stage, nanoseconds.
    pub(super) fn waited_ns(&self, receipt_ns: u64) -> u64 {
        self.stamp_ns(self.stages.mark()).saturating_sub(receipt_ns)
    }

    /// Something is set up, on whatever thread: what it costs once, until the next
    /// read, is no cost of readings.
    pub(super) fn note_setup(&mut self) {
        self.allocations = Allocations::default();
    }

    /// A read has returned at `at`, on the thread that serves.
    pub(super) fn note_read(&mut self, at: Instant) {
        self.stages.begin(at);
        // Each thread counts its own. Here and not where the source is set up: that may
        // be on another.
        self.allocations
            .from
            .get_or_insert_with(allocations::of_thread);
    }

    /// A reading came; if it is settled, nothing is left to do for it.
    pub(super) fn note_reading(&mut self, receipt: &Receipt, is_settled: bool) {
        let now_us = receipt.now.mono_us;
        self.allocations.readings += u64::from(self.allocations.from.is_some());
        self.load.handle_arrivals(1, now_us);
        // Service is what keeps the thread busy. That of a window which waits is
        // counted with its batch.
        if is_settled {
            self.load
                .handle_service(1, self.stages.take_busy_us(), now_us);
        }
    }

    /// A reading was turned away.
    pub(super) fn note_shed(&mut self, receipt: &Receipt) {
        self.load.handle_arrivals(1, receipt.now.mono_us);
    }

    /// A model ran a batch of `rows`.
    pub(super) fn note_run(&mut self, took: Duration, rows: usize, allocations: u64) {
        self.allocations.by_models += allocations;
        // Each window waited for the whole run, and cost its part of it.
        for _ in 0..rows {
            self.stages.record(Stage::Inference, took / rows as u32);
            self.inference_ns.saturating_record(took.as_nanos() as u64);
        }
    }

    /// The windows of a batch have their verdicts.
    pub(super) fn note_served(&mut self, rows: usize, now_us: u64) {
        self.load
            .handle_service(rows as u64, self.stages.take_busy_us(), now_us);
    }

    /// As [`SourceResult::allocations_per_reading`]; on the thread that serves.
    pub(super) fn allocations_per_reading(&self) -> Option<f64> {
        let Allocations {
            from,
            by_models,
            readings,
        } = self.allocations;
        let allocated = allocations::of_thread().saturating_sub(from? + by_models);
        (readings > 0).then(|| allocated as f64 / readings as f64)
    }

    /// A verdict was handed to the outputs, as of the end of the last stage.
    pub(super) fn note_verdict(&mut self, verdict: &Verdict) {
        let latency_ns = self.waited_ns(verdict.read_ns);
        self.latency_ns.saturating_record(latency_ns);
    }
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
