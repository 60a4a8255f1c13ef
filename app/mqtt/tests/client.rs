//! What a client does as its broker comes, goes, refuses and falls silent.
//! There is no socket and no clock here: bytes and times are played.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use hark_mqtt::{Client, ClientSettings, Down, Letter, Protocol, Unpublished, Will};

fn client_settings(protocol: Protocol) -> ClientSettings {
    ClientSettings {
        letters_max: 1_000,
        ..ClientSettings::new(settings(protocol))
    }
}

fn letter(handle: u64) -> Letter {
    Letter {
        topic: format!("alert/{handle}"),
        payload: b"raised".to_vec(),
        is_retained: true,
        handle,
    }
}

/// Everything that is told, as text.
fn told(client: &mut Client) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(event) = client.poll_event() {
        told.push(format!("{event:?}"));
    }
    told
}

fn hear(client: &mut Client, bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for chunk in bytes.chunks(50) {
        client.read_space()[..chunk.len()].copy_from_slice(chunk);
        client.handle_read(chunk.len());
        all.extend(told(client));
    }
    all
}

fn said(client: &mut Client) -> Vec<u8> {
    let said = client.output().to_vec();
    client.handle_written(said.len());
    said
}

/// Opens a connection at `now_ms`, up to and with CONNECT.
fn open(client: &mut Client, now_ms: u64) {
    client.handle_time(now_ms);
    assert!(client.wants_connection());
    client.handle_opened();
    assert_eq!(said(client)[0], 0x10);
}

/// A client that is up at 0 ms, without subscriptions.
fn up(settings: ClientSettings) -> Client {
    let protocol = settings.session.protocol;
    let mut client = Client::new(settings).unwrap();
    open(&mut client, 0);
    assert_eq!(hear(&mut client, &conn_ack(protocol, 0)), ["Up"]);
    client
}

fn pub_ack(id: u16, code: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    match code {
        0 => vec![0x40, 2, high, low],
        code => vec![0x40, 3, high, low, code],
    }
}

/// The identifiers and topics of the messages at QoS 1 in `bytes`.
fn published(mut bytes: &[u8]) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (body, after) = rest.split_at(usize::from(*len));
        if first & 0xF2 == 0x32 {
            let topic_len = usize::from(body[1]);
            let topic = String::from_utf8(body[2..2 + topic_len].to_vec()).unwrap();
            let id = u16::from_be_bytes([body[2 + topic_len], body[3 + topic_len]]);
            found.push((id, topic));
        }
        bytes = after;
    }
    found
}

fn topics(published: &[(u16, String)]) -> Vec<&str> {
    published.iter().map(|(_, topic)| topic.as_str()).collect()
}

#[test]
fn an_idle_connection_is_kept() {
    for protocol in BOTH {
        let mut client = up(client_settings(protocol));
        let mut pings = 0;
        for now_s in 0..600 {
            client.handle_time(now_s * 1000);
            if said(&mut client) == b"\xC0\x00" {
                pings += 1;
                // In the very millisecond of the ping.
                assert!(hear(&mut client, &packet(0xD0, &[])).is_empty());
            }
            assert!(client.is_up(), "at {now_s} s");
        }
        assert_eq!(pings, 19);
    }
}

#[test]
fn what_came_before_the_broker_fell_silent_is_told() {
    let mut client = up(client_settings(Protocol::V311));
    let message = packet(0x30, b"\x00\x01tx");
    client.read_space()[..message.len()].copy_from_slice(&message);
    client.handle_read(message.len());
    // Nobody polls until the ping has run out.
    let silent_s = (0..200).find(|now_s| {
        client.handle_time(now_s * 1000);
        said(&mut client);
        !client.is_open()
    });
    assert!(silent_s.is_some(), "a silent broker is given up");
    let told = told(&mut client);
    assert!(told[0].starts_with("Message"), "{told:?}");
    assert!(told[1].starts_with("Down"), "{told:?}");
}

#[test]
fn a_server_keep_alive_of_zero_turns_pings_off() {
    let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
    open(&mut client, 0);
    let conn_ack = packet(0x20, b"\x00\x00\x03\x13\x00\x00");
    assert_eq!(hear(&mut client, &conn_ack), ["Up"]);
    assert_eq!(client.next_timeout_ms(), None);
    client.handle_time(u64::MAX / 2);
    assert_eq!(said(&mut client), b"");
    assert!(client.is_up());
}

