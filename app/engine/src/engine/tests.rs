//! The engine driven event by event: outcomes, deadlines, alerts.

mod alerts;
mod causes;
mod ladder;
mod memories;
mod places;

use super::*;

const DEADLINE_US: u64 = 1_000;

/// Windows of two readings; the model's output 0 is the score.
fn two_readings() -> Engine {
    let toml = r#"
        window = { length = 2, stride = 1 }
        features = [{ kind = "raw" }]
        score = { kind = "output", index = 0 }
        verdict = { threshold = 0.5, k = 1, n = 1, clear_ratio = 1.0 }
        [schema]
        period_ms = 100.0
        channels = [{ name = "x", unit = "g", min = -100.0, max = 100.0 }]
    "#;
    Engine::with_model(&toml::from_str(toml).unwrap(), limits()).unwrap()
}

fn limits() -> Limits {
    Limits {
        sensors_max: 2,
        deadline_us: DEADLINE_US,
        keeper_margin_us: 0,
        readings_per_second_max: 0,
        clock: NodeClock::None,
        counter: Counter::Endless,
        is_caching: false,
        explains_verdicts: false,
        alerts: AlertPolicy::default(),
    }
}

fn read(engine: &mut Engine, sequence: u64, x: f32, at_us: u64) -> Step {
    let sensor = engine.sensor("a").unwrap();
    let mut reading = Reading::empty(1);
    reading.sequence = Some(sequence);
    reading.values_mut()[0] = x;
    engine.handle_reading(sensor, &reading, now(at_us).into(), |_| {})
}

fn now(at_us: u64) -> Now {
    Now {
        mono_us: at_us,
        utc_us: at_us as i64,
    }
}

/// The next window of the batch that runs, or the first of a new one.
fn poll(engine: &mut Engine, at_us: u64) -> Option<Job<'_>> {
    if !engine.is_running() {
        engine.begin_batch(now(at_us));
    }
    engine.poll_inference(at_us)
}

fn start(engine: &mut Engine, at_us: u64) -> Ticket {
    let job = poll(engine, at_us);
    job.expect("a window waits").ticket
}

fn verdicts(engine: &mut Engine) -> Vec<(Rung, f32, bool)> {
    std::iter::from_fn(|| engine.poll_output())
        .filter_map(|output| match output {
            Output::Verdict(v) => Some((v.rung, v.score, v.is_in_time)),
            _ => None,
        })
        .collect()
}

fn check_conservation(engine: &Engine) {
    let counters = engine.counters();
    let pending = engine.pending_len() as u64;
    assert_eq!(counters.readings, counters.outcomes() + pending);
}

#[test]
fn a_reading_is_scored_by_the_model_in_time() {
    let mut engine = two_readings();
    assert_eq!(
        read(&mut engine, 0, 1.0, 0),
        Step::Settled(Outcome::Filling)
    );
    assert_eq!(read(&mut engine, 1, 2.0, 100), Step::Pending);
    let job = poll(&mut engine, 100).unwrap();
    assert_eq!((job.features, job.deadline_us), (&[1.0, 2.0][..], 1_100));
    let ticket = job.ticket;
    engine.handle_outputs(ticket, Ok(&[0.25]), 700);
    assert_eq!(verdicts(&mut engine), [(Rung::Model, 0.25, true)]);
    assert_eq!(engine.counters().scored, 1);
    check_conservation(&engine);
}

#[test]
fn the_rule_answers_at_the_deadline_and_late_inference_is_discarded_and_counted() {
    let mut engine = two_readings();
    read(&mut engine, 0, 1.0, 0);
    read(&mut engine, 1, 2.0, 0);
    let ticket = start(&mut engine, 0);
    assert_eq!(engine.next_timeout_us(), Some(DEADLINE_US));
    engine.handle_timeout(DEADLINE_US - 1);
    assert_eq!(verdicts(&mut engine), []);
    engine.handle_timeout(DEADLINE_US);
    assert_eq!(verdicts(&mut engine), [(Rung::Rule, 0.0, true)]);
    engine.handle_outputs(ticket, Ok(&[9.0]), 2 * DEADLINE_US);
    assert_eq!(verdicts(&mut engine), []);
    let counters = engine.counters();
    assert_eq!((counters.fallback, counters.late_results), (1, 1));
    assert_eq!(counters.deadline_misses, 0);
    check_conservation(&engine);
}

