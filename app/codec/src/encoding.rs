//! Text in other encodings than UTF-8, to UTF-8.

use std::borrow::Cow;

use crate::Encoding;

/// What some editors and loggers write in front of UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Windows-1252 from 0x80 to 0x9F; the rest is Latin-1
/// (<https://encoding.spec.whatwg.org/index-windows-1252.txt>).
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// `text` in UTF-8; what is ASCII is that already. `scratch` holds what is not.
pub(crate) fn to_utf8<'t>(encoding: Encoding, text: &'t [u8], scratch: &'t mut String) -> &'t [u8] {
    if encoding == Encoding::Utf8 || text.is_ascii() {
        return text;
    }
    scratch.clear();
    scratch.extend(text.iter().map(|&byte| match byte {
        0x80..=0x9F if encoding == Encoding::Windows1252 => WINDOWS_1252[usize::from(byte - 0x80)],
        // Latin-1 is the first part of Unicode.
        _ => char::from(byte),
    }));
    scratch.as_bytes()
}

/// Makes UTF-8 of a stream that begins with the mark of UTF-16, and leaves every
/// other as it is.
#[derive(Clone, Debug, Default)]
pub struct Utf16Reader {
    state: State,
    /// The byte of a unit whose other byte is still to come.
    odd: Option<u8>,
    /// The first half of a pair whose second is still to come.
    high: Option<u16>,
    text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    AsItIs,
    Little,
    Big,
}

impl Utf16Reader {
    /// Another stream begins.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.odd = None;
        self.high = None;
    }

    /// The next bytes of the stream in UTF-8.
    pub fn push<'t>(&'t mut self, mut bytes: &'t [u8]) -> &'t [u8] {
        if self.state == State::Start {
            match bytes {
                [] => return bytes,
                [0xFF, 0xFE, rest @ ..] => (self.state, bytes) = (State::Little, rest),
                [0xFE, 0xFF, rest @ ..] => (self.state, bytes) = (State::Big, rest),
                _ => self.state = State::AsItIs,
            }
        }
        if self.state == State::AsItIs {
            return bytes;
        }
        self.text.clear();
        for &byte in bytes {
            let Some(first) = self.odd.take() else {
                self.odd = Some(byte);
                continue;
            };
            let unit = match self.state {
                State::Big => u16::from_be_bytes([first, byte]),
                _ => u16::from_le_bytes([first, byte]),
            };
            self.push_unit(unit);
        }
        self.text.as_bytes()
    }

    fn push_unit(&mut self, unit: u16) {
        let high = self.high.take();
        if high.is_none() && (0xD800..0xDC00).contains(&unit) {
            self.high = Some(unit);
            return;
        }
        let units = [high, Some(unit)].into_iter().flatten();
        for character in char::decode_utf16(units) {
            self.text
                .push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
}

/// A whole payload of the mark and UTF-16, in UTF-8.
pub(crate) fn of_utf16(payload: &[u8]) -> Option<Cow<'static, str>> {
    if !payload.starts_with(&[0xFF, 0xFE]) && !payload.starts_with(&[0xFE, 0xFF]) {
        return None;
    }
    let mut reader = Utf16Reader::default();
    reader.push(payload);
    Some(Cow::Owned(reader.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_of_a_named_encoding_is_its_character() {
        let every: Vec<u8> = (0..=255).collect();
        let mut scratch = String::new();
        let latin: Vec<char> = (0..=255_u8).map(char::from).collect();
        let text = to_utf8(Encoding::Latin1, &every, &mut scratch);
        assert_eq!(text, latin.iter().collect::<String>().as_bytes());
        let text = to_utf8(Encoding::Windows1252, b"5 \x80 \xB0C \x9F", &mut scratch);
        assert_eq!(text, "5 € °C Ÿ".as_bytes());
        assert_eq!(to_utf8(Encoding::Utf8, b"\xB0", &mut scratch), b"\xB0");
    }

    #[test]
    fn a_stream_with_the_mark_of_utf16_is_read_however_it_is_cut() {
        let text = "temperature [°C];p\r\n21,5;🌡\r\n";
        let big: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(u16::to_be_bytes)
            .collect();
        let little: Vec<u8> = big.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        for stream in [big, little] {
            for chunk_len in 2..9 {
                let mut reader = Utf16Reader::default();
                let mut read = Vec::new();
                for chunk in stream.chunks(chunk_len) {
                    read.extend_from_slice(reader.push(chunk));
                }
                assert_eq!(String::from_utf8(read).unwrap(), text, "{chunk_len}");
            }
        }
        let mut reader = Utf16Reader::default();
        assert_eq!(reader.push(b"1,2\n\xFF\xFE"), b"1,2\n\xFF\xFE");
    }

    #[test]
    fn half_a_pair_is_replaced_and_the_rest_is_read() {
        let mut reader = Utf16Reader::default();
        let read = reader.push(b"\xFF\xFE\x00\xD8a\x00\x00\xDC");
        assert_eq!(read, "\u{fffd}a\u{fffd}".as_bytes());
    }
}
