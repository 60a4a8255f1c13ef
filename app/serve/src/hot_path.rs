//! The hot path of one source: decoded reading in, verdict out, on the thread
//! that read it.
//!
//! A source hands over each reading with the [`Receipt`] of the read that
//! completed it. Nothing here waits or, in the steady state, allocates;
//! everything slower is reached through the reporter's bounded channels.
//!
//! Models are run by the [`shift`](crate::shift), which may have to give up the
//! thread: it takes a loaded [`Runner`] from [`HotPath::start_inference`] and
//! brings it back to [`HotPath::finish_inference`].

mod models;
mod runner;
mod stages;

pub use runner::{Ran, Runner};
pub use stages::{StageResult, Stages, histogram};

use crate::bundle::Rungs;
use crate::report::{AlertReport, Event, ModelIdentity, Reporter, SensorVerdict};
use hark_config::{Clock as ClockConfig, Config, SourceConfig, check_level};
use hark_engine::{
    AlertState, Counters, Engine, Hang, LadderStep, Limits, Load, LoadFigures, NodeClock, Now,
    Outcome, Output, PENDING_MAX, REASONS, Reading, Rejection, Rung, Schema, SensorId, Stage, Step,
    Verdict,
};
use hark_hal::{Clock, wall_us};
use hark_threads::progress::Progress;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

/// The longest sensor name: it becomes a level of a topic and a label.
const SENSOR_NAME_MAX: usize = 64;
/// Bytes of a rejected payload that are kept as an example.
const EXAMPLE_BYTES: usize = 64;
/// Verdicts that wait for the feed: more than it handles between two writes.
const VERDICTS_HELD_MAX: usize = 1024;
/// The rungs of the ladder that run a model: those before the rule.
const MODEL_RUNGS: usize = Rung::Rule as usize;

/// When the bytes that completed a reading were returned by their read.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    at: Instant,
    now: Now,
}

/// The hot path of one source.
pub struct HotPath {
    source: Arc<str>,
    engine: Engine,
    /// The instance of each model rung that is here, by [`Rung`].
    runners: [Option<Runner>; MODEL_RUNGS],
    rungs: Arc<Rungs>,
    /// Of the active model, and of the previous one.
    identities: [Arc<ModelIdentity>; 2],
    /// Arrivals of the windows that wait for a model: microseconds of the
    /// engine's clock, and the moment itself.
    arrivals: VecDeque<(u64, Instant)>,
    /// Of the batch that is running, in the order of its tickets.
    running: Vec<Instant>,
    /// The instances that stuck threads hold, with the loans they went out
    /// with; no more than threads may be abandoned.
    hangs: Vec<(Hang, u64)>,
    loans: u64,
    last_refusal: String,
    /// What a row of a batch costs, microseconds, by [`Rung`].
    cost_us: [f32; MODEL_RUNGS],
    deadline_us: u64,
    /// By [`SensorId::index`].
    names: Vec<Arc<str>>,
    clock: Clock,
    /// Added to the clock while a file is replayed, so that the engine sees
    /// the time of the recording. Microseconds.
    shift_us: i64,
    /// The wall clock at the last receipt.
    utc_us: i64,
    keeper_margin_us: u64,
    stages: Stages,
    load: Load,
    latency_ns: Histogram<u64>,
    inference_ns: Histogram<u64>,
    examples: [Option<String>; REASONS],
    link_losses: u64,
    connects: u64,
    allocations: Allocations,
    /// Verdicts for the feed to publish, and the root of their topics.
    held: Option<(String, VecDeque<SensorVerdict>)>,
    reporter: Reporter,
    progress: Arc<Progress>,
}

/// Allocations of this thread since the last new sensor, the model runtime's
/// left out.
#[derive(Clone, Copy, Debug, Default)]
struct Allocations {
    from: u64,
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
    /// Allocations for each reading since the last new sensor, without the
    /// model runtime's; None before the first reading after it.
    pub allocations_per_reading: Option<f64>,
    /// Processor time of the thread that ended, its abandoned ones left out.
    pub cpu: std::time::Duration,
}

