//! Timestamps of every notation to microseconds.
//!
//! A number is scaled by the configured unit and keeps its own zero; without a
//! unit it has the one in which it is a time from 2000 to a day from now. A text
//! is a number, or a date, and becomes microseconds since the Unix epoch. A date
//! without an offset is one of the configured zone, or of UTC: a gateway cannot
//! know the node's.

use jiff::{
    Timestamp,
    civil::DateTime,
    fmt::{strtime::BrokenDownTime, temporal::DateTimeParser},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{
    config::{MappingConfig, TimeUse, TimestampUnit},
    notes::{About, Notes},
    rejected::{Fault, Rejected, Shown},
};

static PARSER: DateTimeParser = DateTimeParser::new();

/// The shortest date that may carry an offset: `2020-03-09T10Z`. Before this
/// place a `-` separates year, month and day.
const DATE_LEN: usize = 10;

/// 2000-01-01, microseconds since the epoch: no sensor was older.
const OLDEST_US: i64 = 946_684_800_000_000;
/// 2024-01-01: a gateway whose clock shows an earlier time has lost it.
const CLOCK_US_MIN: i64 = 1_704_067_200_000_000;
/// 2100-01-01: up to then a time is believed where the gateway has none.
const NEWEST_US: i64 = 4_102_444_800_000_000;
/// How far a sensor's clock may be ahead of the gateway's, microseconds.
const AHEAD_US: i64 = 86_400_000_000;
/// Below that a number is no time of the calendar in any unit: 2000-01-01 in
/// seconds. It may be what a node's own clock counts.
const COUNT_MAX: f64 = 946_684_800.0;
/// An hour that comes twice is the second one if the first would go back so far,
/// microseconds.
const FOLD_BACK_US: i64 = 1_800_000_000;

const UNITS: [(TimestampUnit, &str); 4] = [
    (TimestampUnit::Seconds, "s"),
    (TimestampUnit::Millis, "ms"),
    (TimestampUnit::Micros, "us"),
    (TimestampUnit::Nanos, "ns"),
];

/// Formats that are tried in order to say which one to write.
const FORMATS: [&str; 10] = [
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
    "%d.%m.%y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S%.f",
    "%d/%m/%Y %H:%M:%S%.f",
    "%m/%d/%Y %H:%M:%S%.f",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%d-%m-%Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
];

/// How the times of one source are read.
#[derive(Clone, Debug)]
pub(crate) struct TimeRule {
    pub(crate) unit: TimestampUnit,
    format: Option<Box<str>>,
    zone: TimeZone,
    is_zone_guessed: bool,
    clock: TimeUse,
}

/// A number that is a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Whole(i64),
    Float(f64),
}

impl Count {
    fn micros(self, unit: TimestampUnit) -> Option<i64> {
        match self {
            Self::Whole(value) => from_integer(value, unit),
            Self::Float(value) => from_float(value, unit),
        }
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    fn of(text: &str) -> Option<Self> {
        let whole = text.parse().map(Self::Whole).ok();
        whole.or_else(|| text.parse().map(Self::Float).ok())
    }
}

impl TimeRule {
    /// # Errors
    /// The key that is wrong, and what would be right.
    pub(crate) fn new(config: &MappingConfig) -> Result<Self, String> {
        if let Some(format) = &config.timestamp_format {
            check_format(format)?;
        }
        let zone = config.timezone.as_deref().map(|name| {
            TimeZone::get(name).map_err(|_| {
                format!("timezone: no zone is called {name:?}; right is such as \"Europe/Berlin\"")
            })
        });
        Ok(Self {
            unit: config.timestamp_unit,
            format: config.timestamp_format.as_deref().map(Into::into),
            is_zone_guessed: zone.is_none(),
            zone: zone.unwrap_or(Ok(TimeZone::UTC))?,
            clock: config.clock,
        })
    }

    /// Whether times are text, however they look.
    pub(crate) fn has_format(&self) -> bool {
        self.format.is_some()
    }

    /// A number, counted in `unit`.
    ///
    /// # Errors
    /// What it would be in each unit, where a time is needed and this is none.
    #[inline]
    pub(crate) fn of_count(
        &self,
        count: Count,
        unit: TimestampUnit,
        now_us: i64,
        notes: &mut Notes,
    ) -> Result<Option<i64>, Fault> {
        let newest_us = newest_us(now_us);
        let is_time = |micros: &i64| (OLDEST_US..=newest_us).contains(micros);
        if unit != TimestampUnit::Auto {
            let micros = count.micros(unit);
            if !micros.is_some_and(|micros| is_time(&micros)) {
                self.note_odd(count, unit, newest_us, notes);
            }
            return match micros {
                None => self.unread(notes, format_args!("the timestamp is out of range")),
                micros => Ok(micros),
            };
        }
        let in_unit = |(unit, _): &(TimestampUnit, _)| count.micros(*unit).filter(is_time);
        match UNITS.iter().find_map(in_unit) {
            None => self.of_odd_count(count, notes),
            micros => Ok(micros),
        }
    }

