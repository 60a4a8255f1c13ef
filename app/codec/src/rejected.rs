//! Why a payload was refused: the reason to count, and a text to show.
//!
//! The text is what an operator reads beside the counter, so it says what was
//! expected, what was found and where. It lives in a fixed buffer, because a
//! hostile source must not be able to make it long.

use std::fmt::{self, Write};

use hark_engine::Rejection;

/// The longest explanation, bytes. It holds two quoted names and a position.
pub const DETAIL_MAX: usize = 100;

/// The most characters of a foreign name that an explanation repeats.
const NAME_SHOWN: usize = 24;

/// Why a payload will be refused, on its way up. A pointer: were the text in it, each
/// step down would return it by memory, which costs all payloads a fifth of their time.
pub(crate) type Fault = Box<Rejected>;

/// A payload that was refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejected {
    /// What to count.
    pub reason: Rejection,
    /// What to show beside the counter.
    pub detail: Detail,
}

impl Rejected {
    #[cold]
    pub(crate) fn new(reason: Rejection, detail: fmt::Arguments<'_>) -> Fault {
        let mut rejected = Box::new(Self {
            reason,
            detail: Detail::default(),
        });
        rejected.detail.append(detail);
        rejected
    }

    #[cold]
    pub(crate) fn malformed(detail: fmt::Arguments<'_>) -> Fault {
        Self::new(Rejection::Malformed, detail)
    }

    /// The same, with the place where it was seen.
    #[cold]
    pub(crate) fn at(mut self: Box<Self>, place: fmt::Arguments<'_>) -> Fault {
        self.detail.append(place);
        self
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.detail)
    }
}

/// A text of at most [`DETAIL_MAX`] bytes, cut at a character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    bytes: [u8; DETAIL_MAX],
    len: u8,
}

const _: () = assert!(DETAIL_MAX <= u8::MAX as usize);

impl Default for Detail {
    fn default() -> Self {
        Self {
            bytes: [0; DETAIL_MAX],
            len: 0,
        }
    }
}

impl Detail {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)])
            .expect("only whole characters are ever appended")
    }

    fn append(&mut self, text: fmt::Arguments<'_>) {
        // The error says that the buffer is full: the rest is cut off.
        let _ = self.write_fmt(text);
    }
}

impl Write for Detail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let used = usize::from(self.len);
        let taken = text.floor_char_boundary(DETAIL_MAX - used);
        self.bytes[used..used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken as u8;
        if taken == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A name as an explanation shows it: quoted, escaped and cut.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        f.write_char('"')?;
        for character in rest.by_ref().take(NAME_SHOWN) {
            write!(f, "{}", character.escape_debug())?;
        }
        f.write_str(if rest.next().is_some() { "…\"" } else { "\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_cut_at_a_character() {
        let rejected = Rejected::malformed(format_args!("{}", "é".repeat(DETAIL_MAX)));
        assert_eq!(rejected.detail.as_str(), "é".repeat(DETAIL_MAX / 2));
        let odd = Rejected::malformed(format_args!("x{}", "é".repeat(DETAIL_MAX)));
        assert_eq!(odd.detail.as_str().len(), DETAIL_MAX - 1);
    }

    #[test]
    fn a_foreign_name_is_escaped_and_cut() {
        assert_eq!(Shown("bar").to_string(), "\"bar\"");
        assert_eq!(Shown("\u{1b}[2J").to_string(), "\"\\u{1b}[2J\"");
        assert_eq!(
            Shown(&"x".repeat(99)).to_string(),
            format!("\"{}…\"", "x".repeat(NAME_SHOWN))
        );
    }
}
