//! The gateway: bytes to messages to readings to verdicts, driven as the app
//! drives it.
//!
//! The decoding and the mapping are those of the app's wire source, the order
//! of calls is its hot path's: readings, then a batch on the one instance of a
//! rung, then outputs. A keeper declares the batch stuck at its deadline; the
//! thread may come back later, or never. One engine serves all lines, so that
//! their readings compete for its slots. Every call is told to the [`Ledger`]
//! as well.

use crate::ledger::{ExpectedJob, Ledger, Stuck};
use crate::line::Line;
use crate::model::{Answer, Models, RUN_US_MAX};
use crate::scenario::Scenario;
use hark_engine::{
    Alert, Engine, Hang, LadderStep, Now, Outcome, Output, Reading, Rejection, Rung, Schema,
    SensorId, Step, StepReason, Ticket,
};
use hark_wire::{Channel, DecodeError, FRAME_MAX, FrameDecoder, Hello, Message};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Readings without a `Hello` between two requests for it, as in the app.
const ASK_EVERY: u32 = 16;

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

/// A window of the batch that runs.
struct Window {
    ticket: Ticket,
    /// The ledger's name for it.
    id: u64,
    answer: Answer,
}

/// The batch that runs.
struct Run {
    id: u64,
    rung: Rung,
    windows: Vec<Window>,
}

/// The gateway without its threads.
pub(crate) struct Gateway<'a> {
    pub(crate) engine: Engine,
    pub(crate) ledger: Ledger<'a>,
    scenario: &'a Scenario,
    lines: Vec<LineEnd>,
    /// By how much the wall clock is wrong.
    pub(crate) clock_error_us: i64,
    runs: u64,
    run: Option<Run>,
    /// The threads taken for stuck, by their run.
    stuck: BTreeMap<u64, (Hang, Stuck)>,
    /// Since they were taken: a run and when it ends, alerts to be posted, and
    /// steps to be traced.
    pub(crate) started: Option<(u64, Option<u64>)>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) steps: Vec<LadderStep>,
}

