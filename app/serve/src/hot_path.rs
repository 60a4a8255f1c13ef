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

mod figures;
mod handover;
mod inference;
mod model_alert;
mod voice;

pub use figures::{SourceResult, StageResult, Stages, histogram};
pub use handover::{Handover, NodeMemories};
/// When the bytes that completed a reading were returned by their read.
pub use hark_engine::Receipt;
pub use inference::{Ran, Runner};

use crate::bundle::{MODEL_RUNGS, Rungs};
use crate::report::{Event, PipelineNames, Reporter, Reporting, SensorVerdict, Standing};
use figures::Figures;
use handover::MadeBy;
use hark_config::{
    Clock as ClockConfig, Config, Format, SENSOR_NAME_MAX, SourceConfig, check_level,
};
use hark_engine::{
    AlertKind, AlertState, Counter, Driver, Engine, Limits, NodeClock, Now, Outcome, Reading,
    Rejection, Rung, Schema, SensorId, Stage, Step, Windowless,
};
use hark_hal::{Clock, wall_us};
use hark_threads::progress::Progress;
use inference::Model;
use model_alert::ModelAlert;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};
use voice::{HeldVerdicts, Telling, Voice};

/// A loop that did not come round for so long was not listening: hark was stopped,
/// or its machine slept. It passes twenty times a second.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at who is silent: a look for each reading would cost as much as
/// decoding a small one, and nobody waits for silence this closely.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is counted where the windows of a sensor are never full, in `link_faults` of
/// the summary.
pub const NO_WINDOW: &str = "no_window";
/// Bytes of a rejected payload that are kept as an example.
const EXAMPLE_BYTES: usize = 64;

/// The hot path of one source.
///
/// All that decides is in the driver; the rest is what it asks nobody for: the
/// time, who is told, and what it all took.
pub struct HotPath {
    driver: Driver<Model>,
    /// Of a model, told once; by [`Rung`].
    last_refusals: [String; MODEL_RUNGS],
    model_alert: ModelAlert,
    /// Something of a model changed, by which its alert may.
    has_model_news: bool,
    clock: SourceClock,
    voice: Voice,
    figures: Figures,
    progress: Arc<Progress>,
    /// When the loop that serves the source last came round for a look.
    looked_at: Instant,
    look_at: Instant,
    sensors_max: usize,
    made_by: MadeBy,
}

impl HotPath {
    /// The hot path of `source`, whose models are yet to be loaded: before it
    /// serves, [`HotPath::handle_loaded`] is called for each. One that does not
    /// load is an event and not an error: a lower rung answers in its place.
    ///
    /// # Errors
    /// If the pipeline cannot be served at all.
    pub fn new(
        source: &SourceConfig,
        config: &Config,
        rungs: &Rungs,
        reporter: Reporter,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let limits = limits(source, config, rungs);
        let policy = config.ladder.policy;
        let engine = Engine::new(rungs.pipeline(), limits, policy, rungs.models())?;
        let reporting = Reporting {
            source: source.name.as_str().into(),
            names: Arc::new(PipelineNames::new(rungs.pipeline())),
            clock: limits.clock,
            silent_after_ms: limits.alerts.silent_after_us / 1000,
            link_down_ms: limits.alerts.link_down_us / 1000,
            row: None,
            link_reason: None,
        };
        let identities = [Rung::Model, Rung::Previous].map(|rung| rungs.identity(rung));
        Ok(Self {
            driver: Driver::new(engine),
            last_refusals: Default::default(),
            model_alert: ModelAlert::new(rungs.models()),
            has_model_news: false,
            clock: SourceClock::new(clock),
            voice: Voice::new(reporting, identities, limits.explains_verdicts, reporter),
            figures: Figures::new(&config.budget),
            progress: Arc::default(),
            looked_at: Instant::now(),
            look_at: Instant::now(),
            sensors_max: config.device.sensors_max,
            made_by: MadeBy::new(source, config, rungs.pipeline()),
        })
    }

    /// The driver, and who takes what comes out of it.
    fn driver(&mut self) -> (&mut Driver<Model>, Telling<'_>) {
        let telling = Telling {
            voice: &mut self.voice,
            figures: &mut self.figures,
        };
        (&mut self.driver, telling)
    }

    /// What the source shows of itself.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The loop that serves the source has come round.
    pub fn note_pass(&self) {
        let engine = self.driver.engine();
        self.progress
            .pass_with(engine.counters().readings, engine.current_rung());
    }

