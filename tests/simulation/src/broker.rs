//! Alerts on their way to a broker that comes and goes.
//!
//! [`Outbox`] and [`Publisher`] are the logic of the app's publisher without
//! its thread, its lock and its MQTT: what waits is handed over in order,
//! acknowledgements may come in another, and everything unacknowledged is sent
//! again on the next connection. [`Broker`] keeps what it retained.

use hark_engine::{Alert, AlertState};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The publisher's waits between two tries, as in the app.
const BACKOFF_US_MIN: u64 = 100_000;
const BACKOFF_US_MAX: u64 = 5_000_000;

/// What a seed draws for the broker and the way to it.
pub(crate) struct BrokerPlan {
    alerts_max: usize,
    /// Publications that the connection takes before one is acknowledged.
    window: usize,
    latency_us_max: u64,
    /// Mean time between two losses, and how long one lasts; 0: never.
    pub(crate) outage_mean_us: u64,
}

impl BrokerPlan {
    pub(crate) fn draw(rng: &mut ChaCha8Rng, is_stormy: bool) -> Self {
        Self {
            alerts_max: [4, 16, 64, 1024][rng.random_range(0..4)],
            window: rng.random_range(1..=100),
            latency_us_max: rng.random_range(1_000..300_000),
            outage_mean_us: if is_stormy {
                rng.random_range(300_000..6_000_000)
            } else {
                0
            },
        }
    }

    pub(crate) fn latency_us(&self, rng: &mut ChaCha8Rng) -> u64 {
        rng.random_range(100..=self.latency_us_max)
    }
}

/// One alert as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    number: u64,
    sensor: usize,
    state: AlertState,
}

/// The alerts that the broker has not acknowledged.
pub(crate) struct Outbox {
    alerts: VecDeque<Letter>,
    handed: usize,
    alerts_max: usize,
    posted: u64,
    published: u64,
    dropped: BTreeSet<u64>,
    /// By sensor: the newest letter.
    newest: BTreeMap<usize, Letter>,
}

impl Outbox {
    fn new(alerts_max: usize) -> Self {
        Self {
            alerts: VecDeque::new(),
            handed: 0,
            alerts_max,
            posted: 0,
            published: 0,
            dropped: BTreeSet::new(),
            newest: BTreeMap::new(),
        }
    }

    pub(crate) fn post(&mut self, alert: &Alert) {
        let letter = Letter {
            number: self.posted,
            sensor: alert.verdict.sensor.index(),
            state: alert.verdict.state,
        };
        self.posted += 1;
        self.newest.insert(letter.sensor, letter);
        if self.alerts.len() >= self.alerts_max {
            let Some(oldest) = self.alerts.remove(self.handed) else {
                self.dropped.insert(letter.number);
                return;
            };
            self.dropped.insert(oldest.number);
        }
        self.alerts.push_back(letter);
    }
}

/// A publication with the connection.
struct Handed {
    packet: u64,
    is_acknowledged: bool,
}