#[test]
fn a_keep_alive_of_any_length_is_kept() {
    for keep_alive_s in [1, 2, 3, 4, 65_535] {
        let mut settings = client_settings(Protocol::V5);
        settings.session.keep_alive_s = keep_alive_s;
        let mut client = up(settings);
        client.handle_time(0);
        let half_ms = u64::from(keep_alive_s) * 500;
        assert_eq!(client.next_timeout_ms(), Some(half_ms));
        client.handle_time(half_ms);
        assert_eq!(said(&mut client), b"\xC0\x00", "{keep_alive_s} s");
    }
}

#[test]
fn a_broker_that_does_not_answer_connect_is_given_up() {
    let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
    open(&mut client, 1_000);
    assert_eq!(client.next_timeout_ms(), Some(6_000));
    client.handle_time(5_999);
    assert!(client.is_open());
    client.handle_time(6_000);
    assert!(!client.is_open());
    let expected = "Down { why: NoConnAck { waited_ms: 5000 }, is_young: false, retry_in_ms: 100 }";
    assert_eq!(told(&mut client), [expected]);
    assert_eq!(client.next_timeout_ms(), Some(6_100));
}

#[test]
fn a_broker_that_does_not_answer_subscribe_is_given_up() {
    let mut settings = client_settings(Protocol::V5);
    settings.subscriptions = vec![("a".to_owned(), 0)];
    let mut client = Client::new(settings).unwrap();
    open(&mut client, 0);
    assert!(hear(&mut client, &conn_ack(Protocol::V5, 0)).is_empty());
    // Whatever else it says: messages may come before SUBACK.
    for now_s in 0..10 {
        client.handle_time(now_s * 1000);
        said(&mut client);
        hear(&mut client, &publish(Protocol::V5, 0, 0, b"a", b""));
        assert!(client.is_open());
    }
    client.handle_time(10_000);
    let expected = "Down { why: NoSubAck { filter: \"a\", waited_ms: 10000 }, \
                    is_young: false, retry_in_ms: 100 }";
    assert_eq!(told(&mut client), [expected]);
}

#[test]
fn a_connection_that_is_not_made_is_given_up() {
    let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
    client.handle_time(0);
    assert!(client.wants_connection());
    client.handle_time(5_000);
    assert!(!client.wants_connection());
    let expected =
        "Down { why: NoConnection { waited_ms: 5000 }, is_young: false, retry_in_ms: 100 }";
    assert_eq!(told(&mut client), [expected]);
}

#[test]
fn each_wait_is_longer_until_a_connection_held() {
    let mut settings = client_settings(Protocol::V5);
    settings.backoff_ms = [10, 50];
    let mut client = Client::new(settings).unwrap();
    let mut now_ms = 0;
    for retry_in_ms in [10, 20, 40, 50, 50] {
        client.handle_time(now_ms);
        assert!(client.wants_connection());
        client.handle_lost(Down::Unreachable("no route".to_owned()));
        let expected = format!(
            "Down {{ why: Unreachable(\"no route\"), is_young: false, retry_in_ms: {retry_in_ms} }}"
        );
        assert_eq!(told(&mut client), [expected]);
        client.handle_time(now_ms + retry_in_ms - 1);
        assert!(!client.wants_connection());
        now_ms += retry_in_ms;
    }
    for (held_ms, is_young, retry_in_ms) in [(4_999, true, 50), (5_000, false, 10)] {
        open(&mut client, now_ms);
        hear(&mut client, &conn_ack(Protocol::V5, 0));
        now_ms += held_ms;
        client.handle_time(now_ms);
        client.handle_lost(Down::Closed);
        let expected =
            format!("Down {{ why: Closed, is_young: {is_young}, retry_in_ms: {retry_in_ms} }}");
        assert_eq!(told(&mut client), [expected]);
        now_ms += retry_in_ms;
    }
}

