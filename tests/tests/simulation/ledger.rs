//! What the engine must have said and counted: a second, slower bookkeeping.
//!
//! Before the outputs of an event are looked at, the ledger says which verdicts
//! are due, in order. Then every output is held against them, and after every
//! step the engine's counters against the ledger's own. It keeps open readings
//! in a plain list and knows nothing of slots.

use crate::model::Answer;
use hark_engine::{
    Alert, AlertState, Counters, Engine, Limits, Outcome, Output, PENDING_MAX, Reading, Rejection,
    Rung, SensorId, Step, Verdict, VerdictSpec,
};
use std::collections::VecDeque;

/// A reading whose window waits for its verdict.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    sensor: SensorId,
    sequence: Option<u64>,
    timestamp_us: Option<i64>,
    arrived_us: u64,
    is_running: bool,
}

/// A verdict that must be given now.
#[derive(Clone, Copy, Debug)]
struct Due {
    open: Open,
    rung: Rung,
    /// Known for the model's.
    score: Option<f32>,
    now_us: u64,
}

/// What was said about one sensor.
#[derive(Clone, Copy, Default)]
struct Said {
    state: AlertState,
    /// Bit 0 is the newest verdict: an anomaly.
    anomalies: u64,
    changed_us: Option<u64>,
}

/// The second bookkeeping of one engine.
pub(crate) struct Ledger {
    limits: Limits,
    verdict: VerdictSpec,
    /// How late the driver may be; nothing else makes a verdict late.
    late_us_max: u64,
    counters: Counters,
    before: Counters,
    open: Vec<Open>,
    /// Inferences under way whose verdict was given at the deadline.
    abandoned: usize,
    opened: u64,
    due: VecDeque<Due>,
    /// The verdict given last and when, until something else is said.
    last: Option<(Verdict, u64)>,
    /// By [`SensorId::index`].
    said: Vec<Said>,
    sensors: Vec<SensorId>,
}

impl Ledger {
    pub(crate) fn new(limits: Limits, verdict: VerdictSpec, late_us_max: u64) -> Self {
        Self {
            limits,
            verdict,
            late_us_max,
            counters: Counters::default(),
            before: Counters::default(),
            open: Vec::new(),
            abandoned: 0,
            opened: 0,
            due: VecDeque::new(),
            last: None,
            said: Vec::new(),
            sensors: Vec::new(),
        }
    }

    /// The engine knows `sensor`; they come in order.
    pub(crate) fn handle_sensor(&mut self, sensor: SensorId) {
        if sensor.index() == self.sensors.len() {
            self.sensors.push(sensor);
            self.said.push(Said::default());
        }
        assert!(sensor.index() < self.sensors.len(), "{sensor:?} skips one");
    }

    /// `reading` was handed in and the engine answered `step`.
    pub(crate) fn handle_reading(
        &mut self,
        sensor: SensorId,
        reading: &Reading,
        now_us: u64,
        step: Step,
    ) {
        self.counters.readings += 1;
        let has_room = self.open.len() + self.abandoned < PENDING_MAX;
        let open = Open {
            id: self.opened,
            sensor,
            sequence: reading.sequence,
            timestamp_us: reading.timestamp_us,
            arrived_us: now_us,
            is_running: false,
        };
        match step {
            Step::Pending => {
                assert!(has_room, "more windows wait than may");
                self.opened += 1;
                self.open.push(open);
            }
            Step::Settled(Outcome::Fallback) => {
                assert!(!has_room, "the rule answered though a slot was free");
                self.expect(open, Rung::Rule, None, now_us);
            }
            Step::Settled(Outcome::Filling) => self.counters.filling += 1,
            Step::Settled(Outcome::Rejected(reason)) => self.count_rejection(reason),
            Step::Settled(outcome) => panic!("{outcome:?} is no answer to a reading"),
        }
    }

    /// Something that is no reading was handed in.
    pub(crate) fn handle_rejection(&mut self, reason: Rejection) {
        self.counters.readings += 1;
        self.count_rejection(reason);
    }

    fn count_rejection(&mut self, reason: Rejection) {
        self.counters.rejected += 1;
        self.counters.rejected_by_reason[reason.index()] += 1;
    }

    /// The engine gave out the window that is due at `deadline_us`; it must be
    /// the oldest. Returns a name for it.
    pub(crate) fn handle_start(&mut self, deadline_us: u64) -> u64 {
        let mut waiting = self.open.iter_mut().filter(|open| !open.is_running);
        let oldest = waiting.next().expect("a window waits if one is given out");
        assert_eq!(oldest.arrived_us + self.limits.deadline_us, deadline_us);
        oldest.is_running = true;
        oldest.id
    }

