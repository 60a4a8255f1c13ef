//! Peers' bytes at the embedded broker, of three connections at once.
//!
//! The input is a list of steps: a byte that says whose turn it is and what
//! happens (more bytes, a slow socket, time, an end), a length, and as many bytes.
//! The first connection is a client that hears everything; what the others say is
//! the fuzzer's. The broker stays bounded, says when it is due, and gives all back.
#![no_main]

use hark_broker::limits::{MESSAGE_BYTES_MAX, PARTIAL_BYTES_MAX, SUBSCRIPTION_BYTES_MAX};
use hark_broker::{Broker, ClientKey, Login};
use libfuzzer_sys::fuzz_target;

/// A CONNECT of MQTT 3.1.1, and a SUBSCRIBE to everything.
const LISTENER: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01l\x82\x06\0\x01\0\x01#\x01";
/// A CONNECT of MQTT 5 with a will, so that the fuzzer need not find it.
const CLIENT: &[u8] = b"\x10\x15\0\x04MQTT\x05\x2e\0\x09\0\0\x01c\0\0\x01w\0\x01p";

fuzz_target!(|input: &[u8]| {
    let mut broker = Broker::new(Login::default());
    let mut now_ms = 0;
    let mut peers: Vec<ClientKey> = (0..3)
        .map(|peer| broker.handle_opened(format!("peer {peer}"), 0))
        .collect();
    broker.handle_read(peers[0], LISTENER, 0);
    if input.first().is_some_and(|first| first & 1 == 0) {
        broker.handle_read(peers[1], CLIENT, 0);
    }
    let mut rest = input;
    while let [what, len, after @ ..] = rest {
        let peer = usize::from(what % 3);
        let (bytes, next) = after.split_at(usize::from(*len).min(after.len()));
        rest = next;
        now_ms += u64::from(*len) * if what & 0x40 > 0 { 100 } else { 0 };
        broker.handle_time(now_ms);
        broker.handle_read(peers[peer], bytes, now_ms);
        if what & 0x80 > 0 {
            broker.handle_closed(peers[peer], now_ms);
            peers[peer] = broker.handle_opened("again".to_owned(), now_ms);
        }
        // A socket that takes a part, or nothing.
        for peer in &peers {
            let len = broker.output(*peer).len();
            let taken = match what & 0x30 {
                0 => len,
                0x10 => len / 2,
                _ => 0,
            };
            broker.handle_written(*peer, taken);
        }
        while broker.poll_output().is_some() {}
        while let Some(key) = broker.poll_closing() {
            broker.handle_closed(key, now_ms);
            if let Some(gone) = peers.iter_mut().find(|peer| **peer == key) {
                *gone = broker.handle_opened("next".to_owned(), now_ms);
            }
        }
        while let Some(notice) = broker.poll_notice() {
            assert!(!notice.contains(['\n', '\u{1b}']));
        }
        let bytes_max = MESSAGE_BYTES_MAX + PARTIAL_BYTES_MAX + SUBSCRIPTION_BYTES_MAX;
        assert!(broker.bytes() <= bytes_max);
        broker.handle_time(now_ms);
        assert!(broker.next_timeout_ms().is_none_or(|at| at >= now_ms));
    }
    broker.handle_stop(now_ms);
    while let Some(key) = broker.poll_closing() {
        broker.handle_closed(key, now_ms);
    }
});
