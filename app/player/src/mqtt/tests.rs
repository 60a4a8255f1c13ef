//! What becomes of readings while the broker answers, is away, or leaves. No
//! socket is opened: the events of the connection are played.

use super::*;
use crate::{Node, Pace, TextFormat};
use hark_config::{BrokerAddress, Config};
use hark_rig::{Rig, RigConfig};

fn publication(delivery: Delivery) -> Publication {
    let config = Config::of_text("").unwrap().mqtt;
    let address = BrokerAddress {
        host: config.host.clone(),
        port: config.port,
        protocol: config.protocol,
    };
    Publication {
        broker: Broker::new(&config, address, "test".to_owned()).unwrap(),
        topic: "sensors/pump-1".to_owned(),
        delivery,
    }
}

fn player<'a>(publication: &'a Publication, encoding: &'a Encoding, pace: Pace) -> Player<'a> {
    Player {
        publication,
        encoding,
        link: Link::new(&publication.broker),
        letters: VecDeque::new(),
        handed: 0,
        beat: Beat::new(),
        is_patient: pace.is_unlimited(),
        counts: Counts::default(),
    }
}

fn schedule(pace: Pace, end_s: u64) -> Schedule {
    let rig = Rig::new(RigConfig::default()).unwrap();
    Schedule::new(rig, pace, Some(Duration::from_secs(end_s)))
}

const JSON: Encoding = Encoding::Lines(TextFormat::Json);

#[test]
fn at_qos_1_readings_wait_until_acknowledged() {
    let publication = publication(Delivery::AtLeastOnce);
    let mut player = player(&publication, &JSON, Pace::REAL_TIME);
    let mut schedule = schedule(Pace::REAL_TIME, 10);
    let wait = player.take_due(&mut schedule, Duration::from_millis(250), &mut |_| {});
    assert_eq!(wait, Some(Duration::from_millis(50)));
    player.handed = 3;
    player.handle_event(Some(Event::Acknowledged(1)));
    player.handle_event(Some(Event::Acknowledged(2)));
    assert_eq!((player.counts.readings, player.counts.sent), (3, 2));
    // The third was under way when the connection broke: it is sent again.
    player.handle_event(None);
    assert_eq!((player.handed, player.letters.len()), (0, 1));
    // An acknowledgement that nothing waits for acknowledges nothing.
    player.handle_event(Some(Event::Acknowledged(3)));
    assert_eq!((player.counts.sent, player.letters.len()), (2, 1));
}

#[test]
fn while_the_broker_is_away_the_oldest_reading_gives_way() {
    let publication = publication(Delivery::AtLeastOnce);
    let fast = Pace::new(1_000_000.0).unwrap();
    let mut player = player(&publication, &JSON, fast);
    let end = player.take_due(
        &mut schedule(fast, 120),
        Duration::from_secs(1),
        &mut |_| {},
    );
    assert_eq!(end, None);
    assert_eq!(player.counts.readings, 1_200);
    assert_eq!(player.counts.lost, 200);
    assert_eq!(player.letters.len(), LETTERS_MAX);
    assert!(player.letters[0].payload.starts_with(b"{\"seq\":200,"));
}

#[test]
fn at_qos_0_nothing_waits_for_a_broker_that_is_away() {
    let publication = publication(Delivery::AtMostOnce);
    let mut player = player(&publication, &JSON, Pace::REAL_TIME);
    let mut schedule = schedule(Pace::REAL_TIME, 10);
    player.take_due(&mut schedule, Duration::from_secs(5), &mut |_| {});
    assert_eq!((player.counts.readings, player.counts.lost), (51, 51));
    assert!(player.letters.is_empty());
}

#[test]
fn without_a_pace_the_feed_waits_for_the_broker() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let publication = publication(delivery);
        let mut player = player(&publication, &JSON, Pace::UNLIMITED);
        let mut schedule = schedule(Pace::UNLIMITED, 1_000);
        let wait = player.take_due(&mut schedule, Duration::ZERO, &mut |_| {});
        assert_eq!(wait, Some(IDLE));
        assert_eq!((player.letters.len(), player.counts.lost), (LETTERS_MAX, 0));
    }
}

#[test]
fn a_new_connection_hears_the_hello_before_what_waited() {
    let publication = publication(Delivery::AtLeastOnce);
    let encoding = Encoding::Frames(Node::new("pump-1", 1).unwrap());
    let mut player = player(&publication, &encoding, Pace::REAL_TIME);
    let mut schedule = schedule(Pace::REAL_TIME, 10);
    player.take_due(&mut schedule, Duration::ZERO, &mut |_| {});
    player.handle_event(Some(Event::Connected));
    assert_eq!(player.letters.len(), 2);
    assert!(!player.letters[0].is_reading);
    assert_eq!(
        player.letters[0].payload,
        encoding.greeting().unwrap_or_default()
    );
    // What is no reading is not counted as one.
    player.handed = 2;
    player.handle_event(Some(Event::Acknowledged(1)));
    player.handle_event(Some(Event::Acknowledged(2)));
    assert_eq!(player.counts.sent, 1);
}
