//! What bytes of a serial line are: pure, from the bytes alone.
//!
//! Kinds are tried from the surest to the vaguest. Frames of hark's nodes,
//! Modbus RTU and NMEA carry a checksum, and JSON a grammar, that noise does not
//! pass; CSV is lines of one shape; text is what can be read. Everything else is
//! noise, which is also what a wrong baud rate turns any of them into. The
//! bytes may begin and end in the middle of a unit.

mod modbus;

#[cfg(test)]
mod tests;

use hark_wire::{FrameDecoder, Message};
use serde::Serialize;

/// The longest example, in characters: one line of a terminal.
const EXAMPLE_CHARS_MAX: usize = 72;
/// Fewer readable bytes than this may be chance, if they are not a whole line.
const TEXT_BYTES_MIN: usize = 16;
/// Fewer lines of text than this do not tell what else they may be.
pub const TEXT_LINES_MIN: usize = 5;
/// The part of the bytes that must be readable for text.
const TEXT_SHARE_MIN: f64 = 0.95;
/// Two frames of Modbus with a right checksum in noise are one chance in a billion.
const MODBUS_FRAMES_MIN: usize = 2;
/// Lines of one shape that make a table.
const CSV_LINES_MIN: usize = 2;

/// What was heard; the later, the surer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Heard {
    /// No byte.
    Silence,
    /// Bytes that are nothing.
    Noise {
        /// How many.
        bytes: usize,
    },
    /// Lines that can be read.
    Text {
        /// How many.
        lines: usize,
        /// One of them.
        example: String,
    },
    /// Lines with the same number of fields, mostly numbers.
    Csv {
        /// How many.
        lines: usize,
        /// Fields of each.
        columns: usize,
        /// What stands between them.
        delimiter: char,
        /// Whether numbers are written `1,5`.
        decimal_comma: bool,
        /// Names of the columns without their units, if a header was heard.
        header: Option<Vec<String>>,
        /// One of the lines.
        example: String,
    },
    /// Lines that are JSON objects.
    Json {
        /// How many.
        lines: usize,
        /// Names of the last object's fields; for an object `values`, of those in it.
        fields: Vec<String>,
        /// One of the lines.
        example: String,
    },
    /// Sentences of NMEA 0183 with a right checksum.
    Nmea {
        /// How many.
        sentences: usize,
        /// One of them.
        example: String,
    },
    /// Frames of Modbus RTU with a right checksum.
    Modbus {
        /// How many.
        frames: usize,
        /// The addresses that were heard.
        units: Vec<u8>,
    },
    /// Frames of hark's nodes.
    Frames {
        /// Those with a right checksum.
        accepted: u64,
        /// Those without.
        rejected: u64,
        /// None if the node has not said who it is, which it does at its start.
        node: Option<HeardNode>,
    },
}

/// Who a node says that it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeardNode {
    /// Its name.
    pub name: String,
    /// Its firmware and version.
    pub firmware: String,
    /// Names of its channels.
    pub channels: Vec<String>,
}

impl Heard {
    /// How sure it is: a higher kind is surer than any lower one.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Silence => 0,
            Self::Noise { .. } => 1,
            Self::Text { .. } => 2,
            Self::Csv { .. } => 3,
            Self::Json { .. } => 4,
            Self::Nmea { .. } => 5,
            Self::Modbus { .. } => 6,
            Self::Frames { .. } => 7,
        }
    }

    /// Whether another setting of the line could not explain the bytes better.
    pub fn is_conclusive(&self) -> bool {
        self.rank()
            > Self::rank(&Self::Text {
                lines: 0,
                example: String::new(),
            })
    }
}

/// Whether `bytes` are at least a line of nothing but printable ASCII, which a wrong
/// baud rate hardly makes.
pub fn is_clean_text(bytes: &[u8]) -> bool {
    let is_printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    bytes.iter().all(is_printable)
        && bytes.iter().any(u8::is_ascii_graphic)
        && bytes.contains(&b'\n')
}

/// What `bytes` are.
pub fn recognise(bytes: &[u8]) -> Heard {
    if bytes.is_empty() {
        return Heard::Silence;
    }
    frames(bytes)
        .or_else(|| modbus(bytes))
        .or_else(|| lines(bytes))
        .unwrap_or(Heard::Noise { bytes: bytes.len() })
}

fn frames(mut bytes: &[u8]) -> Option<Heard> {
    let mut decoder = FrameDecoder::new();
    let mut node = None;
    while let Some(outcome) = decoder.next_message(&mut bytes) {
        if let Ok(Message::Hello(hello)) = outcome {
            let channels = hello.channels.iter();
            node = Some(HeardNode {
                name: hello.node.as_str().to_owned(),
                firmware: hello.firmware.as_str().to_owned(),
                channels: channels.map(|c| c.name.as_str().to_owned()).collect(),
            });
        }
    }
    let counts = decoder.counts();
    (counts.accepted > 0).then(|| Heard::Frames {
        accepted: counts.accepted,
        rejected: counts.rejected(),
        node,
    })
}

fn modbus(bytes: &[u8]) -> Option<Heard> {
    let (frames, mut units) = modbus::find(bytes);
    units.sort_unstable();
    units.dedup();
    (frames >= MODBUS_FRAMES_MIN).then_some(Heard::Modbus { frames, units })
}

