//! The gateway: bytes to messages to readings to verdicts, driven as the app
//! drives it.
//!
//! The decoding and the mapping are those of the app's wire source, the engine's
//! driver is its hot path's. A keeper declares the batch stuck at its deadline;
//! the thread may come back later, or never. One engine serves all lines, so that
//! their readings compete for its places. Every call is told to the [`Ledger`]
//! first, then what came out is held against that.

use crate::ledger::{Ledger, Stuck};
use crate::line::Line;
use crate::model::{Answer, Models};
use crate::scenario::Scenario;
use hark_engine::{
    Alert, Answers, Driver, Engine, Fault, Instance, LadderStep, Now, Outcome, Output, PENDING_MAX,
    Reading, Rejection, Rung, Schema, SensorId, Step, StepReason,
};
use hark_wire::{Channel, DecodeError, FRAME_MAX, FrameDecoder, Hello, Message};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Readings without a `Hello` between two requests for it, as in the app.
const ASK_EVERY: u32 = 16;
/// The engine's source has one link: that of this line stands for it.
const WATCHED_LINE: usize = 0;

// A decoder holds one frame and some counters, whatever arrives.
const _: () = assert!(size_of::<FrameDecoder>() <= FRAME_MAX + 128);

/// The gateway's end of one line.
#[derive(Default)]
struct LineEnd {
    decoder: FrameDecoder,
    node: Option<KnownNode>,
    wants_hello: bool,
    unknown_readings: u32,
    /// The node said that it has started again, and no reading came since.
    has_restarted: bool,
}

struct KnownNode {
    name: String,
    boot_id: u32,
    /// For each channel of the schema, its place in the node's readings.
    channels: Vec<(usize, Channel)>,
}

/// What the model of a rung will say, as soon as its batch is known.
#[derive(Default)]
struct Simulated {
    /// By row, with the ledger's name for the window.
    answers: Vec<(u64, Answer)>,
}

impl Answers for Simulated {
    fn answer(&self, row: usize) -> Result<&[f32], Fault> {
        let (_, answer) = &self.answers[row];
        answer.outputs.as_deref().map_err(|&fault| fault)
    }
}

/// The batch that runs.
struct Run {
    id: u64,
    started_us: u64,
    instance: Instance<Simulated>,
}

/// The gateway without its threads.
pub(crate) struct Gateway<'a> {
    driver: Driver<Simulated>,
    pub(crate) ledger: Ledger<'a>,
    scenario: &'a Scenario,
    lines: Vec<LineEnd>,
    /// By how much the wall clock is wrong.
    pub(crate) clock_error_us: i64,
    runs: u64,
    run: Option<Run>,
    /// The threads taken for stuck, by their run.
    stuck: BTreeMap<u64, (Instance<Simulated>, Stuck)>,
    /// What the driver said and nobody has looked at yet.
    said: Vec<Output>,
    /// Since they were taken: a run and when it ends, alerts to be posted, and
    /// steps to be traced.
    pub(crate) started: Option<(u64, Option<u64>)>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) steps: Vec<LadderStep>,
    /// Whose alert awaits its causes.
    unexplained: HashSet<SensorId>,
}

