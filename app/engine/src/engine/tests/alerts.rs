//! Alerts that no score brings, and those that stood before hark started.

use super::*;
use crate::alert::{ALERT_KINDS, AlertKind::*, Excess};
use AlertState::{Cleared, Raised};

const SECOND_US: u64 = 1_000_000;
const POLICY: AlertPolicy = AlertPolicy {
    watches_range: true,
    silent_after_us: 5 * SECOND_US,
    link_down_us: 10 * SECOND_US,
};

/// Windows of one reading, which the model's output scores; two of three raise.
fn engine(policy: AlertPolicy) -> Engine {
    let toml = r#"
        window = { length = 1, stride = 1 }
        features = [{ kind = "raw" }]
        score = { kind = "output", index = 0 }
        verdict = { threshold = 0.5, k = 2, n = 3, clear_ratio = 1.0 }
        [schema]
        period_ms = 100.0
        channels = [
            { name = "x", unit = "g", min = -100.0, max = 100.0, rate_max = 50.0 },
        ]
    "#;
    let limits = Limits {
        alerts: policy,
        ..limits()
    };
    Engine::with_model(&toml::from_str(toml).unwrap(), limits).unwrap()
}

/// What was said since the last time, as kind and new state.
fn said(engine: &mut Engine) -> Vec<(AlertKind, AlertState)> {
    let alerts = alerts(engine).into_iter();
    alerts.map(|alert| (alert.kind(), alert.state())).collect()
}

fn alerts(engine: &mut Engine) -> Vec<Alert> {
    let outputs = std::iter::from_fn(|| engine.poll_output());
    let alerts = outputs.filter_map(|output| match output {
        Output::Alert(alert) => Some(alert),
        _ => None,
    });
    alerts.collect()
}

fn say_absences(engine: &mut Engine, now_us: u64) {
    while engine.handle_absence(now_us) {}
}

/// Reads values a second apart, without sequence numbers; the alerts of each.
fn read_all(engine: &mut Engine, values: &[f32]) -> Vec<Vec<Alert>> {
    let read = |(at, &x): (u64, &f32)| {
        let sensor = engine.sensor("a").unwrap();
        let mut reading = Reading::empty(1);
        reading.values_mut()[0] = x;
        engine.handle_reading(sensor, &reading, now(at * SECOND_US).into(), |_| {});
        alerts(engine)
    };
    (1..).zip(values).map(read).collect()
}

/// Which alerts of range the values bring, and what was wrong.
fn check_range(values: &[f32], expected: &[(usize, AlertState, Excess, f32)]) {
    let mut engine = engine(POLICY);
    let said = read_all(&mut engine, values).into_iter().enumerate();
    let ranges = said.flat_map(|(at, alerts)| {
        let range = |alert| match alert {
            Alert::Range(alert) => {
                let (excess, value) = (alert.excess.unwrap(), alert.value.unwrap());
                (at, alert.state, excess, value)
            }
            other => panic!("{other:?}"),
        };
        alerts.into_iter().map(range).collect::<Vec<_>>()
    });
    let ranges: Vec<_> = ranges.collect();
    assert_eq!(format!("{ranges:?}"), format!("{expected:?}"));
    check_conservation(&engine);
}

#[test]
fn values_out_of_range_are_told_by_k_of_n_with_channel_value_and_limit() {
    let range = |value, limit| Excess {
        reason: Rejection::Range { channel: 0 },
        value,
        limit: Some(limit),
    };
    let (over, under) = (range(150.0, 100.0), range(-200.0, -100.0));
    check_range(&[1.0, 150.0, 1.0, 1.0], &[]);
    let values = [1.0, 150.0, 150.0, 150.0, 7.0, 8.0, 9.0, 9.0];
    let raised = (2, Raised, over, 150.0);
    check_range(&values, &[raised, (6, Cleared, over, 9.0)]);
    check_range(&[-200.0, -200.0], &[(1, Raised, under, -200.0)]);
}

#[test]
fn values_that_are_no_numbers_or_change_too_fast_are_told() {
    let not_finite = Excess {
        reason: Rejection::NotFinite { channel: 0 },
        value: f32::INFINITY,
        limit: None,
    };
    let raised = (1, Raised, not_finite, f32::INFINITY);
    check_range(&[f32::INFINITY, f32::INFINITY], &[raised]);
    let too_fast = Excess {
        reason: Rejection::RateOfChange { channel: 0 },
        value: 90.0,
        limit: Some(50.0),
    };
    check_range(&[0.0, 90.0, 0.0], &[(2, Raised, too_fast, 90.0)]);
}

