//! The summary object: the same in `demo`, `run` at exit, and `replay`.
//!
//! Its names are a contract with everything outside.

use hark_broker::Counts;
use hark_engine::{AlertKind, Counters, Rejection, Stage};
use hark_outlet::outputs::OutputCounts;
use hark_serve::hot_path::{SourceResult, StageResult, histogram};
use hark_serve::report::ModelIdentity;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What became of all readings, and how long it took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Everything that arrived; the sum of the next five.
    pub readings: u64,
    /// Verdicts of the active model, in time.
    pub scored: u64,
    /// Verdicts of a lower rung.
    pub fallback: u64,
    /// Readings that went into a window that was not due.
    pub filling: u64,
    /// Readings that failed validation.
    pub rejected: u64,
    /// Readings that admission control turned away.
    pub shed: u64,
    /// Model results that came after their verdict.
    pub late_results: u64,
    /// Verdicts given after their deadline.
    pub deadline_misses: u64,
    /// Alerts raised, of every kind.
    pub alerts: u64,
    /// The same by [`AlertKind::name`], those that there were.
    pub alerts_by_kind: BTreeMap<&'static str, u64>,
    /// The deadline, microseconds.
    pub deadline_us: u64,
    /// From the return of the read that completed a reading to its verdict.
    pub verdict_latency_us: Latency,
    /// Of the model alone.
    pub inference_us: Latency,
    /// The model of the first source.
    pub model: ModelIdentity,
    /// Sensors that never had a verdict, fell silent, and were too many to be told.
    pub silences_untold: u64,
    /// Alerts, and verdicts where that is asked for, whose causes nobody knows.
    pub causes_unknown: u64,
    /// Readings that never arrived, by sequence number or timestamp.
    pub missed: u64,
    /// Inferences that failed.
    pub model_faults: u64,
    /// Verdicts that reused the scores of equal features.
    pub cache_hits: u64,
    /// Of `fallback`: readings that the rule answered because no window of theirs is
    /// ever full.
    pub windowless: u64,
    /// Steps on the ladder, up and down.
    pub ladder_steps: u64,
    /// Threads that hang in a model.
    pub threads_abandoned: usize,
    /// Sources that did not end when they were to; their readings are missing.
    pub sources_stuck: usize,
    /// Threads that panicked, by their names; what such a source read is missing.
    pub threads_panicked: Vec<String>,
    /// Threads that did not end when they were to, by their names: they hang in a
    /// model, a disk or a pipe, and go with the process.
    pub threads_left: Vec<String>,
    /// What each stage took, and how often more than its budget.
    pub stages: BTreeMap<&'static str, StageSummary>,
    /// Rejections by reason, those that happened.
    pub rejections: BTreeMap<&'static str, u64>,
    /// The outcomes of each source by its name.
    pub sources: BTreeMap<String, SourceSummary>,
    /// What became of alerts on their way out.
    pub outputs: OutputCounts,
    /// What the embedded broker did, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<Counts>,
}

/// The outcomes of one source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceSummary {
    /// As in [`Summary`].
    pub readings: u64,
    /// As in [`Summary`].
    pub scored: u64,
    /// As in [`Summary`].
    pub fallback: u64,
    /// As in [`Summary`].
    pub filling: u64,
    /// As in [`Summary`].
    pub rejected: u64,
    /// As in [`Summary`].
    pub shed: u64,
    /// As in [`Summary`].
    pub alerts: u64,
    /// Sensors seen.
    pub sensors: u64,
    /// Sensors whose place was given to a new one, because `device.sensors_max` was reached.
    pub sensors_replaced: u64,
    /// The rung that stood at the end.
    pub rung: &'static str,
    /// Arrivals and capacity over the last seconds, and their ratio λ/μ.
    pub load: LoadSummary,
    /// As in [`Summary`].
    pub stages: BTreeMap<&'static str, StageSummary>,
    /// Allocations for each reading since the last new sensor, without those
    /// of the model runtime; none before the first reading.
    pub allocations_per_reading: Option<f64>,
    /// Processor time of the serving thread for each reading, microseconds.
    pub cpu_us_per_reading: f64,
    /// Times that the link was made.
    pub connects: u64,
    /// Times that the link was lost.
    pub link_losses: u64,
    /// What else went wrong on the link, by its name, such as Modbus time-outs.
    pub link_faults: BTreeMap<&'static str, u64>,
    /// The first rejection of each reason, for the operator.
    pub examples: BTreeMap<&'static str, String>,
}

