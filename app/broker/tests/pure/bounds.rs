//! Whatever a peer names, leaves unread or leaves unfinished has its bound.

use crate::peer::{Connect, Site, V5, V311, connect, publish, subscribe};
use hark_broker::limits::{
    CLIENTS_MAX, CONNECT_BYTES_MAX, FILTERS_PER_PACKET_MAX, MESSAGE_BYTES_MAX, PACKET_BYTES_MAX,
    PARTIAL_BYTES_MAX, QUEUED_BYTES_MAX, QUEUED_MAX, READ_BYTES, RECEIVE_MAX, RETAINED_BYTES_MAX,
    RETAINED_MAX, STRANGERS_MAX, SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_PER_CLIENT_MAX,
    TOPIC_BYTES_MAX, UNREAD_BYTES_MAX,
};

const QUOTA: u8 = 0x97;

#[test]
fn a_flood_of_filters_is_refused_and_costs_fixed_memory() {
    let mut site = Site::new();
    let mut refused = 0;
    for client in 0..100 {
        let key = site.client(V5, &format!("flood-{client}"));
        for packet in 0..10 {
            let names: Vec<String> = (0..100)
                .map(|filter| format!("{client}/{packet}/{filter}/{}", "x".repeat(600)))
                .collect();
            let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 0)).collect();
            site.say(key, &subscribe(V5, 1, &filters));
            let answer = site.hear(key);
            refused += answer.iter().filter(|code| **code == QUOTA).count() as u64;
        }
    }
    assert!(refused > 90_000, "{refused}");
    assert_eq!(site.broker.counts().subscriptions_refused, refused);
    assert!(site.broker.bytes() <= SUBSCRIPTION_BYTES_MAX);
    assert!(site.told().contains("may not subscribe"));
    // Who leaves gives its places back.
    site.broker.handle_stop(0);
    assert_eq!(site.broker.bytes(), 0);
}

#[test]
fn one_client_has_its_own_bound_of_filters() {
    let mut site = Site::new();
    let key = site.client(V311, "a");
    for filter in 0..=SUBSCRIPTIONS_PER_CLIENT_MAX {
        site.say(key, &subscribe(V311, 1, &[(&filter.to_string(), 0)]));
        let code = if filter < SUBSCRIPTIONS_PER_CLIENT_MAX {
            0
        } else {
            0x80
        };
        assert_eq!(site.hear(key), [0x90, 3, 0, 1, code]);
    }
    // The same again is no other.
    site.say(key, &subscribe(V311, 1, &[("7", 0)]));
    assert_eq!(site.hear(key), [0x90, 3, 0, 1, 0]);
    let long = "x".repeat(TOPIC_BYTES_MAX + 1);
    site.say(key, &subscribe(V311, 1, &[(&long, 0)]));
    assert_eq!(site.hear(key), [0x90, 3, 0, 1, 0x80]);
    let many = vec![("a", 0); FILTERS_PER_PACKET_MAX + 1];
    site.say(key, &subscribe(V311, 1, &many));
    assert_eq!(site.closed().len(), 1);
}

#[test]
fn what_is_retained_has_its_bounds_and_what_is_not_kept_is_told() {
    let mut site = Site::new();
    let key = site.client(V5, "a");
    let retain = |site: &mut Site, topic: &str, payload: &[u8]| {
        site.say(key, &publish(3, topic, Some(1), Some(&[]), payload));
        let answer = site.hear(key);
        (answer.len() == 5 && answer[4] == QUOTA, site.broker.bytes())
    };
    let payload = vec![0; PACKET_BYTES_MAX / 2];
    let kept = (0..100).filter(|topic| !retain(&mut site, &topic.to_string(), &payload).0);
    let kept: Vec<i32> = kept.collect();
    assert!(kept.len() * payload.len() <= RETAINED_BYTES_MAX);
    assert!(kept.len() * payload.len() > RETAINED_BYTES_MAX / 2);
    assert!(site.told().contains("is not retained"));
    // A state that finds no room does not leave the one before in its place.
    assert!(!retain(&mut site, "state", b"old").0);
    assert!(retain(&mut site, "state", &payload).0);
    site.say(key, &subscribe(V5, 1, &[("state", 0)]));
    assert_eq!(site.hear(key), [0x90, 4, 0, 1, 0, 0]);
    for topic in &kept {
        assert!(!retain(&mut site, &topic.to_string(), b"").0);
    }
    let many = (0..=RETAINED_MAX).filter(|n| retain(&mut site, &format!("n{n}"), b"x").0);
    assert_eq!(many.count(), 1);
}

