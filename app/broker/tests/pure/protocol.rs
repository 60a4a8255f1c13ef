//! What a client of either version may rely on.

use crate::peer::{
    Connect, Site, V5, V311, connect, packet, publish, subscribe, text, unsubscribe,
};
use hark_broker::Login;

/// Granted by both versions.
fn suback(version: u8, id: u8, codes: &[u8]) -> Vec<u8> {
    let head: &[u8] = if version == V5 { &[0, id, 0] } else { &[0, id] };
    packet(0x90, &[head, codes].concat())
}

#[test]
fn each_connect_says_which_version_it_speaks() {
    let mut site = Site::new();
    let (old, new) = (site.client(V311, "old"), site.client(V5, "new"));
    site.say(old, &subscribe(V311, 1, &[("a", 0)]));
    site.say(new, &subscribe(V5, 1, &[("a", 0)]));
    assert_eq!(site.hear(old), suback(V311, 1, &[0]));
    assert_eq!(site.hear(new), suback(V5, 1, &[0]));
    site.say(old, &publish(0, "a", None, None, b"x"));
    assert_eq!(site.hear(old), publish(0, "a", None, None, b"x"));
    assert_eq!(site.hear(new), publish(0, "a", None, Some(&[]), b"x"));
}

#[test]
fn another_version_is_refused_in_words_that_it_knows() {
    let mut site = Site::new();
    let key = site.open();
    let body = [text("MQIsdp"), vec![3, 2, 0, 0], text("a")].concat();
    site.say(key, &packet(0x10, &body));
    assert_eq!(site.closed(), [(key, vec![0x20, 2, 0, 1])]);
}

#[test]
fn whatever_comes_before_connect_ends_the_connection() {
    let first = [
        publish(0, "a", None, None, b"x"),
        publish(2, "a", Some(1), Some(&[]), b"x"),
        subscribe(V5, 1, &[("a", 0)]),
        unsubscribe(V5, 1, &["a"]),
        vec![0xC0, 0],
        vec![0xE0, 0],
        vec![0x40, 2, 0, 1],
        vec![0x62, 2, 0, 1],
        vec![0xF0, 0],
        vec![0x00, 0],
        vec![0x20, 2, 0, 0],
    ];
    for bytes in first {
        let mut site = Site::new();
        let key = site.open();
        site.say(key, &bytes);
        assert_eq!(site.closed(), [(key, Vec::new())], "{bytes:02x?}");
        assert_eq!(site.broker.counts().connects_refused, 1);
    }
}

#[test]
fn only_the_right_login_is_let_in() {
    let login = Login {
        required: Some(("me".to_owned(), "secret".to_owned())),
    };
    let check = |version, login_of_peer, expected: &[u8]| {
        let mut site = Site::with_login(login.clone());
        let key = site.open();
        let with = Connect {
            version,
            name: "a",
            login: login_of_peer,
            ..Connect::default()
        };
        site.say(key, &connect(&with));
        assert_eq!(site.closed(), [(key, expected.to_vec())]);
    };
    for wrong in [
        None,
        Some(("me", "")),
        Some(("me", "secret2")),
        Some(("you", "secret")),
    ] {
        check(V311, wrong, &[0x20, 2, 0, 4]);
        check(V5, wrong, &[0x20, 3, 0, 0x86, 0]);
    }
    let mut site = Site::with_login(login);
    site.connected(&Connect {
        version: V5,
        name: "a",
        login: Some(("me", "secret")),
        ..Connect::default()
    });
    assert_eq!(site.broker.counts().connects, 1);
}

#[test]
fn a_client_without_a_name_is_given_one() {
    let mut site = Site::new();
    site.client(V311, "");
    let key = site.open();
    site.say(
        key,
        &connect(&Connect {
            version: V5,
            ..Connect::default()
        }),
    );
    let answer = site.hear(key);
    let name = answer.windows(5).any(|bytes| bytes == b"auto-");
    assert!(name, "{answer:02x?}");
}

