//! Numbers that are written as text.

use crate::unit;

/// The longest number with a decimal comma, bytes. The shortest exact text of
/// any f64 takes at most 24.
const NUMBER_MAX: usize = 64;

/// What a text is where a number belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number<'t> {
    /// Nothing but white space and separators.
    Nothing,
    /// A number, which may be infinite or none.
    Plain(f64),
    /// A number and the unit behind it.
    InUnit(f64, &'t str),
    /// A number with a comma, if it is a decimal one.
    WithComma(f64),
    /// A number with a comma that may as well separate thousands.
    Ambiguous,
    /// Something else.
    Text,
}

/// Reads `text`, whose numbers have a decimal comma if `decimal_comma`.
pub(crate) fn read(text: &str, decimal_comma: bool) -> Number<'_> {
    let text = trim(text);
    if text.is_empty() {
        return Number::Nothing;
    }
    if let Some(value) = parse(text, decimal_comma) {
        return Number::Plain(value);
    }
    let is_word = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_word(&["true", "on"]) {
        return Number::Plain(1.0);
    }
    if is_word(&["false", "off"]) {
        return Number::Plain(0.0);
    }
    // What C prints on Windows: 1.#QNAN, -1.#IND, 1.#INF.
    if text.trim_start_matches(['-', '+']).starts_with("1.#") {
        return Number::Plain(f64::NAN);
    }
    if let Some(decimals) = comma(text).filter(|_| !decimal_comma) {
        return match parse(text, true) {
            Some(_) if decimals == 3 => Number::Ambiguous,
            Some(value) => Number::WithComma(value),
            None => Number::Text,
        };
    }
    with_unit(text, decimal_comma).unwrap_or(Number::Text)
}

/// Without white space, NULs and separators around it.
pub(crate) fn trim(text: &str) -> &str {
    let is_padding = |c: char| c.is_whitespace() || c == '\0';
    text.trim_start_matches(is_padding)
        .trim_end_matches(|c: char| is_padding(c) || matches!(c, ',' | ';'))
}

fn parse(text: &str, decimal_comma: bool) -> Option<f64> {
    if !decimal_comma {
        return text.parse().ok();
    }
    let mut buffer = [0; NUMBER_MAX];
    let number = buffer.get_mut(..text.len())?;
    for (to, from) in number.iter_mut().zip(text.bytes()) {
        *to = match from {
            // It may separate thousands.
            b'.' => return None,
            b',' => b'.',
            other => other,
        };
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// How many digits follow the only comma of a number without a point.
fn comma(text: &str) -> Option<usize> {
    let (whole, decimals) = text.split_once(',')?;
    let is_plain = !whole.contains('.') && decimals.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then_some(decimals.len())
}

/// `21.5 °C`: a number with a known unit, or with anything after a space.
fn with_unit(text: &str, decimal_comma: bool) -> Option<Number<'_>> {
    let sign = usize::from(text.starts_with(['-', '+']));
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',');
    let digits = text[sign..].bytes().take_while(|byte| is_digit(*byte));
    let mut end = sign + digits.count();
    let exponent = text[end..].strip_prefix(['e', 'E']).unwrap_or_default();
    let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let power = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if power > 0 {
        end += 1 + (exponent.len() - unsigned.len()) + power;
    }
    let value = parse(&text[..end], decimal_comma)?;
    let unit = text[end..].trim_start();
    let is_unit = unit::is_known(unit) || unit.len() < text[end..].len();
    let is_word = !unit.starts_with(|c: char| c.is_ascii_digit() || "+-.,:".contains(c));
    (is_unit && is_word).then_some(Number::InUnit(value, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Number<'_>) {
        assert_eq!(read(text, false), expected, "{text:?}");
    }

    #[test]
    fn a_number_is_read_with_what_is_written_around_it() {
        for text in [
            "21.5",
            " 21.5 ",
            "21.5\0",
            "21.5\0\0\r\n",
            "21.5;",
            "21.5,",
            "+2.15e1",
        ] {
            check(text, Number::Plain(21.5));
        }
        for (text, unit) in [
            ("21.5 °C", "°C"),
            ("21.5°C", "°C"),
            ("21.5 C\0", "C"),
            ("21.5 widgets", "widgets"),
            ("2.15e1 bar", "bar"),
            ("21.5%", "%"),
        ] {
            check(text, Number::InUnit(21.5, unit));
        }
        for (text, value) in [("true", 1.0), ("ON", 1.0), ("False", 0.0), ("off", 0.0)] {
            check(text, Number::Plain(value));
        }
        for text in ["", " ", "\0", ";"] {
            check(text, Number::Nothing);
        }
    }

    #[test]
    fn a_number_that_is_none_is_told_from_text() {
        for text in [
            "nan",
            "NaN",
            "-nan",
            "1.#QNAN",
            "-1.#IND",
            "inf",
            "-Infinity",
        ] {
            assert!(
                matches!(read(text, false), Number::Plain(value) if !value.is_finite()),
                "{text}"
            );
        }
        for text in [
            "high",
            "0x10",
            "1.2.3",
            "2024-05-01",
            "10:30",
            "--",
            "é",
            "1e",
            "5 5",
        ] {
            check(text, Number::Text);
        }
    }

    #[test]
    fn a_comma_is_a_decimal_one_unless_it_may_separate_thousands() {
        check("21,5", Number::WithComma(21.5));
        check("-0,25", Number::WithComma(-0.25));
        check("1,234", Number::Ambiguous);
        check("1,234,567", Number::Text);
        check("1.234,5", Number::Text);
        assert_eq!(read("1,234", true), Number::Plain(1.234));
        assert_eq!(read("21,5 bar", true), Number::InUnit(21.5, "bar"));
        assert_eq!(read("1.5", true), Number::Text);
        assert_eq!(read(&"1".repeat(65), true), Number::Text);
    }
}