#[test]
fn all_that_is_retained_reaches_a_client_however_slow() {
    const TOPICS: usize = QUEUED_MAX + 1_000;
    let mut site = Site::new();
    let key = site.client(V311, "a");
    for topic in 0..TOPICS {
        site.say(key, &publish(1, &format!("t/{topic:05}"), None, None, b"x"));
    }
    site.say(key, &subscribe(V311, 1, &[("t/+", 0)]));
    assert_eq!(site.hear(key).len(), 5 + TOPICS * 12);
    assert_eq!(site.broker.counts().messages_dropped, 0);
}

#[test]
fn a_slow_client_loses_what_it_is_not_assured_of_and_then_its_connection() {
    let mut site = Site::new();
    let (from, slow) = (site.client(V311, "from"), site.client(V5, "slow"));
    let other = site.client(V311, "other");
    site.say(slow, &subscribe(V5, 1, &[("t/#", 1)]));
    site.hear(slow);
    site.say(other, &subscribe(V311, 1, &[("t/#", 0)]));
    site.hear(other);
    let payload = [0; 1000];
    for _ in 0..QUEUED_MAX + 100 {
        site.say(from, &publish(0, "t/0", None, None, &payload));
        site.hear(other);
    }
    let dropped = site.broker.counts().messages_dropped;
    assert!(dropped > 5_000, "{dropped}");
    assert!(site.told().contains("\"slow\" is slow"));
    assert!(site.broker.bytes() < QUEUED_BYTES_MAX + QUEUED_BYTES_MAX / 2);
    // An alert finds room where nothing else does.
    site.say(from, &publish(2, "t/1", Some(1), None, b"alert"));
    assert_eq!(site.hear(from), [0x40, 2, 0, 1]);
    assert_eq!(site.closed(), []);
    let heard = site.hear(slow);
    assert!(heard.windows(5).any(|bytes| bytes == b"alert"));
    // Of what is assured nothing can be left out.
    let mut sent = 0;
    while site.closed().is_empty() {
        site.say(from, &publish(2, "t/2", Some(1), None, &payload));
        site.hear(from);
        site.hear(other);
        sent += 1;
        assert!(sent < 2 * QUEUED_MAX);
    }
    assert!(site.told().contains("takes its messages too slowly"));
}

#[test]
fn messages_of_all_clients_together_are_bounded() {
    let mut site = Site::new();
    let from = site.client(V311, "from");
    let slow: Vec<_> = (0..100)
        .map(|client| {
            let key = site.client(V5, &format!("slow-{client}"));
            site.say(key, &subscribe(V5, 1, &[(&format!("{client}/#"), 1)]));
            key
        })
        .collect();
    let payload = vec![0; PACKET_BYTES_MAX / 2];
    let mut bytes_max = 0;
    for round in 0..10 {
        for client in 0..slow.len() {
            let topic = format!("{client}/{round}");
            site.say(from, &publish(2, &topic, Some(1), None, &payload));
            site.hear(from);
            bytes_max = bytes_max.max(site.broker.bytes());
        }
    }
    assert!(
        bytes_max <= MESSAGE_BYTES_MAX + PARTIAL_BYTES_MAX,
        "{bytes_max}"
    );
    assert!(!site.closed().is_empty());
    // And the one that reads is served.
    let key = site.client(V5, "reads");
    site.say(key, &subscribe(V5, 1, &[("x", 1)]));
    site.hear(key);
    site.say(from, &publish(0, "x", None, None, &payload));
    assert!(site.hear(key).len() > payload.len());
}

