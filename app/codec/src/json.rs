//! JSON, value by value (RFC 8259), and what devices write beside it.
//!
//! `NaN` and `Infinity` are read where a number may stand, since C, Python and
//! JavaScript print them; so are several values in one payload, with white
//! space, NULs, commas or semicolons between and behind them. Nothing else is
//! forgiven. A value is borrowed from the payload, unless it is a text with
//! escapes, which is unescaped into memory.

use std::borrow::Cow;

use crate::{
    decoder::Sink,
    draft::{Draft, Scalar},
    rejected::{Fault, Rejected},
    walk::{NESTING_MAX, Tokens, Value, Walk},
};

/// Decodes each value of `text`. Returns how many readings and rejections there
/// were.
pub(crate) fn decode(draft: Draft<'_>, text: &str, sink: Sink<'_>) -> usize {
    let mut walk = Walk::new(draft, Json { text, at: 0 }, sink);
    walk.tokens.pass(is_space);
    while walk.tokens.peek().is_some() {
        let start = walk.tokens.clone();
        let result = walk.message().and_then(|is_reading| {
            let value_ends = walk.tokens.at;
            walk.tokens.pass(is_separator);
            let follows = walk.tokens.peek();
            let is_apart = walk.tokens.at > value_ends || matches!(follows, Some(b'{' | b'['));
            match follows {
                Some(b'{' | b'[') | None if is_apart || follows.is_none() => Ok(is_reading),
                _ => Err(walk.tokens.syntax("something else behind the value")),
            }
        });
        match result {
            Ok(true) => walk.give(),
            Ok(false) => {}
            Err(fault) => {
                let fault = walk.tokens.at(fault);
                walk.reject(*fault);
                // The next value after this one, or after a broken one the next line.
                walk.tokens = start;
                match walk.tokens.skip() {
                    Ok(()) => walk.tokens.pass(is_separator),
                    Err(_) => walk.tokens.pass_line(),
                }
                if !matches!(walk.tokens.peek(), Some(b'{' | b'[')) {
                    walk.tokens.pass_line();
                }
            }
        }
    }
    walk.count
}

/// One value on its own: a number or a text; of an object its field `value`.
pub(crate) fn single(text: &str) -> Result<Option<Scalar<'_>>, Fault> {
    let mut tokens = Json { text, at: 0 };
    let mut group = match tokens.value()? {
        Value::Scalar(scalar) => return Ok(Some(scalar)),
        Value::Array(_) => return Ok(None),
        Value::Map(group) => group,
    };
    while let Some(name) = tokens.name(&mut group)? {
        if name != "value" {
            tokens.skip()?;
        } else if let Value::Scalar(scalar) = tokens.value()? {
            return Ok(Some(scalar));
        } else {
            return Ok(None);
        }
    }
    Ok(None)
}

/// White space of JSON, the NUL that C's strings end with, and the record separator
/// of RFC 7464.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0 | 0x1E)
}

/// What may stand between two values of a payload.
fn is_separator(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b';')
}

/// A text, and how much of it was read.
#[derive(Clone)]
pub(crate) struct Json<'p> {
    text: &'p str,
    at: usize,
}

/// An array or an object that was begun.
pub(crate) struct Group {
    is_first: bool,
}