impl<'a> Gateway<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let Scenario { spec, limits, .. } = scenario;
        let (policy, rungs) = (scenario.policy, &scenario.model.rungs);
        let engine = Engine::new(spec, *limits, policy, rungs);
        Self {
            engine: engine.expect("only valid pipelines are drawn"),
            ledger: Ledger::new(scenario),
            scenario,
            lines: scenario.nodes.iter().map(|_| LineEnd::default()).collect(),
            clock_error_us: 0,
            runs: 0,
            run: None,
            stuck: BTreeMap::new(),
            started: None,
            alerts: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn now(&self, mono_us: u64) -> Now {
        Now {
            mono_us,
            utc_us: mono_us as i64 + self.clock_error_us,
        }
    }

    /// Line `index` was opened.
    pub(crate) fn handle_link_up(&mut self, index: usize) {
        let end = &mut self.lines[index];
        end.decoder.forget_partial();
        end.wants_hello = true;
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
        let node = KnownNode::new(hello, self.engine.schema());
        let last = self.lines[index].node.as_ref();
        let is_new = last.is_none_or(|last| last.boot_id != node.boot_id || last.name != node.name);
        if is_new && let Ok(sensor) = self.engine.sensor(&node.name) {
            self.ledger.handle_sensor(sensor);
            self.engine.handle_restart(sensor);
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
        match self.engine.sensor(&node.name) {
            Ok(sensor) => {
                let has_restarted = std::mem::take(&mut end.has_restarted);
                let step = self.hand_in(sensor, &reading, now_us);
                if has_restarted {
                    self.check_restarted(step);
                }
            }
            Err(reason) => self.reject(reason),
        }
    }

    fn hand_in(&mut self, sensor: SensorId, reading: &Reading, now_us: u64) -> Step {
        let now = self.now(now_us);
        self.ledger.handle_sensor(sensor);
        let step = self.engine.handle_reading(sensor, reading, now, |_| {});
        let engine = &self.engine;
        self.ledger
            .handle_reading(sensor, reading, now, step, engine);
        self.drain();
        step
    }

    /// The first reading after a restart is judged by nothing before it.
    fn check_restarted(&self, step: Step) {
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
            _ => self.scenario.spec.window.length > 1,
        };
        assert!(!is_by_the_past, "{step:?} right after a restart");
    }

    fn reject(&mut self, reason: Rejection) {
        self.engine.handle_rejection(reason);
        self.ledger.handle_rejection(reason);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Gives waiting windows to a model, as one batch.
    pub(crate) fn infer(&mut self, models: &Models<'_>, now_us: u64, rng: &mut ChaCha8Rng) {
        if self.run.is_some() {
            return;
        }
        let (now, cost_us) = (self.now(now_us), RUN_US_MAX as f32);
        let mut len = self.engine.batch_len(cost_us, now_us);
        self.ledger.check_batch_len(len, cost_us, now_us);
        if self.scenario.driver_is_greedy && len > 0 {
            len = usize::MAX;
        }
        let mut run: Option<(Run, u64)> = None;
        for _ in 0..len.max(1) {
            let expected = self.ledger.handle_poll(now);
            let job = self.engine.poll_inference(now);
            let found = job.as_ref().map(|job| (job.rung, job.deadline_us));
            assert_eq!(found, expected.map(|job| (job.rung, job.deadline_us)));
            let window = job.zip(expected).map(|(job, ExpectedJob { id, .. })| {
                let answer = models.answer(job.rung, job.features, rng);
                let ticket = job.ticket;
                (job.rung, job.deadline_us, Window { ticket, id, answer })
            });
            self.drain();
            let Some((rung, deadline_us, window)) = window else {
                break;
            };
            let id = self.runs;
            let (run, _) = run.get_or_insert_with(|| {
                let windows = Vec::new();
                (Run { id, rung, windows }, deadline_us)
            });
            run.windows.push(window);
        }
        if let Some((run, deadline_us)) = run {
            let left_us = deadline_us.saturating_sub(now_us);
            let takes_us = models.takes_us(run.rung, left_us, rng);
            self.started = Some((run.id, takes_us.map(|us| now_us + us)));
            self.runs += 1;
            self.run = Some(run);
        }
    }

    /// A run has ended, or its thread was killed: its answers, or no more than
    /// a late return. Returns what its windows used up.
    pub(crate) fn handle_run_end(&mut self, id: u64, now_us: u64) -> Option<(Rung, Vec<Ticket>)> {
        if let Some((hang, stuck)) = self.stuck.remove(&id) {
            let is_wanted = self.ledger.handle_late_return(stuck, now_us);
            let is_kept = self.engine.handle_late_return(hang, now_us);
            assert_eq!(is_kept, is_wanted, "the instance of a stuck thread");
            self.drain();
            self.watch_relief(now_us);
            return None;
        }
        let run = self.run.take_if(|run| run.id == id)?;
        let tickets = run.windows.iter().map(|window| window.ticket).collect();
        for window in run.windows {
            self.ledger.handle_answer(window.id, &window.answer, now_us);
            let outputs = window.answer.outputs.as_deref().map_err(|&fault| fault);
            self.engine.handle_outputs(window.ticket, outputs, now_us);
            self.drain();
        }
        Some((run.rung, tickets))
    }

    /// A worker answers again with a ticket that is used up.
    pub(crate) fn handle_echo(&mut self, ticket: Ticket, now_us: u64) {
        self.ledger.handle_echo();
        self.engine.handle_outputs(ticket, Ok(&[0.0]), now_us);
        self.drain();
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
            self.engine.handle_timeout(now_us);
            return self.drain();
        };
        let stuck = self.ledger.handle_hang(now_us).expect("it runs");
        let hang = self.engine.handle_hang(now_us).expect("it runs");
        assert_eq!(hang.rung(), run.rung);
        self.drain();
        self.stuck.insert(run.id, (hang, stuck));
        self.watch_relief(now_us);
    }

    /// Without a thread in reserve no model may be run.
    fn watch_relief(&mut self, now_us: u64) {
        let has_relief = self.stuck.len() < self.scenario.model.relief_max;
        self.ledger.set_models_allowed(has_relief, now_us);
        self.engine.set_models_allowed(has_relief, now_us);
        self.drain();
    }

    /// A rung that the driver shall load a model for.
    pub(crate) fn poll_wanted_instance(&mut self, now_us: u64) -> Option<Rung> {
        let expected = self.ledger.poll_wanted(now_us);
        let wanted = self.engine.poll_wanted_instance(now_us);
        assert_eq!(wanted, expected, "an instance is wanted");
        self.drain();
        wanted
    }

    /// Loading a model has ended.
    pub(crate) fn handle_load(&mut self, rung: Rung, loaded: Result<(), StepReason>, now_us: u64) {
        self.ledger.handle_load(rung, loaded, now_us);
        match loaded {
            Ok(()) => self.engine.handle_instance(rung, now_us),
            Err(reason) => self.engine.handle_no_instance(rung, reason, now_us),
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.ledger.handle_output(&output);
            match output {
                Output::Alert(alert) => self.alerts.push(alert),
                Output::Step(step) => self.steps.push(step),
                Output::Verdict(_) => {}
            }
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
