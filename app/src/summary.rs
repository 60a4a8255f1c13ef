//! The summary object: the same in `demo`, `run` at exit, and `replay`.
//!
//! Its names are a contract with everything outside.

use crate::report::ModelIdentity;
use hark_engine::{Counters, Rejection};
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
    /// Alerts raised.
    pub alerts: u64,
    /// The deadline, microseconds.
    pub deadline_us: u64,
    /// From the return of the read that completed a reading to its verdict.
    pub verdict_latency_us: Latency,
    /// Of the model alone.
    pub inference_us: Latency,
    /// The model of the first source.
    pub model: ModelIdentity,
    /// Readings that never arrived, by sequence number or timestamp.
    pub missed: u64,
    /// Inferences that failed.
    pub model_faults: u64,
    /// Rejections by reason, those that happened.
    pub rejections: BTreeMap<&'static str, u64>,
    /// The outcomes of each source by its name.
    pub sources: BTreeMap<String, SourceSummary>,
    /// What became of alerts on their way out.
    pub outputs: OutputCounts,
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
    /// Times that the link was made.
    pub connects: u64,
    /// Times that the link was lost.
    pub link_losses: u64,
    /// The first rejection of each reason, for the operator.
    pub examples: BTreeMap<&'static str, String>,
}

/// What became of alerts and verdicts after the engine gave them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OutputCounts {
    /// Written to the local event log.
    pub events_logged: u64,
    /// Not written, because the log failed.
    pub events_lost: u64,
    /// Dropped between the hot path and the outputs.
    pub reports_dropped: u64,
    /// On MQTT.
    #[serde(flatten)]
    pub mqtt: crate::mqtt::OutboxCounts,
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
        self.missed = self.missed.saturating_add(counters.missed);
        self.model_faults += counters.model_faults;
        for reason in Rejection::all() {
            let count = counters.rejected_by_reason[reason.index()];
            if count > 0 {
                *self.rejections.entry(reason.name()).or_default() += count;
            }
        }
    }
}

impl SourceSummary {
    /// The outcomes in one engine's counters.
    pub fn of(counters: &Counters) -> Self {
        Self {
            readings: counters.readings,
            scored: counters.scored,
            fallback: counters.fallback,
            filling: counters.filling,
            rejected: counters.rejected,
            shed: counters.shed,
            alerts: counters.alerts,
            ..Self::default()
        }
    }
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
                "source     {name}: {} readings of {} sensors, {} scored, {} rejected, {} alerts",
                source.readings, source.sensors, source.scored, source.rejected, source.alerts
            )?;
            for (reason, example) in &source.examples {
                writeln!(f, "           {reason}, for example {example}")?;
            }
        }
        let mqtt = &self.outputs.mqtt;
        writeln!(
            f,
            "alerts     {} raised; {} messages published, {} waiting, {} dropped",
            self.alerts, mqtt.alerts_published, mqtt.alerts_waiting, mqtt.alerts_dropped
        )?;
        writeln!(
            f,
            "deadline   {} µs, {} missed, {} late results",
            self.deadline_us, self.deadline_misses, self.late_results
        )?;
        writeln!(f, "verdict    {}", self.verdict_latency_us)?;
        write!(f, "inference  {}", self.inference_us)
    }
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
