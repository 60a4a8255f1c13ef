use super::*;

/// 2026-06-01, microseconds since the epoch.
const NOW_US: i64 = 1_780_272_000_000_000;

fn rule(json: &str) -> TimeRule {
    TimeRule::new(&serde_json::from_str(json).expect(json)).expect(json)
}

fn read(json: &str, text: &str) -> (Result<Option<i64>, Fault>, Vec<String>) {
    let mut notes = Notes::default();
    let result = rule(json).of_text(text, NOW_US, &mut notes);
    (result, std::iter::from_fn(|| notes.take()).collect())
}

fn check(json: &str, text: &str, expected: Option<i64>) {
    let (result, _) = read(json, text);
    assert_eq!(result.ok().flatten(), expected, "{json} {text:?}");
}

#[test]
fn numbers_are_scaled_to_microseconds() {
    use TimestampUnit::*;
    for (value, unit, expected) in [
        (3, Seconds, Some(3_000_000)),
        (-3, Millis, Some(-3_000)),
        (3, Micros, Some(3)),
        (3_999, Nanos, Some(3)),
        (-1, Nanos, Some(-1)),
        (i64::MAX, Seconds, None),
        (i64::MIN, Millis, None),
    ] {
        assert_eq!(from_integer(value, unit), expected, "{value} {unit:?}");
    }
    for (value, unit, expected) in [
        (1.5, Seconds, Some(1_500_000)),
        (0.0015, Millis, Some(2)),
        (-1.0, Nanos, Some(-1)),
        (f64::NAN, Seconds, None),
        (1e300, Micros, None),
        (9_223_372_036_854_775_808.0, Micros, None),
        (-9_223_372_036_854_775_808.0, Micros, Some(i64::MIN)),
    ] {
        assert_eq!(from_float(value, unit), expected, "{value} {unit:?}");
    }
}

#[test]
fn dates_are_read_with_and_without_offset() {
    for (text, expected) in [
        ("1970-01-01 00:00:01", Some(1_000_000)),
        ("1970-01-01 00:00:01.25", Some(1_250_000)),
        (" 1970-01-01T00:00:01Z ", Some(1_000_000)),
        ("1970-01-01T01:00:01+01:00", Some(1_000_000)),
        ("1969-12-31T23:00:01-01:00", Some(1_000_000)),
        ("2020-03-09 10:14:33", Some(1_583_748_873_000_000)),
        ("2020-13-09 10:14:33", None),
        ("09.03.2020 10:14", None),
        ("yesterday", None),
        ("", None),
        ("é1970-01-01 00:00:01", None),
    ] {
        check("{}", text, expected);
    }
}

/// Each second, and the last one, of the range in which the units are told apart.
#[test]
fn a_number_is_a_time_in_exactly_one_unit() {
    let first_s = OLDEST_US / 1_000_000;
    let last_s = (NOW_US + AHEAD_US) / 1_000_000;
    let rule = rule("{}");
    let mut notes = Notes::default();
    for second in (first_s..last_s).step_by(99_991).chain([last_s]) {
        for (per_second, digits) in [(1, 0), (1_000, 3), (1_000_000, 6), (1_000_000_000, 9)] {
            let count = Count::Whole(second * per_second);
            let read = rule.of_count(count, TimestampUnit::Auto, NOW_US, &mut notes);
            assert_eq!(read.unwrap(), Some(second * 1_000_000), "{second} {digits}");
            let count = Count::Float((second * per_second) as f64);
            let read = rule.of_count(count, TimestampUnit::Auto, NOW_US, &mut notes);
            let read = read.unwrap().unwrap();
            assert!((read - second * 1_000_000).abs() <= 1, "{second} {digits}");
        }
    }
    assert_eq!(notes.take(), None);
}

#[test]
fn a_number_that_is_no_time_is_refused_with_what_it_would_be() {
    let utc = r#"{"clock":"utc"}"#;
    for (text, expected) in [
        (
            "5000000000000",
            "malformed: the timestamp 5000000000000 is no time: s beyond 9999, ms 2128-06-11, us \
             1970-02-27, ns 1970-01-01",
        ),
        (
            "12",
            "malformed: the timestamp 12 is no time: s 1970-01-01, ms 1970-01-01, us 1970-01-01, ns \
             1970-01-01",
        ),
    ] {
        let error = read(utc, text).0.unwrap_err().to_string();
        assert_eq!(error, expected);
    }
    let (result, notes) = read("{}", "5000000000000");
    assert_eq!(
        result,
        Ok(None),
        "where nobody asks for the time it costs no reading"
    );
    assert!(notes[0].contains("ms 2128-06-11"), "{notes:?}");
}