impl<'a> Gateway<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let Scenario { spec, limits, .. } = scenario;
        let (policy, rungs) = (scenario.policy, &scenario.model.rungs);
        let engine = Engine::new(spec, *limits, policy, rungs);
        let engine = engine.expect("only valid pipelines are drawn");
        let mut gateway = Self {
            driver: Driver::new(engine),
            ledger: Ledger::new(scenario),
            scenario,
            lines: scenario.nodes.iter().map(|_| LineEnd::default()).collect(),
            clock_error_us: 0,
            runs: 0,
            run: None,
            stuck: BTreeMap::new(),
            said: Vec::new(),
            started: None,
            alerts: Vec::new(),
            steps: Vec::new(),
            unexplained: HashSet::new(),
        };
        for model in rungs {
            gateway.take_in(model.rung, 0);
        }
        gateway
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.driver.engine()
    }

    /// Holds the engine against the ledger after a step.
    pub(crate) fn check(&mut self) {
        self.ledger.check(self.driver.engine());
    }

    fn take_in(&mut self, rung: Rung, now_us: u64) {
        let features_len = self.engine().features_len();
        let instance = Instance::new(rung, Simulated::default(), PENDING_MAX, features_len);
        self.driver
            .handle_instance(instance, now_us, &mut self.said);
        self.drain();
    }

    fn now(&self, mono_us: u64) -> Now {
        Now {
            mono_us,
            utc_us: mono_us as i64 + self.clock_error_us,
        }
    }

    /// Line `index` was opened.
    pub(crate) fn handle_link_up(&mut self, index: usize, now_us: u64) {
        let end = &mut self.lines[index];
        end.decoder.forget_partial();
        end.wants_hello = true;
        if index == WATCHED_LINE {
            self.ledger.handle_link(true, now_us);
            self.driver.handle_link_up(now_us, &mut self.said);
            self.drain();
        }
    }

    /// Line `index` was lost.
    pub(crate) fn handle_link_down(&mut self, index: usize, now_us: u64) {
        if index == WATCHED_LINE {
            self.ledger.handle_link(false, now_us);
            self.driver.handle_link_down(now_us);
        }
    }

    /// When somebody is to be told of as away, unless nobody can look then.
    pub(crate) fn next_absence_us(&self) -> Option<u64> {
        let is_busy = self.scenario.driver_is_inline && self.run.is_some();
        self.engine().next_absence_us().filter(|_| !is_busy)
    }

    /// Nothing is left to be read.
    pub(crate) fn handle_absences(&mut self, now_us: u64) {
        self.ledger.handle_absences(now_us);
        self.driver.handle_absences(now_us, &mut self.said);
        self.drain();
    }

    /// Whether the node of line `index` shall say `Hello`.
    pub(crate) fn poll_ask(&mut self, index: usize) -> bool {
        std::mem::take(&mut self.lines[index].wants_hello)
    }

    /// A read of `line` has returned `bytes`.
    pub(crate) fn handle_bytes(
        &mut self,
        index: usize,
        mut bytes: &[u8],
        now_us: u64,
        line: &mut Line,
    ) {
        while let Some(message) = self.lines[index].decoder.next_message(&mut bytes) {
            match message {
                Ok(message) => {
                    line.handle_decoded(&message);
                    self.handle_message(index, &message, now_us);
                }
                Err(error) => self.reject(reason(error)),
            }
        }
    }

    fn handle_message(&mut self, index: usize, message: &Message, now_us: u64) {
        match message {
            Message::Hello(hello) => self.handle_hello(index, hello),
            Message::Reading(reading) => self.handle_reading(index, reading, now_us),
            Message::Health(_) | Message::Log(_) | Message::Config(_) => {}
        }
    }

    fn handle_hello(&mut self, index: usize, hello: &Hello) {
        let node = KnownNode::new(hello, self.engine().schema());
        let last = self.lines[index].node.as_ref();
        let is_new = last.is_none_or(|last| last.boot_id != node.boot_id || last.name != node.name);
        if is_new && let Ok(sensor) = self.driver.sensor(&node.name) {
            self.ledger.handle_sensor(sensor);
            self.driver.handle_restart(sensor);
            self.lines[index].has_restarted = true;
        }
        self.lines[index].unknown_readings = 0;
        self.lines[index].node = Some(node);
    }

    fn handle_reading(&mut self, index: usize, message: &hark_wire::Reading, now_us: u64) {
        let end = &mut self.lines[index];
        let Some(node) = &end.node else {
            end.wants_hello |= end.unknown_readings.is_multiple_of(ASK_EVERY);
            end.unknown_readings = end.unknown_readings.wrapping_add(1);
            return self.reject(Rejection::NoHello);
        };
        let reading = match node.reading(message) {
            Ok(reading) => reading,
            Err(reason) => return self.reject(reason),
        };
        match self.driver.sensor(&node.name) {
            Ok(sensor) => {
                let has_restarted = std::mem::take(&mut end.has_restarted);
                let before = self.engine().counters().windowless;
                let step = self.hand_in(sensor, &reading, now_us);
                if has_restarted {
                    let is_windowless = self.engine().counters().windowless > before;
                    self.check_restarted(step, is_windowless);
                }
            }
            Err(reason) => self.reject(reason),
        }
    }

    fn hand_in(&mut self, sensor: SensorId, reading: &Reading, now_us: u64) -> Step {
        let now = self.now(now_us);
        self.ledger.handle_sensor(sensor);
        let step = self
            .driver
            .handle_reading(sensor, reading, now.into(), &mut self.said);
        let engine = self.driver.engine();
        self.ledger
            .handle_reading(sensor, reading, now, step, engine);
        self.drain();
        step
    }

    /// The first reading after a restart is judged by nothing before it.
    fn check_restarted(&self, step: Step, is_windowless: bool) {
        let is_by_the_past = match step {
            Step::Settled(Outcome::Rejected(reason)) => matches!(
                reason,
                Rejection::Duplicate
                    | Rejection::Reordered
                    | Rejection::RateOfChange { .. }
                    | Rejection::Stale
                    | Rejection::Future
            ),
            Step::Settled(Outcome::Filling) => false,
            // By the rule, which needs no window and forgets nothing.
            Step::Settled(Outcome::Fallback) if is_windowless => false,
            _ => self.scenario.spec.window.length > 1,
        };
        assert!(!is_by_the_past, "{step:?} right after a restart");
    }

    fn reject(&mut self, reason: Rejection) {
        self.driver.handle_rejection(reason);
        self.ledger.handle_rejection(reason);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Gives waiting windows to a model, as one batch. `has_more`: more readings are
    /// at hand.
    pub(crate) fn infer(
        &mut self,
        models: &Models<'_>,
        has_more: bool,
        now_us: u64,
        rng: &mut ChaCha8Rng,
    ) {
        if self.run.is_some() {
            return;
        }
        let now = self.now(now_us);
        let batch = self.ledger.handle_start(has_more, now, &self.driver);
        let started = self.driver.start_inference(now, has_more, &mut self.said);
        let rows = started.as_ref().map_or(0, Instance::rows);
        if let Some(batch) = batch {
            self.ledger.check_batch_len(rows, batch, now_us);
        } else {
            assert_eq!(rows, 0, "no batch was due");
        }
        self.drain();
        let Some(mut instance) = started else {
            return self.explain(now, has_more);
        };
        let (rung, due_us) = (instance.rung(), instance.due_us());
        let (model, features) = instance.to_run();
        model.answers.clear();
        for (row, features) in features.chunks_exact(features.len() / rows).enumerate() {
            let job = self.ledger.handle_poll(now).expect("a window waits");
            assert_eq!(rung, job.rung);
            assert!(
                row > 0 || due_us == job.due_us,
                "due with its oldest window"
            );
            let answer = models.answer(rung, features, rng);
            model.answers.push((job.id, answer));
        }
        let id = self.runs;
        self.runs += 1;
        let deadline_us = due_us + self.scenario.limits.keeper_margin_us;
        let takes_us = models.takes_us(rung, deadline_us.saturating_sub(now_us), rng);
        self.started = Some((id, takes_us.map(|us| now_us + us)));
        self.run = Some(Run {
            id,
            started_us: now_us,
            instance,
        });
    }

    /// Runs what says where scores come from, in no time.
    fn explain(&mut self, now: Now, has_more: bool) {
        let mut runs = 0;
        while let Some(mut rows) = self.driver.start_occlusion(now, has_more, &mut self.said) {
            assert_eq!(rows.windows(), 0, "nobody waits for it");
            let count = rows.rows();
            let (model, _) = rows.to_run();
            let outputs = if (now.mono_us + runs).is_multiple_of(8) {
                Err(Fault::Error)
            } else {
                Ok(vec![0.0])
            };
            let answer = Answer {
                score: outputs.as_ref().map(|_| 0.0).map_err(|&fault| fault),
                outputs,
            };
            model.answers = vec![(0, answer); count];
            let took = Duration::ZERO;
            self.driver
                .finish_inference(rows, took, now.mono_us, &mut self.said);
            runs += 1;
            assert!(runs < 1_000, "it comes to an end");
        }
        self.drain();
    }

    /// A run has ended, or its thread was killed: its answers, or no more than
    /// a late return. Returns whether the driver was waiting for it.
    pub(crate) fn handle_run_end(&mut self, id: u64, now_us: u64) -> bool {
        if let Some((instance, stuck)) = self.stuck.remove(&id) {
            let is_wanted = self.ledger.handle_late_return(stuck, now_us);
            let is_kept = self
                .driver
                .handle_late_return(instance, now_us, &mut self.said);
            assert_eq!(is_kept, is_wanted, "the instance of a stuck thread");
            self.drain();
            self.watch_relief(now_us);
            return false;
        }
        let Some(run) = self.run.take_if(|run| run.id == id) else {
            return false;
        };
        for (id, answer) in &run.instance.model().answers {
            self.ledger.handle_answer(*id, answer, now_us);
        }
        let took = Duration::from_micros(now_us - run.started_us);
        self.driver
            .finish_inference(run.instance, took, now_us, &mut self.said);
        self.drain();
        true
    }

    /// Every run whose thread has not come back.
    pub(crate) fn unfinished(&self) -> Vec<u64> {
        let running = self.run.iter().map(|run| run.id);
        self.stuck.keys().copied().chain(running).collect()
    }

    /// The keeper was woken.
    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        let Some(run) = self.run.take_if(|_| self.scenario.has_keeper) else {
            self.ledger.handle_timeout(now_us);
            self.driver.handle_timeout(now_us, &mut self.said);
            return self.drain();
        };
        let stuck = self.ledger.handle_hang(now_us).expect("it runs");
        let hung = self.driver.handle_hang(now_us, &mut self.said);
        hung.expect("it runs");
        self.drain();
        self.stuck.insert(run.id, (run.instance, stuck));
        self.watch_relief(now_us);
    }

    /// Without a thread in reserve no model may be run.
    fn watch_relief(&mut self, now_us: u64) {
        let has_relief = self.stuck.len() < self.scenario.model.relief_max;
        self.ledger.set_models_allowed(has_relief, now_us);
        self.driver
            .set_models_allowed(has_relief, now_us, &mut self.said);
        self.drain();
    }

    /// A rung that the driver shall load a model for.
    pub(crate) fn poll_wanted_instance(&mut self, now_us: u64) -> Option<Rung> {
        let expected = self.ledger.poll_wanted(now_us);
        let wanted = self.driver.poll_wanted_instance(now_us, &mut self.said);
        assert_eq!(wanted, expected, "an instance is wanted");
        self.drain();
        wanted
    }

    /// Loading a model has ended.
    pub(crate) fn handle_load(&mut self, rung: Rung, loaded: Result<(), StepReason>, now_us: u64) {
        self.ledger.handle_load(rung, loaded, now_us);
        match loaded {
            Ok(()) => self.take_in(rung, now_us),
            Err(reason) => {
                self.driver
                    .handle_no_instance(rung, reason, now_us, &mut self.said);
                self.drain();
            }
        }
    }

    fn drain(&mut self) {
        for output in self.said.drain(..) {
            self.ledger.handle_output(&output);
            match output {
                Output::Alert(alert) => {
                    note_awaited(&mut self.unexplained, &alert);
                    self.alerts.push(alert);
                }
                Output::Step(step) => self.steps.push(step),
                Output::Verdict(_) => {}
                Output::Explained(explained) => {
                    let sensor = explained.verdict.sensor;
                    let was_awaited = !explained.is_alert || self.unexplained.remove(&sensor);
                    assert!(was_awaited, "each alert is explained once");
                }
            }
        }
    }
}