    /// A number that is a time from 2000 to now in no unit.
    #[cold]
    fn of_odd_count(&self, count: Count, notes: &mut Notes) -> Result<Option<i64>, Fault> {
        let number = count.as_f64();
        if number.abs() < COUNT_MAX && self.clock != TimeUse::Utc {
            return Ok(count.micros(TimestampUnit::Micros));
        }
        if self.clock == TimeUse::None {
            notes.tell(About::TimeUnit, || {
                format!(
                    "the timestamp {number} is no time from 2000 to now: {}; such readings have no \
                     time: set timestamp_unit",
                    InEach(count)
                )
            });
            return Ok(None);
        }
        Err(Rejected::malformed(format_args!(
            "the timestamp {number} is no time: {}",
            InEach(count)
        )))
    }

    /// Tells of a number that is a time in another unit than the stated one.
    #[cold]
    fn note_odd(&self, count: Count, stated: TimestampUnit, newest_us: i64, notes: &mut Notes) {
        let is_time = |micros: i64| (OLDEST_US..=newest_us).contains(&micros);
        let fitting = UNITS
            .iter()
            .find(|(unit, _)| count.micros(*unit).is_some_and(is_time));
        let name = |unit| {
            UNITS
                .iter()
                .find(|(own, _)| *own == unit)
                .map_or("", |u| u.1)
        };
        if let Some((unit, fits)) = fitting {
            notes.tell(About::TimeUnit, || {
                format!(
                    "the timestamp {} is {} in {}; it would be {} in {fits}: set timestamp_unit = \
                     \"{fits}\"",
                    count.as_f64(),
                    Day(count.micros(stated)),
                    name(stated),
                    Day(count.micros(*unit)),
                )
            });
        }
    }

    /// A text: a number, or a date in the configured format, or in RFC 3339's.
    ///
    /// # Errors
    /// What the text should have been, where a time is needed.
    pub(crate) fn of_text(
        &self,
        text: &str,
        now_us: i64,
        notes: &mut Notes,
    ) -> Result<Option<i64>, Fault> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if let Some(format) = &self.format {
            return match self.of_format(format, text, notes) {
                Some(micros) => Ok(Some(micros)),
                None => {
                    let text = Shown(text);
                    self.unread(
                        notes,
                        format_args!("the timestamp {text} is not of timestamp_format {format:?}"),
                    )
                }
            };
        }
        if let Some(count) = Count::of(text) {
            return self.of_count(count, self.unit, now_us, notes);
        }
        match self.of_rfc3339(text, notes) {
            Some(micros) => Ok(Some(micros)),
            None => self.unread_date(text, notes),
        }
    }

    fn of_format(&self, format: &str, text: &str, notes: &mut Notes) -> Option<i64> {
        let parsed = BrokenDownTime::parse(format, text).ok()?;
        if parsed.offset().is_some() || parsed.iana_time_zone().is_some() {
            return parsed.to_timestamp().ok().map(Timestamp::as_microsecond);
        }
        if let Ok(timestamp) = parsed.to_timestamp() {
            // `%s`: seconds since the epoch.
            return Some(timestamp.as_microsecond());
        }
        let date = parsed.to_datetime().or_else(|_| {
            // A format may leave the time of day out.
            parsed.to_date().map(|date| date.at(0, 0, 0, 0))
        });
        self.in_zone(date.ok()?, notes)
    }

    fn of_rfc3339(&self, text: &str, notes: &mut Notes) -> Option<i64> {
        let tail = text.as_bytes().get(DATE_LEN..)?;
        let has_offset = tail.iter().any(|b| matches!(b, b'Z' | b'z' | b'+' | b'-'));
        if has_offset {
            let timestamp = PARSER.parse_timestamp(text).ok()?;
            return Some(timestamp.as_microsecond());
        }
        self.in_zone(PARSER.parse_datetime(text).ok()?, notes)
    }

