//! Durations as people type them: `250ms`, `30s`, `1.5m`, `2h`, or bare seconds.

use std::time::Duration;

/// A year: longer than any run, and far from every overflow.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// A text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no duration: expected a number with ms, s, m or h, such as 30s, at most a year")]
pub struct InvalidDuration(String);

/// Parses a decimal number and a unit out of `ms`, `s`, `m`, `h`; without a
/// unit it is seconds. Range: zero to a year.
///
/// # Errors
/// [`InvalidDuration`], which says what would be right.
///
/// ```
/// let half_a_minute = hark_config::duration::parse_duration("0.5m")?;
/// assert_eq!(half_a_minute.as_secs(), 30);
/// # Ok::<(), hark_config::duration::InvalidDuration>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_s = match unit {
        "ms" => Some(0.001),
        "" | "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3_600.0),
        _ => None,
    };
    number
        .parse()
        .ok()
        .zip(unit_s)
        .map(|(number, unit_s): (f64, f64)| number * unit_s)
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| InvalidDuration(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected_ms: Option<u64>) {
        let expected = expected_ms
            .map(Duration::from_millis)
            .ok_or_else(|| InvalidDuration(text.to_owned()));
        assert_eq!(parse_duration(text), expected, "{text:?}");
    }

    #[test]
    fn a_number_and_a_unit_make_a_duration() {
        check("250ms", Some(250));
        check("30s", Some(30_000));
        check("1.5m", Some(90_000));
        check("2h", Some(7_200_000));
        check("45", Some(45_000));
        check("0.1", Some(100));
        check("0s", Some(0));
        check("8784h", Some(31_622_400_000));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "s", "ms", ".", "1.2.3s", "-1s", "+1s", "1 s", "1S", "1d", "1e3s", "inf", "nan",
            "NaNs", "8785h", "١s",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn the_error_says_what_would_be_right() {
        let error = parse_duration("10min").unwrap_err().to_string();
        assert!(error.starts_with("'10min' is no duration"), "{error}");
        assert!(error.contains("such as 30s"), "{error}");
    }
}
