//! Against a real mosquitto, in both versions.
//!
//! Without mosquitto on the machine these tests say so and prove nothing;
//! `cargo xtask test` installs it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;
mod mosquitto;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{BOTH, packet, pub_rel, publish, settings};
use hark_mqtt::{Address, Client, ClientSettings, Endpoint, Protocol};
use mosquitto::Mosquitto;

/// Everything here takes milliseconds; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn open(broker: &Mosquitto, settings: ClientSettings) -> Endpoint {
    // The name has two addresses on many machines, and the broker only one.
    let host = "localhost".to_owned();
    let port = broker.port();
    Endpoint::new(Client::new(settings).unwrap(), Address::plain(host, port))
}

/// Drives the connection until so many things were told.
fn drive(link: &mut Endpoint, count: usize) -> Vec<String> {
    let start = Instant::now();
    let mut told = Vec::new();
    while told.len() < count {
        assert!(start.elapsed() < PATIENCE, "only {told:?} so far");
        link.wait(None, Duration::from_millis(100));
        link.fill();
        while let Some(event) = link.poll_event() {
            told.push(format!("{event:?}"));
        }
    }
    link.flush();
    told
}

fn subscribed(broker: &Mosquitto, protocol: Protocol) -> Endpoint {
    let topics = [("t/0", 0), ("t/1", 1), ("t/2", 2)];
    let mut link = open(
        broker,
        ClientSettings {
            subscriptions: topics.map(|(topic, qos)| (topic.to_owned(), qos)).into(),
            ..ClientSettings::new(settings(protocol))
        },
    );
    assert_eq!(drive(&mut link, 1), ["Up"]);
    link
}

fn message(topic: &str, payload: &[u8]) -> String {
    format!("Message {{ topic: {topic:?}, payload: {payload:?}, is_retained: false }}")
}

#[test]
fn messages_of_every_quality_arrive_once_and_are_acknowledged() {
    // One at a time: the broker sends the next only when the last is
    // acknowledged completely.
    let Some(broker) = Mosquitto::start("max_inflight_messages 1") else {
        return;
    };
    for protocol in BOTH {
        let mut link = subscribed(&broker, protocol);
        let mut expected = Vec::new();
        for quality in [0, 1, 2] {
            let topic = format!("t/{quality}");
            publish_at(&broker, quality, &topic, 5);
            let payloads: Vec<_> = (1..=5).map(|payload| message(&topic, &[payload])).collect();
            expected.extend(payloads);
        }
        assert_eq!(drive(&mut link, 15), expected, "{protocol:?}");
    }
}

/// Publishes the payloads 1 to `count`, each completely, by hand.
fn publish_at(broker: &Mosquitto, quality: u8, topic: &str, count: u8) {
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    let mut bytes = packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x04hand");
    for payload in 1..=count {
        let id = u16::from(payload);
        let message = publish(Protocol::V311, quality, id, topic.as_bytes(), &[payload]);
        bytes.extend(message);
        if quality == 2 {
            bytes.extend(pub_rel(id));
        }
    }
    bytes.extend(packet(0xE0, &[]));
    stream.write_all(&bytes).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The broker closes when it has taken everything.
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_batch_larger_than_the_socket_arrives_whole_and_in_order() {
    let Some(broker) = Mosquitto::start("max_queued_messages 0") else {
        return;
    };
    for protocol in BOTH {
        let mut link = subscribed(&broker, protocol);
        let payload = [b'x'; 150];
        let mut published = 0;
        let mut received = 0;
        let start = Instant::now();
        while received < 20_000 {
            assert!(start.elapsed() < PATIENCE, "{received} of {published}");
            while published < 20_000 && link.client().publish(&["t/", "0"], &payload).is_ok() {
                published += 1;
            }
            link.wait(None, Duration::from_millis(100));
            link.fill();
            while let Some(event) = link.poll_event() {
                assert_eq!(format!("{event:?}"), message("t/0", &payload));
                received += 1;
            }
        }
        assert_eq!(published, 20_000);
    }
}

#[test]
fn a_login_is_taken_or_refused_with_a_reason() {
    let Some(broker) = Mosquitto::start_with_login("me", "right") else {
        return;
    };
    for protocol in BOTH {
        let check = |password: &str, expected: &str| {
            let mut settings = settings(protocol);
            settings.login = Some(("me".to_owned(), password.to_owned()));
            let mut link = open(&broker, ClientSettings::new(settings));
            assert!(drive(&mut link, 1)[0].contains(expected), "{protocol:?}");
        };
        check("right", "Up");
        check("wrong", "this client is not authorized");
    }
}

#[test]
fn a_broker_that_is_gone_is_noticed_at_once() {
    for protocol in BOTH {
        let Some(mut broker) = Mosquitto::start("") else {
            return;
        };
        let mut link = subscribed(&broker, protocol);
        broker.kill();
        let lost = drive(&mut link, 1);
        assert!(lost[0].starts_with("Down { why: "), "{lost:?}");
        let away = drive(&mut link, 1);
        assert!(away[0].contains("Unreachable"), "{away:?}");
    }
}

#[test]
fn a_goodbye_ends_the_connection_in_good_order() {
    let Some(broker) = Mosquitto::start("") else {
        return;
    };
    for protocol in BOTH {
        let mut link = subscribed(&broker, protocol);
        link.leave(None, PATIENCE);
        link.flush();
        assert!(link.client().is_gone());
    }
}
