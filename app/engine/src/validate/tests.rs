use super::*;
use crate::Channel;

const PERIOD_US: u64 = 100_000;

fn schema() -> Schema {
    let channel = |name: &str, rate_max| Channel {
        name: name.into(),
        unit: "g".into(),
        min: -10.0,
        max: 10.0,
        rate_max,
    };
    Schema {
        period_ms: 100.0,
        age_max_ms: Some(1000.0),
        channels: vec![channel("a", None), channel("b", Some(20.0))],
    }
}

fn reading(sequence: Option<u64>, timestamp_us: Option<i64>, values: &[f32]) -> Reading {
    let mut reading = Reading::empty(values.len());
    reading.values_mut().copy_from_slice(values);
    reading.sequence = sequence;
    reading.timestamp_us = timestamp_us;
    reading
}

fn at(periods: u64) -> Now {
    Now {
        mono_us: (1 + periods) * PERIOD_US,
        utc_us: (periods * PERIOD_US) as i64,
    }
}

/// Judges a series, one period apart; `Ok` holds what was missed before.
fn judge(clock: NodeClock, series: &[(u64, Reading)]) -> Vec<Result<u64, Rejection>> {
    judge_counter(clock, Counter::Endless, series)
}

fn judge_counter(
    clock: NodeClock,
    counter: Counter,
    series: &[(u64, Reading)],
) -> Vec<Result<u64, Rejection>> {
    let (schema, mut validator) = (schema(), Validator::new());
    series
        .iter()
        .map(|(periods, r)| {
            let sample = validator.validate(&schema, (clock, counter), r, at(*periods))?;
            assert!(std::ptr::eq(sample.reading, r));
            Ok(if sample.is_restart {
                RESTART
            } else {
                sample.missed
            })
        })
        .collect()
}

fn check_sequence(sequences: &[u64], expected: &[Result<u64, Rejection>]) {
    let series: Vec<_> = (0..)
        .zip(sequences)
        .map(|(n, &s)| (n, reading(Some(s), None, &[0.0, 0.0])))
        .collect();
    assert_eq!(judge(NodeClock::None, &series), expected, "{sequences:?}");
}

/// Stands for a restart where a count of missed readings is expected.
const RESTART: u64 = u64::MAX;

#[test]
fn gaps_are_counted_and_repeats_refused() {
    check_sequence(&[5, 6, 7], &[Ok(0), Ok(0), Ok(0)]);
    check_sequence(&[5, 9], &[Ok(0), Ok(3)]);
    check_sequence(&[5, 5], &[Ok(0), Err(Rejection::Duplicate)]);
    check_sequence(
        &[5, 7, 6, 6, 8],
        &[
            Ok(0),
            Ok(1),
            Err(Rejection::Reordered),
            Err(Rejection::Duplicate),
            Ok(0),
        ],
    );
    check_sequence(&[0, u64::MAX], &[Ok(0), Ok(RESTART)]);
}

fn check_counter(counter: Counter, sequences: &[u64], expected: &[Result<u64, Rejection>]) {
    let series: Vec<_> = (0..)
        .zip(sequences)
        .map(|(n, &s)| (n, reading(Some(s), None, &[0.0, 0.0])))
        .collect();
    let judged = judge_counter(NodeClock::None, counter, &series);
    assert_eq!(judged, expected, "{counter:?} {sequences:?}");
}

#[test]
fn a_counter_that_begins_anew_at_a_usual_bound_goes_on() {
    for wraps in WRAPS {
        let last = wraps - 1;
        check_counter(
            Counter::FoundOut,
            &[last - 1, last, 0, 2, 1, 2, 3],
            &[
                Ok(0),
                Ok(0),
                Ok(0),
                Ok(1),
                Err(Rejection::Reordered),
                Err(Rejection::Duplicate),
                Ok(0),
            ],
        );
    }
    let byte: Vec<u64> = (0..2000).map(|n| n % 256).collect();
    check_counter(Counter::FoundOut, &byte, &vec![Ok(0); 2000]);
    let named: Vec<u64> = (0..2000).map(|n| n % 60).collect();
    check_counter(Counter::Wraps(60), &named, &vec![Ok(0); 2000]);
    // A late one of the turn before is late, and a node that starts again is seen to.
    check_counter(
        Counter::Wraps(256),
        &[254, 1, 255, 100, 0, 1, 2],
        &[
            Ok(0),
            Ok(2),
            Err(Rejection::Reordered),
            Ok(98),
            Err(Rejection::Reordered),
            Err(Rejection::Reordered),
            Ok(RESTART),
        ],
    );
    check_counter(Counter::FoundOut, &[9, 0, 30], &[Ok(0), Ok(0), Ok(RESTART)]);
}

