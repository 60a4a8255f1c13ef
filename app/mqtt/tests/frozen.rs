//! The bytes of each packet that is sent, in both versions: promises to
//! brokers. Sections are those of the standards, as in the crate.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{BOTH, connected, feed, pub_rel, publish, sent, session, settings};
use hark_mqtt::{Full, Protocol, Session, SessionError};

#[test]
fn connect_asks_for_a_clean_start() {
    // 3.1.1, 3.1; 5.0, 3.1.
    let check = |protocol, expected: &[u8]| {
        let mut session = Session::new(&settings(protocol), 0, 0).unwrap();
        assert_eq!(sent(&mut session), expected);
    };
    check(
        Protocol::V311,
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3C\x00\x04hark",
    );
    check(
        Protocol::V5,
        b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x04hark",
    );
}

#[test]
fn connect_carries_a_login() {
    // 3.1.1, 3.1.2.8, 3.1.2.9 and 3.1.3.4; 5.0, 3.1.2.8 and 3.1.3.5.
    let check = |protocol, expected: &[u8]| {
        let mut settings = settings(protocol);
        settings.login = Some(("me".to_owned(), "pw".to_owned()));
        let mut session = Session::new(&settings, 0, 0).unwrap();
        assert_eq!(sent(&mut session), expected);
    };
    check(
        Protocol::V311,
        b"\x10\x18\x00\x04MQTT\x04\xC2\x00\x3C\x00\x04hark\x00\x02me\x00\x02pw",
    );
    check(
        Protocol::V5,
        b"\x10\x19\x00\x04MQTT\x05\xC2\x00\x3C\x00\x00\x04hark\x00\x02me\x00\x02pw",
    );
}

#[test]
fn a_setting_that_mqtt_cannot_say_is_refused() {
    let mut settings = settings(Protocol::V5);
    settings.client_id = "x".repeat(65_536);
    let error = Session::new(&settings, 0, 0).map(|_| ()).unwrap_err();
    let expected = SessionError::TooLong {
        what: "client identifier",
        bytes: 65_536,
    };
    assert_eq!(error, expected);
}

#[test]
fn subscribe_lists_its_filters() {
    // 3.1.1, 3.8; 5.0, 3.8.
    let check = |protocol, expected: &[u8]| {
        let mut session = session(protocol);
        session.subscribe(&[("a/+", 0), ("b", 2)]).unwrap();
        assert_eq!(sent(&mut session), expected);
    };
    check(
        Protocol::V311,
        b"\x82\x0C\x00\x01\x00\x03a/+\x00\x00\x01b\x02",
    );
    check(
        Protocol::V5,
        b"\x82\x0D\x00\x01\x00\x00\x03a/+\x00\x00\x01b\x02",
    );
}

#[test]
fn publish_joins_the_parts_of_its_topic() {
    // 3.1.1, 3.3; 5.0, 3.3.
    let check = |protocol, expected: &[u8]| {
        let mut session = session(protocol);
        session.publish(&["v/", "s1"], b"{}").unwrap();
        assert_eq!(sent(&mut session), expected);
    };
    check(Protocol::V311, b"\x30\x08\x00\x04v/s1{}");
    check(Protocol::V5, b"\x30\x09\x00\x04v/s1\x00{}");
}

#[test]
fn acknowledgements_are_the_same_in_both_versions() {
    // 3.1.1, 3.4, 3.5 and 3.7; 5.0, 3.4.2.1, 3.5.2.1 and 3.7.2.1.
    for protocol in BOTH {
        let mut session = connected(protocol);
        let check = |session: &mut Session, bytes: &[u8], expected: &[u8]| {
            feed(session, bytes);
            assert_eq!(sent(session), expected, "{protocol:?}");
        };
        let at = |quality| publish(protocol, quality, 0x0102, b"t", b"");
        check(&mut session, &at(0), b"");
        check(&mut session, &at(1), b"\x40\x02\x01\x02");
        check(&mut session, &at(2), b"\x50\x02\x01\x02");
        check(&mut session, &pub_rel(0x0102), b"\x70\x02\x01\x02");
    }
}

