//! What the engine must have said and counted: a second, slower bookkeeping.
//!
//! Before the outputs of an event are looked at, the ledger says which verdicts
//! and steps are due, in order. Then every output is held against them, and
//! after every step the engine's counters against the ledger's own. It keeps
//! open readings in a plain list, knows nothing of places, and keeps the ladder
//! by its own [`LadderBook`].

mod alerts;
mod ladder;
mod runs;
mod said;

use crate::scenario::Scenario;
use alerts::{Heard, LinkBook};
use hark_engine::{
    Alert, AlertKind, AlertState, Counters, Engine, LadderStep, Limits, Now, Outcome, Output,
    PENDING_MAX, Reading, Rejection, Rung, SensorId, Step, StepReason, Verdict,
};
use ladder::LadderBook;
use runs::Run;
pub(crate) use runs::Stuck;
use said::{Expected, Said};
use std::collections::VecDeque;

/// Readings after which the rule has an opinion.
const RULE_LEARNS: u64 = 128;
/// Windows emptied in a row before the rule speaks without one.
const WINDOWLESS_AFTER: u64 = 10;

/// A reading whose window waits for its verdict.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    sensor: SensorId,
    sequence: Option<u64>,
    timestamp_us: Option<i64>,
    arrived_us: u64,
    rule_has_learnt: bool,
    is_running: bool,
}

