//! What one engine knew of its sensors, and the next goes on with.

use super::*;
use AlertKind::{Anomaly, Range, Silent};
use AlertState::{Cleared, Raised};

const SECOND_US: u64 = 1_000_000;
/// Readings of a stream, a second apart: past what the rule learns from.
const READINGS: u64 = 160;
const POLICY: AlertPolicy = AlertPolicy {
    watches_range: true,
    silent_after_us: 5 * SECOND_US,
    link_down_us: 0,
};

/// Windows of four readings and no model: the rule scores them.
fn engine(sensors_max: usize, policy: AlertPolicy) -> Engine {
    let toml = r#"
        window = { length = 4, stride = 3 }
        features = [{ kind = "raw" }, { kind = "std" }]
        score = { kind = "output", index = 0 }
        verdict = { threshold = 0.5, k = 2, n = 5, clear_ratio = 0.5, hold_off_ms = 9000 }
        [schema]
        period_ms = 1000.0
        channels = [{ name = "x", unit = "g", min = -100.0, max = 100.0, rate_max = 50.0 }]
    "#;
    let limits = Limits {
        sensors_max,
        is_caching: true,
        alerts: policy,
        ..limits()
    };
    Engine::new(
        &toml::from_str(toml).unwrap(),
        limits,
        LadderPolicy::default(),
        &[],
    )
    .unwrap()
}

fn hand_over(from: Engine, to: &mut Engine, alerts: AlertMemory, now_us: u64) -> Vec<String> {
    let mut known = Vec::new();
    let note = |id: SensorId, name: &std::sync::Arc<str>| known.push((id, name.to_string()));
    to.handle_memories(from.into_memories(), alerts, now_us, note);
    for (id, name) in &known {
        assert_eq!(to.find(name), Some(*id));
    }
    known.into_iter().map(|(_, name)| name).collect()
}

fn hear(engine: &mut Engine, name: &str, at_us: u64) {
    let sensor = engine.take_in(name).unwrap();
    let reading = Reading::empty(1);
    engine.handle_reading(sensor, &reading, now(at_us).into(), |_| {});
}

/// What a noisy stream that leaves its range, repeats itself and ends in a fault
/// brings, with a hand-over before reading `at`.
fn stream(at: u64) -> Vec<Output> {
    let mut engine = engine(2, POLICY);
    let mut said = Vec::new();
    for index in 0..READINGS {
        if index == at {
            let mut next = self::engine(2, POLICY);
            // As a feed does whose sensor the operator names.
            next.sensor("a").unwrap();
            let before = std::mem::replace(&mut engine, next);
            hand_over(
                before,
                &mut engine,
                AlertMemory::Whole,
                index * SECOND_US - 1,
            );
        }
        let x = match index {
            40 => 200.0,
            60 => 99.0,
            140.. => 30.0,
            _ => (index * 7919 % 11) as f32,
        };
        let sequence = if index % 17 == 16 { index - 3 } else { index };
        read(&mut engine, sequence, x, index * SECOND_US);
        said.extend(std::iter::from_fn(|| engine.poll_output()));
    }
    said
}

#[test]
fn a_hand_over_at_any_reading_changes_nothing_that_is_said() {
    let expected = stream(u64::MAX);
    let is_raised = |output: &Output| matches!(output, Output::Alert(Alert::Anomaly(_)));
    assert!(expected.iter().any(is_raised), "the fault is found");
    for at in 1..READINGS {
        assert_eq!(stream(at), expected, "handed over at {at}");
    }
}

/// An engine whose sensor has an alert of each kind, and one that has none.
fn alerted() -> Engine {
    let mut engine = engine(2, POLICY);
    for index in 0..150 {
        let x = if index < 130 {
            (index % 2) as f32
        } else {
            40.0
        };
        read(&mut engine, index, x, index * SECOND_US);
        while engine.poll_output().is_some() {}
    }
    for index in 150..152 {
        read(&mut engine, index, 200.0, index * SECOND_US);
        while engine.poll_output().is_some() {}
    }
    assert!(engine.handle_absence(160 * SECOND_US));
    engine
}

/// The states of the kinds after a hand-over to an engine of `policy`.
fn check_alerts(alerts: AlertMemory, policy: AlertPolicy, expected: [AlertState; 3]) {
    let mut next = engine(2, policy);
    let now_us = 161 * SECOND_US;
    hand_over(alerted(), &mut next, alerts, now_us);
    let sensor = next.find("a").unwrap();
    let states = [Anomaly, Range, Silent].map(|kind| next.alert_state_of(sensor, kind));
    assert_eq!(states, expected, "{alerts:?}");
    assert!(next.poll_output().is_none(), "nothing is said of it");
    // One that is silent and not told is told, in its time from here on.
    let is_told_anew = alerts == AlertMemory::Nothing;
    let due_us = is_told_anew.then_some(now_us + POLICY.silent_after_us);
    assert_eq!(next.next_absence_us(), due_us);
}

#[test]
fn alerts_stand_through_a_hand_over_unless_nobody_knows_of_them() {
    check_alerts(AlertMemory::Whole, POLICY, [Raised; 3]);
    check_alerts(AlertMemory::States, POLICY, [Raised; 3]);
    check_alerts(AlertMemory::Nothing, POLICY, [Cleared; 3]);
    let off = AlertPolicy::default();
    check_alerts(AlertMemory::Whole, off, [Raised, Cleared, Cleared]);
}

#[test]
fn an_alert_whose_measure_has_changed_ends_as_one_from_before_the_start() {
    let mut next = engine(2, POLICY);
    hand_over(alerted(), &mut next, AlertMemory::States, 161 * SECOND_US);
    let sensor = next.find("a").unwrap();
    let calm = std::iter::repeat_n(0.0, 3).chain([1.0; 3]);
    for (index, x) in (162..).zip(calm) {
        read(&mut next, index, x, index * SECOND_US);
    }
    assert_eq!(next.alert_state_of(sensor, Range), Cleared);
}

#[test]
fn who_is_silent_next_is_still_so_after_a_hand_over() {
    let mut engine = engine(4, POLICY);
    let names = ["a", "b", "c"];
    for (at, name) in (1..).zip(names) {
        hear(&mut engine, name, at * SECOND_US);
    }
    // It was the first, and is the last.
    hear(&mut engine, "a", 5 * SECOND_US);
    let mut next = self::engine(4, POLICY);
    let listening_us = 7 * SECOND_US;
    hand_over(engine, &mut next, AlertMemory::Whole, listening_us);
    let due_us = listening_us + POLICY.silent_after_us;
    assert_eq!(next.next_absence_us(), Some(due_us), "nobody listened");
    hear(&mut next, "b", 8 * SECOND_US);
    while next.handle_absence(due_us) {}
    let is_silent = |name| {
        let sensor = next.find(name).unwrap();
        next.alert_state_of(sensor, Silent) == Raised
    };
    assert_eq!(names.map(is_silent), [true, false, true]);
}

#[test]
fn where_there_are_fewer_places_the_longest_silent_have_none() {
    let mut engine = engine(4, POLICY);
    for (at, name) in (1..).zip(["a", "b", "c", "d"]) {
        hear(&mut engine, name, at);
    }
    let mut next = self::engine(3, POLICY);
    next.sensor("configured").unwrap();
    let known = hand_over(engine, &mut next, AlertMemory::Whole, 5);
    assert_eq!(known, ["d", "c"]);
    assert_eq!(next.sensors_len(), 3);
}