#[test]
fn a_late_result_that_nobody_anticipated_gives_a_late_rule_verdict() {
    let mut engine = two_readings();
    read(&mut engine, 0, 1.0, 0);
    read(&mut engine, 1, 2.0, 0);
    let ticket = start(&mut engine, 0);
    engine.handle_outputs(ticket, Ok(&[9.0]), DEADLINE_US + 1);
    assert_eq!(verdicts(&mut engine), [(Rung::Rule, 0.0, false)]);
    let counters = engine.counters();
    assert_eq!((counters.late_results, counters.deadline_misses), (1, 1));
    check_conservation(&engine);
}

#[test]
fn a_failing_model_and_a_score_that_is_no_number_fall_back() {
    for outputs in [
        Err(Fault::Error),
        Err(Fault::Panic),
        Ok(&[f32::NAN][..]),
        Ok(&[][..]),
    ] {
        let mut engine = two_readings();
        read(&mut engine, 0, 1.0, 0);
        read(&mut engine, 1, 2.0, 0);
        let ticket = start(&mut engine, 0);
        engine.handle_outputs(ticket, outputs, 10);
        assert_eq!(verdicts(&mut engine), [(Rung::Rule, 0.0, true)]);
        assert_eq!(engine.counters().model_faults, 1);
        check_conservation(&engine);
    }
}

#[test]
fn a_hung_model_takes_every_place_and_the_rule_answers_at_once() {
    let mut engine = two_readings();
    read(&mut engine, 0, 0.0, 0);
    read(&mut engine, 1, 0.0, 1);
    let hung = start(&mut engine, 1);
    for n in 2..=PENDING_MAX as u64 {
        assert_eq!(read(&mut engine, n, 0.0, n), Step::Pending);
        assert!(poll(&mut engine, n).is_none(), "it runs already");
    }
    let next = PENDING_MAX as u64 + 1;
    let step = read(&mut engine, next, 0.0, next);
    assert_eq!(step, Step::Settled(Outcome::Fallback));
    assert_eq!(verdicts(&mut engine).len(), 1);
    engine.handle_timeout(u64::MAX);
    assert_eq!(verdicts(&mut engine).len(), PENDING_MAX);
    check_conservation(&engine);
    // The places are free again, and so is the model once it is back.
    assert_eq!(read(&mut engine, next + 1, 0.0, 5_000), Step::Pending);
    assert!(poll(&mut engine, 5_000).is_none());
    engine.handle_outputs(hung, Ok(&[0.0]), 5_500);
    assert_eq!(engine.counters().late_results, 1);
    assert!(poll(&mut engine, 5_500).is_some());
}

#[test]
fn where_no_inference_can_start_in_time_the_rule_answers_with_the_reading() {
    let mut engine = two_readings();
    engine.limits.keeper_margin_us = DEADLINE_US;
    read(&mut engine, 0, 1.0, 0);
    let step = read(&mut engine, 1, 2.0, 100);
    assert_eq!(step, Step::Settled(Outcome::Fallback));
    assert_eq!(verdicts(&mut engine), [(Rung::Rule, 0.0, true)]);
    check_conservation(&engine);
}