impl HotPath {
    /// The hot path of `source` with its own instances of the models.
    ///
    /// A model that does not load is an event and not an error: a lower rung
    /// answers in its place.
    ///
    /// # Errors
    /// If the pipeline cannot be served at all.
    pub fn new(
        source: &SourceConfig,
        config: &Config,
        rungs: Arc<Rungs>,
        reporter: Reporter,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let limits = limits(source, config, &rungs);
        let policy = config.ladder.policy;
        let engine = Engine::new(rungs.pipeline(), limits, policy, rungs.models())?;
        let mut hot_path = Self {
            source: source.name.as_str().into(),
            engine,
            runners: [const { None }; MODEL_RUNGS],
            identities: [Rung::Model, Rung::Previous].map(|rung| rungs.identity(rung)),
            rungs,
            arrivals: VecDeque::with_capacity(PENDING_MAX + 1),
            running: Vec::with_capacity(PENDING_MAX),
            hangs: Vec::with_capacity(config.ladder.threads_abandoned_max),
            loans: 0,
            last_refusal: String::new(),
            cost_us: [0.0; MODEL_RUNGS],
            deadline_us: limits.deadline_us,
            names: Vec::new(),
            clock,
            shift_us: 0,
            utc_us: 0,
            keeper_margin_us: limits.keeper_margin_us,
            stages: Stages::new(&config.budget),
            load: Load::default(),
            latency_ns: histogram(),
            inference_ns: histogram(),
            examples: [const { None }; REASONS],
            link_losses: 0,
            connects: 0,
            allocations: Allocations::default(),
            held: None,
            reporter,
            progress: Arc::default(),
        };
        hot_path.load_models();
        Ok(hot_path)
    }

    /// What the source shows of itself.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The loop that serves the source has come round.
    pub fn note_pass(&self) {
        let readings = self.engine.counters().readings;
        self.progress
            .pass_with(readings, self.engine.current_rung());
    }

    /// Holds verdicts for the feed, which publishes them under `root`.
    pub fn hold_verdicts(&mut self, root: String) {
        self.held = Some((root, VecDeque::with_capacity(VERDICTS_HELD_MAX)));
    }

    /// The verdicts that are held, and the root of their topics.
    pub fn held_verdicts(&mut self) -> Option<(&str, &mut VecDeque<SensorVerdict>)> {
        let held = self.held.as_mut();
        held.map(|(root, verdicts)| (root.as_str(), verdicts))
    }

    /// The feed cannot publish: what is held is dropped, counted.
    pub fn drop_held_verdicts(&mut self) {
        if let Some((_, held)) = &mut self.held {
            self.reporter.count_dropped(held.len() as u64);
            held.clear();
        }
    }

    fn report_verdict(&mut self, verdict: &Verdict) {
        let mut report = SensorVerdict {
            sensor: Arc::clone(&self.names[verdict.sensor.index()]),
            verdict: *verdict,
            is_published: false,
        };
        if let Some((_, held)) = &mut self.held {
            report.is_published = true;
            if held.len() >= VERDICTS_HELD_MAX {
                held.pop_front();
                self.reporter.count_dropped(1);
            }
            held.push_back(report.clone());
        }
        self.reporter.report_verdict(report);
    }

    /// The source's name.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The schema by which readings are judged.
    pub fn schema(&self) -> &Schema {
        self.engine.schema()
    }

    /// Called when a read has returned.
    pub fn receive(&mut self) -> Receipt {
        self.receive_at(Instant::now())
    }

    /// As [`HotPath::receive`], for what came at `at`.
    pub fn receive_at(&mut self, at: Instant) -> Receipt {
        self.stages.begin(at);
        self.utc_us = (wall_us() as i64).saturating_add(self.shift_us);
        let now = self.now();
        Receipt { at, now }
    }

    /// As [`HotPath::receive`], for a recording that is replayed: the engine
    /// sees `recorded_us`, on a clock that only the recording knows, and
    /// judges latency by the real one. A row's timestamp is never stale.
    pub fn receive_recorded(&mut self, recorded_us: u64, timestamp_us: Option<i64>) -> Receipt {
        let at = Instant::now();
        self.stages.begin(at);
        self.shift_us = (recorded_us as i64).saturating_sub(self.clock.us_at(at) as i64);
        self.utc_us = timestamp_us.unwrap_or(recorded_us as i64);
        let now = Now {
            mono_us: recorded_us,
            utc_us: self.utc_us,
        };
        Receipt { at, now }
    }

    /// The engine's time of `at`.
    fn shifted_us(&self, at: Instant) -> u64 {
        self.clock.us_at(at).saturating_add_signed(self.shift_us)
    }