    /// Holds verdicts for the feed, which publishes them under `root`.
    pub fn hold_verdicts(&mut self, root: String) {
        self.voice.held = Some(HeldVerdicts::new(root));
    }

    /// The verdicts that are held, and the root of their topics.
    pub fn held_verdicts(&mut self) -> Option<(&str, &mut VecDeque<SensorVerdict>)> {
        let held = self.voice.held.as_mut();
        held.map(|held| (held.root.as_str(), &mut held.verdicts))
    }

    /// The feed cannot publish: what is held is dropped, counted.
    pub fn drop_held_verdicts(&mut self) {
        self.voice.drop_held();
    }

    /// The rung that stands.
    pub fn rung(&self) -> Rung {
        self.driver.engine().current_rung()
    }

    /// The source's name.
    pub fn source(&self) -> &Arc<str> {
        self.voice.source()
    }

    /// The schema by which readings are judged.
    pub fn schema(&self) -> &Schema {
        self.driver.engine().schema()
    }

    /// Called when a read has returned.
    pub fn receive(&mut self) -> Receipt {
        self.receive_at(Instant::now())
    }

    /// As [`HotPath::receive`], for what came at `at`.
    pub fn receive_at(&mut self, at: Instant) -> Receipt {
        self.clock.handle_receipt();
        self.receipt(at)
    }

    /// As [`HotPath::receive`], for a recording that is replayed: the engine
    /// sees `recorded_us`, on a clock that only the recording knows, and
    /// latency is measured by the real one. A row's timestamp is never stale.
    pub fn receive_recorded(&mut self, recorded_us: u64, timestamp_us: Option<i64>) -> Receipt {
        let at = Instant::now();
        self.clock.handle_recorded(at, recorded_us, timestamp_us);
        let row = self.driver.engine().counters().readings + 1;
        let is_first = self.voice.reporting.row.replace(row).is_none();
        let receipt = self.receipt(at);
        if is_first {
            // Its time begins with its first row, and not when it was opened.
            self.driver.handle_pause(receipt.now.mono_us);
        }
        // The time of a recording passes with its rows alone: what was missing before
        // this one is told before it.
        self.say_absences(receipt.now.mono_us);
        receipt
    }

    fn receipt(&mut self, at: Instant) -> Receipt {
        // From here on the mark is the time: one reading of the clock ends a stage,
        // begins the next, and is what the engine takes for now.
        self.figures.note_read(at);
        Receipt {
            now: self.clock.now_at(at),
            read_ns: self.figures.stamp_ns(at),
        }
    }

    /// The engine's time at the end of the last stage, microseconds: near enough
    /// to now while readings are being handled, and free.
    fn now_us(&self) -> u64 {
        self.clock.us_at(self.figures.stages.mark())
    }

    /// The end of the last stage, or the return of the last read.
    pub fn mark(&self) -> Instant {
        self.figures.stages.mark()
    }

    /// How long ago `receipt` was, as of the end of the last stage.
    /// Microseconds.
    pub fn waited_us(&self, receipt: &Receipt) -> u64 {
        self.figures.waited_ns(receipt.read_ns) / 1000
    }

    /// The sensor called `name`, taken in if it is new. It keeps its place, whoever
    /// else comes: for those that the operator names.
    ///
    /// # Errors
    /// If the name cannot be a topic's level, or is one too many.
    pub fn sensor(&mut self, name: &str) -> Result<SensorId, Rejection> {
        if !is_name(name) {
            return Err(Rejection::UnknownSensor);
        }
        let id = self.driver.sensor(name)?;
        if self.voice.learn_name(id, name) {
            self.figures.note_setup();
        }
        Ok(id)
    }

    /// The sensor called `name`, if it has a place.
    pub fn find(&self, name: &str) -> Option<SensorId> {
        self.driver.engine().find(name)
    }

    /// The name of a sensor.
    pub fn name(&self, sensor: SensorId) -> &Arc<str> {
        self.voice.name(sensor)
    }

    /// Readings that have come so far, whatever became of them.
    pub fn readings(&self) -> u64 {
        self.driver.engine().counters().readings
    }

    /// How many sensors there may be.
    pub fn sensors_max(&self) -> usize {
        self.sensors_max
    }

    /// Places that were given to another sensor: whenever this has changed, each
    /// [`SensorId`] is void.
    pub fn sensors_replaced(&self) -> u64 {
        self.driver.engine().counters().sensors_replaced
    }