    /// A date without an offset.
    fn in_zone(&self, date: DateTime, notes: &mut Notes) -> Option<i64> {
        if self.is_zone_guessed {
            notes.tell(About::Zone, || {
                format!(
                    "the timestamp {date} names no zone and is taken as UTC; if it is another, say \
                     timezone = \"Europe/Berlin\" or the like"
                )
            });
        }
        let ambiguous = self.zone.to_ambiguous_timestamp(date);
        let zone = self.zone.iana_name().unwrap_or("UTC");
        let timestamp = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => ambiguous.compatible(),
            AmbiguousOffset::Gap { .. } => {
                let later = ambiguous.compatible();
                notes.tell(About::Gap, || {
                    let shown = later.as_ref().map(|t| t.to_zoned(self.zone.clone()).datetime());
                    let shown = shown.map_or_else(|_| String::new(), |date| date.to_string());
                    format!(
                        "the timestamp {date} does not exist in {zone}: the clocks were put forward; \
                         taken as {shown}. A logger that stays on winter time wants a zone such as \
                         \"Etc/GMT-1\""
                    )
                });
                later
            }
            AmbiguousOffset::Fold { .. } => {
                notes.tell(About::Fold, || {
                    format!(
                        "the timestamp {date} exists twice in {zone}: the clocks were put back; it is \
                         the second one once the first has passed"
                    )
                });
                let first = ambiguous.earlier();
                let has_passed = |first_us: i64| {
                    let since = notes.zoned_us.map(|last| last.saturating_sub(first_us));
                    since.is_some_and(|since| since > FOLD_BACK_US)
                };
                match &first {
                    Ok(first) if has_passed(first.as_microsecond()) => ambiguous.later(),
                    _ => first,
                }
            }
        };
        let micros = timestamp.ok()?.as_microsecond();
        notes.zoned_us = Some(micros);
        Some(micros)
    }

    #[cold]
    fn unread_date(&self, text: &str, notes: &mut Notes) -> Result<Option<i64>, Fault> {
        let reads = |format: &&&str| {
            let parsed = BrokenDownTime::parse(format, text);
            parsed.is_ok_and(|parsed| parsed.to_datetime().is_ok())
        };
        let shown = Shown(text);
        match FORMATS.iter().find(reads) {
            Some(format) => self.unread(
                notes,
                format_args!(
                    "the timestamp {shown} is no date; write timestamp_format = {format:?}"
                ),
            ),
            None => self.unread(notes, format_args!("the timestamp {shown} is no date")),
        }
    }

    /// What a time costs that cannot be read.
    #[cold]
    fn unread(
        &self,
        notes: &mut Notes,
        detail: std::fmt::Arguments<'_>,
    ) -> Result<Option<i64>, Fault> {
        if self.clock == TimeUse::None {
            notes.tell(About::Time, || {
                format!("{detail}; such readings have no time")
            });
            return Ok(None);
        }
        Err(Rejected::malformed(detail))
    }
}

/// The newest time that a sensor may have.
fn newest_us(now_us: i64) -> i64 {
    if now_us < CLOCK_US_MIN {
        NEWEST_US
    } else {
        now_us.saturating_add(AHEAD_US)
    }
}

/// A format by which a date that it has written cannot be read is none.
fn check_format(format: &str) -> Result<(), String> {
    let sample = jiff::civil::date(2024, 5, 1).at(10, 20, 30, 0).in_tz("UTC");
    let sample = sample.expect("the sample is a time");
    let written = jiff::fmt::strtime::format(format, &sample);
    let read = written.and_then(|text| {
        let parsed = BrokenDownTime::parse(format, &text)?;
        let is_whole = parsed.to_timestamp().is_ok() || parsed.to_date().is_ok();
        Ok(is_whole)
    });
    match read {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "timestamp_format: {format:?} gives no date: it needs year, month and day, such as \
             \"%Y-%m-%d %H:%M:%S\""
        )),
        Err(error) => Err(format!("timestamp_format: {format:?}: {error}")),
    }
}

/// What a number would be in each unit.
struct InEach(Count);

impl std::fmt::Display for InEach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (unit, name)) in UNITS.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {}", Day(self.0.micros(*unit)))?;
        }
        Ok(())
    }
}

/// A time as a day of the calendar.
struct Day(Option<i64>);

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let timestamp = self.0.map(Timestamp::from_microsecond);
        match timestamp {
            Some(Ok(timestamp)) => write!(f, "{}", timestamp.strftime("%Y-%m-%d")),
            _ => f.write_str("beyond 9999"),
        }
    }
}

/// A whole number of `unit` in microseconds; `None` outside `i64`.
fn from_integer(value: i64, unit: TimestampUnit) -> Option<i64> {
    match unit {
        TimestampUnit::Seconds => value.checked_mul(1_000_000),
        TimestampUnit::Millis => value.checked_mul(1_000),
        TimestampUnit::Micros | TimestampUnit::Auto => Some(value),
        TimestampUnit::Nanos => Some(value.div_euclid(1_000)),
    }
}

/// A number of `unit` in microseconds, rounded; `None` if it is not finite or
/// outside `i64`.
fn from_float(value: f64, unit: TimestampUnit) -> Option<i64> {
    let micros = match unit {
        TimestampUnit::Seconds => value * 1e6,
        TimestampUnit::Millis => value * 1e3,
        TimestampUnit::Micros | TimestampUnit::Auto => value,
        TimestampUnit::Nanos => (value / 1e3).floor(),
    };
    // 2^63 is exact in f64, so this is the whole range of i64 and no more.
    let limit = -(i64::MIN as f64);
    (-limit..limit)
        .contains(&micros)
        .then(|| micros.round() as i64)
}

#[cfg(test)]
mod tests;