impl<'p> Json<'p> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn pass(&mut self, is_passed: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_passed) {
            self.at += 1;
        }
    }

    /// To the end of the line.
    fn pass_line(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        self.pass(is_space);
    }

    #[inline]
    fn space(&mut self) {
        // Most payloads have none.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.pass(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        }
    }

    #[cold]
    fn syntax(&self, expected: &str) -> Fault {
        Rejected::malformed(format_args!("no JSON: {expected}"))
    }

    #[cold]
    fn expected(&self, expected: &str) -> Fault {
        match self.text[self.at..].chars().next() {
            None => self.syntax(&format!("expected {expected}, found the end")),
            Some(found) => self.syntax(&format!("expected {expected}, found {found:?}")),
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// A string behind its first quote.
    #[inline]
    fn string(&mut self) -> Result<Cow<'p, str>, Fault> {
        let (start, has_escapes) = (self.at, self.pass_string()?);
        let inner = &self.text[start..self.at - 1];
        if has_escapes {
            return unescape(inner).map(Cow::Owned);
        }
        Ok(Cow::Borrowed(inner))
    }

    /// Passes over a string behind its first quote; whether it has escapes.
    #[inline]
    fn pass_string(&mut self) -> Result<bool, Fault> {
        let bytes = self.text.as_bytes();
        let mut has_escapes = false;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') if self.at + 1 < bytes.len() => {
                    has_escapes = true;
                    self.at += 1;
                    // What is escaped may be of several bytes.
                    let escaped = self.text[self.at..].chars().next();
                    self.at += escaped.map_or(1, char::len_utf8);
                }
                Some(0..=0x1F) => return Err(self.syntax("a control character in a string")),
                None | Some(b'\\') => return Err(self.syntax("a string is not closed")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// A number: sign, digits, fraction, exponent.
    #[inline]
    fn number(&mut self) -> Result<Scalar<'p>, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let is_negative = self.take(b'-');
        if is_negative && !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.word();
        }
        let (mut mantissa, mut power) = (0_u64, 0_i32);
        let first = self.at;
        while let Some(byte @ b'0'..=b'9') = bytes.get(self.at) {
            mantissa = mantissa
                .wrapping_mul(10)
                .wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
        let mut digits = self.at - first;
        if bytes[first] == b'0' && digits > 1 {
            return Err(self.syntax("a number with a zero in front"));
        }
        let mut is_whole = true;
        if self.take(b'.') {
            is_whole = false;
            let point = self.at;
            while let Some(byte @ b'0'..=b'9') = bytes.get(self.at) {
                mantissa = mantissa
                    .wrapping_mul(10)
                    .wrapping_add(u64::from(byte - b'0'));
                self.at += 1;
            }
            if self.at == point {
                return Err(self.expected("a digit"));
            }
            digits += self.at - point;
            power = -((self.at - point) as i32);
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_whole = false;
            self.at += 1;
            let is_small = self.take(b'-');
            if !is_small {
                self.take(b'+');
            }
            let behind = self.at;
            let mut exponent = 0_i32;
            while let Some(byte @ b'0'..=b'9') = bytes.get(self.at) {
                exponent = exponent
                    .saturating_mul(10)
                    .saturating_add(i32::from(byte - b'0'));
                self.at += 1;
            }
            if self.at == behind {
                return Err(self.expected("a digit"));
            }
            power = power.saturating_add(if is_small { -exponent } else { exponent });
        }
        // As many as any mantissa of 64 bits has room for.
        let is_exact = digits <= 19;
        let number = &self.text[start..self.at];
        if !is_exact && let Ok(value) = number.parse() {
            return Ok(Scalar::Unsigned(value));
        }
        if is_whole && is_exact {
            return Ok(match (is_negative, i64::try_from(mantissa)) {
                (false, _) => Scalar::Unsigned(mantissa),
                (true, Ok(value)) => Scalar::Signed(-value),
                (true, Err(_)) => Scalar::Float(-(mantissa as f64)),
            });
        }
        let exact = if is_exact {
            scaled(mantissa, power)
        } else {
            None
        };
        let value = match exact {
            Some(value) if is_negative => -value,
            Some(value) => value,
            None => number.parse().map_err(|_| self.expected("a number"))?,
        };
        Ok(Scalar::Float(value))
    }

    /// A word that stands for a value, behind its sign if it has one.
    fn word(&mut self) -> Result<Scalar<'p>, Fault> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let word = &self.text[self.at..self.at + len];
        let scalar = match word {
            "true" => Scalar::True,
            "false" => Scalar::False,
            "null" => Scalar::Null,
            _ if word.eq_ignore_ascii_case("nan") => Scalar::Float(f64::NAN),
            _ if ["inf", "infinity"]
                .iter()
                .any(|inf| word.eq_ignore_ascii_case(inf)) =>
            {
                Scalar::Float(f64::INFINITY)
            }
            _ => return Err(self.expected("a value")),
        };
        self.at += len;
        Ok(scalar)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Fault> {
        self.space();
        if self.take(b'"') {
            return self.pass_string().map(drop);
        }
        let value = self.value()?;
        if !matches!(value, Value::Scalar(_)) && depth == NESTING_MAX {
            return Err(Rejected::malformed(format_args!(
                "nested deeper than {NESTING_MAX}"
            )));
        }
        match value {
            Value::Scalar(_) => {}
            Value::Array(mut group) => {
                while self.has_element(&mut group)? {
                    self.skip_within(depth + 1)?;
                }
            }
            Value::Map(mut group) => {
                while self.has_name(&mut group)? {
                    self.pass_string()?;
                    self.colon()?;
                    self.skip_within(depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the object goes on; then it is behind the first quote of a name.
    #[inline]
    fn has_name(&mut self, group: &mut Group) -> Result<bool, Fault> {
        self.space();
        if self.take(b'}') {
            return Ok(false);
        }
        if !std::mem::take(&mut group.is_first) {
            if !self.take(b',') {
                return Err(self.expected("\",\" or \"}\""));
            }
            self.space();
        }
        if !self.take(b'"') {
            return Err(self.expected("a field name"));
        }
        Ok(true)
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Fault> {
        self.space();
        if !self.take(b':') {
            return Err(self.expected("\":\""));
        }
        Ok(())
    }
}

impl<'p> Tokens<'p> for Json<'p> {
    type Group = Group;

    #[inline]
    fn value(&mut self) -> Result<Value<'p, Group>, Fault> {
        self.space();
        let group = Group { is_first: true };
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Scalar),
            Some(b'"') => {
                self.at += 1;
                let (start, has_escapes) = (self.at, self.pass_string()?);
                let inner = &self.text[start..self.at - 1];
                Ok(Value::Scalar(if has_escapes {
                    Scalar::Escaped(inner)
                } else {
                    Scalar::Text(inner)
                }))
            }
            Some(b'{') => {
                self.at += 1;
                Ok(Value::Map(group))
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Value::Array(group))
            }
            _ => self.word().map(Value::Scalar),
        }
    }

    #[inline]
    fn has_element(&mut self, group: &mut Group) -> Result<bool, Fault> {
        self.space();
        let is_first = std::mem::take(&mut group.is_first);
        if self.take(b']') {
            return Ok(false);
        }
        if !is_first {
            if !self.take(b',') {
                return Err(self.expected("\",\" or \"]\""));
            }
            self.space();
            if self.peek() == Some(b']') {
                return Err(self.expected("a value"));
            }
        }
        Ok(true)
    }

    #[inline]
    fn name(&mut self, group: &mut Group) -> Result<Option<Cow<'p, str>>, Fault> {
        if !self.has_name(group)? {
            return Ok(None);
        }
        let name = self.string()?;
        self.colon()?;
        Ok(Some(name))
    }

    fn skip(&mut self) -> Result<(), Fault> {
        self.skip_within(0)
    }

    #[cold]
    fn at(&self, fault: Fault) -> Fault {
        let before = &self.text.as_bytes()[..self.at];
        let lines = memchr::memchr_iter(b'\n', before).count();
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
        match (lines, self.at - line_start) {
            (0, column) => fault.at(format_args!(" at column {column}")),
            (lines, column) => fault.at(format_args!(" at line {} column {column}", lines + 1)),
        }
    }
}

