//! Timestamps of every notation to microseconds.
//!
//! A number is scaled by the configured unit and keeps its own zero. A text
//! is a date, and becomes microseconds since the Unix epoch; a date without
//! an offset is taken as UTC, because a gateway cannot know the node's zone.

use jiff::{fmt::temporal::DateTimeParser, tz::TimeZone};

use crate::config::TimestampUnit;

static PARSER: DateTimeParser = DateTimeParser::new();

/// The shortest date that may carry an offset: `2020-03-09T10Z`. Before this
/// place a `-` separates year, month and day.
const DATE_LEN: usize = 10;

/// A whole number of `unit` in microseconds; `None` outside `i64`.
pub(crate) fn from_integer(value: i64, unit: TimestampUnit) -> Option<i64> {
    match unit {
        TimestampUnit::Seconds => value.checked_mul(1_000_000),
        TimestampUnit::Millis => value.checked_mul(1_000),
        TimestampUnit::Micros => Some(value),
        TimestampUnit::Nanos => Some(value.div_euclid(1_000)),
    }
}

/// A number of `unit` in microseconds, rounded; `None` if it is not finite or
/// outside `i64`.
pub(crate) fn from_float(value: f64, unit: TimestampUnit) -> Option<i64> {
    let micros = match unit {
        TimestampUnit::Seconds => value * 1e6,
        TimestampUnit::Millis => value * 1e3,
        TimestampUnit::Micros => value,
        TimestampUnit::Nanos => (value / 1e3).floor(),
    };
    // 2^63 is exact in f64, so this is the whole range of i64 and no more.
    let limit = -(i64::MIN as f64);
    (-limit..limit)
        .contains(&micros)
        .then(|| micros.round() as i64)
}

/// An RFC 3339 text, or a date and time without offset taken as UTC.
pub(crate) fn from_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let tail = text.as_bytes().get(DATE_LEN..)?;
    let has_offset = tail.iter().any(|b| matches!(b, b'Z' | b'z' | b'+' | b'-'));
    let timestamp = if has_offset {
        PARSER.parse_timestamp(text).ok()?
    } else {
        let date = PARSER.parse_datetime(text).ok()?;
        date.to_zoned(TimeZone::UTC).ok()?.timestamp()
    };
    Some(timestamp.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(from_text(text), expected, "{text:?}");
        }
    }
}