#[test]
fn a_session_that_should_be_kept_is_told_that_it_is_not() {
    let mut site = Site::new();
    let key = site.open();
    let properties = [0x11, 0, 0, 1, 0];
    site.say(
        key,
        &connect(&Connect {
            version: V5,
            name: "a",
            properties: &properties,
            ..Connect::default()
        }),
    );
    let answer = site.hear(key);
    assert_eq!(answer[2..5], [0, 0, answer[4]]);
    assert_eq!(answer[5..10], [0x11, 0, 0, 0, 0]);
}

#[test]
fn a_message_at_qos_1_is_acknowledged_on_both_sides() {
    let mut site = Site::new();
    let (from, to) = (site.client(V5, "from"), site.client(V311, "to"));
    site.say(to, &subscribe(V311, 1, &[("a/+", 2)]));
    // More than once is not asked for by a number.
    assert_eq!(site.hear(to), suback(V311, 1, &[1]));
    site.say(from, &publish(2, "a/b", Some(7), Some(&[]), b"x"));
    assert_eq!(site.hear(from), [0x40, 2, 0, 7]);
    assert_eq!(site.hear(to), publish(2, "a/b", Some(1), None, b"x"));
    site.say(from, &publish(2, "nobody", Some(8), Some(&[]), b"x"));
    assert_eq!(site.hear(from), [0x40, 3, 0, 8, 0x10]);
}

#[test]
fn a_message_at_qos_2_is_taken_once() {
    let mut site = Site::new();
    let (from, to) = (site.client(V311, "from"), site.client(V311, "to"));
    site.say(to, &subscribe(V311, 1, &[("a", 0)]));
    site.hear(to);
    for _ in 0..2 {
        site.say(from, &publish(4, "a", Some(7), None, b"x"));
        assert_eq!(site.hear(from), [0x50, 2, 0, 7]);
    }
    site.say(from, &[0x62, 2, 0, 7]);
    assert_eq!(site.hear(from), [0x70, 2, 0, 7]);
    assert_eq!(site.hear(to), publish(0, "a", None, None, b"x"));
    site.say(from, &publish(4, "a", Some(7), None, b"y"));
    assert_eq!(site.hear(to), publish(0, "a", None, None, b"y"));
}

#[test]
fn retained_messages_are_sent_to_who_comes_later() {
    let mut site = Site::new();
    let from = site.client(V311, "from");
    for (topic, payload) in [("a/1", "x"), ("a/2", "y"), ("b", "z"), ("a/1", "")] {
        site.say(from, &publish(1, topic, None, None, payload.as_bytes()));
    }
    let to = site.client(V311, "to");
    site.say(to, &subscribe(V311, 1, &[("a/#", 0)]));
    let expected = [suback(V311, 1, &[0]), publish(1, "a/2", None, None, b"y")];
    assert_eq!(site.hear(to), expected.concat());
    // What comes then is news.
    site.say(from, &publish(1, "a/2", None, None, b"w"));
    assert_eq!(site.hear(to), publish(0, "a/2", None, None, b"w"));
}

#[test]
fn retain_handling_and_retain_as_published_are_as_asked_for() {
    const KEEPS_RETAIN: u8 = 8;
    const IF_NEW: u8 = 0x10;
    const NOT: u8 = 0x20;
    let mut site = Site::new();
    let key = site.client(V5, "a");
    site.say(key, &publish(1, "t", None, Some(&[]), b"x"));
    let kept = publish(1, "t", None, Some(&[]), b"x");
    let check = |site: &mut Site, options, expected: &[u8]| {
        site.say(key, &subscribe(V5, 1, &[("t", options)]));
        let answer = [suback(V5, 1, &[0]), expected.to_vec()].concat();
        assert_eq!(site.hear(key), answer, "{options:#x}");
    };
    check(&mut site, NOT, &[]);
    check(&mut site, IF_NEW, &[]);
    check(&mut site, KEEPS_RETAIN, &kept);
    site.say(key, &kept);
    assert_eq!(site.hear(key), kept);
    site.say(key, &unsubscribe(V5, 2, &["t", "other"]));
    assert_eq!(site.hear(key), packet(0xB0, &[0, 2, 0, 0, 0x11]));
    check(&mut site, IF_NEW, &kept);
}