    /// As [`HotPath::handle_reading`], for the sensor called `name`, which may be new
    /// and has a place after this if the reading is valid. Returns whether it has
    /// one. `payload` is kept in part as an example if it has none.
    pub fn handle_reading_of(
        &mut self,
        name: &str,
        reading: &Reading,
        receipt: Receipt,
        payload: &[u8],
    ) -> bool {
        let sensor = match self.find(name) {
            Some(sensor) => Ok(sensor),
            None => self.take_in(name, reading, receipt),
        };
        match sensor {
            Ok(sensor) => self.handle_reading(sensor, reading, receipt),
            Err(Rejection::UnknownSensor) => {
                let shown = &name[..name.floor_char_boundary(SENSOR_NAME_MAX)];
                let detail = if is_name(name) {
                    let max = self.sensors_max;
                    format!("sensor {shown:?}: all {max} places of device.sensors_max are taken")
                } else {
                    format!(
                        "sensor {shown:?}: a name has 1 to {SENSOR_NAME_MAX} bytes and no / + #"
                    )
                };
                self.handle_rejection(Rejection::UnknownSensor, &detail, payload);
            }
            Err(reason) => {
                let schema = self.driver.engine().schema();
                let detail = explain(name, reading, reason, schema);
                self.handle_rejection(reason, &detail, payload);
            }
        }
        sensor.is_ok()
    }

    fn take_in(
        &mut self,
        name: &str,
        reading: &Reading,
        receipt: Receipt,
    ) -> Result<SensorId, Rejection> {
        // Only here, where a name is taken in: a topic with such a level would be
        // refused by the broker, and the alert with it.
        if !is_name(name) {
            return Err(Rejection::UnknownSensor);
        }
        let (driver, mut telling) = self.driver();
        let sensor = driver.newcomer(name, reading, receipt.now, &mut telling)?;
        self.voice.learn_name(sensor, name);
        self.figures.note_setup();
        if self.driver.engine().is_full() {
            self.voice.say_full(self.sensors_max);
        }
        Ok(sensor)
    }

    /// Takes in one reading. If its window is due, a model is wanted.
    pub fn handle_reading(&mut self, sensor: SensorId, reading: &Reading, receipt: Receipt) {
        // Whatever came between the read and this call was decoding.
        self.figures.stages.end(Stage::Decode);
        let (driver, mut telling) = self.driver();
        let step = driver.handle_reading(sensor, reading, receipt, &mut telling);
        self.figures.note_reading(&receipt, step != Step::Pending);
        // After the figures: writing the example allocates, and takes long.
        if let Step::Settled(Outcome::Rejected(reason)) = step {
            self.note_invalid(sensor, reading, reason);
        }
        if let Some(windowless) = self.driver.poll_windowless() {
            self.tell_windowless(windowless);
        }
    }

    /// Counts a payload that is no reading. `detail` says why, and `payload`
    /// is kept in part as an example.
    pub fn handle_rejection(&mut self, reason: Rejection, detail: &dyn Display, payload: &[u8]) {
        self.driver.handle_rejection(reason);
        let shown = payload[..payload.len().min(EXAMPLE_BYTES)].escape_ascii();
        self.voice.note_example(reason, || match payload {
            [] => detail.to_string(),
            _ => format!("{detail}: \"{shown}\""),
        });
    }

    /// Counts a reading that waited for too long to be worth its work.
    pub fn handle_shed(&mut self, receipt: &Receipt) {
        self.driver.handle_shed();
        self.figures.note_shed(receipt);
    }

    /// The node of `sensor` has started again.
    pub fn handle_restart(&mut self, sensor: SensorId) {
        self.driver.handle_restart(sensor);
    }

    /// Another node stands where that of `sensor` was.
    pub fn handle_gone(&mut self, sensor: SensorId) {
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.handle_gone(sensor, now_us, &mut telling);
    }

    /// What stood when hark was last seen, and is this source's: it stands until it
    /// is found to be over. Whether there is room for it.
    pub fn handle_standing(&mut self, standing: &Standing) -> bool {
        let now_us = self.now_us();
        if standing.kind == AlertKind::Link {
            self.driver.handle_standing_link();
        } else if standing.kind == AlertKind::Model {
            self.model_alert.handle_standing();
            self.has_model_news = true;
        } else {
            let Standing {
                sensor: name, kind, ..
            } = standing;
            // It may have been handed over, with all that is known of it.
            let known = self.find(name);
            let state = known.map(|id| self.driver.engine().alert_state_of(id, *kind));
            if state == Some(AlertState::Raised) {
                return true;
            }
            let Ok(sensor) = self.driver.handle_standing(name, *kind, now_us) else {
                return false;
            };
            if self.voice.learn_name(sensor, name) {
                self.figures.note_setup();
            }
        }
        self.voice.reporter.alarms().restore();
        true
    }