    /// How many windows wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.open.iter().filter(|open| !open.is_running).count()
    }

    /// The model is about to answer the window `id`.
    pub(crate) fn handle_answer(&mut self, id: u64, answer: &Answer, now_us: u64) {
        let Some(at) = self.open.iter().position(|open| open.id == id) else {
            self.abandoned -= 1;
            self.counters.late_results += 1;
            return;
        };
        let open = self.open.remove(at);
        let is_late = now_us > open.arrived_us + self.limits.deadline_us;
        match answer.score {
            None => self.counters.model_faults += 1,
            Some(_) if is_late => self.counters.late_results += 1,
            Some(score) => return self.expect(open, Rung::Model, Some(score), now_us),
        }
        self.expect(open, Rung::Rule, None, now_us);
    }

    /// A ticket that is used up is about to be answered again.
    pub(crate) fn handle_echo(&mut self) {
        self.counters.late_results += 1;
    }

    /// `handle_timeout` is about to be called.
    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        let due_us = now_us + self.limits.keeper_margin_us;
        let deadline_us = self.limits.deadline_us;
        let is_due = |open: &mut Open| open.arrived_us + deadline_us <= due_us;
        let due: Vec<_> = self.open.extract_if(.., is_due).collect();
        for open in due {
            self.abandoned += usize::from(open.is_running);
            self.expect(open, Rung::Rule, None, now_us);
        }
    }

    fn expect(&mut self, open: Open, rung: Rung, score: Option<f32>, now_us: u64) {
        match rung {
            Rung::Model => self.counters.scored += 1,
            Rung::Rule => self.counters.fallback += 1,
        }
        let deadline_us = open.arrived_us + self.limits.deadline_us;
        if now_us > deadline_us {
            self.counters.deadline_misses += 1;
            let late_us = now_us - (deadline_us - self.limits.keeper_margin_us);
            assert!(
                late_us <= self.late_us_max,
                "late, though the driver was not"
            );
        }
        self.due.push_back(Due {
            open,
            rung,
            score,
            now_us,
        });
    }

    /// The engine said `output`.
    pub(crate) fn handle_output(&mut self, output: &Output) {
        match output {
            Output::Verdict(verdict) => self.handle_verdict(verdict),
            Output::Alert(alert) => self.handle_alert(alert),
        }
    }

    fn handle_verdict(&mut self, verdict: &Verdict) {
        self.check_no_alert_is_missing();
        let due = self.due.pop_front();
        let due = due.unwrap_or_else(|| panic!("nobody asked for {verdict:?}"));
        let (open, latency_us) = (due.open, due.now_us - due.open.arrived_us);
        assert_eq!(verdict.sensor, open.sensor);
        assert_eq!(verdict.sequence, open.sequence);
        assert_eq!(verdict.timestamp_us, open.timestamp_us);
        assert_eq!(verdict.rung, due.rung);
        assert_eq!(verdict.latency_us, latency_us);
        assert_eq!(verdict.is_in_time, latency_us <= self.limits.deadline_us);
        assert!(verdict.score.is_finite() && verdict.score >= 0.0);
        if let Some(score) = due.score {
            // An autoencoder's goes through a square root and back.
            let error = (verdict.score - score).abs();
            assert!(
                error <= 1e-3 * (1.0 + score),
                "{} is not {score}",
                verdict.score
            );
        }
        let said = &mut self.said[verdict.sensor.index()];
        said.anomalies = said.anomalies << 1 | u64::from(verdict.is_anomaly());
        self.last = Some((*verdict, due.now_us));
    }

    fn handle_alert(&mut self, alert: &Alert) {
        let (verdict, now_us) = self.last.take().expect("an alert follows a verdict");
        assert_eq!(verdict, alert.verdict, "an alert follows its own verdict");
        let said = &mut self.said[alert.verdict.sensor.index()];
        assert_ne!(
            said.state, alert.verdict.state,
            "an alert changes the state"
        );
        said.state = alert.verdict.state;
        let recent = said.anomalies & (u64::MAX >> (u64::BITS - self.verdict.n));
        match said.state {
            AlertState::Raised => {
                self.counters.alerts += 1;
                assert!(
                    recent.count_ones() >= self.verdict.k,
                    "raised without a cause"
                );
            }
            AlertState::Cleared => assert_eq!(recent, 0, "cleared though not calm"),
        }
        let held_us = (self.verdict.hold_off_ms * 1e3) as u64;
        let is_held = said.changed_us.is_some_and(|at| now_us < at + held_us);
        assert!(!is_held, "two changes within the hold-off");
        said.changed_us = Some(now_us);
    }

    /// A verdict with another state than the last must bring an alert.
    fn check_no_alert_is_missing(&mut self) {
        if let Some((verdict, _)) = self.last.take() {
            let said = &self.said[verdict.sensor.index()];
            assert_eq!(said.state, verdict.state, "a change of state without alert");
        }
    }

    /// Holds the engine against the ledger after a step.
    pub(crate) fn check(&mut self, engine: &Engine) {
        self.check_no_alert_is_missing();
        assert!(self.due.is_empty(), "not given: {:?}", self.due);
        let counters = engine.counters();
        // What was missed, the ledger cannot know; it must only grow.
        assert!(counters.missed >= self.before.missed);
        assert!(counters.window_resets >= self.before.window_resets);
        self.counters.missed = counters.missed;
        self.counters.window_resets = counters.window_resets;
        assert_eq!(counters, &self.counters, "engine (left) and ledger (right)");
        self.before.clone_from(counters);
        let pending = engine.pending_len();
        assert!(pending <= PENDING_MAX);
        assert_eq!(pending, self.open.len());
        assert_eq!(counters.readings, counters.outcomes() + pending as u64);
        let by_reason: u64 = counters.rejected_by_reason.iter().sum();
        assert_eq!(counters.rejected, by_reason);
        assert!(engine.sensors_len() <= self.limits.sensors_max);
        for (sensor, state) in self.states() {
            assert_eq!(engine.alert_state(sensor), state, "of {sensor:?}");
        }
    }

    /// The sensors, with the state of their alerts.
    pub(crate) fn states(&self) -> impl Iterator<Item = (SensorId, AlertState)> {
        let states = self.said.iter().map(|said| said.state);
        self.sensors.iter().copied().zip(states)
    }
}