/// What consists of lines, if the bytes do.
fn lines(bytes: &[u8]) -> Option<Heard> {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let mut pieces: Vec<&[u8]> = bytes.split(is_end).collect();
    // The last line is unfinished, unless there is nothing else to go by.
    if pieces.len() > 2 {
        pieces.pop();
    }
    let lines = readable_lines(&pieces);
    nmea(&lines)
        .or_else(|| json(&lines))
        .or_else(|| csv(&lines))
        .or_else(|| {
            // The first line's beginning may be missed, and be noise.
            let is_cut = usize::from(pieces.len() > 1);
            let is_text = is_clean_text(bytes) || is_mostly_readable(&pieces[is_cut..]);
            is_text.then(|| Heard::Text {
                lines: lines.len(),
                example: example(&lines),
            })
        })
}

fn is_mostly_readable(pieces: &[&[u8]]) -> bool {
    let whole: usize = pieces.iter().map(|piece| piece.len()).sum();
    let lines = readable_lines(pieces);
    let read: usize = lines.iter().map(|line| line.len()).sum();
    read >= TEXT_BYTES_MIN && read as f64 >= TEXT_SHARE_MIN * whole as f64
}

fn readable_lines<'a>(pieces: &[&'a [u8]]) -> Vec<&'a str> {
    let lines = pieces.iter().filter_map(|piece| readable(piece));
    lines.filter(|line| !line.is_empty()).collect()
}

/// The line, if it is UTF-8 without control characters.
fn readable(piece: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(piece).ok()?;
    let is_readable = text.chars().all(|c| c == '\t' || !c.is_control());
    is_readable.then_some(text)
}

fn nmea(lines: &[&str]) -> Option<Heard> {
    let sentences: Vec<&str> = lines.iter().copied().filter(|line| is_nmea(line)).collect();
    (!sentences.is_empty()).then(|| Heard::Nmea {
        sentences: sentences.len(),
        example: example(&sentences),
    })
}

/// NMEA 0183: `$` or `!`, the sentence, `*`, the exclusive or of its characters.
fn is_nmea(line: &str) -> bool {
    let body = line.strip_prefix(['$', '!']);
    body.and_then(|body| body.rsplit_once('*'))
        .is_some_and(|(sentence, sum)| {
            let computed = sentence.bytes().fold(0, |sum, byte| sum ^ byte);
            sum.len() == 2 && u8::from_str_radix(sum, 16) == Ok(computed)
        })
}

fn json(lines: &[&str]) -> Option<Heard> {
    type Object = serde_json::Map<String, serde_json::Value>;
    let object = |line: &&str| serde_json::from_str::<Object>(line).ok();
    let is_object = |line: &&str| object(line).is_some_and(|object| !object.is_empty());
    let objects: Vec<&str> = lines.iter().copied().filter(is_object).collect();
    let last = object(objects.last()?)?;
    let values = last.get("values").and_then(|values| values.as_object());
    let own = last
        .keys()
        .filter(|name| values.is_none() || *name != "values");
    let fields = own.chain(values.into_iter().flat_map(|v| v.keys()));
    Some(Heard::Json {
        lines: objects.len(),
        fields: fields.cloned().collect(),
        example: example(&objects),
    })
}

fn csv(lines: &[&str]) -> Option<Heard> {
    // A decimal comma would make columns of its own, so the comma comes last.
    [';', '\t', ','].into_iter().find_map(|delimiter| {
        let columns = lines.last()?.split(delimiter).count();
        let is_row = |line: &&&str| {
            let numbers = line
                .split(delimiter)
                .filter(|field| is_number(field))
                .count();
            line.split(delimiter).count() == columns && 2 * numbers >= columns
        };
        let rows = lines.iter().filter(is_row).count();
        // A header now and then is no row, nor is a first line that was cut.
        let is_table = columns > 1 && rows >= CSV_LINES_MIN && 2 * rows >= lines.len();
        is_table.then(|| Heard::Csv {
            lines: rows,
            columns,
            delimiter,
            decimal_comma: delimiter != ','
                && lines.iter().filter(is_row).any(|row| {
                    row.split(delimiter)
                        .any(|field| is_number(field) && field.contains(','))
                }),
            header: lines
                .iter()
                .rev()
                .find_map(|line| header(line, delimiter, columns)),
            example: example(lines),
        })
    })
}

/// The names of a header's columns, as `pressure` of `pressure [bar]`.
fn header(line: &str, delimiter: char, columns: usize) -> Option<Vec<String>> {
    let names = line.split(delimiter).map(|name| {
        let name = name.split(['[', '(']).next().unwrap_or_default();
        name.trim().to_owned()
    });
    let names: Vec<String> = names.collect();
    let is_name = |name: &String| !name.is_empty() && !is_number(name);
    (names.len() == columns && names.iter().all(is_name)).then_some(names)
}

fn is_number(field: &str) -> bool {
    let field = field.trim().replace(',', ".");
    field.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The last line, cut to [`EXAMPLE_CHARS_MAX`].
fn example(lines: &[&str]) -> String {
    let line = lines.last().copied().unwrap_or_default();
    if line.chars().count() <= EXAMPLE_CHARS_MAX {
        return line.to_owned();
    }
    let cut: String = line.chars().take(EXAMPLE_CHARS_MAX - 1).collect();
    cut + "…"
}
