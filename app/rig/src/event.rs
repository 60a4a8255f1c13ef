//! When a fault happens and how badly: `kind@start[:severity][+duration][/every]`, as in
//! `outer_race@12s:0.8`, `dropout@1m+30s` or `imbalance@20s+20s/40s`.

use crate::fault::{Fault, UnknownFault};
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

/// One scheduled fault.
///
/// Parses from `kind@start[:severity][+duration][/every]`; times are a decimal number and a unit
/// out of `ms`, `s`, `m`, `h`. Without severity it is 1, without duration it stays for good, without
/// `every` it comes once. The ramp is [`Fault::ramp_ms`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultEvent {
    /// What happens.
    pub fault: Fault,
    /// First reading at or after this time is the first faulty one; ms from the start of the run.
    pub start_ms: u64,
    /// How bad it gets, 0 to 1.
    pub severity: f64,
    /// The fault is gone, at once, this long after its start; `None`: never.
    pub duration_ms: Option<u64>,
    /// The fault begins anew whenever this much time has passed since its start; `None`: never.
    pub every_ms: Option<NonZeroU64>,
    /// The severity grows from 0 in a straight line for this long; 0: at once.
    pub ramp_ms: u64,
}

impl FaultEvent {
    /// A fault that reaches severity 1 by its own ramp and stays.
    pub fn new(fault: Fault, start_ms: u64) -> Self {
        Self {
            fault,
            start_ms,
            severity: 1.0,
            duration_ms: None,
            every_ms: None,
            ramp_ms: fault.ramp_ms(),
        }
    }

    /// The severity at `now_us`: `None` before the start and after the end, else `0..=severity`.
    pub fn severity_at(&self, now_us: u64) -> Option<f64> {
        let mut since_us = now_us.checked_sub(self.start_ms.saturating_mul(1_000))?;
        if let Some(every_ms) = self.every_ms {
            since_us %= every_ms.get().saturating_mul(1_000);
        }
        let is_over = self
            .duration_ms
            .is_some_and(|duration_ms| since_us >= duration_ms.saturating_mul(1_000));
        let ramp_us = self.ramp_ms.saturating_mul(1_000);
        match since_us {
            _ if is_over => None,
            since_us if since_us < ramp_us => {
                Some(self.severity * since_us as f64 / ramp_us as f64)
            }
            _ => Some(self.severity),
        }
    }
}

impl FromStr for FaultEvent {
    type Err = EventParseError;

    fn from_str(text: &str) -> Result<Self, EventParseError> {
        let (kind, when) = text
            .split_once('@')
            .ok_or_else(|| EventParseError::NoStart(text.to_owned()))?;
        let (when, every) = split_optional(when, '/');
        let (when, duration) = split_optional(when, '+');
        let (start, severity) = split_optional(when, ':');
        Ok(Self {
            severity: severity.map_or(Ok(1.0), parse_severity)?,
            duration_ms: duration.map(parse_time_ms).transpose()?,
            every_ms: every.map(parse_cycle_ms).transpose()?,
            ..Self::new(kind.parse()?, parse_time_ms(start)?)
        })
    }
}

impl fmt::Display for FaultEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}ms:{}", self.fault, self.start_ms, self.severity)?;
        self.duration_ms
            .map_or(Ok(()), |duration_ms| write!(f, "+{duration_ms}ms"))?;
        self.every_ms
            .map_or(Ok(()), |every_ms| write!(f, "/{every_ms}ms"))
    }
}

/// Why a text is no [`FaultEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventParseError {
    /// There is no `@start`.
    NoStart(String),
    /// The kind is no fault's name.
    Unknown(UnknownFault),
    /// A start or duration is not a number with a unit, or more than a year.
    Time(String),
    /// The severity is not a number from 0 to 1.
    Severity(String),
}

impl fmt::Display for EventParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStart(text) => {
                write!(
                    f,
                    "'{text}' has no start: expected kind@start[:severity][+duration][/every], like outer_race@12s:0.8"
                )
            }
            Self::Unknown(unknown) => unknown.fmt(f),
            Self::Time(text) => write!(
                f,
                "'{text}' is no time: expected a number with ms, s, m or h, at most a year"
            ),
            Self::Severity(text) => {
                write!(f, "'{text}' is no severity: expected a number from 0 to 1")
            }
        }
    }
}

impl core::error::Error for EventParseError {}

impl From<UnknownFault> for EventParseError {
    fn from(unknown: UnknownFault) -> Self {
        Self::Unknown(unknown)
    }
}

/// A year: longer than any run, and far from where milliseconds would lose precision as `f64`.
const TIME_MS_MAX: f64 = 366.0 * 86_400_000.0;

