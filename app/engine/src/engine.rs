//! The engine of one source: readings in, verdicts and alerts out.
//!
//! Nobody but its [`Driver`](crate::Driver) calls it, event by event, and keeps
//! these rules, which hold for whoever would:
//!
//! - `poll_output` is drained after every call that takes the time, and after each
//!   answer: [`OUTPUTS_MAX`] has room for what one call may bring about, no more.
//! - `begin_batch` comes before a batch is measured by `batch_len`, then
//!   `poll_inference` for each of its windows, at one time; all of them are of one
//!   rung. Features are copied: a place may be used anew while its model runs.
//! - Each ticket is answered once with `handle_outputs`, or the whole batch is ended
//!   by `handle_hang`, no later than [`Engine::next_timeout_us`] by somebody who
//!   keeps watch beside the thread that runs the model.
//! - `handle_timeout` is for windows that nobody runs.
//! - `poll_wanted_instance` is answered once with `handle_instance` or
//!   `handle_no_instance`.
//!
//! Which model runs is the [ladder](crate::Rung)'s to say.
//!
//! Every reading has exactly one [`Outcome`]:
//! `readings = scored + fallback + filling + rejected + shed + pending`.

mod absence;
mod alerts;
mod causes;
mod inference;
mod memories;
mod occlusion;
mod pending;
mod sensors;
#[cfg(test)]
mod tests;
mod verdicts;

pub use inference::Fault;
pub(crate) use inference::Job;
pub use memories::{AlertMemory, SensorMemories};
pub use occlusion::{Explained, OCCLUSIONS_MAX};
pub use pending::PENDING_MAX;
pub(crate) use pending::Ticket;
pub use sensors::SensorId;

use crate::alert::{Alert, AlertKind, AlertPolicy};
use crate::features::Extractor;
use crate::outcome::{Counters, Outcome};
use crate::spec::{ModelRung, PipelineSpec, SpecError, VerdictSpec, check_models};
use crate::validate::{Counter, NodeClock, Now, Sample, Validator};
use crate::verdict::{AlertState, Score, Verdict};
use crate::window::WindowShape;
use crate::{Reading, Receipt, Rejection, Schema, Stage, sums};
use absence::{LinkWatch, Silence};
use alerts::NewcomersTold;
use hark_ladder::{Ladder, LadderPolicy, LadderStep, Rung};
use occlusion::Occlusions;
use pending::{Batch, Pending, Question};
use sensors::{Sensors, Tenure};
use std::collections::VecDeque;

/// Outputs that may wait to be drained: a verdict and an alert for each
/// question, as much again for the steps between them, what a reading says by
/// itself: that its sensor is no longer silent, and that it is out of range; and
/// what became of causes that were awaited.
const OUTPUTS_MAX: usize = 4 * PENDING_MAX + 2 + OCCLUSIONS_MAX;

/// The bounds within which an engine works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Most sensors; a reading of one more is refused.
    pub sensors_max: usize,
    /// Time from the read that completed a reading to its verdict, microseconds.
    pub deadline_us: u64,
    /// How long before the deadline the rule answers for a model that has not,
    /// microseconds, at most `deadline_us`.
    pub keeper_margin_us: u64,
    /// Most readings in any one second of the monotonic clock; 0: no limit.
    pub readings_per_second_max: u32,
    /// What the readings' timestamps count from.
    pub clock: NodeClock,
    /// How their sequence numbers go on.
    pub counter: Counter,
    /// Whether a sensor whose features are those just scored, as of one that
    /// is stuck or idle, has that score again without an inference. It costs
    /// the memory of a feature vector a sensor.
    pub is_caching: bool,
    /// Whether each verdict says what its score comes from, and not alerts alone.
    pub explains_verdicts: bool,
    /// Which alerts there are beside those of scores.
    pub alerts: AlertPolicy,
}

/// Gaps in a row that emptied a window before it was full, from which on a sensor's
/// windows are taken to be never full.
const WINDOWLESS_AFTER: u32 = 10;

/// A sensor whose windows are never full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windowless {
    /// Which.
    pub sensor: SensorId,
    /// Between its last two readings, microseconds.
    pub period_us: u64,
    /// The longest gap that a window bridges, readings.
    pub gap_max: u64,
}

/// What became of a reading at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its outcome is settled.
    Settled(Outcome),
    /// Its window waits for the model.
    Pending,
}

/// What the first reading of a sensor without a place gives a claim to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A free place, or that of the longest silent.
    AnyPlace,
    /// A free place only. Without one the reading is refused for this.
    FreePlace(Rejection),
}