#[test]
fn what_is_not_watched_is_not_told() {
    let mut engine = engine(AlertPolicy::default());
    let said = read_all(&mut engine, &[1e9; 8]);
    assert!(said.iter().all(Vec::is_empty));
    assert_eq!(engine.next_absence_us(), None);
    engine.handle_link_down(0);
    assert_eq!(engine.next_absence_us(), None);
}

#[test]
fn sensors_that_fall_silent_are_told_in_their_order_and_cleared_when_heard() {
    let mut engine = engine(POLICY);
    let (a, b) = (engine.sensor("a").unwrap(), engine.sensor("b").unwrap());
    assert_eq!(engine.next_absence_us(), None, "nobody was heard");
    for (sensor, at) in [(a, 1), (b, 2), (a, 3), (b, 3), (b, 4)] {
        engine.hear(sensor, at * SECOND_US);
    }
    for (sensor, due) in [(a, 8), (b, 9)] {
        say_absences(&mut engine, due * SECOND_US - 1);
        assert_eq!(alerts(&mut engine), []);
        assert_eq!(engine.next_absence_us(), Some(due * SECOND_US));
        say_absences(&mut engine, due * SECOND_US);
        let silent_us = Some(5 * SECOND_US);
        let state = Raised;
        assert_eq!(
            alerts(&mut engine),
            [Alert::Silent {
                sensor,
                state,
                silent_us
            }]
        );
    }
    assert_eq!(engine.next_absence_us(), None, "all are told");
    engine.hear(a, 20 * SECOND_US);
    engine.hear(a, 21 * SECOND_US);
    assert_eq!(said(&mut engine), [(Silent, Cleared)]);
    say_absences(&mut engine, 26 * SECOND_US - 1);
    assert_eq!(engine.next_absence_us(), Some(26 * SECOND_US));
    assert_eq!(engine.counters().alerts_by_kind[Silent.index()], 2);
    assert_eq!(engine.counters().alerts, 2);
}

#[test]
fn a_pause_of_hark_itself_is_no_silence() {
    let mut engine = engine(POLICY);
    let a = engine.sensor("a").unwrap();
    engine.hear(a, SECOND_US);
    engine.handle_pause(60 * SECOND_US);
    say_absences(&mut engine, 60 * SECOND_US);
    assert_eq!(said(&mut engine), []);
    assert_eq!(engine.next_absence_us(), Some(65 * SECOND_US));
    say_absences(&mut engine, 65 * SECOND_US);
    assert_eq!(said(&mut engine), [(Silent, Raised)]);
}

#[test]
fn a_configured_sensor_that_was_never_heard_is_silent_once_its_source_is_open() {
    let mut engine = engine(POLICY);
    let sensor = engine.sensor("a").unwrap();
    engine.take_in("newcomer").unwrap();
    engine.handle_link_up(SECOND_US);
    say_absences(&mut engine, 6 * SECOND_US - 1);
    assert_eq!(alerts(&mut engine), []);
    say_absences(&mut engine, 6 * SECOND_US);
    let silent = |state, silent_us| Alert::Silent {
        sensor,
        state,
        silent_us,
    };
    assert_eq!(alerts(&mut engine), [silent(Raised, Some(5 * SECOND_US))]);
    engine.handle_link_up(9 * SECOND_US);
    say_absences(&mut engine, 99 * SECOND_US);
    assert_eq!(alerts(&mut engine), [], "told once, and nobody else");
    engine.hear(sensor, 100 * SECOND_US);
    assert_eq!(alerts(&mut engine), [silent(Cleared, None)]);
}

#[test]
fn while_the_link_is_away_a_sensor_that_was_never_heard_is_not_silent() {
    let mut engine = engine(AlertPolicy {
        link_down_us: 0,
        ..POLICY
    });
    engine.sensor("a").unwrap();
    engine.handle_link_down(0);
    say_absences(&mut engine, 60 * SECOND_US);
    engine.handle_link_up(60 * SECOND_US);
    engine.handle_link_down(64 * SECOND_US);
    say_absences(&mut engine, 90 * SECOND_US);
    engine.handle_link_up(91 * SECOND_US);
    say_absences(&mut engine, 96 * SECOND_US - 1);
    assert_eq!(said(&mut engine), []);
    say_absences(&mut engine, 96 * SECOND_US);
    assert_eq!(said(&mut engine), [(Silent, Raised)]);
}

