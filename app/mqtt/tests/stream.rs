//! What a session tells of a broker's bytes, however they come and whatever
//! happens to them.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use hark_mqtt::{Protocol, Session};

fn message(topic: &str, payload: &[u8]) -> String {
    format!("Message {{ topic: {topic:?}, payload: {payload:?} }}")
}

/// A session that has asked for two filters.
fn subscribing(protocol: Protocol) -> Session {
    let mut session = session(protocol);
    session.subscribe(&[("a", 0), ("b", 1)]).unwrap();
    sent(&mut session);
    session
}

/// Everything that a broker may say, and what is told of it.
fn conversation(protocol: Protocol) -> (Vec<u8>, Vec<String>) {
    let large = [7; PACKET_BYTES_MAX];
    let oversize = publish(protocol, 2, 9, b"large", &large);
    let oversize_told = format!("Oversize {{ bytes: {} }}", oversize.len());
    let parts = [
        (conn_ack(protocol, 0), "Connected".to_owned()),
        (
            sub_ack(protocol, 1, &[0, 0x80]),
            "Subscribed { is_granted: true }\nSubscribed { is_granted: false }".to_owned(),
        ),
        (publish(protocol, 0, 0, b"a", b"0"), message("a", b"0")),
        (publish(protocol, 1, 7, b"b/c", b""), message("b/c", b"")),
        (publish(protocol, 2, 8, b"a", b"2"), message("a", b"2")),
        (publish(protocol, 2, 8, b"a", b"2"), "Other".to_owned()),
        (oversize, oversize_told),
        (pub_rel(8), "Other".to_owned()),
        (publish(protocol, 2, 8, b"a", b"3"), message("a", b"3")),
        (packet(0xD0, &[]), "Other".to_owned()),
    ];
    let bytes = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let told = parts.iter().flat_map(|(_, told)| told.split('\n'));
    (bytes, told.map(str::to_owned).collect())
}

/// What is told, and answered, when the bytes come in these pieces.
fn outcome<'a>(
    protocol: Protocol,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Vec<u8>) {
    let mut session = subscribing(protocol);
    let mut told = Vec::new();
    for piece in pieces {
        told.extend(feed(&mut session, piece));
        if session.poll_event().is_err() {
            break;
        }
    }
    (told, sent(&mut session))
}

#[test]
fn every_split_of_a_stream_tells_the_same() {
    for protocol in BOTH {
        let (bytes, expected) = conversation(protocol);
        let whole = outcome(protocol, [&bytes[..]]);
        assert_eq!(whole.0, expected);
        for split in 0..=bytes.len() {
            let (front, back) = bytes.split_at(split);
            assert_eq!(outcome(protocol, [front, back]), whole, "split at {split}");
        }
        for chunk_len in 1..bytes.len() {
            assert_eq!(outcome(protocol, bytes.chunks(chunk_len)), whole);
        }
    }
}

#[test]
fn every_truncation_tells_a_part_and_no_error() {
    for protocol in BOTH {
        let (bytes, expected) = conversation(protocol);
        for len in 0..bytes.len() {
            let (told, _) = outcome(protocol, [&bytes[..len]]);
            assert!(told.len() < expected.len());
            assert_eq!(told, expected[..told.len()], "cut at {len}");
        }
    }
}