    /// The loop that serves the source has come round: who is silent by now is
    /// told, and which model is withheld.
    pub fn handle_time(&mut self) {
        if std::mem::take(&mut self.has_model_news) {
            self.say_model_news();
        }
        let mark = self.figures.stages.mark();
        if mark < self.look_at {
            return;
        }
        let paused_for = mark.saturating_duration_since(self.looked_at);
        (self.looked_at, self.look_at) = (mark, mark + LOOK_EVERY);
        let now_us = self.now_us();
        if paused_for > PAUSE {
            self.driver.handle_pause(now_us);
        }
        self.say_absences(now_us);
    }

    /// Not before the loop runs: what stood before the start is known by then.
    fn say_model_news(&mut self) {
        if let Some(state) = self.model_alert.poll_change() {
            self.voice.say_model(state, self.model_alert.withheld());
        }
    }

    fn say_absences(&mut self, now_us: u64) {
        let due_us = self.driver.engine().next_absence_us();
        if due_us.is_some_and(|due_us| due_us <= now_us) {
            let (driver, mut telling) = self.driver();
            driver.handle_absences(now_us, &mut telling);
        }
    }

    /// The source's link was made.
    pub fn handle_link_up(&mut self) {
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.handle_link_up(now_us, &mut telling);
        self.figures.connects += 1;
        let source = Arc::clone(self.source());
        tracing::info!(peer = %source, "{source}: connected");
        self.voice.reporter.report(Event::LinkUp { source });
    }

    /// The source's link was lost, or could not be made.
    pub fn handle_link_down(&mut self, reason: &dyn Display) {
        self.figures.link_losses += 1;
        let source = Arc::clone(self.source());
        tracing::warn!(peer = %source, "{source}: {reason}");
        let reason = reason.to_string();
        self.voice.reporting.link_reason = Some(reason.as_str().into());
        let now_us = self.now_us();
        self.driver.handle_link_down(now_us);
        self.voice
            .reporter
            .report(Event::LinkDown { source, reason });
    }

    /// Something went wrong on the link that cost no connection: counted by `fault`,
    /// `count` times. What is new of it is told by [`HotPath::tell_fault`].
    pub fn note_fault(&mut self, fault: &'static str, count: u64) {
        self.figures.note_fault(fault, count);
    }

    /// Tells what went wrong with `sensor`, and what to do about it.
    pub fn tell_fault(&mut self, sensor: SensorId, fault: &'static str, detail: String) {
        let source = Arc::clone(self.source());
        let sensor = Arc::clone(self.voice.name(sensor));
        tracing::warn!(peer = %source, "{source}: {sensor}: {detail}");
        self.voice.reporter.report(Event::LinkFault {
            source,
            sensor,
            fault,
            detail,
        });
    }

    /// Whether windows wait for a model.
    pub fn has_waiting(&self) -> bool {
        self.driver.engine().pending_len() > 0
    }

    /// Time passes without a reading.
    pub fn handle_idle(&mut self) {
        self.figures.stages.begin(Instant::now());
    }

    /// The windows of a sensor are never full: what it sends is not what its model
    /// was trained on.
    #[cold]
    fn tell_windowless(&mut self, windowless: Windowless) {
        self.figures.note_fault(NO_WINDOW, 1);
        let (source, name) = (self.source(), self.voice.name(windowless.sensor));
        let seen_ms = windowless.period_us as f64 / 1e3;
        let period_ms = self.schema().period_ms;
        tracing::warn!(
            peer = %source,
            "{source}: {name}: no window is ever full: a reading comes every {seen_ms} ms, and the model's \
             period_ms is {period_ms}, with gaps of at most {} readings; the rule answers meanwhile",
            windowless.gap_max
        );
    }

    fn note_invalid(&mut self, sensor: SensorId, reading: &Reading, reason: Rejection) {
        let name = Arc::clone(self.voice.name(sensor));
        let schema = self.driver.engine().schema();
        self.voice
            .note_example(reason, || explain(&name, reading, reason, schema));
    }