#[test]
fn many_topics_are_asked_for_in_packets_that_a_broker_takes() {
    for protocol in BOTH {
        for count in [1, 8, 16, 17, 1_000] {
            let mut settings = client_settings(protocol);
            let filter = |index| (format!("sensors/{index}"), 1);
            settings.subscriptions = (0..count).map(filter).collect();
            // So that eight do not always find room.
            settings.write_buffer_bytes = 0;
            let mut client = Client::new(settings).unwrap();
            open(&mut client, 0);
            assert!(hear(&mut client, &conn_ack(protocol, 0)).is_empty());
            let mut asked = 0;
            for id in 1.. {
                let bytes = said(&mut client);
                let filters = bytes.windows(8).filter(|text| *text == b"sensors/").count();
                assert!((1..=8).contains(&filters), "{filters} in one packet");
                assert_eq!(bytes[0], 0x82, "one packet at a time");
                asked += filters;
                let told = hear(&mut client, &sub_ack(protocol, id, &vec![1; filters]));
                if asked == count {
                    assert_eq!(told, ["Up"]);
                    break;
                }
                assert!(told.is_empty());
            }
        }
    }
}

/// What is told of four filters of which two are refused.
fn refused_subscriptions(needs_every_subscription: bool) -> Vec<String> {
    let mut settings = client_settings(Protocol::V5);
    let filters = ["a", "b", "c", "d"];
    settings.subscriptions = filters.map(|filter| (filter.to_owned(), 0)).into();
    settings.needs_every_subscription = needs_every_subscription;
    let mut client = Client::new(settings).unwrap();
    open(&mut client, 0);
    hear(&mut client, &conn_ack(Protocol::V5, 0));
    hear(&mut client, &sub_ack(Protocol::V5, 1, &[0, 0x87, 0, 0x8F]))
}

#[test]
fn refused_subscriptions_are_told_by_their_topics() {
    let b = "SubscriptionRefused { filter: \"b\", code: 135, \
             reason: \"this client is not authorized\" }";
    let d = "SubscriptionRefused { filter: \"d\", code: 143, \
             reason: \"a topic filter is invalid or not allowed\" }";
    assert_eq!(refused_subscriptions(false), [b, d, "Up"]);
    let down = "Down { why: SubscriptionsRefused { filter: \"b\", others: 1 }, \
                is_young: false, retry_in_ms: 100 }";
    assert_eq!(refused_subscriptions(true), [b, d, down]);
    let text = Down::SubscriptionsRefused {
        filter: "b".to_owned(),
        others: 1,
    };
    let expected = "it refuses the subscription to b and to 1 more";
    assert_eq!(text.to_string(), expected);
}

#[test]
fn letters_wait_for_a_broker_and_leave_in_order() {
    for protocol in BOTH {
        let mut client = Client::new(client_settings(protocol)).unwrap();
        for handle in 1..=3 {
            assert_eq!(client.post(letter(handle)), None);
        }
        assert_eq!(said(&mut client), b"");
        open(&mut client, 0);
        hear(&mut client, &conn_ack(protocol, 0));
        let sent = published(&said(&mut client));
        assert_eq!(topics(&sent), ["alert/1", "alert/2", "alert/3"]);
        assert_eq!(client.waiting(), 3);
        // Answers in another order are told in the letters'.
        assert!(hear(&mut client, &pub_ack(sent[2].0, 0)).is_empty());
        let expected = ["Published { handle: 1 }"];
        assert_eq!(hear(&mut client, &pub_ack(sent[0].0, 0)), expected);
        let expected = ["Published { handle: 2 }", "Published { handle: 3 }"];
        assert_eq!(hear(&mut client, &pub_ack(sent[1].0, 0)), expected);
        assert_eq!(client.waiting(), 0);
    }
}

#[test]
fn what_was_not_acknowledged_is_sent_again_on_the_next_connection() {
    let protocol = Protocol::V5;
    let mut client = up(client_settings(protocol));
    for handle in 1..=4 {
        client.post(letter(handle));
    }
    let sent = published(&said(&mut client));
    hear(&mut client, &pub_ack(sent[0].0, 0));
    hear(&mut client, &pub_ack(sent[2].0, 0));
    client.handle_lost(Down::Closed);
    assert_eq!(told(&mut client).len(), 1);
    open(&mut client, 200);
    // Nothing before CONNACK.
    assert_eq!(said(&mut client), b"");
    hear(&mut client, &conn_ack(protocol, 0));
    let sent = published(&said(&mut client));
    // From the first that is open, those behind it too: of two states of one
    // topic the broker is to keep the later.
    assert_eq!(topics(&sent), ["alert/2", "alert/3", "alert/4"]);
    let told: Vec<_> = sent
        .iter()
        .flat_map(|(id, _)| hear(&mut client, &pub_ack(*id, 0)))
        .collect();
    let expected = [2, 3, 4].map(|handle| format!("Published {{ handle: {handle} }}"));
    assert_eq!(told, expected);
}

