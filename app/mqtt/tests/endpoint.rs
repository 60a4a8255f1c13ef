//! An endpoint against brokers of its own making on the loopback, and against
//! a real mosquitto.
//!
//! Without mosquitto on the machine some of these tests say so and prove
//! nothing; `cargo xtask test` installs it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;
mod mosquitto;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{BOTH, conn_ack, publish, settings};
use hark_mqtt::{Address, Client, ClientSettings, Endpoint, Letter, Protocol, Waker, Will};
use mosquitto::Mosquitto;

/// Everything here takes milliseconds; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(100);

fn endpoint(port: u16, settings: ClientSettings) -> Endpoint {
    // The name has two addresses on many machines, and the broker only one.
    let host = "localhost".to_owned();
    Endpoint::new(Client::new(settings).unwrap(), Address::plain(host, port))
}

fn named(protocol: Protocol, client_id: &str) -> ClientSettings {
    let mut settings = settings(protocol);
    settings.client_id = client_id.to_owned();
    ClientSettings::new(settings)
}

/// Drives the endpoint until so many things were told.
fn drive(endpoint: &mut Endpoint, count: usize) -> Vec<String> {
    let start = Instant::now();
    let mut told = Vec::new();
    while told.len() < count {
        assert!(start.elapsed() < PATIENCE, "only {told:?} so far");
        endpoint.wait(None, TURN);
        endpoint.fill();
        while let Some(event) = endpoint.poll_event() {
            told.push(format!("{event:?}"));
        }
    }
    told
}

fn letter(topic: &str, payload: &str) -> Letter {
    Letter {
        topic: topic.to_owned(),
        payload: payload.into(),
        is_retained: true,
        handle: 1,
    }
}

fn retained(topic: &str, payload: &str) -> String {
    let payload = payload.as_bytes();
    format!("Message {{ topic: {topic:?}, payload: {payload:?}, is_retained: true }}")
}

#[test]
fn seventeen_topics_are_subscribed_to_and_letters_are_kept_for_them() {
    let Some(broker) = Mosquitto::start("allow_anonymous true") else {
        return;
    };
    for protocol in BOTH {
        let mut one = endpoint(broker.port(), named(protocol, "one"));
        assert_eq!(drive(&mut one, 1), ["Up"]);
        for index in 0..17 {
            let gone = one.client().post(letter(&format!("t/{index}"), "x"));
            assert_eq!(gone, None);
            assert_eq!(drive(&mut one, 1), ["Published { handle: 1 }"]);
        }
        let mut settings = named(protocol, "other");
        settings.subscriptions = (0..17).map(|index| (format!("t/{index}"), 1)).collect();
        let mut other = endpoint(broker.port(), settings);
        let mut told = drive(&mut other, 18);
        told.retain(|event| event != "Up");
        let expected: Vec<_> = (0..17).map(|i| retained(&format!("t/{i}"), "x")).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn a_will_is_published_unless_there_was_a_goodbye() {
    let Some(broker) = Mosquitto::start("allow_anonymous true") else {
        return;
    };
    for protocol in BOTH {
        for says_goodbye in [true, false] {
            let mut settings = named(protocol, "one");
            settings.will = Some(Will {
                topic: "status".to_owned(),
                payload: "offline".to_owned(),
            });
            settings.greeting = Some(letter("status", "online"));
            let mut one = endpoint(broker.port(), settings);
            assert_eq!(drive(&mut one, 2), ["Up", "Published { handle: 1 }"]);
            let mut settings = named(protocol, "other");
            settings.subscriptions = vec![("status".to_owned(), 1)];
            let mut other = endpoint(broker.port(), settings);
            drive(&mut other, 2);
            if says_goodbye {
                one.leave(Some(letter("status", "stopped")), PATIENCE);
                drive(&mut one, 1);
                while !one.client().is_gone() {
                    one.wait(None, TURN);
                }
            }
            drop(one);
            let expected = if says_goodbye { "stopped" } else { "offline" };
            let told = drive(&mut other, 1);
            let message = retained("status", expected).replace("true", "false");
            assert_eq!(told, [message], "{protocol:?}");
        }
    }
}

#[test]
fn a_letter_that_the_broker_may_not_take_is_refused_with_its_reason() {
    let rights = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rights.path(), "topic read #\ntopic write open\n").unwrap();
    let lines = format!("allow_anonymous true\nacl_file {}", rights.path().display());
    let Some(broker) = Mosquitto::start(&lines) else {
        return;
    };
    let mut one = endpoint(broker.port(), named(Protocol::V5, "one"));
    drive(&mut one, 1);
    one.client().post(letter("closed", "x"));
    let told = drive(&mut one, 1);
    let expected = "Refused { handle: 1, topic: \"closed\", code: 135, \
                    reason: \"this client is not authorized\" }";
    assert_eq!(told, [expected]);
}

#[test]
fn a_broker_that_comes_back_gets_what_waited() {
    let Some(mut broker) = Mosquitto::start("allow_anonymous true") else {
        return;
    };
    let mut one = endpoint(broker.port(), named(Protocol::V5, "one"));
    drive(&mut one, 1);
    broker.kill();
    let told = drive(&mut one, 1);
    assert!(told[0].starts_with("Down"), "{told:?}");
    one.client().post(letter("a", "x"));
    broker.restart();
    let told = drive(&mut one, 2);
    assert_eq!(&told[told.len() - 2..], ["Up", "Published { handle: 1 }"]);
}

#[test]
fn an_idle_connection_outlives_its_keep_alive() {
    let Some(broker) = Mosquitto::start("allow_anonymous true") else {
        return;
    };
    let mut settings = named(Protocol::V311, "one");
    settings.session.keep_alive_s = 1;
    let mut one = endpoint(broker.port(), settings);
    drive(&mut one, 1);
    // The broker drops a silent client after one and a half of them.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        one.wait(None, TURN);
        one.fill();
        assert_eq!(one.poll_event(), None);
    }
}

