//! What becomes of readings while the broker answers, is away, or leaves. No
//! socket is opened: the events of the connection are played.

use super::*;
use crate::{Node, Pace, TextFormat};
use hark_config::Config;
use hark_rig::{Rig, RigConfig};

fn publication(delivery: Delivery) -> Publication {
    let config = Config::of_text("").unwrap().mqtt;
    let address = config.address();
    Publication {
        broker: Broker::new(&config, address, "test".to_owned()).unwrap(),
        topic: "sensors/pump-1".to_owned(),
        delivery,
    }
}

/// A player and its client, which no broker has taken yet.
struct Bench<'a> {
    player: Player<'a>,
    client: Client,
    schedule: Schedule,
}

impl<'a> Bench<'a> {
    fn new(publication: &'a Publication, encoding: &'a Encoding, pace: Pace, end_s: u64) -> Self {
        let rig = Rig::new(RigConfig::default()).unwrap();
        Self {
            player: Player::new(publication, encoding, pace.is_unlimited()),
            client: client(publication, encoding).unwrap(),
            schedule: Schedule::new(rig, pace, Some(Duration::from_secs(end_s))),
        }
    }

    fn take_due(&mut self, elapsed: Duration) -> Option<Duration> {
        let Self {
            player,
            client,
            schedule,
        } = self;
        player.take_due(client, schedule, elapsed, &mut |_| {})
    }

    /// The next connection, taken by a broker of MQTT 5.
    fn connect(&mut self, now_ms: u64) {
        self.client.handle_time(now_ms);
        assert!(self.client.wants_connection());
        self.client.handle_opened();
        self.sent();
        self.hear(&[0x20, 3, 0, 0, 0]);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.client.read_space()[..bytes.len()].copy_from_slice(bytes);
        self.client.handle_read(bytes.len());
        self.tell();
    }

    fn acknowledge(&mut self, id: u8) {
        self.hear(&[0x40, 2, 0, id]);
    }

    fn lose(&mut self) {
        self.client.handle_lost(hark_mqtt::Down::Closed);
        self.tell();
    }

    fn tell(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.player.handle_event(&event);
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        let sent = self.client.output().to_vec();
        self.client.handle_written(sent.len());
        sent
    }
}

const JSON: Encoding = Encoding::Lines(TextFormat::Json);

#[test]
fn at_qos_1_readings_wait_until_acknowledged() {
    let publication = publication(Delivery::AtLeastOnce);
    let mut bench = Bench::new(&publication, &JSON, Pace::REAL_TIME, 10);
    let wait = bench.take_due(Duration::from_millis(250));
    assert_eq!(wait, Some(Duration::from_millis(50)));
    bench.connect(0);
    bench.acknowledge(1);
    bench.acknowledge(2);
    let counts = bench.player.counts;
    assert_eq!((counts.readings, counts.sent), (3, 2));
    // The third was under way when the connection broke: it is sent again.
    bench.lose();
    assert_eq!(bench.client.waiting(), 1);
    bench.connect(1_000);
    let sent = bench.sent();
    assert!(sent.windows(8).any(|text| text == b"{\"seq\":2"));
    bench.acknowledge(1);
    assert!(bench.player.is_done(&bench.client));
    bench.player.count_unsent();
    assert_eq!((bench.player.counts.sent, bench.player.counts.lost), (3, 0));
}

#[test]
fn a_reading_that_the_broker_refuses_is_lost() {
    let publication = publication(Delivery::AtLeastOnce);
    let mut bench = Bench::new(&publication, &JSON, Pace::REAL_TIME, 10);
    bench.take_due(Duration::ZERO);
    bench.connect(0);
    bench.hear(&[0x40, 3, 0, 1, 0x87]);
    bench.player.count_unsent();
    assert_eq!((bench.player.counts.sent, bench.player.counts.lost), (0, 1));
}

#[test]
fn while_the_broker_is_away_the_oldest_reading_gives_way() {
    let publication = publication(Delivery::AtLeastOnce);
    let fast = Pace::new(1_000_000.0).unwrap();
    let mut bench = Bench::new(&publication, &JSON, fast, 120);
    assert_eq!(bench.take_due(Duration::from_secs(1)), None);
    assert_eq!(bench.player.counts.readings, 1_200);
    assert_eq!(bench.player.counts.lost, 200);
    assert_eq!(bench.client.waiting(), LETTERS_MAX);
    bench.connect(0);
    let sent = bench.sent();
    let first = sent.windows(8).position(|text| text == b"{\"seq\":2");
    assert!(sent[first.unwrap()..].starts_with(b"{\"seq\":200,"));
    bench.player.count_unsent();
    assert_eq!(bench.player.counts.lost, 1_200);
}

#[test]
fn at_qos_0_nothing_waits_for_a_broker_that_is_away() {
    let publication = publication(Delivery::AtMostOnce);
    let mut bench = Bench::new(&publication, &JSON, Pace::REAL_TIME, 10);
    bench.take_due(Duration::from_secs(5));
    let counts = bench.player.counts;
    assert_eq!((counts.readings, counts.lost), (51, 51));
    assert!(bench.player.letters.is_empty());
}

#[test]
fn without_a_pace_the_schedule_waits_for_the_broker() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let publication = publication(delivery);
        let mut bench = Bench::new(&publication, &JSON, Pace::UNLIMITED, 1_000);
        assert_eq!(bench.take_due(Duration::ZERO), Some(IDLE));
        let waiting = bench.player.letters.len() + bench.client.waiting();
        assert_eq!((waiting, bench.player.counts.lost), (LETTERS_MAX, 0));
    }
}

#[test]
fn a_new_connection_hears_the_hello_before_what_waited() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let publication = publication(delivery);
        let encoding = Encoding::Frames(Node::new("pump-1", 1).unwrap());
        let mut bench = Bench::new(&publication, &encoding, Pace::UNLIMITED, 1);
        bench.take_due(Duration::ZERO);
        bench.connect(0);
        bench.player.hand_over(&mut bench.client);
        let sent = bench.sent();
        let hello = encoding.greeting().unwrap();
        let payload = sent.windows(hello.len()).position(|text| text == hello);
        // The header, its length, topic, identifier and properties.
        assert!(payload.unwrap() < 30, "{delivery:?}");
        // What is no reading is not counted as one.
        if delivery == Delivery::AtLeastOnce {
            bench.acknowledge(1);
            assert_eq!(bench.player.counts.sent, 0);
            bench.acknowledge(2);
            assert_eq!(bench.player.counts.sent, 1);
        }
    }
}
