//! Alerts on their way to a broker that comes and goes.
//!
//! [`Publisher`] is the app's publisher without its thread and its socket: the
//! client itself, which speaks MQTT 5 in bytes. [`Broker`] reads them, answers
//! in any order, and keeps what it retained.

use hark_engine::{Alert, AlertKind, AlertState, SensorId};
use hark_mqtt::{Client, ClientEvent, ClientSettings, Down, Letter, Protocol, Settings};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// What a seed draws for the broker and the way to it.
pub(crate) struct BrokerPlan {
    alerts_max: usize,
    /// Publications that the broker takes before it acknowledges one.
    window: u16,
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

/// Whose alert, by its sensor's index, and which.
type Key = (Option<usize>, AlertKind);

/// One alert as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Posted {
    number: u64,
    key: Key,
    state: AlertState,
}

/// The publisher: one connection after the other.
pub(crate) struct Publisher {
    client: Client,
    alerts_max: u64,
    /// Counts connections and tries; what belongs to an older one is void.
    pub(crate) session: u64,
    /// By number.
    posted: Vec<Posted>,
    published: u64,
    dropped: BTreeSet<u64>,
    /// By sensor, a link having none, and kind: the newest alert.
    newest: BTreeMap<Key, Posted>,
}

impl Publisher {
    pub(crate) fn new(plan: &BrokerPlan) -> Self {
        let settings = Settings {
            protocol: Protocol::V5,
            client_id: "hark".to_owned(),
            login: None,
            // Pings would never end; the client's own tests have them.
            keep_alive_s: 0,
            packet_bytes_max: 256,
        };
        let client = Client::new(ClientSettings {
            letters_max: plan.alerts_max,
            write_buffer_bytes: 4096,
            ..ClientSettings::new(settings)
        });
        Self {
            client: client.expect("the settings are short"),
            alerts_max: plan.alerts_max as u64,
            session: 0,
            posted: Vec::new(),
            published: 0,
            dropped: BTreeSet::new(),
            newest: BTreeMap::new(),
        }
    }

    pub(crate) fn post(&mut self, alert: &Alert) {
        let posted = Posted {
            number: self.posted(),
            key: (alert.sensor().map(SensorId::index), alert.kind()),
            state: alert.state(),
        };
        self.posted.push(posted);
        self.newest.insert(posted.key, posted);
        let gone = self.client.post(Letter {
            topic: topic(posted.key),
            payload: posted.number.to_be_bytes().to_vec(),
            is_retained: true,
            handle: posted.number,
        });
        self.dropped.extend(gone.map(|letter| letter.handle));
    }

    /// Tells the time; whether a connection is to be made.
    pub(crate) fn handle_time(&mut self, now_us: u64) -> bool {
        self.client.handle_time(now_us / 1000);
        self.client.wants_connection()
    }

    /// When it is to be told the time, µs.
    pub(crate) fn next_timeout_us(&self) -> Option<u64> {
        self.client.next_timeout_ms().map(|at_ms| at_ms * 1000)
    }

    pub(crate) fn has_connection(&self) -> bool {
        self.client.is_open()
    }

    pub(crate) fn handle_opened(&mut self) {
        self.client.handle_opened();
    }

    pub(crate) fn handle_unreachable(&mut self, broker: &Broker) {
        let why = Down::Unreachable("the simulated broker is away".to_owned());
        self.client.handle_lost(why);
        self.tell(broker);
    }

    pub(crate) fn handle_lost(&mut self, broker: &Broker) {
        self.client.handle_lost(Down::Closed);
        self.tell(broker);
    }

    /// What is to be sent; empty without a connection.
    pub(crate) fn poll_output(&mut self) -> Vec<u8> {
        let output = self.client.output().to_vec();
        self.client.handle_written(output.len());
        output
    }

    pub(crate) fn handle_bytes(&mut self, bytes: &[u8], broker: &Broker) {
        self.client.read_space()[..bytes.len()].copy_from_slice(bytes);
        self.client.handle_read(bytes.len());
        self.tell(broker);
    }

