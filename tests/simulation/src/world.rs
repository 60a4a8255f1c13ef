//! One run: events in the order of simulated time, from the first byte to the
//! last acknowledgement.
//!
//! Everything follows from the seed. Each event is one step; after each the
//! invariants are checked. The run ends when nothing is left to happen.

mod event;

use crate::broker::{Broker, Publisher};
use crate::gateway::Gateway;
use crate::line::Line;
use crate::model::Models;
use crate::node::Node;
use crate::scenario::Scenario;
use event::Event;
use hark_engine::{Counters, Rejection, Rung, StepReason};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::Write;

/// A run of 32 simulated seconds takes some ten thousand steps; one that takes
/// this many does not end.
const STEPS_MAX: u64 = 1_000_000;
/// How long it takes to load a model.
const LOAD_US: std::ops::Range<u64> = 1_000..200_000;

/// What a finished run amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunSummary {
    pub(crate) steps: u64,
    pub(crate) simulated_us: u64,
    pub(crate) counters: Counters,
    pub(crate) alerts_posted: u64,
    pub(crate) alerts_dropped: u64,
    pub(crate) connects: u64,
    /// By [`StepReason::index`].
    pub(crate) ladder_steps: [u64; StepReason::ALL.len()],
}

/// The world of one run.
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    rng: ChaCha8Rng,
    pub(crate) now_us: u64,
    pub(crate) step: u64,
    /// By time and, at one time, by the order in which they were planned.
    events: BTreeMap<(u64, u64), Event>,
    planned: u64,
    nodes: Vec<Option<Node<'a>>>,
    lines: Vec<Line>,
    gateway: Gateway<'a>,
    models: Models<'a>,
    publisher: Publisher,
    broker: Broker,
    last_publish_us: u64,
    /// What is under way on the connection, by the number of its event.
    in_flight: BTreeMap<u64, Vec<u8>>,
    is_connecting: bool,
    /// When the publisher is told the time next, as far as that is planned.
    publisher_due_us: Option<u64>,
    connects: u64,
    /// How late the driver is for the next timeout.
    late_us: u64,
    at_recovery: Option<Counters>,
    is_traced: bool,
    read: Vec<u8>,
}