/// What the engine has to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// One for each reading scored or fallen back.
    Verdict(Verdict),
    /// One of scores follows the verdict that changed the state, or
    /// [`Driver::handle_gone`](crate::Driver::handle_gone); the others come by
    /// themselves.
    Alert(Alert),
    /// The standing rung changed; follows the verdict that showed the cause.
    Step(LadderStep),
    /// Follows each verdict whose causes are awaited, once: they are known now, or it
    /// is known that nobody will.
    Explained(Explained),
}

/// The pipeline of one source and the state of its sensors.
pub struct Engine {
    schema: Schema,
    shape: WindowShape,
    extractor: Extractor,
    verdict: VerdictSpec,
    limits: Limits,
    sensors: Sensors,
    ladder: Ladder,
    /// By the ladder's index of the model.
    scorings: Vec<Scoring>,
    silence: Silence,
    link: LinkWatch,
    newcomers_told: NewcomersTold,
    pending: Pending,
    batch: Batch,
    occlusions: Occlusions,
    outputs: VecDeque<Output>,
    counters: Counters,
    second: Second,
    windowless: Option<Windowless>,
    has_told_windowless: bool,
}

/// What makes a verdict of a model's outputs.
struct Scoring {
    score: Score,
    threshold: f32,
}

impl Scoring {
    fn new(model: &ModelRung) -> Self {
        Self {
            score: Score::new(&model.score),
            threshold: model.threshold,
        }
    }
}

/// The readings of the current second.
#[derive(Default)]
struct Second {
    index: u64,
    readings: u32,
}

impl Engine {
    /// An engine with no sensors yet, and an instance of each model. Without
    /// models the rule answers.
    ///
    /// # Errors
    /// [`SpecError`] if the pipeline cannot be served, if `models` are not in
    /// order, or if `policy` makes no sense.
    pub fn new(
        spec: &PipelineSpec,
        limits: Limits,
        policy: LadderPolicy,
        models: &[ModelRung],
    ) -> Result<Self, SpecError> {
        spec.check()?;
        policy.check()?;
        let mut shape = WindowShape::new(&spec.window, spec.schema.channels.len());
        let extractor = Extractor::new(spec, &mut shape);
        check_models(models, extractor.len())?;
        let cached_len = if limits.is_caching {
            extractor.len()
        } else {
            0
        };
        let scorings: Vec<Scoring> = models.iter().map(Scoring::new).collect();
        let needs_occlusion = scorings.iter().any(|s| !s.score.is_of_residuals());
        let occluded_len = if needs_occlusion { extractor.len() } else { 0 };
        let occlusions = Occlusions::new(occluded_len, extractor.channels());
        Ok(Self {
            schema: spec.schema.clone(),
            pending: Pending::new(extractor.len()),
            shape,
            extractor,
            verdict: spec.verdict.clone(),
            limits,
            sensors: Sensors::new(limits.sensors_max, cached_len),
            silence: Silence::new(limits.alerts.silent_after_us),
            link: LinkWatch::new(limits.alerts.link_down_us),
            newcomers_told: NewcomersTold::default(),
            ladder: Ladder::new(policy, models.iter().map(ModelRung::of_ladder)),
            scorings,
            occlusions,
            batch: Batch::default(),
            outputs: VecDeque::with_capacity(OUTPUTS_MAX),
            counters: Counters::default(),
            second: Second::default(),
            windowless: None,
            has_told_windowless: false,
        })
    }

    /// An engine with the pipeline's own model on the CPU, one window at a
    /// time, that never expires.
    ///
    /// # Errors
    /// [`SpecError`] if the pipeline cannot be served.
    pub fn with_model(spec: &PipelineSpec, limits: Limits) -> Result<Self, SpecError> {
        let model = ModelRung {
            rung: Rung::Model,
            score: spec.score.clone(),
            threshold: spec.verdict.threshold,
            expires_utc_us: None,
            batch_max: 1,
        };
        Self::new(spec, limits, LadderPolicy::default(), &[model])
    }

    /// The sensor called `name`, taken in if it is new. It keeps its place.
    ///
    /// # Errors
    /// [`Rejection::UnknownSensor`] if that would be one too many. Nothing is
    /// counted: the caller hands the rejection to [`Engine::handle_rejection`].
    pub(crate) fn sensor(&mut self, name: &str) -> Result<SensorId, Rejection> {
        self.take_in_as(name, Tenure::Configured)
    }

    /// The sensor called `name`, if it has a place.
    pub fn find(&self, name: &str) -> Option<SensorId> {
        self.sensors.find(name)
    }