#[test]
fn a_small_number_is_what_the_nodes_own_clock_counts() {
    for clock in ["none", "node"] {
        check(&format!(r#"{{"clock":"{clock}"}}"#), "12345", Some(12_345));
    }
}

#[test]
fn a_gateway_that_has_lost_its_time_still_tells_the_units_apart() {
    let mut notes = Notes::default();
    let count = Count::Whole(1_780_272_000_000);
    let read = rule("{}").of_count(count, TimestampUnit::Auto, 0, &mut notes);
    assert_eq!(read, Ok(Some(NOW_US)));
}

#[test]
fn a_stated_unit_that_does_not_fit_is_told_with_the_one_that_does() {
    let (result, notes) = read(r#"{"timestamp_unit":"us"}"#, "1714557600000000000");
    assert_eq!(result, Ok(Some(1_714_557_600_000_000_000)));
    let [note] = &notes[..] else {
        panic!("{notes:?}")
    };
    assert!(note.contains("it would be 2024-05-01 in ns"), "{note}");
    let (_, notes) = read(r#"{"timestamp_unit":"us"}"#, "1714557600000000");
    assert!(notes.is_empty(), "{notes:?}");
    let (_, notes) = read(r#"{"timestamp_unit":"us"}"#, "12345");
    assert!(
        notes.is_empty(),
        "a node's own clock is no mistake: {notes:?}"
    );
}

#[test]
fn a_format_reads_what_is_written_so() {
    let may_day = Some(1_714_557_600_000_000);
    for (format, text) in [
        ("%d.%m.%Y %H:%M:%S", "01.05.2024 10:00:00"),
        ("%m/%d/%Y %I:%M %p", "05/01/2024 10:00 AM"),
        ("%Y%m%d%H%M%S", "20240501100000"),
        ("%Y-%m-%d %H:%M:%S %z", "2024-05-01 12:00:00 +0200"),
        ("%s", "1714557600"),
        ("%d %b %Y %H:%M:%S", "01 May 2024 10:00:00"),
    ] {
        let json = format!(r#"{{"timestamp_format":"{format}"}}"#);
        check(&json, text, may_day);
    }
    let json = r#"{"timestamp_format":"%d.%m.%Y","clock":"utc"}"#;
    check(json, "01.05.2024", Some(1_714_521_600_000_000));
    let error = read(json, "05/01/2024").0.unwrap_err().to_string();
    assert_eq!(
        error,
        r#"malformed: the timestamp "05/01/2024" is not of timestamp_format "%d.%m.%Y""#
    );
}

#[test]
fn an_unread_date_is_told_with_the_format_to_write() {
    let error = read(r#"{"clock":"utc"}"#, "01.05.2024 10:00:00")
        .0
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed: the timestamp \"01.05.2024 10:00:00\" is no date; write timestamp_format = \
         \"%d.%m.%Y %H:%M:%S%.f\""
    );
    let (result, notes) = read("{}", "01.05.2024 10:00:00");
    assert_eq!(result, Ok(None));
    assert!(notes[0].contains("timestamp_format"), "{notes:?}");
}

#[test]
fn a_format_that_gives_no_date_is_refused() {
    for (json, expected) in [
        (
            r#"{"timestamp_format":"%H:%M"}"#,
            "timestamp_format: \"%H:%M\" gives no date",
        ),
        (
            r#"{"timestamp_format":"%Q-%"}"#,
            "timestamp_format: \"%Q-%\": ",
        ),
        (
            r#"{"timezone":"Europe/Berlln"}"#,
            "timezone: no zone is called \"Europe/Berlln\"",
        ),
    ] {
        let error = TimeRule::new(&serde_json::from_str(json).unwrap()).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_time_without_a_zone_is_of_the_configured_one() {
    let berlin = r#"{"timezone":"Europe/Berlin"}"#;
    check(berlin, "2024-05-01 12:00:00", Some(1_714_557_600_000_000));
    check(berlin, "2024-05-01T10:00:00Z", Some(1_714_557_600_000_000));
    let (_, notes) = read(berlin, "2024-05-01 12:00:00");
    assert!(notes.is_empty(), "{notes:?}");
    let (_, notes) = read("{}", "2024-05-01 12:00:00");
    assert!(notes[0].contains("taken as UTC"), "{notes:?}");
}

#[test]
fn an_hour_that_the_clocks_skip_is_explained_and_one_that_comes_twice_goes_on() {
    let (result, notes) = read(r#"{"timezone":"Europe/Berlin"}"#, "2024-03-31 02:30:00");
    assert_eq!(result, Ok(Some(1_711_848_600_000_000)), "03:30 summer time");
    assert!(
        notes[0].contains("does not exist in Europe/Berlin"),
        "{notes:?}"
    );
    let rule = rule(r#"{"timezone":"Europe/Berlin"}"#);
    let mut notes = Notes::default();
    let mut last = 0;
    // From 01:00 summer time to 04:00 winter time, a reading each ten minutes.
    let local = (0..6).map(|i| (1, i)).chain((0..12).map(|i| (2, i % 6)));
    for (hour, tens) in local.chain((0..6).map(|i| (3, i))) {
        let text = format!("2024-10-27 0{hour}:{tens}0:00");
        let read = rule.of_text(&text, NOW_US, &mut notes).unwrap().unwrap();
        assert!(
            last == 0 || read - last == 600_000_000,
            "{text}: {}",
            read - last
        );
        last = read;
    }
}

#[test]
fn whatever_is_called_a_time_is_read_without_a_panic() {
    for format in ["", r#","timestamp_format":"%d.%m.%Y %H:%M:%S""#] {
        for clock in ["none", "utc"] {
            let rule = rule(&format!(r#"{{"clock":"{clock}"{format}}}"#));
            let text = "31.12.9999 23:59:59\0é-1e308+00:99";
            for start in 0..text.len() {
                for end in start..text.len() {
                    let piece = text.get(start..end).unwrap_or_default();
                    let read = rule.of_text(piece, NOW_US, &mut Notes::default());
                    assert!(clock == "utc" || read.is_ok(), "{piece:?}");
                }
            }
        }
    }
}