#[test]
fn a_link_is_told_that_stays_away_for_too_long() {
    let mut engine = engine(POLICY);
    engine.handle_link_up(0);
    engine.handle_link_down(SECOND_US);
    engine.handle_link_down(3 * SECOND_US);
    assert_eq!(engine.next_absence_us(), Some(11 * SECOND_US));
    engine.handle_link_up(10 * SECOND_US);
    assert_eq!(engine.next_absence_us(), None);
    engine.handle_link_down(20 * SECOND_US);
    say_absences(&mut engine, 30 * SECOND_US);
    say_absences(&mut engine, 90 * SECOND_US);
    assert_eq!(said(&mut engine), [(Link, Raised)]);
    engine.handle_link_up(91 * SECOND_US);
    engine.handle_link_up(92 * SECOND_US);
    assert_eq!(said(&mut engine), [(Link, Cleared)]);
}

/// An engine with an alert of each kind that stood before it started.
fn with_standing() -> (Engine, SensorId) {
    let mut engine = engine(POLICY);
    let sensor = engine.sensor("a").unwrap();
    for kind in [Anomaly, Range, Silent] {
        engine.handle_standing(sensor, kind, 0);
        assert_eq!(engine.alert_state_of(sensor, kind), Raised);
    }
    engine.handle_standing_link();
    assert_eq!(said(&mut engine), []);
    (engine, sensor)
}

/// One reading whose window has this score; the alerts that it brings.
fn score(engine: &mut Engine, sequence: u64, score: f32) -> Vec<(AlertKind, AlertState)> {
    let at_us = sequence * 100_000;
    read(engine, sequence, 1.0, at_us);
    let ticket = start(engine, at_us);
    engine.handle_outputs(ticket, Ok(&[score]), at_us);
    said(engine)
}

#[test]
fn what_stood_before_the_start_is_cleared_by_healthy_readings() {
    let (mut engine, _) = with_standing();
    engine.handle_link_up(0);
    assert_eq!(said(&mut engine), [(Link, Cleared)]);
    assert_eq!(score(&mut engine, 1, 0.1), [(Silent, Cleared)]);
    assert_eq!(score(&mut engine, 2, 0.1), []);
    assert_eq!(
        score(&mut engine, 3, 0.1),
        [(Range, Cleared), (Anomaly, Cleared)]
    );
    assert_eq!(engine.counters().alerts_by_kind, [0; ALERT_KINDS]);
}

#[test]
fn what_still_holds_after_the_start_is_not_raised_again() {
    let (mut engine, sensor) = with_standing();
    engine.handle_link_down(0);
    say_absences(&mut engine, 60 * SECOND_US);
    assert_eq!(said(&mut engine), [], "link and silence");
    score(&mut engine, 1, 0.9);
    for n in 2..8 {
        assert_eq!(score(&mut engine, n, 0.9).len(), usize::from(n == 3));
    }
    assert_eq!(engine.alert_state_of(sensor, Anomaly), Raised);
    assert_eq!(engine.counters().alerts, 0);
}

#[test]
fn a_rule_that_still_learns_clears_nothing_that_stood() {
    let (mut engine, sensor) = with_standing();
    for n in 1..20 {
        // Nobody runs the model: the rule answers at the deadline.
        read(&mut engine, n, 1.0, n * 100_000);
        engine.handle_timeout(n * 100_000 + DEADLINE_US);
        alerts(&mut engine);
    }
    assert_eq!(engine.alert_state_of(sensor, Anomaly), Raised);
}

#[test]
fn each_alert_of_a_sensor_that_is_gone_is_cleared() {
    let (mut engine, sensor) = with_standing();
    engine.handle_gone(sensor, SECOND_US);
    assert_eq!(
        said(&mut engine),
        [(Anomaly, Cleared), (Range, Cleared), (Silent, Cleared)]
    );
    say_absences(&mut engine, 60 * SECOND_US);
    assert_eq!(said(&mut engine), []);
}

#[test]
fn invented_names_that_fall_silent_do_not_make_as_many_alerts() {
    let mut engine = two_readings();
    engine.limits.sensors_max = 1_000;
    engine.sensors = Sensors::new(1_000, 0);
    engine.silence = Silence::new(5 * SECOND_US);
    let known = engine.sensor("pump").unwrap();
    for n in 0..500 {
        let sensor = engine.take_in(&format!("invented {n}")).unwrap();
        engine.hear(sensor, SECOND_US);
    }
    engine.hear(known, 2 * SECOND_US);
    let mut told = Vec::new();
    while engine.handle_absence(7 * SECOND_US) {
        told.extend(alerts(&mut engine));
    }
    assert_eq!(told.len(), 60 + 1);
    assert_eq!(told.last().and_then(Alert::sensor), Some(known));
    assert_eq!(engine.counters().silences_untold, 500 - 60);
}
