//! CSV lines: named by a header, by `columns`, or by the schema's order.
//!
//! A header is looked for until a usable one has come: a stream that is joined
//! in the middle is refused, with the reason, up to its next header. A line
//! equal to the header in use is a header again (the logger has restarted).
//! A header's cell may carry its unit, `pressure [bar]` or `pressure (bar)`.

use std::borrow::Cow;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use hark_engine::Rejection;

use crate::{
    LINE_MAX,
    config::TimestampUnit,
    decoder::{Decoded, oversize},
    draft::{Draft, Scalar},
    mapping::{Field, Mapping},
    rejected::{Rejected, Shown},
};

/// The most cells in a line: 32 channels, the fields beside them, and a wide
/// margin of columns to ignore.
pub const COLUMNS_MAX: usize = 256;

/// The longest number with a decimal comma, bytes. The shortest exact text of
/// any f64 takes at most 24.
const NUMBER_MAX: usize = 64;

/// Decodes CSV, one line for each call.
#[derive(Clone, Debug)]
pub struct CsvDecoder {
    mapping: Mapping,
    line: Line,
    /// The meaning of each column; empty until a header has come.
    columns: Vec<Field>,
    /// The header in use, to know it again.
    header: Vec<u8>,
    is_header_due: bool,
}

impl CsvDecoder {
    /// A decoder at the start of a file or stream.
    pub fn new(mapping: Mapping) -> Self {
        Self {
            line: Line::new(mapping.delimiter.byte()),
            columns: mapping.columns.clone().unwrap_or_default(),
            header: Vec::with_capacity(LINE_MAX),
            is_header_due: mapping.has_header,
            mapping,
        }
    }

    /// Decodes one line of at most [`LINE_MAX`] bytes, with or without its
    /// terminator. `None` is a header or an empty line.
    ///
    /// # Errors
    /// As [`crate::Decoder::decode`]. A header is refused for a channel that
    /// it lacks, names twice or gives another unit.
    pub fn decode(&mut self, line: &[u8]) -> Result<Option<Decoded<'_>>, Rejected> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LINE_MAX {
            return Err(oversize(line.len(), LINE_MAX));
        }
        if line.trim_ascii_start().is_empty() {
            return Ok(None);
        }
        if self.is_header_due {
            return self.read_header(line).map(|()| None);
        }
        if self.mapping.has_header && line == self.header {
            return Ok(None);
        }
        self.line.split(line)?;
        self.read_cells().map(Some)
    }

    fn read_header(&mut self, line: &[u8]) -> Result<(), Rejected> {
        self.line.split(line)?;
        if self.mapping.columns.is_none() {
            self.columns.clear();
            let mut draft = Draft::new(&self.mapping);
            for cell in 0..self.line.len() {
                let text = self.line.text(cell).unwrap_or_default();
                let field = column(&draft, text).map_err(|fault| in_cell(fault, cell))?;
                draft.claim(field).map_err(|fault| in_cell(fault, cell))?;
                self.columns.push(field);
            }
            draft.check_all_claimed("the header has no column")?;
            draft.check_named("the header has no column")?;
        }
        self.header.clear();
        self.header.extend_from_slice(line);
        self.is_header_due = false;
        Ok(())
    }

    fn read_cells(&self) -> Result<Decoded<'_>, Rejected> {
        self.check_len()?;
        let mut draft = Draft::new(&self.mapping);
        let mut sensor = None;
        for (cell, field) in self.columns.iter().enumerate() {
            if *field == Field::Unknown {
                continue;
            }
            self.read_cell(&mut draft, &mut sensor, cell, *field)
                .map_err(|fault| in_cell(fault, cell))?;
        }
        Ok(Decoded {
            reading: draft.finish()?,
            sensor,
        })
    }

    fn read_cell<'s>(
        &'s self,
        draft: &mut Draft<'_>,
        sensor: &mut Option<Cow<'s, str>>,
        cell: usize,
        field: Field,
    ) -> Result<(), Rejected> {
        let text = self
            .line
            .text(cell)
            .ok_or_else(|| Rejected::malformed(format_args!("not UTF-8")))?;
        draft.claim(field)?;
        match field {
            Field::Channel(channel) => draft.set_channel(channel, self.float(text)),
            Field::Sequence => draft.set_sequence(self.number(text)),
            Field::Timestamp => draft.set_timestamp(self.number(text), self.mapping.timestamp_unit),
            Field::Sensor => {
                *sensor = (!text.is_empty()).then_some(Cow::Borrowed(text));
                Ok(())
            }
            Field::Values | Field::Units | Field::Unknown => Ok(()),
        }
    }

    fn check_len(&self) -> Result<(), Rejected> {
        let (expected, found) = (self.columns.len(), self.line.len());
        if expected == found {
            return Ok(());
        }
        Err(Rejected::new(
            Rejection::ChannelCount,
            format_args!("expected {expected} cells, found {found}"),
        ))
    }

    /// A number that may have to be exact beyond 2^53.
    fn number<'c>(&self, text: &'c str) -> Scalar<'c> {
        if let Ok(value) = text.parse() {
            Scalar::Unsigned(value)
        } else if let Ok(value) = text.parse() {
            Scalar::Signed(value)
        } else {
            self.float(text)
        }
    }

    fn float<'c>(&self, text: &'c str) -> Scalar<'c> {
        let value = if text.is_empty() {
            return Scalar::Null;
        } else if self.mapping.decimal_comma {
            with_point(text, &mut [0; NUMBER_MAX]).and_then(|text| text.parse().ok())
        } else {
            text.parse().ok()
        };
        value.map_or(Scalar::Text(text), Scalar::Float)
    }
}