#[test]
fn own_messages_do_not_come_back_where_not_asked_for() {
    let mut site = Site::new();
    let (key, other) = (site.client(V5, "a"), site.client(V5, "b"));
    site.say(key, &subscribe(V5, 1, &[("t", 4)]));
    site.hear(key);
    site.say(key, &publish(0, "t", None, Some(&[]), b"own"));
    site.say(other, &publish(0, "t", None, Some(&[]), b"other"));
    assert_eq!(site.hear(key), publish(0, "t", None, Some(&[]), b"other"));
}

#[test]
fn filters_that_overlap_bring_a_message_once() {
    let mut site = Site::new();
    let key = site.client(V311, "a");
    site.say(
        key,
        &subscribe(V311, 1, &[("#", 0), ("a/+", 1), ("a/b", 0)]),
    );
    site.hear(key);
    site.say(key, &publish(2, "a/b", Some(9), None, b"x"));
    let expected = [publish(2, "a/b", Some(1), None, b"x"), vec![0x40, 2, 0, 9]];
    assert_eq!(site.hear(key), expected.concat());
}

#[test]
fn properties_that_matter_go_on_and_the_expiry_runs() {
    let mut site = Site::new();
    let (from, to) = (site.client(V5, "from"), site.client(V5, "to"));
    let forwarded = [
        [vec![0x01, 1], [vec![0x03], text("json")].concat()].concat(),
        [vec![0x08], text("reply")].concat(),
        [vec![0x09], text("id")].concat(),
        [vec![0x26], text("name"), text("value")].concat(),
    ]
    .concat();
    let with_expiry = |seconds: u8| [vec![0x02, 0, 0, 0, seconds], forwarded.clone()].concat();
    site.say(from, &publish(1, "t", None, Some(&with_expiry(10)), b"x"));
    site.pass(3_500);
    site.say(to, &subscribe(V5, 1, &[("t", 0)]));
    let expected = publish(1, "t", None, Some(&with_expiry(7)), b"x");
    assert_eq!(site.hear(to), [suback(V5, 1, &[0]), expected].concat());
    site.pass(6_500);
    site.say(to, &subscribe(V5, 1, &[("t", 0)]));
    assert_eq!(site.hear(to), suback(V5, 1, &[0]));
}

#[test]
fn a_will_is_published_unless_its_client_says_goodbye() {
    let with = Connect {
        version: V5,
        name: "a",
        will: Some(("gone", "a", 0x20)),
        ..Connect::default()
    };
    let check = |end: &dyn Fn(&mut Site, hark_broker::ClientKey), expected: bool| {
        let mut site = Site::new();
        let to = site.client(V311, "to");
        site.say(to, &subscribe(V311, 1, &[("gone", 0)]));
        site.hear(to);
        let key = site.connected(&with);
        end(&mut site, key);
        let heard = site.hear(to);
        assert_eq!(heard == publish(0, "gone", None, None, b"a"), expected);
        assert_eq!(heard.is_empty(), !expected);
    };
    check(&Site::close, true);
    check(&|site, key| site.say(key, &[0xE0, 0]), false);
    check(&|site, key| site.say(key, &[0xE0, 1, 4]), true);
    check(&|site, key| site.say(key, &[0xFF, 0]), true);
    // A stop of the broker says nothing of its clients.
    check(&|site, _| site.broker.handle_stop(site.now_ms), false);
}

#[test]
fn a_client_of_the_same_name_takes_the_place() {
    let mut site = Site::new();
    let to = site.client(V311, "to");
    site.say(to, &subscribe(V311, 1, &[("gone", 0)]));
    site.hear(to);
    let with = Connect {
        version: V5,
        name: "a",
        will: Some(("gone", "a", 0)),
        ..Connect::default()
    };
    let before = site.connected(&with);
    let after = site.connected(&with);
    assert_eq!(site.closed(), [(before, vec![0xE0, 1, 0x8E])]);
    assert_eq!(site.hear(to), publish(0, "gone", None, None, b"a"));
    site.say(after, &[0xC0, 0]);
    assert_eq!(site.hear(after), [0xD0, 0]);
}