    /// The engine's time at the end of the last stage: near enough to now
    /// while readings are being handled, and free.
    fn now(&self) -> Now {
        Now {
            mono_us: self.shifted_us(self.stages.mark()),
            utc_us: self.utc_us,
        }
    }

    /// The end of the last stage, or the return of the last read.
    pub fn mark(&self) -> Instant {
        self.stages.mark()
    }

    /// How long ago `receipt` was, as of the end of the last stage.
    /// Microseconds.
    pub fn waited_us(&self, receipt: &Receipt) -> u64 {
        self.stages
            .mark()
            .saturating_duration_since(receipt.at)
            .as_micros() as u64
    }

    /// The sensor called `name`.
    ///
    /// # Errors
    /// If the name cannot be a topic's level, or is one too many. The reading
    /// is counted by [`HotPath::handle_rejection`].
    pub fn sensor(&mut self, name: &str) -> Result<SensorId, Rejection> {
        if name.len() > SENSOR_NAME_MAX || check_level(name).is_err() {
            return Err(Rejection::UnknownSensor);
        }
        let id = self.engine.sensor(name)?;
        if id.index() == self.names.len() {
            self.names.push(name.into());
            self.allocations = Allocations {
                from: hark_threads::allocations::of_thread(),
                ..Allocations::default()
            };
        }
        Ok(id)
    }

    /// Takes in one reading. If its window is due, a model is wanted.
    pub fn handle_reading(&mut self, sensor: SensorId, reading: &Reading, receipt: Receipt) {
        self.stages.end(Stage::Decode);
        let stages = &mut self.stages;
        let step = self
            .engine
            .handle_reading(sensor, reading, receipt.now, |stage| stages.end(stage));
        self.allocations.readings += 1;
        self.load.handle_arrivals(1, receipt.now.mono_us);
        match step {
            Step::Pending => self.arrivals.push_back((receipt.now.mono_us, receipt.at)),
            Step::Settled(outcome) => {
                self.load
                    .handle_service(1, self.stages.take_busy_us(), receipt.now.mono_us);
                if let Outcome::Rejected(reason) = outcome {
                    self.note_invalid(sensor, reading, reason);
                }
            }
        }
        self.emit(Some(receipt.at));
    }

    /// Counts a payload that is no reading. `detail` says why, and `payload`
    /// is kept in part as an example.
    pub fn handle_rejection(&mut self, reason: Rejection, detail: &dyn Display, payload: &[u8]) {
        self.engine.handle_rejection(reason);
        let shown = payload[..payload.len().min(EXAMPLE_BYTES)].escape_ascii();
        self.note_example(reason, || match payload {
            [] => detail.to_string(),
            _ => format!("{detail}: \"{shown}\""),
        });
    }

    /// Counts a reading that waited for too long to be worth its work.
    pub fn handle_shed(&mut self, receipt: &Receipt) {
        self.engine.handle_shed();
        self.load.handle_arrivals(1, receipt.now.mono_us);
    }

    /// The node of `sensor` has started again.
    pub fn handle_restart(&mut self, sensor: SensorId) {
        self.engine.handle_restart(sensor);
    }

    /// Another node stands where that of `sensor` was.
    pub fn handle_gone(&mut self, sensor: SensorId) {
        let now_us = self.now().mono_us;
        self.engine.handle_gone(sensor, now_us);
        self.emit(None);
    }

    /// The source's link was made.
    pub fn handle_link_up(&mut self) {
        self.connects += 1;
        tracing::info!("{}: connected", self.source);
        let source = Arc::clone(&self.source);
        self.reporter.report(Event::LinkUp { source });
    }

    /// The source's link was lost, or could not be made.
    pub fn handle_link_down(&mut self, reason: &dyn Display) {
        self.link_losses += 1;
        tracing::warn!("{}: {reason}", self.source);
        self.reporter.report(Event::LinkDown {
            source: Arc::clone(&self.source),
            reason: reason.to_string(),
        });
    }

    /// Whether windows wait for a model.
    pub fn has_waiting(&self) -> bool {
        self.engine.pending_len() > 0
    }

    /// Time passes without a reading.
    pub fn handle_idle(&mut self) {
        self.stages.begin(Instant::now());
    }