#[test]
fn without_a_sequence_times_say_what_comes_again_or_too_late() {
    let check = |times: &[i64], expected: &[Result<u64, Rejection>]| {
        let series: Vec<_> = (0..)
            .zip(times)
            .map(|(n, &t)| (n, reading(None, Some(t * PERIOD_US as i64), &[0.0, 0.0])))
            .collect();
        assert_eq!(judge(NodeClock::None, &series), expected, "{times:?}");
    };
    let (again, late) = (Err(Rejection::Duplicate), Err(Rejection::Reordered));
    check(
        &[5, 6, 6, 5, 8, 9],
        &[Ok(0), Ok(0), again, late, Ok(1), Ok(0)],
    );
    // A clock that was set back by an hour.
    check(
        &[36_000, 0, 1, 2, 3],
        &[Ok(0), late, late, Ok(RESTART), Ok(0)],
    );
    let burst: Vec<i64> = (0..20).chain(0..20).chain([20]).collect();
    let mut expected = vec![Ok(0); 20];
    expected.extend([late; 19]);
    expected.extend([again, Ok(0)]);
    check(&burst, &expected);
}

#[test]
fn a_burst_that_is_delivered_again_is_refused_whole() {
    let sequences: Vec<u64> = (0..20).chain(0..20).chain([20]).collect();
    let fresh = vec![Ok(0); 20];
    let again = vec![Err(Rejection::Duplicate); 20];
    check_sequence(&sequences, &[fresh, again, vec![Ok(0)]].concat());
}

#[test]
fn a_node_that_starts_again_is_taken_back_after_three() {
    let refused = Err(Rejection::Reordered);
    check_sequence(
        &[900, 0, 1, 2, 3],
        &[Ok(0), refused, refused, Ok(RESTART), Ok(0)],
    );
    // Late packets out of order are not a restart.
    check_sequence(
        &[900, 0, 2, 4, 901],
        &[Ok(0), refused, refused, refused, Ok(0)],
    );
}

fn check_values(values: &[f32], expected: Result<u64, Rejection>) {
    let series = [(0, reading(None, None, values))];
    assert_eq!(judge(NodeClock::None, &series), [expected], "{values:?}");
}

#[test]
fn values_must_be_finite_in_range_and_as_many_as_declared() {
    check_values(&[1.0, -10.0], Ok(0));
    check_values(&[1.0], Err(Rejection::ChannelCount));
    check_values(&[1.0, 2.0, 3.0], Err(Rejection::ChannelCount));
    check_values(&[f32::NAN, 0.0], Err(Rejection::NotFinite { channel: 0 }));
    check_values(
        &[0.0, f32::INFINITY],
        Err(Rejection::NotFinite { channel: 1 }),
    );
    check_values(&[0.0, 10.1], Err(Rejection::Range { channel: 1 }));
    check_values(&[-1e30, 0.0], Err(Rejection::Range { channel: 0 }));
}

#[test]
fn a_step_costs_one_rejection_and_leaves_a_gap() {
    let b = |n: u64, x| (n, reading(Some(n), None, &[0.0, x]));
    let too_fast = Err(Rejection::RateOfChange { channel: 1 });
    // 20 a second is 2 a period.
    assert_eq!(
        judge(
            NodeClock::None,
            &[b(0, 0.0), b(1, 2.0), b(2, 7.0), b(3, 7.0)]
        ),
        [Ok(0), Ok(0), too_fast, Ok(1)]
    );
    // After a silence of three periods a change of 6 is fine.
    assert_eq!(
        judge(NodeClock::None, &[b(0, 0.0), b(3, 6.0)]),
        [Ok(0), Ok(2)]
    );
}

#[test]
fn missing_readings_show_in_timestamps_or_in_long_silence() {
    let stamped = |n: u64| (n, reading(None, Some((n * PERIOD_US) as i64), &[0.0, 0.0]));
    assert_eq!(
        judge(NodeClock::None, &[stamped(0), stamped(4)]),
        [Ok(0), Ok(3)]
    );
    let bare = |n: u64| (n, reading(None, None, &[0.0, 0.0]));
    assert_eq!(
        judge(NodeClock::None, &[bare(0), bare(5), bare(20)]),
        [Ok(0), Ok(0), Ok(15)]
    );
}