#[test]
fn packets_that_never_end_are_bounded_all_together() {
    let mut site = Site::new();
    // A PUBLISH of a megabyte, of which all but the end comes.
    let body = vec![0; PACKET_BYTES_MAX - 100];
    let unfinished = publish(0, "t", None, None, &body);
    let small = site.client(V5, "small");
    site.say(small, &publish(0, "t", None, None, b"x")[..3]);
    for client in 0..50 {
        let key = site.client(V5, &format!("{client}"));
        for chunk in unfinished[..unfinished.len() - 1].chunks(READ_BYTES) {
            site.broker.handle_read(key, chunk, site.now_ms);
            assert!(site.broker.bytes() <= PARTIAL_BYTES_MAX + READ_BYTES + MESSAGE_BYTES_MAX);
        }
    }
    assert!(site.told().contains("parts of large packets"));
    let closed = site.closed();
    assert!(closed.len() >= 40, "{}", closed.len());
    for (key, last) in closed {
        assert_ne!(key, small);
        assert_eq!(last, [0xE0, 1, QUOTA]);
    }
}

#[test]
fn packets_that_are_too_large_end_their_connection() {
    let mut site = Site::new();
    let key = site.client(V5, "a");
    site.say(key, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(site.closed(), [(key, vec![0xE0, 1, 0x95])]);
    let stranger = site.open();
    let long = "x".repeat(CONNECT_BYTES_MAX);
    let with = Connect {
        version: V311,
        name: &long,
        ..Connect::default()
    };
    site.say(stranger, &connect(&with));
    assert_eq!(site.closed(), [(stranger, Vec::new())]);
}

#[test]
fn strangers_take_no_place_from_clients() {
    let mut site = Site::new();
    let first = site.open();
    for _ in 1..STRANGERS_MAX {
        site.open();
    }
    assert_eq!(site.closed(), []);
    let last = site.open();
    assert_eq!(site.closed(), [(first, Vec::new())]);
    let with = Connect {
        version: V5,
        name: "a",
        ..Connect::default()
    };
    site.say(last, &connect(&with));
    assert_eq!(site.hear(last)[..2], [0x20, 15]);
}

#[test]
fn clients_beyond_their_number_are_refused_and_a_known_one_comes_back() {
    let mut site = Site::new();
    for client in 0..CLIENTS_MAX {
        site.client(V5, &client.to_string());
    }
    for (version, expected) in [(V311, vec![0x20, 2, 0, 3]), (V5, vec![0x20, 3, 0, 0x89, 0])] {
        let key = site.open();
        let with = Connect {
            version,
            name: "more",
            ..Connect::default()
        };
        site.say(key, &connect(&with));
        assert_eq!(site.closed(), [(key, expected)]);
    }
    site.client(V5, "7");
    assert_eq!(site.closed().len(), 1);
}

#[test]
fn answers_that_are_not_read_stop_the_reading() {
    let mut site = Site::new();
    let key = site.client(V311, "a");
    let pings = [0xC0, 0].repeat(READ_BYTES / 2);
    let mut reads = 0;
    while site.broker.wants_read(key) {
        site.say(key, &pings);
        reads += 1;
    }
    assert!(reads * READ_BYTES <= UNREAD_BYTES_MAX + READ_BYTES);
    site.hear(key);
    assert!(site.broker.wants_read(key));
}

#[test]
fn messages_at_qos_2_that_are_never_released_are_bounded() {
    let mut site = Site::new();
    let key = site.client(V5, "a");
    for id in 1..=RECEIVE_MAX {
        site.say(key, &publish(4, "t", Some(id), Some(&[]), b"x"));
        site.hear(key);
    }
    assert_eq!(site.closed(), []);
    site.say(
        key,
        &publish(4, "t", Some(RECEIVE_MAX + 1), Some(&[]), b"x"),
    );
    assert_eq!(site.closed(), [(key, vec![0xE0, 1, 0x93])]);
}