    /// Hands over what the engine has to say of windows that came at `arrived`;
    /// without it their latency is known to the microsecond only.
    fn emit(&mut self, arrived: Option<Instant>) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Verdict(verdict) => {
                    self.stages.end(Stage::Verdict);
                    self.report_verdict(&verdict);
                    self.stages.end(Stage::Output);
                    let latency_ns = match arrived {
                        Some(at) => {
                            self.stages.mark().saturating_duration_since(at).as_nanos() as u64
                        }
                        None => verdict.latency_us * 1000,
                    };
                    self.latency_ns.saturating_record(latency_ns);
                }
                Output::Alert(alert) => {
                    let verdict = &alert.verdict;
                    let is_raised = verdict.state == AlertState::Raised;
                    self.reporter.alarms().note(is_raised);
                    let name = &self.names[verdict.sensor.index()];
                    let identity = &self.identities[identity_index(verdict.rung)];
                    let report = AlertReport::new(verdict, name, &self.source, identity);
                    self.reporter.report(Event::Alert(report));
                }
                Output::Step(step) => self.report_step(step),
            }
        }
    }

    fn report_step(&self, step: LadderStep) {
        self.reporter.report(Event::Ladder {
            source: Arc::clone(&self.source),
            from: step.from.name(),
            to: step.to.name(),
            reason: step.reason.name(),
        });
    }

    fn note_invalid(&mut self, sensor: SensorId, reading: &Reading, reason: Rejection) {
        let name = Arc::clone(&self.names[sensor.index()]);
        let channel = reason
            .channel()
            .map(|index| self.engine.schema().channels[index].clone());
        self.note_example(reason, || match channel {
            Some(channel) => format!(
                "{name} {} = {:?} {} (valid {} to {})",
                channel.name,
                reading.values().get(reason.channel().unwrap_or(0)),
                channel.unit,
                channel.min,
                channel.max
            ),
            None => format!(
                "{name} sequence {:?}, timestamp {:?}",
                reading.sequence, reading.timestamp_us
            ),
        });
    }

    /// Keeps the first example of each reason: writing one for every bad
    /// reading of a noisy line would cost more than the line itself.
    fn note_example(&mut self, reason: Rejection, example: impl FnOnce() -> String) {
        let slot = &mut self.examples[reason.index()];
        if slot.is_some() {
            return;
        }
        let example = example();
        tracing::warn!("{}: rejecting, {}: {example}", self.source, reason.name());
        self.reporter.report(Event::Rejecting {
            source: Arc::clone(&self.source),
            reason: reason.name(),
            example: example.clone(),
        });
        *slot = Some(example);
    }

    /// Ends the source.
    pub fn finish(self) -> SourceResult {
        let examples = Rejection::all()
            .zip(self.examples)
            .filter_map(|(reason, example)| Some((reason.name(), example?)));
        let Allocations {
            from,
            by_models,
            readings,
        } = self.allocations;
        let allocated = hark_threads::allocations::of_thread().saturating_sub(from + by_models);
        let figures_us = self.clock.now_us().saturating_add_signed(self.shift_us);
        SourceResult {
            load: self.load.figures(figures_us),
            source: self.source,
            counters: self.engine.counters().clone(),
            sensors: self.engine.sensors_len(),
            connects: self.connects,
            link_losses: self.link_losses,
            latency_ns: self.latency_ns,
            inference_ns: self.inference_ns,
            stages: self.stages.finish(),
            examples: examples.collect(),
            identity: Arc::clone(&self.identities[0]),
            rung: self.engine.current_rung(),
            allocations_per_reading: (readings > 0).then(|| allocated as f64 / readings as f64),
            cpu: hark_hal::thread_cpu_time(),
        }
    }
}

/// Verdicts of the rule and repeated ones are told with the active model.
fn identity_index(rung: Rung) -> usize {
    usize::from(rung == Rung::Previous)
}

fn limits(source: &SourceConfig, config: &Config, rungs: &Rungs) -> Limits {
    Limits {
        sensors_max: config.device.sensors_max,
        deadline_us: (config.device.deadline_ms * 1e3) as u64,
        keeper_margin_us: config.budget.keeper_margin_us(),
        readings_per_second_max: source.readings_per_second_max,
        clock: match source.clock {
            ClockConfig::None => NodeClock::None,
            ClockConfig::Node => NodeClock::Node,
            ClockConfig::Utc => NodeClock::Utc,
        },
        is_caching: rungs.is_cached(),
    }
}
