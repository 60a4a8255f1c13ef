//! What can happen in a run, and what follows from it at once.

use super::World;
use crate::model::EXPIRES_UTC_US;
use crate::node::Node;
use hark_engine::{Rung, StepReason};
use hark_wire::Message;
use rand::RngExt;

/// How long a stall, an unplugging and an outage last.
const STALL_US: std::ops::Range<u64> = 20_000..3_000_000;
const UNPLUGGED_US: std::ops::Range<u64> = 100_000..2_000_000;
const OUTAGE_US: std::ops::Range<u64> = 50_000..4_000_000;

/// What can happen. `usize` is the index of a line and of its node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Boot(usize),
    Reboot(usize),
    Tick(usize),
    AskHello(usize),
    Arrive(usize),
    Stall(usize),
    Release(usize),
    Unplug(usize),
    Plug(usize),
    RunEnd(u64),
    Load(Rung),
    Mood,
    ClockStep,
    Outage,
    BrokerUp,
    Connect {
        session: u64,
    },
    /// `number` is of what is under way.
    ToBroker {
        session: u64,
        number: u64,
    },
    ToPublisher {
        session: u64,
        number: u64,
    },
    /// The publisher is told the time.
    PublisherDue,
    StormEnd,
    Recovered,
}

impl World<'_> {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Boot(index) => self.handle_boot(index),
            Event::Reboot(index) => self.handle_reboot(index),
            Event::Tick(index) => self.handle_tick(index),
            Event::AskHello(index) => {
                let hello = self.nodes[index].as_mut().map(Node::hello);
                hello
                    .into_iter()
                    .for_each(|hello| self.write(index, &hello));
            }
            Event::Arrive(index) => self.handle_arrival(index),
            Event::Stall(index) => {
                self.lines[index].set_stalled(true);
                let in_us = self.rng.random_range(STALL_US);
                self.plan(in_us, Event::Release(index));
            }
            Event::Release(index) => {
                self.lines[index].set_stalled(false);
                self.plan(0, Event::Arrive(index));
                self.plan_again(self.scenario.line.stall_mean_us, Event::Stall(index));
            }
            Event::Unplug(index) => {
                self.lines[index].unplug();
                self.gateway.handle_link_down(index, self.now_us);
                let in_us = self.rng.random_range(UNPLUGGED_US);
                self.plan(in_us, Event::Plug(index));
            }
            Event::Plug(index) => {
                self.plug(index);
                self.plan_again(self.scenario.line.unplug_mean_us, Event::Unplug(index));
            }
            Event::RunEnd(id) => {
                if self.gateway.handle_run_end(id, self.now_us) {
                    self.catch_up();
                }
            }
            Event::Load(rung) => self.handle_load(rung),
            Event::Mood => {
                self.models.change_mood(self.is_storm(), &mut self.rng);
                self.trace(&self.models.moods());
                self.plan_again(self.scenario.model.mood_mean_us, Event::Mood);
            }
            Event::ClockStep => {
                let is_wrong = self.gateway.clock_error_us != 0;
                self.gateway.clock_error_us = if is_wrong { 0 } else { EXPIRES_UTC_US };
                self.plan_again(self.scenario.model.clock_mean_us, Event::ClockStep);
            }
            Event::Outage => self.handle_outage(),
            Event::BrokerUp => {
                self.broker.is_up = true;
                self.broker.is_mute = false;
            }
            Event::Connect { session } => self.handle_connect(session),
            Event::ToBroker { session, number } => self.handle_to_broker(session, number),
            Event::ToPublisher { session, number } => {
                let bytes = self.in_flight.remove(&number).unwrap_or_default();
                if session == self.publisher.session {
                    self.publisher.handle_bytes(&bytes, &self.broker);
                }
            }
            // Each step ends with it.
            Event::PublisherDue => {}
            Event::StormEnd => self.handle_storm_end(),
            Event::Recovered => self.at_recovery = Some(self.gateway.engine().counters().clone()),
        }
    }

    fn handle_boot(&mut self, index: usize) {
        let plan = &self.scenario.nodes[index];
        let mut node = Node::new(plan, &mut self.rng);
        if !plan.is_running {
            node.reboot(self.now_us);
            let hello = node.hello();
            self.write(index, &hello);
        }
        self.nodes[index] = Some(node);
        self.plan(plan.period_us, Event::Tick(index));
    }

    fn handle_reboot(&mut self, index: usize) {
        if let Some(node) = &mut self.nodes[index] {
            node.reboot(self.now_us);
            let hello = node.hello();
            self.write(index, &hello);
        }
        self.plan_again(
            self.scenario.nodes[index].reboot_mean_us,
            Event::Reboot(index),
        );
    }

    fn handle_tick(&mut self, index: usize) {
        let is_storm = self.is_storm();
        let Some(node) = &mut self.nodes[index] else {
            return;
        };
        let health = node.poll_health(self.now_us);
        let reading = node.read(self.now_us, is_storm, &mut self.rng);
        let period_us = node.period_us();
        health
            .into_iter()
            .for_each(|health| self.write(index, &health));
        self.write(index, &reading);
        if self.now_us + period_us < self.scenario.end_us {
            self.plan(period_us, Event::Tick(index));
        }
    }

    fn write(&mut self, index: usize, message: &Message) {
        let plan = self.is_storm().then_some(&self.scenario.line);
        let arrivals = self.lines[index].write(message, self.now_us, plan, &mut self.rng);
        for at_us in arrivals {
            self.plan(at_us - self.now_us, Event::Arrive(index));
        }
    }

    fn handle_arrival(&mut self, index: usize) {
        if self.scenario.driver_is_inline && self.gateway.is_running() {
            // It comes back when the run has ended.
            return;
        }
        let Self {
            gateway,
            read,
            now_us,
            ..
        } = self;
        let line = &mut self.lines[index];
        line.read(*now_us, read);
        gateway.handle_bytes(index, read, *now_us, line);
        if line.is_readable(*now_us) {
            self.plan(0, Event::Arrive(index));
        }
    }

    /// Reads what arrived while the driver was busy.
    pub(super) fn catch_up(&mut self) {
        if self.scenario.driver_is_inline {
            for index in 0..self.lines.len() {
                self.plan(0, Event::Arrive(index));
            }
        }
    }

    fn handle_load(&mut self, rung: Rung) {
        let fails = self.is_storm() && self.rng.random_bool(self.scenario.model.load_fails);
        let loaded = match self.rng.random_range(0..3) {
            _ if !fails => Ok(()),
            0 => Err(StepReason::Missing),
            1 => Err(StepReason::Corrupt),
            _ => Err(StepReason::Withheld),
        };
        self.gateway.handle_load(rung, loaded, self.now_us);
    }

    fn plug(&mut self, index: usize) {
        if !self.lines[index].is_plugged() {
            self.lines[index].plug();
            self.gateway.handle_link_up(index, self.now_us);
        }
    }

    fn handle_outage(&mut self) {
        self.broker.is_up = self.rng.random();
        self.broker.is_mute = self.rng.random_ratio(1, 4);
        if self.publisher.has_connection() {
            self.publisher.handle_lost(&self.broker);
        }
        let in_us = self.rng.random_range(OUTAGE_US);
        self.plan(in_us, Event::BrokerUp);
        self.plan_again(self.scenario.broker.outage_mean_us, Event::Outage);
    }

    fn handle_connect(&mut self, session: u64) {
        self.is_connecting = false;
        if session != self.publisher.session {
            return;
        }
        if self.broker.is_up {
            self.connects += 1;
            self.broker.handle_connected();
            self.publisher.handle_opened();
        } else {
            self.publisher.handle_unreachable(&self.broker);
        }
    }

    fn handle_to_broker(&mut self, session: u64, number: u64) {
        let bytes = self.in_flight.remove(&number).unwrap_or_default();
        if session != self.publisher.session {
            return;
        }
        let answers = self.broker.handle_bytes(&self.scenario.broker, &bytes);
        for answer in answers {
            // What it does not answer to a CONNECT, no letter follows.
            if self.broker.is_mute && answer[0] == 0x20 {
                continue;
            }
            let in_us = self.scenario.broker.latency_us(&mut self.rng);
            self.in_flight.insert(self.planned, answer);
            let number = self.planned;
            self.plan(in_us, Event::ToPublisher { session, number });
        }
    }

    /// From here on nothing goes wrong any more. Threads that would never come
    /// back do, as after a watchdog's reset.
    fn handle_storm_end(&mut self) {
        self.broker.is_up = true;
        self.broker.is_mute = false;
        self.late_us = 0;
        self.gateway.clock_error_us = 0;
        self.models.change_mood(false, &mut self.rng);
        for id in self.gateway.unfinished() {
            self.gateway.handle_run_end(id, self.now_us);
        }
        for index in 0..self.lines.len() {
            self.lines[index].set_stalled(false);
            self.plug(index);
            self.plan(0, Event::Arrive(index));
        }
    }
}