#[test]
fn who_is_silent_for_one_and_a_half_keep_alives_is_let_go() {
    let mut site = Site::new();
    let key = site.connected(&Connect {
        version: V5,
        name: "a",
        keep_alive_s: 10,
        ..Connect::default()
    });
    let patient = site.client(V5, "patient");
    site.pass(14_999);
    assert_eq!(site.closed(), []);
    site.say(key, &[0xC0, 0]);
    site.hear(key);
    site.pass(14_999);
    assert_eq!(site.closed(), []);
    site.pass(1);
    assert_eq!(site.closed(), [(key, vec![0xE0, 1, 0x8D])]);
    site.pass(1 << 40);
    assert_eq!(site.closed(), []);
    site.say(patient, &[0xC0, 0]);
    assert_eq!(site.hear(patient), [0xD0, 0]);
}

#[test]
fn a_connection_that_says_nothing_is_ended() {
    let mut site = Site::new();
    let key = site.open();
    for _ in 0..10 {
        site.pass(1_000);
        // A byte now and then is not a CONNECT.
        site.say(key, &connect(&Connect::default())[..1]);
    }
    assert_eq!(site.closed().len(), 1);
    let key = site.open();
    site.pass(9_999);
    assert_eq!(site.closed(), []);
    assert_eq!(site.broker.next_timeout_ms(), Some(site.now_ms + 1));
    site.pass(1);
    assert_eq!(site.closed(), [(key, Vec::new())]);
}

#[test]
fn what_is_not_served_is_refused_with_its_reason() {
    let mut site = Site::new();
    let key = site.client(V5, "a");
    let filters = [("$share/g/t", 0), ("a/#/b", 0), ("ok", 2)];
    site.say(key, &subscribe(V5, 1, &filters));
    assert_eq!(site.hear(key), suback(V5, 1, &[0x9E, 0x8F, 1]));
    let old = site.client(V311, "old");
    site.say(old, &subscribe(V311, 1, &filters));
    assert_eq!(site.hear(old), suback(V311, 1, &[0x80, 0x80, 1]));
    assert_eq!(site.broker.counts().subscriptions_refused, 4);
    let check = |bytes: &[u8], code: u8| {
        let mut site = Site::new();
        let key = site.client(V5, "a");
        site.say(key, bytes);
        assert_eq!(site.closed(), [(key, vec![0xE0, 1, code])], "{bytes:02x?}");
    };
    check(&publish(0, "", None, Some(&[0x23, 0, 1]), b"x"), 0x94);
    check(&publish(0, "a/+", None, Some(&[]), b"x"), 0x90);
    let with_id = [&[0, 1, 2, 0x0B, 5], &text("a")[..], &[0]].concat();
    check(&packet(0x82, &with_id), 0xA1);
    check(&connect(&Connect::default()), 0x82);
    check(&[0xF0, 0], 0x82);
    check(&[0xC1, 0], 0x81);
}

#[test]
fn a_client_gets_no_more_at_once_than_it_takes() {
    let mut site = Site::new();
    let from = site.client(V311, "from");
    let to = site.connected(&Connect {
        version: V5,
        name: "to",
        // Receive maximum 2, packets of 20 bytes.
        properties: &[0x21, 0, 2, 0x27, 0, 0, 0, 20],
        ..Connect::default()
    });
    site.say(to, &subscribe(V5, 1, &[("t", 1)]));
    site.hear(to);
    for id in 1..=4 {
        site.say(from, &publish(2, "t", Some(id), None, b"x"));
    }
    site.say(from, &publish(2, "t", Some(5), None, &[0; 20]));
    let sent = |id| publish(2, "t", Some(id), Some(&[]), b"x");
    assert_eq!(site.hear(to), [sent(1), sent(2)].concat());
    site.say(to, &[0x40, 2, 0, 2]);
    assert_eq!(site.hear(to), sent(3));
    site.say(to, &[0x40, 2, 0, 1, 0x40, 2, 0, 3]);
    assert_eq!(site.hear(to), sent(4));
    assert_eq!(site.broker.counts().messages_dropped, 1);
}