fn note_awaited(unexplained: &mut HashSet<SensorId>, alert: &Alert) {
    if let Alert::Anomaly(verdict) = alert {
        let sensor = verdict.sensor;
        let is_explained = !unexplained.contains(&sensor);
        assert!(is_explained, "an alert comes after the causes of the last");
        if verdict.causes.are_awaited() {
            unexplained.insert(sensor);
        }
    }
}

impl KnownNode {
    fn new(hello: &Hello, schema: &Schema) -> Self {
        let place = |declared: &hark_engine::Channel| {
            let mut channels = hello.channels.iter();
            let is_it = |c: &Channel| c.name == *declared.name && c.unit == *declared.unit;
            let place = channels.position(is_it).expect("nodes declare the schema");
            (place, hello.channels[place].clone())
        };
        Self {
            name: hello.node.as_str().to_owned(),
            boot_id: hello.boot_id,
            channels: schema.channels.iter().map(place).collect(),
        }
    }

    fn reading(&self, message: &hark_wire::Reading) -> Result<Reading, Rejection> {
        let mut reading = Reading::empty(self.channels.len());
        let slots = reading.values_mut().iter_mut();
        for (channel, (slot, (place, scale))) in (0_u8..).zip(slots.zip(&self.channels)) {
            *slot = scale
                .physical(message.values[*place])
                .ok_or(Rejection::MissingChannel { channel })?;
        }
        reading.sequence = Some(message.sequence.into());
        reading.timestamp_us = i64::try_from(message.timestamp_us).ok();
        Ok(reading)
    }
}

fn reason(error: DecodeError) -> Rejection {
    match error {
        DecodeError::TooLong => Rejection::Oversize,
        DecodeError::Version(_) => Rejection::Version,
        _ => Rejection::Corrupt,
    }
}