#[test]
fn no_identifier_outlives_its_connection() {
    let protocol = Protocol::V5;
    let mut client = up(client_settings(protocol));
    client.post(letter(1));
    client.post(letter(2));
    let old = published(&said(&mut client));
    client.handle_lost(Down::Closed);
    told(&mut client);
    open(&mut client, 200);
    // The acknowledgement of a message that this connection has not sent.
    hear(&mut client, &conn_ack(protocol, 0));
    let told = hear(&mut client, &pub_ack(old[1].0 + 7, 0));
    assert!(told[0].contains("that was never sent"), "{told:?}");
    assert_eq!(client.waiting(), 2);
}

#[test]
fn a_refused_letter_is_told_with_its_reason_and_not_as_published() {
    let protocol = Protocol::V5;
    let mut client = up(client_settings(protocol));
    for handle in 1..=3 {
        client.post(letter(handle));
    }
    let sent = published(&said(&mut client));
    // "No matching subscribers" (5.0, 3.4.2.1) is a success.
    let expected = ["Published { handle: 1 }"];
    assert_eq!(hear(&mut client, &pub_ack(sent[0].0, 0x10)), expected);
    let expected = "Refused { handle: 2, topic: \"alert/2\", code: 135, \
                    reason: \"this client is not authorized\" }";
    assert_eq!(hear(&mut client, &pub_ack(sent[1].0, 0x87)), [expected]);
    assert_eq!(client.waiting(), 1);
    // It is over with: not sent again.
    client.handle_lost(Down::Closed);
    told(&mut client);
    open(&mut client, 200);
    hear(&mut client, &conn_ack(protocol, 0));
    let sent = published(&said(&mut client));
    assert_eq!(topics(&sent), ["alert/3"]);
}

#[test]
fn what_the_broker_says_that_it_does_not_take_is_refused_and_not_sent() {
    let check = |properties: &[u8], code: u8| {
        let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
        open(&mut client, 0);
        let body = [&[0, 0, properties.len() as u8], properties].concat();
        hear(&mut client, &packet(0x20, &body));
        client.post(letter(1));
        let told = told(&mut client);
        assert!(told[0].contains(&format!("code: {code}")), "{told:?}");
        assert_eq!(said(&mut client), b"");
    };
    check(&[0x27, 0, 0, 0, 10], 0x95);
    check(&[0x24, 0], 0x9B);
    check(&[0x25, 0], 0x9A);
}

#[test]
fn no_more_letters_are_under_way_than_the_broker_takes() {
    let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
    for handle in 0..200 {
        client.post(letter(handle));
    }
    open(&mut client, 0);
    hear(&mut client, &packet(0x20, b"\x00\x00\x03\x21\x00\x02"));
    let mut sent = published(&said(&mut client));
    for _ in 0..198 {
        assert_eq!(sent.len(), 2);
        let (id, _) = sent.remove(0);
        assert_eq!(hear(&mut client, &pub_ack(id, 0)).len(), 1);
        client.handle_time(0);
        sent.extend(published(&said(&mut client)));
    }
}

#[test]
fn an_identifier_under_way_is_not_given_twice() {
    let mut client = up(client_settings(Protocol::V311));
    client.post(letter(0));
    let first = published(&said(&mut client));
    for handle in 1..70_000 {
        client.post(letter(handle));
        let sent = published(&said(&mut client));
        if let [(id, _)] = sent[..] {
            assert_ne!(id, first[0].0);
            hear(&mut client, &pub_ack(id, 0));
        }
    }
}

#[test]
fn when_there_are_too_many_the_oldest_gives_way_unless_it_is_under_way() {
    let mut settings = client_settings(Protocol::V5);
    settings.letters_max = 2;
    let mut client = up(settings);
    assert_eq!(client.post(letter(1)), None);
    assert_eq!(client.post(letter(2)), None);
    said(&mut client);
    // Both may be acknowledged at any moment.
    assert_eq!(client.post(letter(3)), Some(letter(3)));
    client.handle_lost(Down::Closed);
    told(&mut client);
    assert_eq!(client.post(letter(4)), Some(letter(1)));
    assert_eq!(client.waiting(), 2);
    let huge = Letter {
        payload: vec![0; 1 << 20],
        ..letter(5)
    };
    assert_eq!(client.post(huge.clone()), Some(huge));
    assert_eq!(client.waiting(), 2);
}