#[test]
fn an_old_ticket_says_nothing_about_a_new_question() {
    let mut engine = two_readings();
    read(&mut engine, 0, 1.0, 0);
    read(&mut engine, 1, 2.0, 0);
    let old = start(&mut engine, 0);
    engine.handle_outputs(old, Ok(&[0.1]), 10);
    verdicts(&mut engine);
    read(&mut engine, 2, 3.0, 20);
    start(&mut engine, 0);
    engine.handle_outputs(old, Ok(&[9.0]), 30);
    assert_eq!(verdicts(&mut engine), []);
    assert_eq!(engine.counters().late_results, 1);
    check_conservation(&engine);
}

#[test]
fn alerts_follow_the_verdict_that_changed_the_state() {
    let mut engine = two_readings();
    read(&mut engine, 0, 1.0, 0);
    let mut states = Vec::new();
    for (n, score) in (1..).zip([0.1, 0.9, 0.9, 0.1]) {
        read(&mut engine, n, 1.0, n);
        let ticket = start(&mut engine, 0);
        engine.handle_outputs(ticket, Ok(&[score]), n);
        let verdict = engine.poll_output();
        assert!(matches!(verdict, Some(Output::Verdict(_))));
        while let Some(output) = engine.poll_output() {
            if let Output::Alert(alert) = output {
                states.push((n, alert.state()));
            }
        }
    }
    assert_eq!(states, [(2, AlertState::Raised), (4, AlertState::Cleared)]);
    assert_eq!(engine.counters().alerts, 1);
}

/// A node that was cut off sends what it kept: ten seconds between two readings, all of
/// which arrive within microseconds.
#[test]
fn hold_off_goes_by_the_clock_that_the_source_names() {
    let check = |clock, timestamps: [i64; 4], expected: &[u64]| {
        let mut engine = two_readings();
        engine.limits.clock = clock;
        engine.verdict.hold_off_ms = 5_000.0;
        let sensor = engine.sensor("a").unwrap();
        let mut changes = Vec::new();
        for (n, (timestamp_s, score)) in (0..).zip(timestamps.into_iter().zip([0.0, 0.9, 0.1, 0.9]))
        {
            let mut reading = Reading::empty(1);
            reading.sequence = Some(n);
            reading.timestamp_us = Some(timestamp_s * 1_000_000);
            reading.values_mut()[0] = 1.0;
            let step = engine.handle_reading(sensor, &reading, now(n).into(), |_| {});
            if step == Step::Pending {
                let ticket = start(&mut engine, n);
                engine.handle_outputs(ticket, Ok(&[score]), n);
            }
            while let Some(output) = engine.poll_output() {
                if matches!(output, Output::Alert(_)) {
                    changes.push(n);
                }
            }
        }
        assert_eq!(changes, expected, "{clock:?} {timestamps:?}");
    };
    let kept = [0, 10, 20, 30];
    check(NodeClock::None, kept, &[1]);
    check(NodeClock::Node, kept, &[1, 2, 3]);
    check(NodeClock::Utc, kept, &[1, 2, 3]);
    check(NodeClock::Node, [0, 1, 2, 7], &[1]);
    // It began anew: nobody knows how long ago the change was.
    check(NodeClock::Node, [90, 91, 1, 2], &[1, 2]);
}

#[test]
fn the_alert_of_a_sensor_that_is_gone_is_cleared_once() {
    let mut engine = two_readings();
    let sensor = engine.sensor("a").unwrap();
    let gone = |engine: &mut Engine, now_us| {
        engine.handle_gone(sensor, now_us);
        std::iter::from_fn(|| engine.poll_output()).collect::<Vec<_>>()
    };
    read(&mut engine, 0, 1.0, 0);
    for n in 1..3 {
        assert_eq!(gone(&mut engine, n), [], "nothing stands");
        read(&mut engine, n, 1.0, n);
        let ticket = start(&mut engine, 0);
        engine.handle_outputs(ticket, Ok(&[0.9]), n);
        let said = std::iter::from_fn(|| engine.poll_output()).last();
        assert!(matches!(said, Some(Output::Alert(_))), "raised again");
        let said = gone(&mut engine, n + 10);
        let [Output::Explained(_), Output::Alert(Alert::Anomaly(verdict))] = said[..] else {
            panic!("{said:?}")
        };
        let Verdict { state, score, .. } = verdict;
        assert_eq!((state, score), (AlertState::Cleared, 0.9));
        assert_eq!(verdict.age_us, Some(10));
        assert_eq!(engine.alert_state(sensor), AlertState::Cleared);
    }
    check_conservation(&engine);
}