/// The broker's end of the next connection, after CONNECT and CONNACK.
fn accept(listener: &TcpListener, endpoint: &mut Endpoint) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let mut stream = loop {
        assert!(start.elapsed() < PATIENCE, "nobody connects");
        endpoint.wait(None, TURN);
        if let Ok((stream, _)) = listener.accept() {
            break stream;
        }
    };
    stream.set_nonblocking(false).unwrap();
    while endpoint.client().wants_connection() {
        endpoint.wait(None, TURN);
    }
    endpoint.flush();
    let mut connect = [0; 18];
    stream.read_exact(&mut connect).unwrap();
    stream.write_all(&conn_ack(Protocol::V311, 0)).unwrap();
    assert_eq!(drive(endpoint, 1), ["Up"]);
    stream
}

#[test]
fn a_broker_that_never_reads_costs_no_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut endpoint = endpoint(port, named(Protocol::V311, "hark"));
    let _stream = accept(&listener, &mut endpoint);
    // Until the socket takes nothing.
    let payload = [0; 1000];
    loop {
        while endpoint.client().publish(&["t"], &payload).is_ok() {}
        if !endpoint.flush() {
            endpoint.wait(None, Duration::from_millis(300));
            if !endpoint.flush() {
                break;
            }
        }
    }
    // The first wait may end for what the kernel still moves on; one that
    // follows lasts as long as it may.
    let waker = Waker::new().unwrap();
    let lasted = (0..20).any(|_| {
        let start = Instant::now();
        endpoint.wait(Some(&waker), TURN);
        endpoint.fill();
        assert!(endpoint.poll_event().is_none());
        start.elapsed() >= TURN
    });
    assert!(lasted, "each wait ended at once");
}

#[test]
fn a_waker_ends_a_wait_however_early_it_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut endpoint = endpoint(port, named(Protocol::V311, "hark"));
    let _stream = accept(&listener, &mut endpoint);
    let waker = Waker::new().unwrap();
    let other = waker.clone();
    std::thread::spawn(move || other.wake()).join().unwrap();
    let start = Instant::now();
    endpoint.wait(Some(&waker), PATIENCE);
    assert!(start.elapsed() < PATIENCE, "it was given before the wait");
    waker.clear();
}

#[test]
fn a_message_arrives_and_its_broker_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut endpoint = endpoint(port, named(Protocol::V311, "hark"));
    let mut stream = accept(&listener, &mut endpoint);
    let bytes = publish(Protocol::V311, 0, 0, b"t", b"x");
    stream.write_all(&bytes).unwrap();
    drop(stream);
    let told = drive(&mut endpoint, 2);
    assert!(told[0].starts_with("Message"), "{told:?}");
    assert!(told[1].starts_with("Down { why: Closed"), "{told:?}");
}