#[test]
fn each_connection_is_greeted_first_and_once() {
    let protocol = Protocol::V5;
    let mut settings = client_settings(protocol);
    settings.greeting = Some(Letter {
        topic: "status".to_owned(),
        ..letter(99)
    });
    let mut client = Client::new(settings).unwrap();
    client.post(letter(1));
    for now_ms in [0, 1_000, 2_000] {
        open(&mut client, now_ms);
        hear(&mut client, &conn_ack(protocol, 0));
        let sent = published(&said(&mut client));
        assert_eq!(topics(&sent), ["status", "alert/1"]);
        assert_eq!(client.waiting(), 1);
        client.handle_lost(Down::Closed);
        told(&mut client);
    }
}

#[test]
fn a_goodbye_follows_the_last_acknowledgement() {
    let protocol = Protocol::V5;
    let mut client = up(client_settings(protocol));
    client.post(letter(1));
    let first = published(&said(&mut client));
    let farewell = Letter {
        topic: "status".to_owned(),
        ..letter(99)
    };
    client.leave(Some(farewell), 800);
    let last = published(&said(&mut client));
    assert_eq!(topics(&last), ["status"]);
    hear(&mut client, &pub_ack(first[0].0, 0));
    client.handle_time(1);
    assert_eq!(said(&mut client), b"");
    hear(&mut client, &pub_ack(last[0].0, 0));
    client.handle_time(2);
    assert!(!client.is_gone());
    assert_eq!(said(&mut client), b"\xE0\x00");
    assert!(client.is_gone());
    assert_eq!(client.next_timeout_ms(), None);
}

#[test]
fn a_farewell_gives_way_to_no_letter() {
    // As many as may be under way at once, so that the farewell has to wait.
    const UNDER_WAY: u64 = 100;
    let mut settings = client_settings(Protocol::V311);
    settings.letters_max = UNDER_WAY as usize;
    let mut client = up(settings);
    let mut sent = Vec::new();
    for handle in 1..=UNDER_WAY {
        client.post(letter(handle));
        sent.extend(published(&said(&mut client)));
    }
    assert_eq!(sent.len() as u64, UNDER_WAY);
    let farewell = Letter {
        topic: "status".to_owned(),
        ..letter(0)
    };
    client.leave(Some(farewell), 800);
    let late = letter(UNDER_WAY + 1);
    assert_eq!(client.post(late.clone()), Some(late));
    for (id, _) in sent {
        hear(&mut client, &pub_ack(id, 0));
    }
    client.handle_time(1);
    assert_eq!(topics(&published(&said(&mut client))), ["status"]);
    assert_eq!(client.waiting(), 0);
}

#[test]
fn a_goodbye_ends_whatever_the_broker_does() {
    // It acknowledges nothing.
    let mut client = up(client_settings(Protocol::V5));
    client.post(letter(1));
    said(&mut client);
    client.leave(None, 800);
    assert_eq!(client.next_timeout_ms(), Some(800));
    client.handle_time(800);
    assert_eq!(said(&mut client), b"\xE0\x00");
    assert!(client.is_gone());
    assert_eq!(client.waiting(), 1);
    // It reads nothing.
    let mut client = up(client_settings(Protocol::V5));
    client.leave(None, 800);
    client.handle_time(800);
    assert!(client.is_gone());
    // It closes.
    let mut client = up(client_settings(Protocol::V5));
    client.post(letter(1));
    client.leave(None, 800);
    client.handle_lost(Down::Closed);
    assert_eq!(told(&mut client).len(), 1);
    assert!(client.is_gone());
    // It was never there.
    let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
    client.handle_time(0);
    client.leave(None, 800);
    assert!(client.is_gone());
    assert!(!client.wants_connection());
}

#[test]
fn a_broker_that_never_reads_is_waited_for() {
    let protocol = Protocol::V311;
    let mut client = up(client_settings(protocol));
    client.handle_time(0);
    let mut id = 0;
    while told_one(&mut client, protocol, &mut id) {}
    // Messages wait for room for their acknowledgements, and asking for events
    // again gives none: there is nothing to do until the socket takes some.
    assert!(!client.has_more());
    assert!(client.poll_event().is_none());
    assert!(client.next_timeout_ms() >= Some(30_000));
    client.handle_time(30_000);
    assert!(
        client.next_timeout_ms() > Some(30_000),
        "nothing is due now"
    );
    assert!(!client.has_more());
    // When it takes some, what waited is told although nothing more arrives.
    client.handle_written(100);
    assert!(client.has_more());
    assert!(client.poll_event().is_some());
    // And if it never does, it is given up.
    client.handle_time(30_001);
    client.handle_time(90_001);
    assert!(told(&mut client).last().unwrap().contains("Deaf"));
}