#[test]
fn a_gap_or_a_refused_reading_empties_the_window() {
    let mut engine = two_readings();
    read(&mut engine, 0, 1.0, 0);
    assert_eq!(
        read(&mut engine, 2, 1.0, 1),
        Step::Settled(Outcome::Filling)
    );
    let refused = Step::Settled(Outcome::Rejected(Rejection::Range { channel: 0 }));
    assert_eq!(read(&mut engine, 3, 1e6, 2), refused);
    assert_eq!(
        read(&mut engine, 4, 1.0, 3),
        Step::Settled(Outcome::Filling)
    );
    assert_eq!(read(&mut engine, 5, 1.0, 4), Step::Pending);
    assert_eq!(engine.counters().window_resets, 2);
    assert_eq!(engine.counters().missed, 2);
    check_conservation(&engine);
}

#[test]
fn a_restart_begins_anew_at_any_sequence() {
    let mut engine = two_readings();
    read(&mut engine, 900, 1.0, 0);
    let sensor = engine.sensor("a").unwrap();
    engine.handle_restart(sensor);
    assert_eq!(
        read(&mut engine, 0, 1.0, 1),
        Step::Settled(Outcome::Filling)
    );
    assert_eq!(read(&mut engine, 1, 1.0, 2), Step::Pending);
}

#[test]
fn sensors_and_readings_a_second_are_bounded() {
    let mut engine = two_readings();
    let (a, b) = (engine.sensor("a").unwrap(), engine.sensor("b").unwrap());
    assert_ne!(a, b);
    assert_eq!(engine.sensor("a"), Ok(a));
    assert_eq!(engine.sensor("c"), Err(Rejection::UnknownSensor));

    engine.limits.readings_per_second_max = 2;
    read(&mut engine, 0, 1.0, 0);
    read(&mut engine, 1, 1.0, 1);
    let refused = Step::Settled(Outcome::Rejected(Rejection::SourceRate));
    assert_eq!(read(&mut engine, 2, 1.0, 999_999), refused);
    assert_ne!(read(&mut engine, 3, 1.0, 1_000_000), refused);
    check_conservation(&engine);
}

#[test]
fn a_sensor_whose_windows_are_never_full_is_told_and_the_rule_speaks() {
    let mut engine = two_readings();
    let slow = |engine: &mut Engine, n: u64| read(engine, 5 * n, 1.0, 500_000 * n);
    for n in 0..u64::from(WINDOWLESS_AFTER) {
        assert_eq!(slow(&mut engine, n), Step::Settled(Outcome::Filling));
        assert_eq!(engine.poll_windowless(), None);
    }
    for n in u64::from(WINDOWLESS_AFTER)..100 {
        assert_eq!(slow(&mut engine, n), Step::Settled(Outcome::Fallback));
        let told = engine.poll_windowless().map(|told| told.period_us);
        let expected = (n == u64::from(WINDOWLESS_AFTER)).then_some(500_000);
        assert_eq!(told, expected, "once, with the period seen");
    }
    check_conservation(&engine);
    // At the declared period it is the model's again.
    assert_eq!(
        read(&mut engine, 500, 1.0, 50_000_000),
        Step::Settled(Outcome::Fallback)
    );
    assert_eq!(read(&mut engine, 501, 1.0, 50_100_000), Step::Pending);
    let ticket = start(&mut engine, 50_100_000);
    engine.handle_outputs(ticket, Ok(&[0.25]), 50_100_100);
    read(&mut engine, 503, 1.0, 50_300_000);
    assert_eq!(engine.counters().scored, 1);
}