/// One stage of all readings of a source, or of all sources.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StageSummary {
    /// What the stage may take, microseconds.
    pub budget_us: f64,
    /// How often it took longer.
    pub breaches: u64,
    /// What it took, microseconds.
    #[serde(flatten)]
    pub taken_us: Latency,
}

/// The load of one source over the last seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LoadSummary {
    /// λ: readings a second.
    pub arrivals_per_s: f64,
    /// μ: readings a second that its thread could serve.
    pub capacity_per_s: f64,
    /// λ/μ; above 1 is an overload.
    pub factor: f64,
}

/// Percentiles of a latency, microseconds with one decimal.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
    /// 999 of 1000 are no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Percentiles of a histogram of nanoseconds.
    pub fn of(histogram_ns: &Histogram<u64>) -> Self {
        let us = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
        Self {
            p50: us(histogram_ns.value_at_quantile(0.5)),
            p99: us(histogram_ns.value_at_quantile(0.99)),
            p999: us(histogram_ns.value_at_quantile(0.999)),
            max: us(histogram_ns.max()),
        }
    }
}

impl Summary {
    /// Sums up the results of all sources, the model being the first one's, with
    /// the latencies of all verdicts in nanoseconds.
    pub fn of(deadline_us: u64, results: Vec<SourceResult>) -> (Self, Histogram<u64>) {
        let mut summary = Self {
            deadline_us,
            ..Self::default()
        };
        let (mut latency_ns, mut inference_ns) = (histogram(), histogram());
        let mut stages = Vec::new();
        for (index, result) in results.into_iter().enumerate() {
            if index == 0 {
                summary.model = (*result.identity).clone();
            }
            let same = "histograms have the same bounds";
            latency_ns.add(&result.latency_ns).expect(same);
            inference_ns.add(&result.inference_ns).expect(same);
            summary.add_counters(&result.counters);
            let source = SourceSummary::of(&result);
            summary.sources.insert(result.source.to_string(), source);
            add_stages(&mut stages, result.stages);
        }
        summary.verdict_latency_us = Latency::of(&latency_ns);
        summary.inference_us = Latency::of(&inference_ns);
        summary.stages = stage_summaries(&stages);
        (summary, latency_ns)
    }

    /// Takes in the counters of one source's engine.
    pub fn add_counters(&mut self, counters: &Counters) {
        self.readings += counters.readings;
        self.scored += counters.scored;
        self.fallback += counters.fallback;
        self.filling += counters.filling;
        self.rejected += counters.rejected;
        self.shed += counters.shed;
        self.late_results += counters.late_results;
        self.deadline_misses += counters.deadline_misses;
        self.alerts += counters.alerts;
        for kind in AlertKind::ALL {
            let count = counters.alerts_by_kind[kind.index()];
            if count > 0 {
                *self.alerts_by_kind.entry(kind.name()).or_default() += count;
            }
        }
        self.silences_untold += counters.silences_untold;
        self.causes_unknown += counters.causes_unknown;
        self.missed = self.missed.saturating_add(counters.missed);
        self.model_faults += counters.model_faults;
        self.cache_hits += counters.cache_hits;
        self.windowless += counters.windowless;
        self.ladder_steps += counters.ladder_steps;
        for reason in Rejection::all() {
            let count = counters.rejected_by_reason[reason.index()];
            if count > 0 {
                *self.rejections.entry(reason.name()).or_default() += count;
            }
        }
    }
}

impl SourceSummary {
    /// What is left of one source.
    pub fn of(result: &SourceResult) -> Self {
        let counters = &result.counters;
        let load = result.load;
        Self {
            readings: counters.readings,
            scored: counters.scored,
            fallback: counters.fallback,
            filling: counters.filling,
            rejected: counters.rejected,
            shed: counters.shed,
            alerts: counters.alerts,
            sensors: result.sensors as u64,
            sensors_replaced: result.counters.sensors_replaced,
            rung: result.rung.name(),
            load: LoadSummary {
                arrivals_per_s: rounded(load.arrivals_per_s),
                capacity_per_s: rounded(load.capacity_per_s),
                factor: (load.factor * 1e4).round() / 1e4,
            },
            stages: stage_summaries(&result.stages),
            allocations_per_reading: result.allocations_per_reading,
            cpu_us_per_reading: rounded(
                result.cpu.as_secs_f64() * 1e6 / counters.readings.max(1) as f64,
            ),
            connects: result.connects,
            link_losses: result.link_losses,
            link_faults: result.link_faults.iter().copied().collect(),
            examples: result.examples.iter().cloned().collect(),
        }
    }
}

