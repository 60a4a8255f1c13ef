//! Text from outside, as it may stand in a line that a person reads.

use std::fmt::{self, Write};

/// Shows a text with everything escaped that would move a cursor, begin a line,
/// or turn the direction of writing.
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Escapes whatever is written to it.
pub(super) struct Escaping<W>(pub(super) W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if is_plain(character) {
                self.0.write_char(character)
            } else {
                write!(self.0, "{}", character.escape_debug())
            }
        })
    }
}

/// Whether it is seen as what it is. Quotes and backslashes are plain here: the
/// text is read, and not parsed again.
fn is_plain(character: char) -> bool {
    let first = character.escape_debug().next();
    first == Some(character) || matches!(character, '"' | '\'' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_forge_a_line_or_reach_a_terminal_is_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(Printable(text).to_string(), expected);
        check("pump \"7\" at 5 µm, 温度", "pump \"7\" at 5 µm, 温度");
        check("1.0\nERROR all is lost", "1.0\\nERROR all is lost");
        check("\r\t\u{0}\u{7f}", "\\r\\t\\0\\u{7f}");
        check("\u{1b}[31mred", "\\u{1b}[31mred");
        // CSI in one character, and an override of the direction.
        check("\u{9b}2J \u{202e}abc", "\\u{9b}2J \\u{202e}abc");
        check("\u{2028}", "\\u{2028}");
    }
}