/// Feeds a message at QoS 1; whether it was told.
fn told_one(client: &mut Client, protocol: Protocol, id: &mut u16) -> bool {
    *id += 1;
    let bytes = publish(protocol, 1, *id, b"t", b"x");
    let space = client.read_space();
    let Some(space) = space.get_mut(..bytes.len()) else {
        return false;
    };
    space.copy_from_slice(&bytes);
    client.handle_read(bytes.len());
    !told(client).is_empty()
}

#[test]
fn what_a_lost_connection_brought_is_still_told() {
    let mut client = up(client_settings(Protocol::V5));
    let bytes = publish(Protocol::V5, 1, 1, b"t", b"x");
    client.read_space()[..bytes.len()].copy_from_slice(&bytes);
    client.handle_read(bytes.len());
    client.handle_lost(Down::Closed);
    assert!(!client.is_open());
    assert!(client.has_more());
    let told = told(&mut client);
    assert!(told[0].starts_with("Message"), "{told:?}");
    assert!(told[1].starts_with("Down"), "{told:?}");
    assert!(!client.has_more());
}

#[test]
fn nothing_is_published_without_a_connection() {
    let mut client = Client::new(client_settings(Protocol::V5)).unwrap();
    assert_eq!(client.publish(&["t"], b""), Err(Unpublished::Down));
    open(&mut client, 0);
    assert_eq!(client.publish(&["t"], b""), Err(Unpublished::Down));
    hear(&mut client, &conn_ack(Protocol::V5, 0));
    assert_eq!(client.publish(&["t"], b""), Ok(()));
    client.handle_lost(Down::Closed);
    assert_eq!(client.publish(&["t"], b""), Err(Unpublished::Down));
}

#[test]
fn a_topic_that_is_no_text_ends_the_connection() {
    let mut client = up(client_settings(Protocol::V5));
    let bytes = publish(Protocol::V5, 0, 0, b"\xFF", b"");
    assert!(hear(&mut client, &bytes).is_empty());
    assert!(client.has_more(), "it is told at the next turn");
    assert!(told(&mut client)[0].contains("is not UTF-8"));
}

#[test]
fn a_retained_message_says_so() {
    let mut client = up(client_settings(Protocol::V311));
    let mut bytes = publish(Protocol::V311, 0, 0, b"t", b"");
    bytes[0] |= 1;
    let expected = "Message { topic: \"t\", payload: [], is_retained: true }";
    assert_eq!(hear(&mut client, &bytes), [expected]);
}

#[test]
fn the_bytes_of_a_will_and_of_a_letter() {
    // 3.1.1, 3.1.2.5 to 3.1.2.7, 3.1.3.2 and 3.3; 5.0, 3.1.3.2 and 3.3.
    let check = |protocol, connect: &[u8], publish: &[u8]| {
        let mut settings = client_settings(protocol);
        settings.session.login = Some(("me".to_owned(), "pw".to_owned()));
        settings.will = Some(Will {
            topic: "w".to_owned(),
            payload: "gone".to_owned(),
        });
        let mut client = Client::new(settings).unwrap();
        client.handle_time(0);
        client.handle_opened();
        assert_eq!(said(&mut client), connect);
        hear(&mut client, &conn_ack(protocol, 0));
        client.post(letter(7));
        assert_eq!(said(&mut client), publish);
    };
    check(
        Protocol::V311,
        b"\x10\x21\x00\x04MQTT\x04\xEE\x00\x3C\x00\x04hark\x00\x01w\x00\x04gone\x00\x02me\x00\x02pw",
        b"\x33\x11\x00\x07alert/7\x00\x01raised",
    );
    check(
        Protocol::V5,
        b"\x10\x23\x00\x04MQTT\x05\xEE\x00\x3C\x00\x00\x04hark\x00\x00\x01w\x00\x04gone\x00\x02me\x00\x02pw",
        b"\x33\x12\x00\x07alert/7\x00\x01\x00raised",
    );
}