    fn tell(&mut self, broker: &Broker) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Published { handle } => {
                    assert!(
                        broker.received.contains(&handle),
                        "alert {handle} was given up before the broker had it"
                    );
                    self.published += 1;
                }
                ClientEvent::Down { .. } => self.session += 1,
                ClientEvent::Up => {}
                other => panic!("the broker gave no cause for {other:?}"),
            }
        }
    }

    /// # Panics
    /// If an alert is neither waiting nor published nor counted as dropped, or
    /// if more wait than may.
    pub(crate) fn check(&self) {
        let waiting = self.client.waiting() as u64;
        assert!(waiting <= self.alerts_max, "what waits is bounded");
        let known = self.published + waiting + self.dropped();
        assert_eq!(self.posted(), known, "every alert is somewhere");
    }

    /// With the broker back and everything quiet: nothing waits, nothing is
    /// lost, and the broker retained each sensor's last state.
    pub(crate) fn check_all_delivered(&self, broker: &Broker) {
        let waiting = self.client.waiting();
        assert_eq!(waiting, 0, "alerts still wait for the broker");
        let lost = (0..self.posted())
            .find(|number| !broker.received.contains(number) && !self.dropped.contains(number));
        assert_eq!(lost, None, "an alert was lost");
        let kept = self.newest.iter();
        for (key, newest) in kept.filter(|(_, newest)| !self.dropped.contains(&newest.number)) {
            let retained = broker.retained.get(&topic(*key));
            assert_eq!(
                retained,
                Some(&newest.number),
                "the last state is not retained"
            );
        }
    }

    /// The state that was last posted of a sensor's alert, or of the link's.
    pub(crate) fn last_state(&self, sensor: Option<SensorId>, kind: AlertKind) -> AlertState {
        let newest = self.newest.get(&(sensor.map(SensorId::index), kind));
        newest.map_or(AlertState::Cleared, |newest| newest.state)
    }

    pub(crate) fn posted(&self) -> u64 {
        self.posted.len() as u64
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.len() as u64
    }
}

fn topic((sensor, kind): Key) -> String {
    format!("alert/{sensor:?}/{}", kind.name())
}

/// The broker, as far as one gateway sees it.
pub(crate) struct Broker {
    pub(crate) is_up: bool,
    /// It takes connections and says nothing more on them.
    pub(crate) is_mute: bool,
    /// What came of a packet that is not whole.
    unread: Vec<u8>,
    received: BTreeSet<u64>,
    /// By topic: the number of the alert.
    retained: BTreeMap<String, u64>,
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self {
            is_up: true,
            is_mute: false,
            unread: Vec::new(),
            received: BTreeSet::new(),
            retained: BTreeMap::new(),
        }
    }

    /// A new connection: what was left of the one before is void.
    pub(crate) fn handle_connected(&mut self) {
        self.unread.clear();
    }

    /// Takes what came on the connection; its answers, of which each may take
    /// another time.
    pub(crate) fn handle_bytes(&mut self, plan: &BrokerPlan, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.unread.extend(bytes);
        let mut answers = Vec::new();
        // Lengths here are below 128, which one byte says (5.0, 1.5.5).
        while let [first, len, rest @ ..] = &self.unread[..]
            && let Some(body) = rest.get(..usize::from(*len))
        {
            let (first, body) = (*first, body.to_vec());
            self.unread.drain(..2 + body.len());
            answers.push(match first {
                0x10 => {
                    let [high, low] = plan.window.to_be_bytes();
                    // With its receive maximum (5.0, 3.2.2.3.3).
                    vec![0x20, 6, 0, 0, 3, 0x21, high, low]
                }
                0x33 => self.handle_publish(&body),
                other => panic!("a publisher sends no {other:#04x}"),
            });
        }
        answers
    }

    /// At QoS 1, retained (5.0, 3.3); its PUBACK.
    fn handle_publish(&mut self, body: &[u8]) -> Vec<u8> {
        let (topic, rest) = body[2..].split_at(usize::from(body[1]));
        let [high, low, properties, number @ ..] = rest else {
            panic!("{rest:?} is no end of a PUBLISH");
        };
        assert_eq!(*properties, 0, "there are none");
        let number = number.try_into().map(u64::from_be_bytes);
        let number = number.expect("a number is eight bytes");
        let topic = String::from_utf8(topic.to_vec()).expect("a topic is text");
        self.received.insert(number);
        self.retained.insert(topic, number);
        vec![0x40, 2, *high, *low]
    }
}
