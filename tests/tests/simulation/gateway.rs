//! The gateway: bytes to messages to readings to verdicts, driven as the app
//! drives it.
//!
//! The decoding and the mapping are those of the app's wire source, the order
//! of calls is its hot path's: reading, inference, outputs. Unlike the hot path
//! it does not wait for the model: answers come later, and a keeper calls
//! `handle_timeout`. One engine serves all lines, so that their readings
//! compete for its slots. Every call is told to the [`Ledger`] as well.

use crate::ledger::Ledger;
use crate::line::Line;
use crate::model::{Answer, Model};
use crate::scenario::Scenario;
use hark_engine::{
    Alert, Engine, Fault, Now, Outcome, Output, Reading, Rejection, Schema, SensorId, Step, Ticket,
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

/// An inference under way.
struct Running {
    ticket: Ticket,
    answer: Answer,
}

/// The gateway without its threads.
pub(crate) struct Gateway {
    pub(crate) engine: Engine,
    pub(crate) ledger: Ledger,
    window_length: usize,
    lines: Vec<LineEnd>,
    /// By the ledger's name for the window.
    running: BTreeMap<u64, Running>,
    /// Answers to be awaited and alerts to be posted, since they were taken.
    pub(crate) started: Vec<(u64, u64)>,
    pub(crate) alerts: Vec<Alert>,
}

impl Gateway {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let Scenario { spec, limits, .. } = scenario;
        let late_us_max = scenario.keeper_late_us_max;
        Self {
            engine: Engine::new(spec, *limits).expect("only valid pipelines are drawn"),
            ledger: Ledger::new(*limits, spec.verdict.clone(), late_us_max),
            window_length: spec.window.length,
            lines: scenario.nodes.iter().map(|_| LineEnd::default()).collect(),
            running: BTreeMap::new(),
            started: Vec::new(),
            alerts: Vec::new(),
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
        mut infer: impl FnMut(&mut Self),
    ) {
        while let Some(message) = self.lines[index].decoder.next_message(&mut bytes) {
            match message {
                Ok(message) => {
                    line.handle_decoded(&message);
                    self.handle_message(index, &message, now_us);
                }
                Err(error) => self.reject(reason(error)),
            }
            infer(self);
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
        let now = Now {
            mono_us: now_us,
            utc_us: now_us as i64,
        };
        self.ledger.handle_sensor(sensor);
        let step = self.engine.handle_reading(sensor, reading, now);
        self.ledger.handle_reading(sensor, reading, now_us, step);
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
            _ => self.window_length > 1,
        };
        assert!(!is_by_the_past, "{step:?} right after a restart");
    }

    fn reject(&mut self, reason: Rejection) {
        self.engine.handle_rejection(reason);
        self.ledger.handle_rejection(reason);
    }

    /// Gives waiting windows to idle workers.
    pub(crate) fn infer(&mut self, model: &mut Model<'_>, now_us: u64, rng: &mut ChaCha8Rng) {
        while model.has_idle_worker() {
            let Some(job) = self.engine.poll_inference() else {
                assert_eq!(self.ledger.waiting(), 0, "a window waits unseen");
                return;
            };
            let (ticket, deadline_us) = (job.ticket, job.deadline_us);
            let answer = model.start(job.features, now_us, deadline_us, rng);
            let id = self.ledger.handle_start(deadline_us);
            self.started.extend(answer.at_us.map(|at_us| (id, at_us)));
            self.running.insert(id, Running { ticket, answer });
        }
    }

    /// The model answers window `id`; returns the ticket that this used up.
    pub(crate) fn handle_answer(&mut self, id: u64, now_us: u64) -> Ticket {
        let running = self.running.remove(&id);
        let Running { ticket, answer } = running.expect("a worker answers once");
        self.ledger.handle_answer(id, &answer, now_us);
        let outputs = answer.outputs.as_deref().ok_or(Fault);
        self.engine.handle_outputs(ticket, outputs, now_us);
        self.drain();
        ticket
    }

    /// A worker answers again with a ticket that is used up.
    pub(crate) fn handle_echo(&mut self, ticket: Ticket, now_us: u64) {
        self.ledger.handle_echo();
        self.engine.handle_outputs(ticket, Ok(&[0.0]), now_us);
        self.drain();
    }

    /// The windows of workers that will never answer.
    pub(crate) fn hung(&self) -> Vec<u64> {
        let hung = self
            .running
            .iter()
            .filter(|(_, r)| r.answer.at_us.is_none());
        hung.map(|(&id, _)| id).collect()
    }

    /// The worker of window `id` was killed.
    pub(crate) fn handle_killed(&mut self, id: u64, now_us: u64) {
        if let Some(running) = self.running.get_mut(&id) {
            running.answer.outputs = None;
            running.answer.score = None;
        }
        self.handle_answer(id, now_us);
    }

    /// The keeper was woken.
    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        self.ledger.handle_timeout(now_us);
        self.engine.handle_timeout(now_us);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.ledger.handle_output(&output);
            if let Output::Alert(alert) = output {
                self.alerts.push(alert);
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