fn rounded(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

fn add_stages(sum: &mut Vec<StageResult>, stages: Vec<StageResult>) {
    if sum.is_empty() {
        *sum = stages;
        return;
    }
    for (sum, stage) in sum.iter_mut().zip(stages) {
        sum.breaches += stage.breaches;
        let added = sum.taken_ns.add(&stage.taken_ns);
        added.expect("histograms have the same bounds");
    }
}

fn stage_summaries(stages: &[StageResult]) -> BTreeMap<&'static str, StageSummary> {
    let summary = |(stage, result): (Stage, &StageResult)| {
        let summary = StageSummary {
            budget_us: result.budget_ns as f64 / 1e3,
            breaches: result.breaches,
            taken_us: Latency::of(&result.taken_ns),
        };
        (stage.name(), summary)
    };
    Stage::ALL.into_iter().zip(stages).map(summary).collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = &self.model;
        writeln!(
            f,
            "model      {} {} ({})",
            model.name, model.version, model.backend
        )?;
        writeln!(
            f,
            "readings   {} = {} scored + {} fallback + {} filling + {} rejected + {} shed",
            self.readings, self.scored, self.fallback, self.filling, self.rejected, self.shed
        )?;
        for (reason, count) in &self.rejections {
            writeln!(f, "           {count} rejected: {reason}")?;
        }
        for (name, source) in &self.sources {
            writeln!(
                f,
                "source     {name}: {} readings of {}, {} scored, {} rejected, {} alerts; rung {}, load λ/μ {}",
                source.readings,
                counted(source.sensors, "sensor"),
                source.scored,
                source.rejected,
                source.alerts,
                source.rung,
                source.load.factor,
            )?;
            for (fault, count) in &source.link_faults {
                writeln!(f, "           {count} on its link: {fault}")?;
            }
            for (reason, example) in &source.examples {
                writeln!(f, "           {reason}, for example {example}")?;
            }
        }
        let mqtt = &self.outputs.mqtt;
        write!(
            f,
            "alerts     {} raised; {} messages published, {} waiting, {} dropped",
            self.alerts, mqtt.alerts_published, mqtt.alerts_waiting, mqtt.alerts_dropped
        )?;
        match mqtt.alerts_refused {
            0 => writeln!(f)?,
            refused => writeln!(f, ", {refused} refused by the broker")?,
        }
        writeln!(
            f,
            "deadline   {} µs, {} missed, {} late results",
            self.deadline_us, self.deadline_misses, self.late_results
        )?;
        let ladder = (self.ladder_steps, self.model_faults, self.threads_abandoned);
        if ladder != (0, 0, 0) {
            let (steps, faults, threads) = ladder;
            writeln!(
                f,
                "ladder     {}, {}, {} abandoned",
                counted(steps, "step"),
                counted(faults, "model fault"),
                counted(threads as u64, "thread"),
            )?;
        }
        for (name, stage) in self.stages.iter().filter(|(_, stage)| stage.breaches > 0) {
            let (breaches, budget_us) = (stage.breaches, stage.budget_us);
            writeln!(
                f,
                "budget     {name}: {breaches} took more than {budget_us} µs"
            )?;
        }
        writeln!(f, "verdict    {}", self.verdict_latency_us)?;
        write!(f, "inference  {}", self.inference_us)?;
        let outputs = &self.outputs;
        let lost = [
            ("event log", outputs.events_lost),
            ("alert log", outputs.alert_log_lost),
            ("standard output", outputs.stdout_lost),
            ("standard error", outputs.stderr_lost),
        ];
        for (name, lost) in lost.into_iter().filter(|(_, lost)| *lost > 0) {
            let lost = counted(lost, "line");
            write!(f, "\noutput     {name}: {lost} left out")?;
        }
        Ok(())
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50,
            p99,
            p999,
            max,
        } = self;
        write!(
            f,
            "p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs, max {max} µs"
        )
    }
}