/// A number with a decimal comma, written with a point. One that has a point
/// already is refused: it may separate thousands.
fn with_point<'b>(text: &str, buffer: &'b mut [u8; NUMBER_MAX]) -> Option<&'b str> {
    let number = buffer.get_mut(..text.len())?;
    for (to, from) in number.iter_mut().zip(text.bytes()) {
        *to = match from {
            b'.' => return None,
            b',' => b'.',
            other => other,
        };
    }
    std::str::from_utf8(number).ok()
}

/// The meaning of a header's cell, whose unit is checked if it has one.
fn column(draft: &Draft<'_>, cell: &str) -> Result<Field, Rejected> {
    let mapping = draft.mapping;
    let (whole, (name, unit)) = (mapping.column(cell), split_unit(cell));
    let Some(unit) = unit.filter(|_| whole == Field::Unknown) else {
        return Ok(whole);
    };
    let field = mapping.column(name);
    match field {
        Field::Channel(channel) => draft.check_unit(channel, unit)?,
        Field::Timestamp => check_timestamp_unit(mapping.timestamp_unit, unit)?,
        _ => {}
    }
    Ok(field)
}

/// Splits `pressure [bar]` or `pressure (bar)` into name and unit.
fn split_unit(cell: &str) -> (&str, Option<&str>) {
    for (open, close) in [('[', ']'), ('(', ')')] {
        let inside = cell.strip_suffix(close);
        if let Some((name, unit)) = inside.and_then(|inside| inside.rsplit_once(open)) {
            return (name.trim_end(), Some(unit.trim()));
        }
    }
    (cell, None)
}

/// A date may be called anything, such as `ts (UTC)`; a unit must be the right one.
fn check_timestamp_unit(configured: TimestampUnit, declared: &str) -> Result<(), Rejected> {
    let unit = match declared {
        "s" => TimestampUnit::Seconds,
        "ms" => TimestampUnit::Millis,
        "us" | "µs" => TimestampUnit::Micros,
        "ns" => TimestampUnit::Nanos,
        _ => return Ok(()),
    };
    if unit == configured {
        return Ok(());
    }
    Err(Rejected::malformed(format_args!(
        "the timestamp is in {}, timestamp_unit says otherwise",
        Shown(declared)
    )))
}

#[cold]
fn in_cell(fault: Rejected, cell: usize) -> Rejected {
    fault.at(format_args!(" in cell {}", cell + 1))
}

/// One line cut into cells.
#[derive(Clone, Debug)]
struct Line {
    reader: Reader,
    /// The cells' bytes, unquoted, one after the other.
    cells: Box<[u8]>,
    /// Where each cell ends in `cells`.
    ends: Box<[usize]>,
    len: usize,
}

impl Line {
    fn new(delimiter: u8) -> Self {
        Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            cells: vec![0; LINE_MAX].into(),
            ends: vec![0; COLUMNS_MAX].into(),
            len: 0,
        }
    }

    fn split(&mut self, line: &[u8]) -> Result<(), Rejected> {
        self.len = 0;
        // csv-core takes the end of the line for the missing quote, which
        // would turn a truncated line into a shorter value.
        if memchr::memchr_iter(b'"', line).count() % 2 == 1 {
            return Err(Rejected::malformed(format_args!("a quote is not closed")));
        }
        self.reader.reset();
        let (result, read, written, ended) =
            self.reader
                .read_record(line, &mut self.cells, &mut self.ends);
        let rest = &line[read..];
        let (result, ended) = match result {
            ReadRecordResult::InputEmpty => {
                let (result, _, _, more) = self.reader.read_record(
                    &[],
                    &mut self.cells[written..],
                    &mut self.ends[ended..],
                );
                (result, ended + more)
            }
            result => (result, ended),
        };
        match result {
            ReadRecordResult::Record if rest.is_empty() => {
                self.len = ended;
                Ok(())
            }
            ReadRecordResult::OutputEndsFull => Err(Rejected::new(
                Rejection::ChannelCount,
                format_args!("more than {COLUMNS_MAX} cells"),
            )),
            _ => Err(Rejected::malformed(format_args!(
                "a line break inside a line"
            ))),
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    /// A cell without the white space around it; `None` if it is not UTF-8.
    fn text(&self, cell: usize) -> Option<&str> {
        let start = cell.checked_sub(1).map_or(0, |before| self.ends[before]);
        let bytes = &self.cells[start..self.ends[cell]];
        std::str::from_utf8(bytes.trim_ascii()).ok()
    }
}