fn split_optional(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator)
        .map_or((text, None), |(head, tail)| (head, Some(tail)))
}

fn parse_time_ms(text: &str) -> Result<u64, EventParseError> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => Some(1.0),
        "s" => Some(1_000.0),
        "m" => Some(60_000.0),
        "h" => Some(3_600_000.0),
        _ => None,
    };
    let time_ms = unit_ms
        .zip(number.parse::<f64>().ok())
        .map(|(unit_ms, number)| libm::round(number * unit_ms));
    time_ms
        .filter(|time_ms| (0.0..=TIME_MS_MAX).contains(time_ms))
        .map(|time_ms| time_ms as u64)
        .ok_or_else(|| EventParseError::Time(text.to_owned()))
}

fn parse_cycle_ms(text: &str) -> Result<NonZeroU64, EventParseError> {
    NonZeroU64::new(parse_time_ms(text)?).ok_or_else(|| EventParseError::Time(text.to_owned()))
}

fn parse_severity(text: &str) -> Result<f64, EventParseError> {
    let severity = text
        .parse()
        .ok()
        .filter(|severity| (0.0..=1.0).contains(severity));
    severity.ok_or_else(|| EventParseError::Severity(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_parse_with_their_defaults_and_survive_display() {
        let check = |text: &str, fault, start_ms, severity, duration_ms, every_ms| {
            let event = FaultEvent {
                fault,
                start_ms,
                severity,
                duration_ms,
                every_ms: NonZeroU64::new(every_ms),
                ramp_ms: fault.ramp_ms(),
            };
            assert_eq!(text.parse(), Ok(event), "{text}");
            assert_eq!(event.to_string().parse(), Ok(event), "{event}");
        };
        check("outer_race@12s:0.8", Fault::OuterRace, 12_000, 0.8, None, 0);
        check("imbalance@0s", Fault::Imbalance, 0, 1.0, None, 0);
        check(
            "imbalance@20s+10s/1m",
            Fault::Imbalance,
            20_000,
            1.0,
            Some(10_000),
            60_000,
        );
        check(
            "dropout@1.5m+30s",
            Fault::Dropout,
            90_000,
            1.0,
            Some(30_000),
            0,
        );
        check(
            "cavitation@2h:1+250ms",
            Fault::Cavitation,
            7_200_000,
            1.0,
            Some(250),
            0,
        );
        check("stuck_sensor@0ms:0", Fault::StuckSensor, 0, 0.0, None, 0);
    }

    #[test]
    fn bad_events_say_which_part_is_wrong() {
        let check = |text: &str, expected: EventParseError| {
            assert_eq!(text.parse::<FaultEvent>(), Err(expected.clone()), "{text}");
            assert!(!expected.to_string().is_empty());
        };
        let time = |text: &str| EventParseError::Time(text.to_owned());
        let severity = |text: &str| EventParseError::Severity(text.to_owned());
        check(
            "imbalance",
            EventParseError::NoStart("imbalance".to_owned()),
        );
        check("", EventParseError::NoStart(String::new()));
        check(
            "fire@1s",
            EventParseError::Unknown(UnknownFault("fire".to_owned())),
        );
        for bad in [
            "", "12", "s", "-1s", "1d", "1e9h", "nans", "1 s", "1sé", "é",
        ] {
            check(&format!("dropout@{bad}"), time(bad));
            check(&format!("dropout@1s+{bad}"), time(bad));
            check(&format!("dropout@1s+1s/{bad}"), time(bad));
        }
        check("dropout@1s/0s", time("0s"));
        for bad in ["", "1.1", "-0.1", "NaN", "inf", "x"] {
            check(&format!("dropout@1s:{bad}"), severity(bad));
        }
    }

    #[test]
    fn severity_ramps_holds_and_ends() {
        let event = FaultEvent {
            severity: 0.5,
            duration_ms: Some(20_000),
            ..FaultEvent::new(Fault::Imbalance, 10_000)
        };
        let check = |now_ms: u64, expected| {
            assert_eq!(
                event.severity_at(now_ms * 1_000),
                expected,
                "at {now_ms} ms"
            );
        };
        check(0, None);
        check(9_999, None);
        check(10_000, Some(0.0));
        check(12_500, Some(0.25));
        check(15_000, Some(0.5));
        check(29_999, Some(0.5));
        check(30_000, None);
        check(70_000, None);
        let event = FaultEvent {
            every_ms: NonZeroU64::new(60_000),
            ..event
        };
        assert_eq!(event.severity_at(69_999_999), None);
        assert_eq!(event.severity_at(72_500_000), Some(0.25));
        assert_eq!(event.severity_at(90_000_000), None);
    }
}