/// `mantissa · 10^power` where both are exact in f64, so that one rounding gives the
/// nearest value (Clinger 1990, "How to read floating point numbers accurately").
fn scaled(mantissa: u64, power: i32) -> Option<f64> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    if mantissa > 1 << 53 {
        return None;
    }
    let factor = POWERS.get(power.unsigned_abs() as usize)?;
    let mantissa = mantissa as f64;
    Some(if power < 0 {
        mantissa / factor
    } else {
        mantissa * factor
    })
}

/// The text that is written as `inner` in quotes.
#[cold]
pub(crate) fn unescape(inner: &str) -> Result<String, Fault> {
    let wrong = || Rejected::malformed(format_args!("no JSON: an unknown escape in a string"));
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        text.push(match rest.next() {
            Some(plain @ ('"' | '\\' | '/')) => plain,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let escaped = rest.as_str();
                let (character, len) = unicode(escaped).ok_or_else(wrong)?;
                rest = escaped[len..].chars();
                character
            }
            _ => return Err(wrong()),
        });
    }
    Ok(text)
}

/// The character of the four digits behind `\u`, or of two such escapes, and how
/// many bytes they take.
fn unicode(escaped: &str) -> Option<(char, usize)> {
    let unit = |text: Option<&str>| {
        let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u16::from_str_radix(text, 16).ok()
    };
    let high = unit(escaped.get(..4))?;
    if let Some(character) = char::from_u32(high.into()) {
        return Some((character, 4));
    }
    let low = unit(escaped.get(4..)?.strip_prefix("\\u")?.get(..4))?;
    let pair = char::decode_utf16([high, low]).next()?.ok()?;
    Some((pair, 10))
}
