//! Every truncation and every bit flip of what is valid.

use crate::peer::{
    Connect, Site, V5, V311, connect, packet, publish, subscribe, text, unsubscribe,
};
use hark_broker::limits::{MESSAGE_BYTES_MAX, PARTIAL_BYTES_MAX, SUBSCRIPTION_BYTES_MAX};

/// One of each packet, with everything that it may have.
fn conversation(version: u8) -> Vec<Vec<u8>> {
    let v5 = version == V5;
    let properties = [
        [vec![0x01, 1, 0x02, 0, 0, 0, 9, 0x03], text("json")].concat(),
        [vec![0x08], text("reply"), vec![0x09], text("id")].concat(),
        [vec![0x26], text("name"), text("value")].concat(),
    ]
    .concat();
    let properties = v5.then_some(properties.as_slice());
    let connect_properties = [0x11, 0, 0, 0, 9, 0x21, 0, 9, 0x27, 0, 1, 0, 0, 0x22, 0, 9];
    let login = Connect {
        version,
        name: "name",
        keep_alive_s: 10,
        will: Some(("will", "gone", 0x28)),
        login: Some(("me", "secret")),
        properties: if v5 { &connect_properties } else { &[] },
    };
    let coded = |first: u8, code: u8| {
        let rest: &[u8] = if v5 { &[code, 3, 0x1F, 0, 0] } else { &[] };
        packet(first, &[&[0, 1], rest].concat())
    };
    let options = if v5 { 0x2D } else { 1 };
    vec![
        connect(&login),
        subscribe(version, 1, &[("a/+", options), ("#", 0), ("b", 2)]),
        publish(0, "a/b", None, properties, b"payload"),
        publish(3, "a/c", Some(1), properties, b"payload"),
        publish(5, "a/d", Some(2), properties, b"payload"),
        coded(0x40, 0),
        coded(0x62, 0),
        unsubscribe(version, 2, &["a/+", "none"]),
        vec![0xC0, 0],
        if v5 {
            packet(0xE0, &[4, 5, 0x11, 0, 0, 0, 0])
        } else {
            vec![0xE0, 0]
        },
    ]
}

/// Plays `bytes` to a broker with a subscriber, in reads of `len`; what that one
/// heard, what the peer heard, and whether the peer was let go.
fn play(bytes: &[u8], len: usize) -> (Vec<u8>, Vec<u8>, usize) {
    let mut site = Site::new();
    let listener = site.client(V311, "listener");
    site.say(listener, &subscribe(V311, 1, &[("#", 0)]));
    let key = site.open();
    let mut answers = Vec::new();
    for chunk in bytes.chunks(len) {
        site.broker.handle_read(key, chunk, site.now_ms);
        answers.extend(site.hear(key));
        let bytes = site.broker.bytes();
        assert!(bytes < MESSAGE_BYTES_MAX + PARTIAL_BYTES_MAX + SUBSCRIPTION_BYTES_MAX);
    }
    let closed = site.closed().len();
    site.close(key);
    let heard = site.hear(listener);
    site.broker.handle_stop(site.now_ms);
    let told = site.told();
    assert!(!told.contains('\u{1b}'));
    (heard, answers, closed)
}

#[test]
fn a_conversation_is_understood_however_it_is_cut() {
    for version in [V311, V5] {
        let bytes = conversation(version).concat();
        let whole = play(&bytes, bytes.len());
        // Nobody was let go for it but by its own goodbye.
        assert_eq!(whole.2, 1);
        let heard = String::from_utf8_lossy(&whole.0);
        for topic in ["a/b", "a/c", "a/d"] {
            assert!(heard.contains(topic), "{topic} in {heard:?}");
        }
        for len in 1..bytes.len() {
            assert_eq!(play(&bytes, len), whole, "in reads of {len}");
        }
    }
}

#[test]
fn every_truncation_of_a_packet_is_survived() {
    for version in [V311, V5] {
        let packets = conversation(version);
        for (index, packet) in packets.iter().enumerate() {
            let before = packets[..index.min(1)].concat();
            for end in 0..packet.len() {
                // Cut, and cut with a length that says so.
                play(&[&before, &packet[..end]].concat(), 64);
                if end >= 2 {
                    let mut shorter = packet[..end].to_vec();
                    shorter[1] = u8::try_from(end - 2).unwrap();
                    play(&[before.as_slice(), &shorter, &packets[8]].concat(), 64);
                }
            }
        }
    }
}

#[test]
fn every_bit_flip_of_a_packet_is_survived() {
    for version in [V311, V5] {
        let packets = conversation(version);
        for (index, packet) in packets.iter().enumerate() {
            let before = packets[..index.min(1)].concat();
            for bit in 0..packet.len() * 8 {
                let mut flipped = packet.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                play(&[before.as_slice(), &flipped, &packets[8]].concat(), 64);
            }
        }
    }
}