#[test]
fn no_flipped_bit_is_fatal_to_more_than_the_session() {
    for protocol in BOTH {
        let (mut bytes, _) = conversation(protocol);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let told = outcome(protocol, [&bytes[..]]);
            assert_eq!(outcome(protocol, bytes.chunks(1)), told, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn the_last_byte_of_a_message_is_the_last_consumed() {
    let mut session = connected(Protocol::V311);
    let start = session.consumed();
    let one = publish(Protocol::V311, 0, 0, b"a", b"x");
    let two = [&one[..], &one[..4]].concat();
    assert_eq!(feed(&mut session, &two), [message("a", b"x")]);
    assert_eq!(session.consumed() - start, one.len() as u64);
    assert_eq!(session.received() - start, two.len() as u64);
}

#[test]
fn an_exactly_once_message_is_told_again_only_after_its_release() {
    for protocol in BOTH {
        let mut session = connected(protocol);
        let check = |session: &mut Session, bytes: &[u8], told: &str, answer: &[u8]| {
            assert_eq!(feed(session, bytes), [told]);
            assert_eq!(sent(session), answer);
        };
        for id in [1, 2, 0xFFFF_u16] {
            let [high, low] = id.to_be_bytes();
            let bytes = publish(protocol, 2, id, b"t", b"x");
            let received = [0x50, 2, high, low];
            let complete = [0x70, 2, high, low];
            check(&mut session, &bytes, &message("t", b"x"), &received);
            check(&mut session, &bytes, "Other", &received);
            check(&mut session, &pub_rel(id), "Other", &complete);
            // A release that is repeated is answered again.
            check(&mut session, &pub_rel(id), "Other", &complete);
            check(&mut session, &bytes, &message("t", b"x"), &received);
        }
    }
}

#[test]
fn a_message_waits_until_there_is_room_to_acknowledge_it() {
    for quality in [1, 2] {
        let mut session = connected(Protocol::V311);
        while session.publish(&["t"], &[0; 100]).is_ok() {}
        let full = session.output().len();
        let mut told = 0;
        let mut id = 0;
        while !session.is_blocked() {
            id += 1;
            let bytes = publish(Protocol::V311, quality, id, b"t", b"x");
            told += feed(&mut session, &bytes).len();
        }
        assert!(told > 100, "the reserve is for acknowledgements");
        assert_eq!(session.output().len(), full + 4 * told);
        assert!(poll(&mut session).is_empty());
        session.handle_written(4);
        assert_eq!(poll(&mut session), [message("t", b"x")]);
        assert!(!session.is_blocked());
        let [high, low] = id.to_be_bytes();
        assert!(session.output().ends_with(&[2, high, low]));
    }
}

#[test]
fn oversize_messages_are_skipped_and_acknowledged() {
    for protocol in BOTH {
        for (quality, answer) in [(0, &[][..]), (1, &[0x40, 2, 0, 5]), (2, &[0x50, 2, 0, 5])] {
            let mut session = connected(protocol);
            let topic = "long/".repeat(1000);
            let bytes = publish(protocol, quality, 5, topic.as_bytes(), &[1; 70_000]);
            let expected = [format!("Oversize {{ bytes: {} }}", bytes.len())];
            assert_eq!(feed(&mut session, &bytes), expected);
            assert_eq!(sent(&mut session), answer);
            let next = publish(protocol, 0, 0, b"t", b"x");
            assert_eq!(feed(&mut session, &next), [message("t", b"x")]);
        }
    }
}

/// Feeds `bytes` after CONNACK; the error must end with `expected`.
fn check_refused(protocol: Protocol, bytes: &[u8], expected: &str) {
    let mut session = connected(protocol);
    let told = feed(&mut session, bytes);
    let last = told.last().map_or("", String::as_str);
    assert!(last.ends_with(expected), "{bytes:02x?}: {last}");
    assert!(poll(&mut session).len() == 1, "an error stays");
}

#[test]
fn malformed_packets_are_refused_with_a_sentence() {
    for protocol in BOTH {
        let check = |bytes: &[u8], expected: &str| check_refused(protocol, bytes, expected);
        check(b"\x30\xFF\xFF\xFF\xFF", "a length has more than 4 bytes");
        check(b"\x30\x03\x00\x05t", "its topic runs past its end");
        check(b"\x30\x01\x00", "its topic runs past its end");
        check(b"\x30\x03\x00\x00x", "no topic alias was offered");
        check(b"\x36\x05\x00\x01t\x00\x01", "there are 0, 1 and 2");
        check(b"\x32\x05\x00\x01t\x00\x00", "those begin at 1");
        check(b"\x32\x04\x00\x01t\x00", "before its packet identifier");
        check(b"\x60\x02\x00\x01", "its flags are not 2");
        check(b"\xD1\x00", "its flags are not 0");
        check(b"\xD0\x01\x00", "there is none");
        check(b"\x00\x00", "this packet type is reserved");
        check(b"\x10\x00", "only a client sends it");
        check(b"\x40\x02\x00\x01", "that was never sent");
        check(&sub_ack(protocol, 1, &[0]), "that was never sent");
        check(&conn_ack(protocol, 0), "it comes before all others");
        check(&publish(protocol, 0, 0, b"\xFF", b""), "is not UTF-8");
        check(&packet(0xB0, &[0; 300]), "more than the 200 allowed");
        let large = &[0; PACKET_BYTES_MAX];
        check(
            &publish(protocol, 3, 1, b"t", large),
            "there are 0, 1 and 2",
        );
        check(&publish(protocol, 2, 0, b"t", large), "those begin at 1");
    }
}

#[test]
fn what_only_one_version_knows_is_refused_in_the_other() {
    check_refused(Protocol::V311, b"\xF0\x00", "this packet type is reserved");
    check_refused(
        Protocol::V5,
        b"\xF0\x00",
        "no authentication method was offered",
    );
    check_refused(Protocol::V311, b"\xE0\x00", "only a client sends it");
    let moved = "the server has moved (code 0x9d)";
    check_refused(Protocol::V5, b"\xE0\x01\x9D", moved);
    // With a reason string in its properties (5.0, 3.14.2.2.3).
    check_refused(Protocol::V5, b"\xE0\x06\x9D\x04\x1F\x00\x01x", moved);
    check_refused(
        Protocol::V5,
        b"\xE0\x00",
        "normal disconnection (code 0x00)",
    );
    check_refused(Protocol::V5, b"\x30\x04\x00\x01t\x05", "run past its end");
}

#[test]
fn an_answer_to_other_filters_than_asked_for_is_refused() {
    for protocol in BOTH {
        let mut session = connected(protocol);
        session.subscribe(&[("a", 0), ("b", 0)]).unwrap();
        let told = feed(&mut session, &sub_ack(protocol, 1, &[0]));
        assert!(told[0].ends_with("it has not one code for each filter that was asked for"));
    }
}

#[test]
fn sixteen_subscriptions_wait_and_are_answered_in_any_order() {
    let mut session = connected(Protocol::V311);
    for _ in 0..16 {
        session.subscribe(&[("a", 0)]).unwrap();
    }
    session.subscribe(&[("a", 0)]).unwrap_err();
    for id in (1..=16).rev() {
        let told = feed(&mut session, &sub_ack(Protocol::V311, id, &[2]));
        assert_eq!(told, ["Subscribed { is_granted: true }"]);
    }
    session.subscribe(&[("a", 0)]).unwrap();
}

#[test]
fn a_refused_connection_says_why() {
    let check = |protocol, bytes: &[u8], expected: &str| {
        let told = feed(&mut session(protocol), bytes);
        assert_eq!(told, [expected]);
    };
    check(
        Protocol::V311,
        b"\x20\x02\x00\x05",
        "the broker refused the connection: this client is not authorized (code 0x05)",
    );
    check(
        Protocol::V5,
        &conn_ack(Protocol::V5, 0x86),
        "the broker refused the connection: user name or password is wrong (code 0x86)",
    );
    // In the words of a broker that does not know MQTT 5.
    check(
        Protocol::V5,
        b"\x20\x02\x00\x84",
        "the broker refused the connection: it does not speak MQTT 5 (code 0x84)",
    );
    check(
        Protocol::V311,
        b"\x20\x02\x01\x00",
        "malformed CONNACK at byte 0 of the connection: \
         the broker kept a session, although a clean start was asked for",
    );
    check(
        Protocol::V311,
        b"\xD0\x00",
        "malformed PINGRESP at byte 0 of the connection: \
         there is one CONNACK, and it comes before all others",
    );
}

#[test]
fn a_silent_broker_is_pinged_and_then_given_up() {
    let mut session = connected(Protocol::V311);
    session.handle_time(0).unwrap();
    session.handle_time(29_999).unwrap();
    assert_eq!(session.output(), b"");
    session.handle_time(30_000).unwrap();
    assert_eq!(sent(&mut session), b"\xC0\x00");
    // One ping at a time.
    session.handle_time(89_999).unwrap();
    assert_eq!(session.output(), b"");
    let error = session.handle_time(90_000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker has not answered a ping within 60000 ms"
    );
    // What came before would still be told.
    assert_eq!(session.poll_event(), Ok(None));
}

#[test]
fn an_answer_in_the_millisecond_of_its_ping_is_seen() {
    let mut session = connected(Protocol::V311);
    session.handle_time(0).unwrap();
    session.handle_time(30_000).unwrap();
    assert_eq!(sent(&mut session), b"\xC0\x00");
    feed(&mut session, &packet(0xD0, &[]));
    for now_s in 30..=59 {
        session.handle_time(now_s * 1000).unwrap();
        assert_eq!(session.output(), b"", "at {now_s} s");
    }
    session.handle_time(60_000).unwrap();
    assert_eq!(sent(&mut session), b"\xC0\x00");
}

#[test]
fn a_broker_that_takes_nothing_is_given_up_whatever_it_says() {
    let mut session = connected(Protocol::V311);
    session.handle_time(0).unwrap();
    session.publish(&["t"], b"").unwrap();
    for now_s in 100..160 {
        feed(&mut session, &publish(Protocol::V311, 0, 0, b"t", b""));
        session.handle_time(now_s * 1000).unwrap();
    }
    let error = session.handle_time(160_000).unwrap_err();
    let expected = "the broker has taken nothing of what was sent within 60000 ms";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn whatever_comes_after_a_ping_answers_it() {
    let mut session = connected(Protocol::V311);
    session.handle_time(0).unwrap();
    session.handle_time(30_000).unwrap();
    sent(&mut session);
    feed(&mut session, &publish(Protocol::V311, 0, 0, b"t", b""));
    for now_s in 31..=60 {
        session.handle_time(now_s * 1000).unwrap();
        assert_eq!(session.output(), b"", "at {now_s} s");
    }
    session.handle_time(61_000).unwrap();
    assert_eq!(session.output(), b"\xC0\x00");
}

#[test]
fn a_ping_is_due_although_readings_keep_coming_or_verdicts_keep_going() {
    for is_inward in [true, false] {
        let mut session = connected(Protocol::V311);
        let mut pings = 0;
        for now_s in 0..=60 {
            if is_inward {
                feed(&mut session, &publish(Protocol::V311, 0, 0, b"t", b""));
            } else {
                session.publish(&["t"], b"").unwrap();
            }
            sent(&mut session);
            session.handle_time(now_s * 1000).unwrap();
            pings += usize::from(sent(&mut session) == b"\xC0\x00");
        }
        assert!(pings > 0, "inward {is_inward}");
    }
}

#[test]
fn the_brokers_own_keep_alive_counts() {
    // 5.0, 3.2.2.3.14.
    let mut session = session(Protocol::V5);
    let told = feed(&mut session, &packet(0x20, b"\x00\x00\x03\x13\x00\x0A"));
    assert_eq!(told, ["Connected"]);
    session.handle_time(0).unwrap();
    session.handle_time(5000).unwrap();
    assert_eq!(session.output(), b"\xC0\x00");
}

#[test]
fn without_a_keep_alive_nothing_is_ever_due() {
    let mut settings = settings(Protocol::V311);
    settings.keep_alive_s = 0;
    let mut session = Session::new(&settings, 0, 0).unwrap();
    sent(&mut session);
    session.handle_time(0).unwrap();
    session.handle_time(u64::MAX).unwrap();
    assert_eq!(session.output(), b"");
}