    /// Ends the source: what is left of it, and what it leaves to the next.
    pub fn finish(mut self) -> (SourceResult, Handover) {
        let (driver, mut telling) = self.driver();
        driver.handle_end(&mut telling);
        let Self {
            driver,
            clock,
            voice,
            figures,
            made_by,
            model_alert,
            ..
        } = self;
        let (engine, source) = (driver.engine(), Arc::clone(voice.source()));
        let mut counters = engine.counters().clone();
        counters.alerts += model_alert.raised;
        counters.alerts_by_kind[AlertKind::Model.index()] += model_alert.raised;
        let result = SourceResult {
            load: figures.load.figures(clock.us_at(Instant::now())),
            source: Arc::clone(&source),
            counters,
            sensors: engine.sensors_len(),
            connects: figures.connects,
            link_losses: figures.link_losses,
            allocations_per_reading: figures.allocations_per_reading(),
            link_faults: figures.link_faults,
            latency_ns: figures.latency_ns,
            inference_ns: figures.inference_ns,
            stages: figures.stages.finish(),
            identity: Arc::clone(voice.identity(Rung::Model)),
            examples: voice.into_examples(),
            rung: engine.current_rung(),
            cpu: hark_hal::thread_cpu_time(),
        };
        let handover = Handover::new(source, made_by, driver.into_memories());
        (result, handover)
    }
}

/// Whether `name` can be a sensor's.
fn is_name(name: &str) -> bool {
    name.len() <= SENSOR_NAME_MAX && check_level(name).is_ok()
}

/// What about a reading is not valid, for people.
fn explain(name: &str, reading: &Reading, reason: Rejection, schema: &Schema) -> String {
    let Some(index) = reason.channel() else {
        return format!(
            "{name} sequence {:?}, timestamp {:?}",
            reading.sequence, reading.timestamp_us
        );
    };
    let channel = &schema.channels[index];
    format!(
        "{name} {} = {:?} {} (valid {} to {})",
        channel.name,
        reading.values().get(index),
        channel.unit,
        channel.min,
        channel.max
    )
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
        counter: match (source.format, source.sequence_modulo) {
            // Nodes of ours count on, and say when they begin anew.
            (Format::Wire, _) => Counter::Endless,
            (_, Some(modulo)) => Counter::Wraps(modulo),
            (_, None) => Counter::FoundOut,
        },
        is_caching: rungs.is_cached(),
        explains_verdicts: config.output.verdict_causes,
        alerts: source.alerts.policy(rungs.pipeline().schema.period_ms),
    }
}

/// From moments of this machine to the engine's time, and back.
struct SourceClock {
    clock: Clock,
    /// Added to the clock while a recording is replayed, so that the engine sees
    /// its time. Microseconds.
    replay_offset_us: i64,
    /// The wall clock at the last receipt.
    utc_us: i64,
}

impl SourceClock {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            replay_offset_us: 0,
            utc_us: 0,
        }
    }

    /// A read has returned.
    fn handle_receipt(&mut self) {
        self.utc_us = (wall_us() as i64).saturating_add(self.replay_offset_us);
    }

    /// A row of a recording has come at `at`, which is `recorded_us` there.
    fn handle_recorded(&mut self, at: Instant, recorded_us: u64, timestamp_us: Option<i64>) {
        let at_us = self.clock.us_at(at) as i64;
        // Anew with each row, so that the recording's clock passes while a model runs:
        // a deadline is of this machine, whatever it replays.
        self.replay_offset_us = (recorded_us as i64).saturating_sub(at_us);
        self.utc_us = timestamp_us.unwrap_or(recorded_us as i64);
    }

    /// The engine's time of `at`, microseconds.
    fn us_at(&self, at: Instant) -> u64 {
        self.clock
            .us_at(at)
            .saturating_add_signed(self.replay_offset_us)
    }

    /// As [`SourceClock::us_at`], with the wall clock of the last receipt: asking
    /// for it at every stage would cost more than the stage.
    fn now_at(&self, at: Instant) -> Now {
        Now {
            mono_us: self.us_at(at),
            utc_us: self.utc_us,
        }
    }

    /// `engine_us` on the clock that all threads share, microseconds.
    fn shared_us(&self, engine_us: u64) -> u64 {
        engine_us.saturating_add_signed(self.replay_offset_us.saturating_neg())
    }
}