    /// What of a place the first `reading` of a sensor without one is worth.
    ///
    /// # Errors
    /// Why it is worth none.
    pub(crate) fn judge_newcomer(&self, reading: &Reading, now: Now) -> Result<Claim, Rejection> {
        if !self
            .second
            .has_room(now, self.limits.readings_per_second_max)
        {
            return Err(Rejection::SourceRate);
        }
        let judging = (self.limits.clock, self.limits.counter);
        let judged = Validator::new().validate(&self.schema, judging, reading, now);
        match judged.map(|_| ()) {
            Ok(()) => Ok(Claim::AnyPlace),
            // A machine may be in trouble from its first reading on.
            Err(reason @ Rejection::Range { .. }) => Ok(Claim::FreePlace(reason)),
            Err(reason) => Err(reason),
        }
    }

    /// The newcomer `name` takes a free place.
    ///
    /// # Errors
    /// [`Rejection::UnknownSensor`] if there is none.
    pub(crate) fn take_in(&mut self, name: &str) -> Result<SensorId, Rejection> {
        self.take_in_as(name, Tenure::Newcomer)
    }

    fn take_in_as(&mut self, name: &str, tenure: Tenure) -> Result<SensorId, Rejection> {
        let id = self.sensors.take_in(name, tenure, &self.shape)?;
        self.silence.make_room(self.sensors.len());
        Ok(id)
    }

    /// Whether every place is taken.
    pub fn is_full(&self) -> bool {
        self.sensors.is_full()
    }

    /// Who is to give its place to a newcomer, if anybody.
    pub(crate) fn longest_silent(&mut self, now: Now) -> Option<SensorId> {
        let pending = &self.pending;
        let is_waiting = |id| pending.holds(id);
        let period_ms = self.schema.period_ms;
        self.sensors
            .longest_silent(now.mono_us, period_ms, is_waiting)
    }

    /// Gives the place of `gone` to the newcomer `name`.
    pub(crate) fn replace(&mut self, gone: SensorId, name: &str) {
        self.sensors.replace(gone, name, &self.shape);
        self.counters.sensors_replaced += 1;
    }

    /// How many sensors there are.
    pub fn sensors_len(&self) -> usize {
        self.sensors.len()
    }