impl<'a> World<'a> {
    /// The world of `seed`, before its first event.
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, is_traced: bool) -> Self {
        let mut world = Self {
            scenario,
            // Another stream than the one that the scenario was drawn from.
            rng: ChaCha8Rng::seed_from_u64(!seed),
            now_us: 0,
            step: 0,
            events: BTreeMap::new(),
            planned: 0,
            nodes: scenario.nodes.iter().map(|_| None).collect(),
            lines: scenario.nodes.iter().map(|_| Line::new()).collect(),
            gateway: Gateway::new(scenario),
            models: Models::new(&scenario.model, &scenario.spec.score),
            publisher: Publisher::new(&scenario.broker),
            broker: Broker::new(),
            last_publish_us: 0,
            in_flight: BTreeMap::new(),
            is_connecting: false,
            publisher_due_us: None,
            connects: 0,
            late_us: 0,
            at_recovery: None,
            is_traced,
            read: Vec::new(),
        };
        world.plan_storm();
        world
    }

    fn plan_storm(&mut self) {
        let scenario = self.scenario;
        for (index, node) in scenario.nodes.iter().enumerate() {
            let starts_us = if node.is_running {
                0
            } else {
                self.rng.random_range(0..1_000_000)
            };
            self.plan(starts_us, Event::Boot(index));
            self.plan_again(node.reboot_mean_us, Event::Reboot(index));
            self.plan_again(scenario.line.stall_mean_us, Event::Stall(index));
            self.plan_again(scenario.line.unplug_mean_us, Event::Unplug(index));
            self.gateway.handle_link_up(index, 0);
        }
        self.plan_again(scenario.model.mood_mean_us, Event::Mood);
        self.plan_again(scenario.model.clock_mean_us, Event::ClockStep);
        for model in &scenario.model.rungs {
            if self.rng.random_bool(scenario.model.load_fails / 4.0) {
                self.plan(0, Event::Load(model.rung));
            }
        }
        self.plan_again(scenario.broker.outage_mean_us, Event::Outage);
        self.plan(scenario.storm_end_us, Event::StormEnd);
        self.plan(scenario.recovered_us, Event::Recovered);
    }

    fn plan(&mut self, in_us: u64, event: Event) {
        self.events
            .insert((self.now_us + in_us, self.planned), event);
        self.planned += 1;
    }

    /// Plans an event of the storm that comes every `mean_us`; 0: never.
    fn plan_again(&mut self, mean_us: u64, event: Event) {
        if mean_us > 0 {
            let in_us = self.rng.random_range(0..2 * mean_us);
            if self.now_us + in_us < self.scenario.storm_end_us {
                self.plan(in_us, event);
            }
        }
    }

    fn is_storm(&self) -> bool {
        self.now_us < self.scenario.storm_end_us
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// If an invariant does not hold; `step` and `now_us` say when.
    pub(crate) fn run(&mut self) -> RunSummary {
        while self.advance() {
            self.follow_up();
            self.check();
            self.step += 1;
            assert!(self.step < STEPS_MAX, "the run does not end");
        }
        self.check_end();
        RunSummary {
            steps: self.step,
            simulated_us: self.now_us,
            counters: self.gateway.engine().counters().clone(),
            alerts_posted: self.publisher.posted(),
            alerts_dropped: self.publisher.dropped(),
            connects: self.connects,
            ladder_steps: self.gateway.ledger.steps,
        }
    }

    /// Handles the next event or timeout; false if there is none.
    fn advance(&mut self) -> bool {
        let timeout_us = self.gateway.engine().next_timeout_us();
        let timeout_us = timeout_us.map(|at| self.now_us.max(at + self.late_us));
        let event_us = self.events.first_key_value().map(|(&(at, _), _)| at);
        // Only once what has come by then is read.
        let absence_us = self.gateway.next_absence_us().map(|at| at.max(self.now_us));
        let others_us = timeout_us.into_iter().chain(event_us).min();
        if let Some(absence_us) = absence_us
            && others_us.is_none_or(|others_us| absence_us < others_us)
        {
            self.now_us = absence_us;
            self.trace(&"Absence");
            self.gateway.handle_absences(absence_us);
            return true;
        }
        let keeper_is_next = match (timeout_us, event_us) {
            (None, None) => return false,
            (Some(timeout), Some(event)) if timeout == event => self.scenario.keeper_is_first,
            (Some(timeout), Some(event)) => timeout < event,
            (timeout, None) => timeout.is_some(),
            (None, Some(_)) => false,
        };
        if keeper_is_next && let Some(timeout_us) = timeout_us {
            self.now_us = timeout_us;
            self.trace(&"Timeout");
            let was_running = self.gateway.is_running();
            self.gateway.handle_timeout(self.now_us);
            if was_running && !self.gateway.is_running() {
                // A relief thread reads on.
                self.catch_up();
            }
            self.draw_lateness();
        } else if let Some(((at, _), event)) = self.events.pop_first() {
            self.now_us = at;
            self.trace(&event);
            self.handle(event);
        }
        true
    }

    fn draw_lateness(&mut self) {
        let max = self.scenario.keeper_late_us_max;
        self.late_us = if max > 0 && self.is_storm() && self.rng.random_ratio(1, 4) {
            self.rng.random_range(0..=max)
        } else {
            0
        };
    }

    /// What the gateway's other threads do with the outcome of an event.
    fn follow_up(&mut self) {
        while let Some(rung) = self.gateway.poll_wanted_instance(self.now_us) {
            let in_us = self.rng.random_range(LOAD_US);
            self.plan(in_us, Event::Load(rung));
        }
        self.infer();
        for step in std::mem::take(&mut self.gateway.steps) {
            self.trace(&step);
        }
        for alert in std::mem::take(&mut self.gateway.alerts) {
            self.trace(&alert);
            self.publisher.post(&alert);
        }
        self.follow_up_publisher();
        for index in 0..self.lines.len() {
            let is_heard = !self.is_storm() || self.rng.random_ratio(7, 8);
            if self.gateway.poll_ask(index) && self.lines[index].is_plugged() && is_heard {
                self.plan(1_000, Event::AskHello(index));
            }
        }
    }

    /// What the publisher's thread does.
    fn follow_up_publisher(&mut self) {
        if self.publisher.handle_time(self.now_us) && !self.is_connecting {
            self.is_connecting = true;
            let in_us = self.scenario.broker.latency_us(&mut self.rng);
            let session = self.publisher.session;
            self.plan(in_us, Event::Connect { session });
        }
        let bytes = self.publisher.poll_output();
        if !bytes.is_empty() {
            // One connection keeps the order.
            let latency_us = self.scenario.broker.latency_us(&mut self.rng);
            self.last_publish_us = self.last_publish_us.max(self.now_us + latency_us);
            let in_us = self.last_publish_us - self.now_us;
            self.in_flight.insert(self.planned, bytes);
            let (session, number) = (self.publisher.session, self.planned);
            self.plan(in_us, Event::ToBroker { session, number });
        }
        let due_us = self.publisher.next_timeout_us();
        if let Some(due_us) = due_us.filter(|_| due_us != self.publisher_due_us) {
            self.plan(due_us.saturating_sub(self.now_us), Event::PublisherDue);
        }
        self.publisher_due_us = due_us;
    }

    fn infer(&mut self) {
        let has_more = self.scenario.driver_gathers && self.is_arriving();
        self.gateway
            .infer(&self.models, has_more, self.now_us, &mut self.rng);
        if let Some((id, Some(at_us))) = self.gateway.started.take() {
            self.plan(at_us - self.now_us, Event::RunEnd(id));
        }
    }

    /// Whether the next thing to happen is that more bytes are there by now.
    fn is_arriving(&self) -> bool {
        let next = self.events.first_key_value();
        next.is_some_and(|(&(at_us, _), event)| {
            at_us <= self.now_us && matches!(event, Event::Arrive(_))
        })
    }

    /// The invariants that hold after every step.
    fn check(&mut self) {
        self.gateway.check();
        self.publisher.check();
        for (sensor, kind, state) in self.gateway.ledger.states() {
            assert_eq!(self.publisher.last_state(sensor, kind), state, "posted");
        }
        if self.scenario.is_quiet {
            let counters = self.gateway.engine().counters();
            assert_eq!(counters.rejected, 0, "{:?}", counters.rejected_by_reason);
            assert_eq!(counters.fallback, 0);
            assert_eq!(counters.missed, 0);
        }
    }

    /// What holds when nothing is left to happen.
    fn check_end(&self) {
        let engine = self.gateway.engine();
        assert_eq!(engine.pending_len(), 0, "every reading has its outcome");
        // The nodes have fallen silent by now, each of them.
        assert_eq!(
            engine.next_absence_us(),
            None,
            "somebody is away and not told"
        );
        self.lines.iter().for_each(Line::check_all_arrived);
        self.publisher.check_all_delivered(&self.broker);
        let before = self
            .at_recovery
            .as_ref()
            .expect("the run passed its recovery");
        // Drift depends on the signal, which has faulty phases to the end.
        if self.scenario.policy.drift_max == 0.0 {
            let top = self.scenario.model.rungs[0].rung;
            assert_eq!(engine.current_rung(), top, "the best rung stands again");
            check_flawless(before, engine.counters(), top);
        }
    }

    fn trace(&self, what: &dyn std::fmt::Debug) {
        if self.is_traced {
            let seconds = self.now_us as f64 / 1e6;
            // Not `println!`, which the test harness holds back.
            writeln!(
                std::io::stderr(),
                "{seconds:10.6} s, step {}: {what:?}",
                self.step
            )
            .ok();
        }
    }
}

/// After the recovery every reading is scored or fills a window, but for the
/// sensors that are one too many.
fn check_flawless(before: &Counters, after: &Counters, top: Rung) {
    let unknown = Rejection::UnknownSensor.index();
    for reason in Rejection::all().filter(|reason| reason.index() != unknown) {
        let index = reason.index();
        let rejected = after.rejected_by_reason[index] - before.rejected_by_reason[index];
        assert_eq!(rejected, 0, "{reason:?} after the recovery");
    }
    assert_eq!(
        after.fallback, before.fallback,
        "a fallback after the recovery"
    );
    assert_eq!(after.model_faults, before.model_faults);
    assert_eq!(after.late_results, before.late_results);
    assert_eq!(after.deadline_misses, before.deadline_misses);
    assert_eq!(after.window_resets, before.window_resets);
    assert_eq!(after.ladder_steps, before.ladder_steps);
    assert!(top.is_active_model());
    assert!(after.scored > before.scored, "scored verdicts flow again");
}