/// The second bookkeeping of one engine.
pub(crate) struct Ledger<'a> {
    scenario: &'a Scenario,
    limits: Limits,
    counters: Counters,
    before: Counters,
    ladder: LadderBook,
    open: Vec<Open>,
    opened: u64,
    run: Option<Run>,
    expected: VecDeque<Expected>,
    /// The verdict given last and when, until something else is said.
    last: Option<(Verdict, u64)>,
    /// By [`SensorId::index`].
    said: Vec<Said>,
    heard: Vec<Heard>,
    link: LinkBook,
    sensors: Vec<SensorId>,
    /// Steps by [`StepReason::index`].
    pub(crate) steps: [u64; StepReason::ALL.len()],
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            limits: scenario.limits,
            counters: Counters::default(),
            before: Counters::default(),
            ladder: LadderBook::new(scenario.policy, &scenario.model.rungs),
            open: Vec::new(),
            opened: 0,
            run: None,
            expected: VecDeque::new(),
            last: None,
            said: Vec::new(),
            heard: Vec::new(),
            link: LinkBook::default(),
            sensors: Vec::new(),
            steps: [0; StepReason::ALL.len()],
        }
    }

    /// The engine knows `sensor`; they come in order.
    pub(crate) fn handle_sensor(&mut self, sensor: SensorId) {
        if sensor.index() == self.sensors.len() {
            self.sensors.push(sensor);
            self.said.push(Said::default());
            self.heard.push(Heard::default());
        }
        assert!(sensor.index() < self.sensors.len(), "{sensor:?} skips one");
    }

    /// What the time alone changes.
    fn observe(&mut self, now: Now) {
        self.ladder.handle_wall_clock(now.utc_us);
        self.follow(now.mono_us);
    }

    /// The step that is due now, and the windows that nobody can run any more.
    fn follow(&mut self, now_us: u64) {
        self.counters.hangs += self.ladder.give_up(now_us);
        if let Some((from, to, reason)) = self.ladder.poll_step() {
            assert_ne!(from, to);
            self.counters.ladder_steps += 1;
            self.steps[reason.index()] += 1;
            let at_us = now_us;
            self.expected.push_back(Expected::Step(LadderStep {
                from,
                to,
                reason,
                at_us,
            }));
        }
        if self.ladder.choice(now_us).is_none() {
            let is_waiting = |open: &mut Open| !open.is_running;
            let stranded: Vec<_> = self.open.extract_if(.., is_waiting).collect();
            stranded
                .into_iter()
                .for_each(|open| self.expect_fallback(open, now_us));
        }
    }

    /// `reading` was handed in and the engine answered `step`.
    pub(crate) fn handle_reading(
        &mut self,
        sensor: SensorId,
        reading: &Reading,
        now: Now,
        step: Step,
        engine: &Engine,
    ) {
        self.observe(now);
        self.counters.readings += 1;
        self.hear(sensor, now.mono_us);
        self.judge_range(sensor, reading, step, now.mono_us);
        match step {
            Step::Settled(Outcome::Rejected(reason)) => return self.count_rejection(reason),
            Step::Settled(Outcome::Shed) => panic!("nothing is shed here"),
            _ => self.said[sensor.index()].samples += 1,
        }
        if step == Step::Settled(Outcome::Filling) {
            self.counters.filling += 1;
            return;
        }
        let now_us = now.mono_us;
        let open = Open {
            id: self.opened,
            sensor,
            sequence: reading.sequence,
            timestamp_us: reading.timestamp_us,
            arrived_us: now_us,
            rule_has_learnt: self.said[sensor.index()].samples > RULE_LEARNS,
            is_running: false,
        };
        if engine.counters().windowless > self.counters.windowless {
            // Whether its window is full the ledger cannot know; only that it was
            // emptied often enough.
            let resets = engine.counters().window_resets;
            assert!(resets >= WINDOWLESS_AFTER, "{resets} resets");
            assert_eq!(step, Step::Settled(Outcome::Fallback));
            self.counters.windowless += 1;
            return self.expect_fallback(open, now_us);
        }
        let has_place = self.open.len() < PENDING_MAX;
        if has_place {
            self.see_drift(engine);
            self.follow(now_us);
        }
        let choice = self.ladder.choice(now_us);
        let may_wait = choice.is_some_and(|(_, is_trial)| {
            !is_trial || self.ladder.has_server() || self.open.is_empty()
        });
        if engine.counters().cache_hits > self.counters.cache_hits {
            assert!(has_place && may_wait && self.open.is_empty());
            self.expect_cached(open, choice.expect("it may wait"), now_us);
        } else if has_place && may_wait {
            assert_eq!(step, Step::Pending, "a model could have run it");
            self.opened += 1;
            self.open.push(open);
        } else {
            assert_eq!(step, Step::Settled(Outcome::Fallback));
            self.expect_fallback(open, now_us);
        }
    }

    fn see_drift(&mut self, engine: &Engine) {
        self.ladder.is_drifted = engine.is_drifted();
        let (max, rms) = (self.scenario.policy.drift_max, engine.drift());
        let is_beyond = rms.is_some_and(|rms| rms > max);
        let is_well_within = rms.is_none_or(|rms| rms <= 0.9 * max);
        assert!(!is_beyond || engine.is_drifted(), "drift unseen: {rms:?}");
        assert!(
            !(is_well_within && engine.is_drifted()),
            "no drift: {rms:?}"
        );
    }

    fn expect_cached(&mut self, open: Open, choice: (usize, bool), now_us: u64) {
        assert!(self.limits.is_caching);
        assert!(!choice.1, "a trial runs the model");
        let last = self.said[open.sensor.index()].by_model;
        let last = last.expect("a cached score was given before");
        let rung = self.ladder.rung(choice.0);
        assert_eq!(last.rung, rung, "another model's score");
        self.counters.cache_hits += 1;
        self.expect(open, rung, Some(last.score), now_us);
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

    /// A model was loaded, or why not.
    pub(crate) fn handle_load(&mut self, rung: Rung, loaded: Result<(), StepReason>, now_us: u64) {
        match loaded {
            Ok(()) => self.ladder.handle_instance(rung, now_us),
            Err(why) => self.ladder.handle_no_instance(rung, why, now_us),
        }
        self.follow(now_us);
    }

    /// Which rung the engine must ask an instance for.
    pub(crate) fn poll_wanted(&mut self, now_us: u64) -> Option<Rung> {
        self.follow(now_us);
        self.ladder.poll_wanted(now_us)
    }

    /// Models may be run, or not.
    pub(crate) fn set_models_allowed(&mut self, are_allowed: bool, now_us: u64) {
        self.ladder.are_allowed = are_allowed;
        self.follow(now_us);
    }

    /// Holds the engine against the ledger after a step.
    pub(crate) fn check(&mut self, engine: &Engine) {
        self.check_no_alert_is_missing();
        assert!(self.expected.is_empty(), "not given: {:?}", self.expected);
        let counters = engine.counters();
        // What was missed, the ledger cannot know; it must only grow.
        assert!(counters.missed >= self.before.missed);
        assert!(counters.window_resets >= self.before.window_resets);
        self.counters.missed = counters.missed;
        self.counters.window_resets = counters.window_resets;
        // What the occluded rows come to is drawn outside of it.
        assert!(counters.causes_unknown >= self.before.causes_unknown);
        self.counters.causes_unknown = counters.causes_unknown;
        assert_eq!(counters, &self.counters, "engine (left) and ledger (right)");
        self.before.clone_from(counters);
        let pending = engine.pending_len();
        assert!(pending <= PENDING_MAX);
        assert_eq!(pending, self.open.len());
        assert_eq!(counters.readings, counters.outcomes() + pending as u64);
        let by_reason: u64 = counters.rejected_by_reason.iter().sum();
        assert_eq!(counters.rejected, by_reason);
        assert!(engine.sensors_len() <= self.limits.sensors_max);
        assert_eq!(engine.current_rung(), self.ladder.standing());
        if self.scenario.keeper_late_us_max == 0 {
            assert_eq!(counters.deadline_misses, 0, "though the keeper is punctual");
        }
        for (sensor, kind, state) in self.states() {
            let known = sensor.map(|sensor| engine.alert_state_of(sensor, kind));
            assert!(
                known.is_none_or(|known| known == state),
                "{kind:?} of {sensor:?}"
            );
        }
        assert_eq!(
            engine.is_link_raised(),
            self.link.state == AlertState::Raised
        );
        // Sooner does no harm.
        let (asked, due) = (engine.next_absence_us(), self.next_absence_us());
        assert!(
            due.is_none_or(|due| asked.is_some_and(|asked| asked <= due)),
            "{asked:?} is later than {due:?}"
        );
    }

    /// The state of each alert; a link has no sensor.
    pub(crate) fn states(&self) -> impl Iterator<Item = (Option<SensorId>, AlertKind, AlertState)> {
        let sensors = self.sensors.iter().zip(self.said.iter().zip(&self.heard));
        let states = sensors.flat_map(|(&sensor, (said, heard))| {
            [
                (Some(sensor), AlertKind::Anomaly, said.state),
                (Some(sensor), AlertKind::Range, heard.range),
                (Some(sensor), AlertKind::Silent, heard.silent),
            ]
        });
        states.chain([(None, AlertKind::Link, self.link.state)])
    }

    /// The engine said `output`.
    pub(crate) fn handle_output(&mut self, output: &Output) {
        match output {
            Output::Verdict(verdict) => self.handle_verdict(verdict),
            Output::Alert(Alert::Anomaly(verdict)) => self.handle_alert(verdict),
            Output::Alert(alert) => self.handle_unscored_alert(alert),
            Output::Step(step) => self.handle_step(step),
            Output::Explained(_) => {}
        }
    }
}