#[test]
fn age_by_a_synchronised_clock() {
    let aged = |n: u64, age_ms: i64| {
        let timestamp = at(n).utc_us - age_ms * 1000;
        (n, reading(None, Some(timestamp), &[0.0, 0.0]))
    };
    assert_eq!(judge(NodeClock::Utc, &[aged(50, 900)]), [Ok(0)]);
    assert_eq!(
        judge(NodeClock::Utc, &[aged(50, 1100)]),
        [Err(Rejection::Stale)]
    );
    assert_eq!(
        judge(NodeClock::Utc, &[aged(50, -1100)]),
        [Err(Rejection::Future)]
    );
    assert_eq!(judge(NodeClock::None, &[aged(50, 1100)]), [Ok(0)]);
}

#[test]
fn age_by_the_nodes_own_clock_is_relative_to_the_fastest_path() {
    let sent = |arrival: u64, sent: i64| (arrival, reading(None, Some(sent * 100_000), &[0.0; 2]));
    // 77 periods of offset is the clocks' difference, not age; a reading that
    // was under way 11 periods longer is stale.
    let series = [sent(100, 23), sent(101, 24), sent(120, 32), sent(121, 44)];
    assert_eq!(
        judge(NodeClock::Node, &series),
        [Ok(0), Ok(0), Err(Rejection::Stale), Ok(19)]
    );
}

#[test]
fn a_node_clock_that_starts_again_is_not_stale() {
    let sent = |arrival: u64, sent: i64| (arrival, reading(None, Some(sent * 100_000), &[0.0; 2]));
    let times = [(100, 90), (101, 0), (102, 1), (103, 2), (104, 3)];
    let series = times.map(|(arrival, time)| sent(arrival, time));
    let late = Err(Rejection::Reordered);
    let expected = [Ok(0), late, late, Ok(RESTART), Ok(0)];
    assert_eq!(judge(NodeClock::Node, &series), expected);
}

/// Arrival and sending of each reading in periods of 100 ms, ages up to 1 s.
fn check_ages(series: &[(u64, u64)], expected: &str) {
    let readings: Vec<_> = series
        .iter()
        .map(|&(arrival, sent)| {
            let timestamp_us = (sent * PERIOD_US) as i64;
            (arrival, reading(None, Some(timestamp_us), &[0.0; 2]))
        })
        .collect();
    let judged = judge(NodeClock::Node, &readings).into_iter();
    let found: String = judged
        .map(|result| match result {
            Ok(_) => '.',
            Err(Rejection::Stale) => 's',
            Err(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, expected, "{series:?}");
}

#[test]
fn a_node_clock_that_jumped_forward_unseen_is_learnt_afresh() {
    // The node ran for 3 periods, was off, and is heard again with its clock
    // at 20, 80 periods later than such a clock should be.
    let restarted = (0..14).map(|n| (100 + n, 20 + n));
    let series: Vec<_> = [(0, 0), (1, 1), (2, 2)]
        .into_iter()
        .chain(restarted)
        .collect();
    check_ages(&series, "...ssssssssss....");
}

#[test]
fn a_line_that_catches_up_stays_stale_until_it_has() {
    // After a stall of 30 periods, one burst.
    let burst = (1..=30).map(|sent| (30, sent));
    let series: Vec<_> = [(0, 0)].into_iter().chain(burst).collect();
    check_ages(
        &series,
        &(".".to_owned() + &"s".repeat(19) + &".".repeat(11)),
    );
    // Two readings a period instead of one: an age of 30 falls by 1 in two.
    let slow = (1..=60).map(|sent| (30 + sent / 2, sent));
    let series: Vec<_> = [(0, 0)].into_iter().chain(slow).collect();
    check_ages(
        &series,
        &(".".to_owned() + &"s".repeat(38) + &".".repeat(22)),
    );
}

#[test]
fn a_rate_compares_values_and_times_of_the_same_two_readings() {
    // Channel b may change by 20 in a second: 1 reading from 0 to 6 takes 0.3 s.
    let too_fast = Err(Rejection::RateOfChange { channel: 1 });
    let out_of_range = Err(Rejection::Range { channel: 0 });
    let check = |timestamps: bool, periods: u64, expected| {
        let at = |periods: u64| timestamps.then_some((periods * PERIOD_US) as i64);
        let series = [
            (0, reading(None, at(0), &[0.0, 0.0])),
            // Refused, so its values are not those that the next is held against.
            (periods - 1, reading(None, at(periods - 1), &[99.0, 6.0])),
            (periods, reading(None, at(periods), &[0.0, 6.0])),
        ];
        let judged = judge(NodeClock::None, &series);
        assert_eq!(judged[1], out_of_range);
        assert_eq!(judged[2].map(|_| ()), expected, "{timestamps} {periods}");
    };
    for timestamps in [true, false] {
        check(timestamps, 2, too_fast);
        check(timestamps, 3, Ok(()));
        check(timestamps, 9, Ok(()));
    }
}