    /// The schema by which readings are judged.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The length of the feature vector, the model's input.
    pub fn features_len(&self) -> usize {
        self.extractor.len()
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// As in [`Limits::keeper_margin_us`].
    pub(crate) fn keeper_margin_us(&self) -> u64 {
        self.limits.keeper_margin_us
    }

    /// Readings whose model has not answered and whose deadline has not come.
    pub fn pending_len(&self) -> usize {
        self.pending.unanswered()
    }

    /// The state of a sensor's alert of scores.
    pub fn alert_state(&self, sensor: SensorId) -> AlertState {
        self.alert_state_of(sensor, AlertKind::Anomaly)
    }

    /// The rung that stands: the best one not given up, or the rule.
    pub fn current_rung(&self) -> Rung {
        self.ladder.standing()
    }

    /// Root mean square of the features over about the last thousand windows,
    /// if [`LadderPolicy::drift_max`] asks for it.
    pub fn drift(&self) -> Option<f32> {
        self.ladder.drift()
    }

    /// Whether the features have drifted so far that no model is believed.
    pub fn is_drifted(&self) -> bool {
        self.ladder.is_drifted()
    }

    /// Takes in one decoded reading. Latency and deadline count from its receipt.
    /// `mark` is called when a stage is done, so that the driver can time it.
    pub(crate) fn handle_reading(
        &mut self,
        sensor: SensorId,
        reading: &Reading,
        receipt: Receipt,
        mut mark: impl FnMut(Stage),
    ) -> Step {
        let now = receipt.now;
        self.observe(now);
        self.counters.readings += 1;
        self.hear(sensor, now.mono_us);
        // Before the validator sees it: a flood must not move the sequence and the
        // rates that honest readings are held against.
        let is_within_rate = self.second.admit(now, self.limits.readings_per_second_max);
        let state = self.sensors.get_mut(sensor);
        let validated = if is_within_rate {
            state.validator.validate(
                &self.schema,
                (self.limits.clock, self.limits.counter),
                reading,
                now,
            )
        } else {
            Err(Rejection::SourceRate)
        };
        let rejection = validated.as_ref().err().copied();
        if rejection.is_some() || !state.range.is_quiet() {
            self.judge_range(sensor, reading, rejection, now.mono_us);
        }
        mark(Stage::Validate);
        match validated {
            Ok(sample) => self.handle_sample(sensor, &sample, receipt, mark),
            Err(reason) => self.settle(Outcome::Rejected(reason)),
        }
    }

    /// Counts a reading that could not be decoded.
    pub(crate) fn handle_rejection(&mut self, reason: Rejection) {
        self.counters.readings += 1;
        self.settle(Outcome::Rejected(reason));
    }

    /// Counts a reading that was turned away before it was decoded.
    pub(crate) fn handle_shed(&mut self) {
        self.counters.readings += 1;
        self.settle(Outcome::Shed);
    }

    /// The node of `sensor` has started again: its sequence, clock and window
    /// begin anew. What the rule learnt and the alert's state stay.
    pub(crate) fn handle_restart(&mut self, sensor: SensorId) {
        self.sensors.get_mut(sensor).restart();
    }

    fn handle_sample(
        &mut self,
        sensor: SensorId,
        sample: &Sample<'_>,
        receipt: Receipt,
        mut mark: impl FnMut(Stage),
    ) -> Step {
        let state = self.sensors.get_mut(sensor);
        let values = sample.reading.values();
        self.counters.missed = self.counters.missed.saturating_add(sample.missed);
        // A model knows windows of readings that follow each other, and nothing of
        // what lies on both sides of a gap.
        let at_us = match sample.reading.timestamp_us {
            Some(timestamp_us) => timestamp_us,
            None => receipt.now.mono_us as i64,
        };
        let since_us = at_us.saturating_sub(std::mem::replace(&mut state.sampled_us, at_us));
        if sample.is_restart || sample.missed > self.shape.gap_max {
            state.window.reset();
            self.counters.window_resets += 1;
            state.emptied = state.emptied.saturating_add(1);
            if state.emptied == WINDOWLESS_AFTER && !self.has_told_windowless {
                self.has_told_windowless = true;
                self.windowless = Some(Windowless {
                    sensor,
                    period_us: since_us.unsigned_abs(),
                    gap_max: self.shape.gap_max,
                });
            }
        }
        // The rule comes first, so that its answer can never be late.
        let rule_score = state.rule.handle_sample(values);
        let is_due = state.window.push(&self.shape, values);
        let is_windowless = state.emptied >= WINDOWLESS_AFTER;
        if is_due {
            state.emptied = 0;
        } else if !is_windowless {
            mark(Stage::Features);
            return self.settle(Outcome::Filling);
        }
        state.tenure = state.tenure.max(Tenure::Known);
        let arrived_us = receipt.now.mono_us;
        let question = Question {
            sensor,
            sequence: sample.reading.sequence,
            timestamp_us: sample.reading.timestamp_us,
            rule_score,
            arrived_us,
            deadline_us: arrived_us.saturating_add(self.limits.deadline_us),
            read_ns: receipt.read_ns,
        };
        if !is_due {
            // No window is ever full: the rule speaks, which needs none.
            self.counters.windowless += 1;
            mark(Stage::Features);
            return self.answer_at_once(&question);
        }
        // Also where the rule will answer: drift is told by all windows, or a model
        // that was sent away by it would never come back.
        let place = self.extract(sensor);
        mark(Stage::Features);
        match place {
            Some(place) => self.ask(place, question),
            // Every place waits for a model that does not answer: one more
            // question would only grow the queue.
            None => self.answer_at_once(&question),
        }
    }

    /// Computes the features of a sensor's window into a free place.
    fn extract(&mut self, sensor: SensorId) -> Option<u8> {
        let (place, features) = self.pending.free_place()?;
        let window = &self.sensors.get(sensor).window;
        self.extractor.extract(&self.shape, window, features);
        if self.ladder.measures_drift() {
            let mean_square = sums::square(features) / features.len() as f32;
            self.ladder.handle_window(mean_square);
        }
        Some(place)
    }

    /// Puts the question whose features are in the free `place`, unless it can
    /// be answered at once.
    fn ask(&mut self, place: u8, question: Question) -> Step {
        // The window just taken in may be the one by which the features have drifted.
        self.follow(question.arrived_us);
        if !self.may_wait(&question) {
            return self.answer_at_once(&question);
        }
        if let Some(outcome) = self.answer_from_cache(place, &question) {
            return Step::Settled(outcome);
        }
        self.pending.ask(place, question);
        Step::Pending
    }

    fn answer_at_once(&mut self, question: &Question) -> Step {
        self.give_fallback(question, question.arrived_us);
        Step::Settled(Outcome::Fallback)
    }

    fn settle(&mut self, outcome: Outcome) -> Step {
        self.counters.count(outcome);
        Step::Settled(outcome)
    }

    /// A sensor whose windows are never full; one for each engine.
    pub(crate) fn poll_windowless(&mut self) -> Option<Windowless> {
        self.windowless.take()
    }

    /// The next thing to hand to the outputs.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

impl Second {
    fn admit(&mut self, now: Now, max: u32) -> bool {
        let index = now.mono_us / 1_000_000;
        if index != self.index {
            *self = Self { index, readings: 0 };
        }
        self.readings = self.readings.saturating_add(1);
        max == 0 || self.readings <= max
    }

    /// Whether one more would be admitted.
    fn has_room(&self, now: Now, max: u32) -> bool {
        max == 0 || self.index != now.mono_us / 1_000_000 || self.readings < max
    }
}
