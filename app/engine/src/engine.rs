//! The engine of one source: readings in, verdicts and alerts out.
//!
//! It is driven by one thread, event by event. After each `handle_*` the
//! driver drains [`Engine::poll_output`]; whenever it likes, it takes work from
//! [`Engine::poll_inference`] and answers with [`Engine::handle_outputs`].
//! [`Engine::handle_timeout`], called at [`Engine::next_timeout_us`], gives
//! every verdict whose model is still thinking at its deadline to the rule.
//!
//! Every reading has exactly one [`Outcome`]:
//! `readings = scored + fallback + filling + rejected + shed + pending`.

mod pending;
mod sensors;
#[cfg(test)]
mod tests;

pub use pending::{PENDING_MAX, Ticket};
pub use sensors::SensorId;

use crate::features::Extractor;
use crate::outcome::{Counters, Outcome};
use crate::score::Score;
use crate::spec::{PipelineSpec, SpecError, VerdictSpec};
use crate::validate::{NodeClock, Now, Sample};
use crate::verdict::{Alert, AlertState, Rung, Verdict};
use crate::window::WindowShape;
use crate::{Reading, Rejection, Schema};
use pending::{Pending, Question};
use sensors::Sensors;
use std::collections::VecDeque;

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
}

/// What became of a reading at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its outcome is settled.
    Settled(Outcome),
    /// Its window waits for the model.
    Pending,
}

/// Why a model gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A window for the model.
#[derive(Debug)]
pub struct Job<'a> {
    /// To answer with.
    pub ticket: Ticket,
    /// The model's input, shape `[features]`.
    pub features: &'a [f32],
    /// When the verdict is due, on the monotonic clock.
    pub deadline_us: u64,
}

/// What the engine has to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// One for each reading scored or fallen back.
    Verdict(Verdict),
    /// Follows the verdict that changed the state.
    Alert(Alert),
}

/// The pipeline of one source and the state of its sensors.
pub struct Engine {
    schema: Schema,
    shape: WindowShape,
    extractor: Extractor,
    score: Score,
    verdict: VerdictSpec,
    limits: Limits,
    sensors: Sensors,
    pending: Pending,
    /// At most a verdict and an alert for each pending question, and the same
    /// for the reading that is being handled: drained after every event.
    outputs: VecDeque<Output>,
    counters: Counters,
    second: Second,
}

/// The readings of the current second.
#[derive(Default)]
struct Second {
    index: u64,
    readings: u32,
}

impl Engine {
    /// An engine with no sensors yet.
    ///
    /// # Errors
    /// [`SpecError`] if the pipeline cannot be served.
    pub fn new(spec: &PipelineSpec, limits: Limits) -> Result<Self, SpecError> {
        spec.check()?;
        let mut shape = WindowShape::new(&spec.window, spec.schema.channels.len());
        let extractor = Extractor::new(spec, &mut shape);
        Ok(Self {
            schema: spec.schema.clone(),
            pending: Pending::new(extractor.len()),
            shape,
            extractor,
            score: Score::new(&spec.score),
            verdict: spec.verdict.clone(),
            limits,
            sensors: Sensors::new(limits.sensors_max),
            outputs: VecDeque::with_capacity(2 * (PENDING_MAX + 1)),
            counters: Counters::default(),
            second: Second::default(),
        })
    }

    /// The sensor called `name`, taken in if it is new.
    ///
    /// # Errors
    /// [`Rejection::UnknownSensor`] if that would be one too many. Nothing is
    /// counted: the caller hands the rejection to [`Engine::handle_rejection`].
    pub fn sensor(&mut self, name: &str) -> Result<SensorId, Rejection> {
        self.sensors.id(name, &self.shape)
    }

    /// The name under which a sensor was taken in.
    pub fn sensor_name(&self, sensor: SensorId) -> &str {
        self.sensors.name(sensor)
    }

    /// How many sensors there are.
    pub fn sensors_len(&self) -> usize {
        self.sensors.len()
    }

    /// The schema by which readings are judged.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Readings whose model has not answered and whose deadline has not come.
    pub fn pending_len(&self) -> usize {
        self.pending.unanswered()
    }

    /// The state of a sensor's alert.
    pub fn alert_state(&self, sensor: SensorId) -> AlertState {
        self.sensors.get(sensor).alerts.state()
    }

    /// Takes in one decoded reading. `now` is the return of the read that
    /// completed it: latency and deadline count from there.
    pub fn handle_reading(&mut self, sensor: SensorId, reading: &Reading, now: Now) -> Step {
        assert!(
            self.outputs.is_empty(),
            "outputs are drained between events"
        );
        self.counters.readings += 1;
        let is_within_rate = self.second.admit(now, self.limits.readings_per_second_max);
        let state = self.sensors.get_mut(sensor);
        let validated = if is_within_rate {
            state
                .validator
                .validate(&self.schema, self.limits.clock, reading, now)
        } else {
            Err(Rejection::SourceRate)
        };
        match validated {
            Ok(sample) => self.handle_sample(sensor, &sample, now),
            Err(reason) => self.settle(Outcome::Rejected(reason)),
        }
    }

