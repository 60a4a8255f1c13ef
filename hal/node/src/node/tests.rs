use super::*;
use hark_wire::{FRAME_MAX, encode};

fn node(settings: &str) -> Node {
    let settings = Settings::parse(settings, |error| panic!("{error}"));
    Node::new(settings, 42)
}

/// All that is due at `now_us`.
fn due(node: &mut Node, now_us: u64) -> Vec<Message> {
    std::iter::from_fn(|| node.poll_message(now_us, 0)).collect()
}

fn readings(node: &mut Node, now_us: u64) -> Vec<Reading> {
    let reading = |message| match message {
        Message::Reading(reading) => Some(reading),
        _ => None,
    };
    due(node, now_us).into_iter().filter_map(reading).collect()
}

fn notes(node: &mut Node) -> Vec<Note> {
    std::iter::from_fn(|| node.poll_note()).collect()
}

fn hear(node: &mut Node, message: &Message, now_us: u64) {
    node.handle_bytes(encode(message, &mut [0; FRAME_MAX]), now_us);
}

fn ask(node: &mut Node, period_ms: u32, running: bool, now_us: u64) {
    let config = Config {
        period_ms,
        running,
        say_hello: false,
    };
    hear(node, &Message::Config(config), now_us);
}

#[test]
fn a_start_says_hello_once_and_a_reading_each_period() {
    let mut node = node("name=press-1");
    let first = due(&mut node, 0);
    let [Message::Hello(hello), Message::Reading(reading)] = &first[..] else {
        panic!("{first:?}")
    };
    assert_eq!((hello.node.as_str(), hello.boot_id), ("press-1", 42));
    assert_eq!((reading.sequence, reading.timestamp_us), (0, 0));
    assert_eq!(due(&mut node, 99_999), []);
    let second = readings(&mut node, 100_000);
    assert_eq!((second[0].sequence, second[0].timestamp_us), (1, 100_000));
}

#[test]
fn readings_are_those_of_the_rig_with_that_seed() {
    let mut node = node("seed=7 fault=imbalance@1s");
    let config = RigConfig {
        seed: 7,
        faults: vec!["imbalance@1s".parse().unwrap()],
        ..RigConfig::default()
    };
    let hello = node.hello.clone();
    for (expected, n) in Rig::new(config).unwrap().zip(0..100_u64) {
        let found = readings(&mut node, n * 100_000);
        let scales = hello.channels.iter();
        let values: Vec<f32> = found[0]
            .values
            .iter()
            .zip(scales)
            .filter_map(|(raw, c)| c.physical(*raw))
            .collect();
        for (found, expected) in values.iter().zip(expected.values) {
            assert!(
                (found - expected).abs() <= expected.abs() * 1e-6,
                "{n}: {values:?}"
            );
        }
    }
    assert_eq!(notes(&mut node), [Note::FaultBegan(Fault::Imbalance)]);
}

#[test]
fn the_period_and_running_are_honoured_and_a_bad_period_refuses_all() {
    let mut node = node("fault=none");
    due(&mut node, 0);
    ask(&mut node, 0, false, 50_000);
    assert_eq!(readings(&mut node, 1_000_000), []);
    ask(&mut node, 50, true, 1_000_000);
    let times: Vec<u64> = readings(&mut node, 1_100_000)
        .iter()
        .map(|r| r.timestamp_us)
        .collect();
    assert_eq!(times, [1_000_000, 1_050_000, 1_100_000]);
    ask(&mut node, 9, false, 1_100_000);
    let next = readings(&mut node, 1_150_000);
    assert_eq!(next[0].sequence, 4, "the sequence goes on");
    let configured = |period_ms, running| Note::Configured { period_ms, running };
    assert_eq!(
        notes(&mut node),
        [
            configured(100, false),
            configured(50, true),
            Note::Refused(9)
        ]
    );
}

#[test]
fn who_the_node_is_it_says_even_if_it_refuses_the_period() {
    let mut node = node("");
    due(&mut node, 0);
    let config = Config {
        period_ms: PERIOD_MS_MAX + 1,
        running: false,
        say_hello: true,
    };
    hear(&mut node, &Message::Config(config), 0);
    let said = due(&mut node, 0);
    assert!(matches!(said[..], [Message::Hello(_)]), "{said:?}");
    assert_eq!(readings(&mut node, 100_000).len(), 1, "it still runs");
    assert_eq!(notes(&mut node), [Note::Refused(PERIOD_MS_MAX + 1)]);
}

#[test]
fn a_node_that_hears_itself_says_nothing_of_it() {
    let mut node = node("fault=none");
    let mut said = due(&mut node, 0);
    said.extend(due(&mut node, 10_000_000));
    said.push(Message::Log(hark_wire::Log::default()));
    assert!(said.iter().any(|m| matches!(m, Message::Health(_))));
    notes(&mut node);
    for message in &said {
        hear(&mut node, message, 10_000_000);
    }
    assert_eq!(due(&mut node, 10_000_000), []);
    assert_eq!(notes(&mut node), []);
    assert_eq!(node.decoder.counts().rejected(), 0);
}

#[test]
fn noise_before_a_request_is_counted_and_the_request_is_met() {
    let mut node = node("");
    due(&mut node, 0);
    node.handle_bytes(b"\xff\x13noise\x00\x00", 0);
    ask(&mut node, 0, false, 0);
    let found = notes(&mut node);
    assert!(matches!(found[0], Note::Rejected(_)), "{found:?}");
    assert!(matches!(found[1], Note::Configured { running: false, .. }));
    let Some(Message::Health(health)) = node.poll_message(HEALTH_EVERY_US, 3) else {
        panic!("no health")
    };
    assert_eq!((health.frames_rejected, health.frames_dropped), (1, 3));
    assert_eq!((health.boot_id, health.uptime_s), (42, 5));
}

#[test]
fn a_node_that_was_held_up_sends_what_it_missed_within_bounds() {
    let mut node = node("fault=none");
    due(&mut node, 0);
    assert_eq!(readings(&mut node, 500_000).len(), 5);
    let after = readings(&mut node, 60_000_000);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].sequence, 600, "the gap shows");
    assert_eq!(notes(&mut node), [Note::Missed(594)]);
}

#[test]
fn of_a_line_that_babbles_the_first_frame_is_told_and_all_are_counted() {
    let mut node = node("");
    for _ in 0..10_000 {
        node.handle_bytes(b"babble\x00", 0);
    }
    node.handle_loss();
    node.handle_loss();
    let found = notes(&mut node);
    assert!(
        matches!(found[..], [Note::Rejected(_), Note::LostBytes]),
        "{found:?}"
    );
    assert_eq!(node.decoder.counts().rejected(), 10_000);
}