#[test]
fn ping_and_goodbye_are_the_same_in_both_versions() {
    // 3.1.1, 3.12 and 3.14; 5.0, 3.12 and 3.14.2.1.
    for protocol in BOTH {
        let mut session = connected(protocol);
        session.handle_time(0).unwrap();
        session.handle_time(30_000).unwrap();
        assert_eq!(sent(&mut session), b"\xC0\x00");
        session.disconnect();
        assert_eq!(sent(&mut session), b"\xE0\x00");
    }
}

#[test]
fn the_length_of_a_message_takes_the_fewest_bytes() {
    // 3.1.1, table 2.4; the body is the topic with its length, and payload.
    let check = |payload_len: usize, length: &[u8]| {
        let mut session = Session::new(&settings(Protocol::V311), 0, 3_000_000).unwrap();
        sent(&mut session);
        let payload: Vec<u8> = (0..payload_len).map(|index| index as u8).collect();
        session.publish(&["t"], &payload).unwrap();
        let expected = [b"\x30", length, b"\x00\x01t", &payload].concat();
        assert!(sent(&mut session) == expected, "{payload_len}");
    };
    check(0, &[3]);
    check(124, &[127]);
    check(125, &[0x80, 1]);
    check(16_380, &[0xFF, 0x7F]);
    check(16_381, &[0x80, 0x80, 1]);
    check(2_097_148, &[0xFF, 0xFF, 0x7F]);
    check(2_097_149, &[0x80, 0x80, 0x80, 1]);
}

#[test]
fn a_full_output_takes_whole_packets_only() {
    for protocol in BOTH {
        let mut session = session(protocol);
        let mut packet = session_packet(protocol);
        let mut count = 0;
        let full = loop {
            match session.publish(&["t/", "x"], b"0123456789") {
                Ok(()) => count += 1,
                Err(full) => break full,
            }
        };
        assert!(count > 100);
        assert!(!full.is_final());
        assert_eq!(session.output(), packet.repeat(count));
        // Room for one more is made by one that left.
        session.handle_written(packet.len());
        session.publish(&["t/", "x"], b"0123456789").unwrap();
        assert_eq!(session.output(), packet.repeat(count));
        session.handle_written(3);
        packet = packet.repeat(count).split_off(3);
        assert_eq!(session.output(), packet);
    }
}

fn session_packet(protocol: Protocol) -> Vec<u8> {
    let mut session = session(protocol);
    session.publish(&["t/x"], b"0123456789").unwrap();
    sent(&mut session)
}

#[test]
fn what_can_never_fit_is_told_apart() {
    let mut session = session(Protocol::V5);
    let check = |result: Result<(), Full>| assert!(result.unwrap_err().is_final());
    check(session.publish(&["t"], &[0; 4096]));
    check(session.publish(&["t".repeat(65_536).as_str()], b""));
    check(session.publish(&["t".repeat(5000).as_str()], b""));
    check(session.subscribe(&[("t".repeat(65_536).as_str(), 0)]));
    check(session.subscribe(&[("t".repeat(5000).as_str(), 0)]));
    assert_eq!(session.output(), b"");
}

#[test]
fn whether_a_message_can_ever_fit_is_told_exactly() {
    for payload_len in 3000..3100 {
        let mut session = session(Protocol::V5);
        let alone = session.publish(&["t"], &vec![0; payload_len]);
        assert_eq!(alone.is_err(), alone.is_err_and(|full| full.is_final()));
        let mut session = common::session(Protocol::V5);
        session.publish(&["t"], b"").unwrap();
        let second = session.publish(&["t"], &vec![0; payload_len]);
        let is_final = second.is_err_and(|full| full.is_final());
        assert_eq!(is_final, alone.is_err(), "{payload_len}");
    }
}