    /// Counts a reading that could not be decoded.
    pub fn handle_rejection(&mut self, reason: Rejection) {
        self.counters.readings += 1;
        self.settle(Outcome::Rejected(reason));
    }

    /// Counts a reading that was turned away before it was decoded.
    pub fn handle_shed(&mut self) {
        self.counters.readings += 1;
        self.settle(Outcome::Shed);
    }

    /// The node of `sensor` has started again: its sequence, clock and window
    /// begin anew. What the rule learnt and the alert's state stay.
    pub fn handle_restart(&mut self, sensor: SensorId) {
        self.sensors.get_mut(sensor).restart();
    }

    fn handle_sample(&mut self, sensor: SensorId, sample: &Sample<'_>, now: Now) -> Step {
        let state = self.sensors.get_mut(sensor);
        let values = sample.reading.values();
        self.counters.missed = self.counters.missed.saturating_add(sample.missed);
        if sample.is_restart || sample.missed > self.shape.gap_max {
            state.window.reset();
            self.counters.window_resets += 1;
        }
        // The rule comes first, so that its answer can never be late.
        let rule_score = state.rule.handle_sample(values);
        if !state.window.push(&self.shape, values) {
            return self.settle(Outcome::Filling);
        }
        let question = Question {
            sensor,
            sequence: sample.reading.sequence,
            timestamp_us: sample.reading.timestamp_us,
            rule_score,
            arrived_us: now.mono_us,
            deadline_us: now.mono_us.saturating_add(self.limits.deadline_us),
        };
        let Some(features) = self.pending.ask(question) else {
            // Every slot waits for a model that does not answer: one more
            // question would only grow the queue.
            self.give_rule_verdict(&question, now.mono_us);
            return Step::Settled(Outcome::Fallback);
        };
        let window = &self.sensors.get(sensor).window;
        self.extractor.extract(&self.shape, window, features);
        Step::Pending
    }

    fn settle(&mut self, outcome: Outcome) -> Step {
        self.counters.count(outcome);
        Step::Settled(outcome)
    }

    /// The next window for the model, oldest first.
    pub fn poll_inference(&mut self) -> Option<Job<'_>> {
        self.pending.start_next()
    }

    /// Takes in what the model said, shape `[outputs]`, or that it failed.
    pub fn handle_outputs(&mut self, ticket: Ticket, outputs: Result<&[f32], Fault>, now_us: u64) {
        assert!(
            self.outputs.is_empty(),
            "outputs are drained between events"
        );
        let Some(question) = self.pending.finish(ticket) else {
            self.counters.late_results += 1;
            return;
        };
        let features = self.pending.features(ticket);
        let score = outputs.map_or(f32::NAN, |outputs| self.score.of(features, outputs));
        if !score.is_finite() {
            self.counters.model_faults += 1;
            self.give_rule_verdict(&question, now_us);
        } else if now_us > question.deadline_us {
            self.counters.late_results += 1;
            self.give_rule_verdict(&question, now_us);
        } else {
            self.counters.count(Outcome::Scored);
            self.give_verdict(
                &question,
                Rung::Model,
                score,
                self.verdict.threshold,
                now_us,
            );
        }
    }

    /// When [`Engine::handle_timeout`] is next wanted, on the monotonic clock.
    pub fn next_timeout_us(&self) -> Option<u64> {
        let deadline_us = self.pending.next_deadline_us()?;
        Some(deadline_us.saturating_sub(self.limits.keeper_margin_us))
    }

    /// Answers every question that is due by the rule.
    pub fn handle_timeout(&mut self, now_us: u64) {
        assert!(
            self.outputs.is_empty(),
            "outputs are drained between events"
        );
        let due_us = now_us.saturating_add(self.limits.keeper_margin_us);
        while let Some(question) = self.pending.expire(due_us) {
            self.give_rule_verdict(&question, now_us);
        }
    }

    /// The next thing to hand to the outputs.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn give_rule_verdict(&mut self, question: &Question, now_us: u64) {
        self.counters.count(Outcome::Fallback);
        self.give_verdict(question, Rung::Rule, question.rule_score, 1.0, now_us);
    }

    fn give_verdict(
        &mut self,
        question: &Question,
        rung: Rung,
        score: f32,
        threshold: f32,
        now_us: u64,
    ) {
        let alerts = &mut self.sensors.get_mut(question.sensor).alerts;
        let has_changed = alerts.handle_score(&self.verdict, score / threshold, now_us);
        let verdict = Verdict {
            sensor: question.sensor,
            sequence: question.sequence,
            timestamp_us: question.timestamp_us,
            score,
            threshold,
            state: alerts.state(),
            rung,
            is_in_time: now_us <= question.deadline_us,
            latency_us: now_us.saturating_sub(question.arrived_us),
        };
        self.counters.deadline_misses += u64::from(!verdict.is_in_time);
        self.outputs.push_back(Output::Verdict(verdict));
        if has_changed {
            self.counters.alerts += u64::from(verdict.state == AlertState::Raised);
            self.outputs.push_back(Output::Alert(Alert { verdict }));
        }
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
}