/// The publisher: one connection after the other.
pub(crate) struct Publisher<'a> {
    plan: &'a BrokerPlan,
    pub(crate) outbox: Outbox,
    unacknowledged: VecDeque<Handed>,
    pub(crate) is_connected: bool,
    /// Counts connections; what belongs to an older one is void.
    pub(crate) session: u64,
    packets: u64,
    backoff_us: u64,
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(plan: &'a BrokerPlan) -> Self {
        Self {
            plan,
            outbox: Outbox::new(plan.alerts_max),
            unacknowledged: VecDeque::new(),
            is_connected: false,
            session: 0,
            packets: 0,
            backoff_us: BACKOFF_US_MIN,
        }
    }

    /// The broker accepted a connection.
    pub(crate) fn handle_connected(&mut self) {
        self.is_connected = true;
        self.backoff_us = BACKOFF_US_MIN;
    }

    /// The connection broke or could not be made; returns the wait until the
    /// next try.
    pub(crate) fn handle_lost(&mut self) -> u64 {
        self.is_connected = false;
        self.session += 1;
        self.outbox.handed = 0;
        self.unacknowledged.clear();
        let wait_us = self.backoff_us;
        self.backoff_us = BACKOFF_US_MAX.min(2 * wait_us);
        wait_us
    }

    /// The next packet and letter to send, as far as the connection takes it.
    pub(crate) fn poll_publish(&mut self) -> Option<(u64, Letter)> {
        if !self.is_connected || self.unacknowledged.len() >= self.plan.window {
            return None;
        }
        let letter = *self.outbox.alerts.get(self.outbox.handed)?;
        self.outbox.handed += 1;
        self.packets += 1;
        self.unacknowledged.push_back(Handed {
            packet: self.packets,
            is_acknowledged: false,
        });
        Some((self.packets, letter))
    }

    pub(crate) fn handle_acknowledged(&mut self, packet: u64, broker: &Broker) {
        let mut handed = self.unacknowledged.iter_mut();
        if let Some(handed) = handed.find(|handed| handed.packet == packet) {
            handed.is_acknowledged = true;
        }
        while self
            .unacknowledged
            .front()
            .is_some_and(|handed| handed.is_acknowledged)
        {
            self.unacknowledged.pop_front();
            let letter = self.outbox.alerts.pop_front();
            let letter = letter.expect("a letter is kept until it is acknowledged");
            assert!(
                broker.received.contains(&letter.number),
                "{letter:?} was given up before the broker had it"
            );
            self.outbox.handed -= 1;
            self.outbox.published += 1;
        }
    }

    /// # Panics
    /// If a letter is neither waiting nor published nor counted as dropped, or
    /// if more wait than may.
    pub(crate) fn check(&self) {
        let outbox = &self.outbox;
        assert!(
            outbox.alerts.len() <= outbox.alerts_max,
            "the outbox is bounded"
        );
        assert!(self.unacknowledged.len() <= self.plan.window);
        assert_eq!(outbox.handed, self.unacknowledged.len());
        let known = outbox.published + outbox.alerts.len() as u64 + outbox.dropped.len() as u64;
        assert_eq!(outbox.posted, known, "every alert is somewhere");
    }

    /// With the broker back and everything quiet: nothing waits, nothing is
    /// lost, and the broker retained each sensor's last state.
    pub(crate) fn check_all_delivered(&self, broker: &Broker) {
        let outbox = &self.outbox;
        assert!(outbox.alerts.is_empty(), "alerts still wait for the broker");
        let lost = (0..outbox.posted)
            .find(|number| !broker.received.contains(number) && !outbox.dropped.contains(number));
        assert_eq!(lost, None, "an alert was lost");
        let kept = outbox.newest.iter();
        for (sensor, letter) in kept.filter(|(_, letter)| !outbox.dropped.contains(&letter.number))
        {
            let retained = broker.retained.get(sensor);
            assert_eq!(retained, Some(letter), "the last state is not retained");
        }
    }

    /// The state that was last posted of a sensor.
    pub(crate) fn last_state(&self, sensor: usize) -> AlertState {
        let letter = self.outbox.newest.get(&sensor);
        letter.map_or(AlertState::Cleared, |letter| letter.state)
    }

    pub(crate) fn posted(&self) -> u64 {
        self.outbox.posted
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.outbox.dropped.len() as u64
    }
}

/// The broker, as far as one gateway sees it.
pub(crate) struct Broker {
    pub(crate) is_up: bool,
    received: BTreeSet<u64>,
    retained: BTreeMap<usize, Letter>,
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self {
            is_up: true,
            received: BTreeSet::new(),
            retained: BTreeMap::new(),
        }
    }

    pub(crate) fn handle_publish(&mut self, letter: Letter) {
        self.received.insert(letter.number);
        self.retained.insert(letter.sensor, letter);
    }
}
