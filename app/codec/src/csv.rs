//! CSV lines: named by a header, by `columns`, or by the schema's order.
//!
//! A header is looked for until a usable one has come: a stream that is joined
//! in the middle is refused, with the reason, up to its next header. A line that
//! is no row but a usable header replaces the one in use: the logger has
//! restarted. A header's cell may carry its unit, `pressure [bar]` or
//! `pressure (bar)`. What separates cells is found out by the header, or by the
//! first line that has as many cells as it should.

use std::borrow::Cow;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use hark_engine::{CHANNELS_MAX, Rejection};

use crate::{
    LINE_MAX,
    config::{Delimiter, TimestampUnit},
    decoder::{Decoded, READINGS_MAX, Sink, not_utf8, oversize},
    draft::{Draft, Memory, Scalar},
    mapping::{Field, Mapping},
    number::{self, Number},
    rejected::{Fault, Rejected, Shown},
    unit::Linear,
};

/// The most cells in a line: 32 channels, the fields beside them, and a wide
/// margin of columns to ignore.
pub const COLUMNS_MAX: usize = 256;

/// Decodes CSV, a line or a message of several for each call.
#[derive(Clone, Debug)]
pub(crate) struct Csv {
    line: Line,
    /// What separates cells; none before it was found out.
    delimiter: Option<Delimiter>,
    columns: Columns,
    /// The header in use, to know it again.
    header: Vec<u8>,
    is_header_due: bool,
    /// Lines that are still to be passed over.
    skip_left: usize,
}

/// What the columns are.
#[derive(Clone, Debug)]
struct Columns {
    /// The meaning of each; empty until a header has come.
    fields: Vec<Field>,
    /// The first of them that is one.
    first_channel: usize,
    /// Channels whose unit the header declares to be another, a bit each,
    converted: u32,
    /// and how it becomes the schema's.
    linear: [Linear; CHANNELS_MAX],
    /// The unit of the time that the header declares.
    time_unit: Option<TimestampUnit>,
}

impl Csv {
    /// A decoder at the start of a file or stream.
    pub(crate) fn new(mapping: &Mapping) -> Self {
        let delimiter = Some(mapping.delimiter).filter(|own| *own != Delimiter::Auto);
        let fields = mapping.columns.clone().unwrap_or_default();
        Self {
            line: Line::new(mapping.delimiter.byte()),
            delimiter,
            columns: Columns {
                first_channel: first_channel(&fields),
                fields,
                converted: 0,
                linear: [Linear::SAME; CHANNELS_MAX],
                time_unit: None,
            },
            header: Vec::with_capacity(LINE_MAX),
            is_header_due: mapping.has_header,
            skip_left: mapping.skip_lines,
        }
    }

    /// A file, a stream or a message begins.
    pub(crate) fn handle_start(&mut self, mapping: &Mapping) {
        self.skip_left = mapping.skip_lines;
    }

    /// Decodes each line of `text`. Returns how many readings and rejections there
    /// were.
    pub(crate) fn decode(
        &mut self,
        mapping: &Mapping,
        memory: &mut Memory,
        now_us: i64,
        text: &[u8],
        sink: Sink<'_>,
    ) -> usize {
        let (mut count, mut rest) = (0, text);
        while !rest.is_empty() {
            let line = take_line(&mut rest);
            if count >= READINGS_MAX {
                count += 1;
                sink(Err(*Rejected::new(
                    Rejection::Oversize,
                    format_args!("more than {READINGS_MAX} readings in one message"),
                )));
                continue;
            }
            match self.find_row(mapping, memory, line) {
                Ok(false) => {}
                Ok(true) => {
                    count += 1;
                    self.read_cells(&mut Draft::new(mapping, memory, now_us), sink);
                }
                Err(rejected) => {
                    count += 1;
                    sink(Err(*rejected));
                }
            }
        }
        count
    }

    /// Cuts one line into cells. False: it is a header, a comment or empty.
    fn find_row(
        &mut self,
        mapping: &Mapping,
        memory: &mut Memory,
        line: &[u8],
    ) -> Result<bool, Fault> {
        if self.skip_left > 0 {
            self.skip_left -= 1;
            return Ok(false);
        }
        let line = trim_end(line);
        if line.len() > LINE_MAX {
            return Err(oversize(line.len(), LINE_MAX));
        }
        let begins = line.trim_ascii_start();
        let is_comment = |comment: &str| begins.starts_with(comment.as_bytes());
        if begins.is_empty() || mapping.comment.as_deref().is_some_and(is_comment) {
            return Ok(false);
        }
        if self.is_header_due {
            return self.read_header(mapping, memory, line).map(|()| false);
        }
        if mapping.has_header && line == self.header {
            return Ok(false);
        }
        let is_cut = self.cut(line);
        // A header has names where numbers belong; only then is it worth a look.
        let may_be_header = is_cut.is_err() || self.is_row_of_names();
        if may_be_header && self.replaces_header(mapping, memory, line) {
            return Ok(false);
        }
        is_cut.map(|()| true)
    }

    /// Whether `line` is a usable header, which is in use then.
    #[cold]
    fn replaces_header(&mut self, mapping: &Mapping, memory: &mut Memory, line: &[u8]) -> bool {
        if !mapping.has_header || mapping.columns.is_some() {
            return false;
        }
        let before = (self.columns.clone(), self.delimiter);
        let is_usable = self.read_header(mapping, memory, line).is_ok();
        if !is_usable {
            (self.columns, self.delimiter) = before;
            self.separate(self.delimiter.unwrap_or(Delimiter::Comma));
            // The row is cut as it was.
            self.line.split(line).ok();
        }
        is_usable
    }

    /// Takes `line` for the header, if it is a usable one.
    pub(crate) fn adopt_header(
        &mut self,
        mapping: &Mapping,
        memory: &mut Memory,
        line: &[u8],
    ) -> bool {
        mapping.has_header
            && self.skip_left == 0
            && self.read_header(mapping, memory, trim_end(line)).is_ok()
    }

    fn separate(&mut self, delimiter: Delimiter) {
        if self.line.delimiter != delimiter.byte() {
            self.line.set_delimiter(delimiter.byte());
        }
    }

    fn read_header(
        &mut self,
        mapping: &Mapping,
        memory: &mut Memory,
        line: &[u8],
    ) -> Result<(), Fault> {
        if mapping.columns.is_some() {
            self.line.split(line)?;
            return self.keep_header(line);
        }
        if mapping.delimiter != Delimiter::Auto {
            self.line.split(line)?;
            self.name_columns(mapping, memory)?;
            return self.keep_header(line);
        }
        let mut fault = None;
        let mut most_cells = 0;
        for delimiter in Delimiter::KNOWN {
            self.separate(delimiter);
            let named = self.line.split(line);
            let named = named.and_then(|()| self.name_columns(mapping, memory));
            match named {
                Ok(()) => {
                    self.delimiter = Some(delimiter);
                    return self.keep_header(line);
                }
                // Of all that is wrong, what is wrong with the likeliest delimiter.
                Err(wrong) if fault.is_none() || self.line.len() > most_cells => {
                    most_cells = self.line.len();
                    fault = Some(wrong);
                }
                Err(_) => {}
            }
        }
        Err(fault.expect("each delimiter was tried"))
    }

    fn keep_header(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.header.clear();
        self.header.extend_from_slice(line);
        self.columns.first_channel = first_channel(&self.columns.fields);
        self.is_header_due = false;
        Ok(())
    }

    /// Finds what each cell of the header names.
    fn name_columns(&mut self, mapping: &Mapping, memory: &mut Memory) -> Result<(), Fault> {
        self.columns.fields.clear();
        self.columns.converted = 0;
        self.columns.time_unit = None;
        if self.is_row_of_numbers() {
            return Err(Rejected::new(
                Rejection::MissingChannel { channel: 0 },
                format_args!("a line of numbers where the header belongs: name them in columns"),
            ));
        }
        let mut draft = Draft::new(mapping, memory, 0);
        for cell in 0..self.line.len() {
            let in_cell = |fault| in_cell(fault, cell);
            let text = self.line.text(cell).map_err(in_cell)?;
            let (field, unit) = column(mapping, text);
            draft.claim(field, false).map_err(in_cell)?;
            match (field, unit) {
                (Field::Channel(channel), Some(unit)) => {
                    let linear = draft.unit_of(channel, unit).map_err(in_cell)?;
                    if let Some(linear) = linear {
                        self.columns.converted |= 1 << channel;
                        self.columns.linear[channel] = linear;
                    }
                }
                (Field::Timestamp, Some(unit)) => {
                    let unit = time_unit(mapping.time.unit, unit).map_err(in_cell)?;
                    self.columns.time_unit = unit;
                }
                _ => {}
            }
            self.columns.fields.push(field);
        }
        draft.check_all_claimed("the header has no column")?;
        draft.check_named("the header has no column")?;
        let is_open_ended = self.line.text(self.line.len() - 1).is_ok_and(str::is_empty);
        if is_open_ended && self.line.len() > 1 {
            self.columns.fields.pop();
        }
        Ok(())
    }

    /// Whether no cell is a name: all are numbers or times, or empty.
    fn is_row_of_numbers(&self) -> bool {
        let is_value = |cell| {
            let text = self.line.text(cell).unwrap_or("?");
            let starts = |c: char| c.is_ascii_digit() || "+-.".contains(c);
            text.is_empty() || text.starts_with(starts)
        };
        (0..self.line.len()).all(is_value)
    }

    /// Cuts `line` into the cells of a row.
    fn cut(&mut self, line: &[u8]) -> Result<(), Fault> {
        if self.delimiter.is_none() {
            return self.find_delimiter(line);
        }
        self.line.split(line)?;
        self.check_len()
    }

    /// Whether the first channel's cell cannot be a number.
    fn is_row_of_names(&self) -> bool {
        let cell = self.line.text(self.columns.first_channel).ok();
        cell.is_some_and(|cell| cell.starts_with(|c: char| c.is_alphabetic()))
    }

    /// What separates the cells of a line that has no header.
    #[cold]
    fn find_delimiter(&mut self, line: &[u8]) -> Result<(), Fault> {
        for delimiter in Delimiter::KNOWN {
            self.separate(delimiter);
            let is_cut = self.line.split(line).is_ok() && self.check_len().is_ok();
            if is_cut && self.has_numbers() {
                // One cell is one cell with every delimiter.
                self.delimiter = Some(delimiter).filter(|_| self.line.len() > 1);
                return Ok(());
            }
        }
        self.separate(Delimiter::Comma);
        self.line.split(line)?;
        self.check_len()
    }

    /// Whether each channel's cell is a number: noise decides on no delimiter.
    fn has_numbers(&self) -> bool {
        let mut columns = self.columns.fields.iter().enumerate();
        columns.all(|(cell, field)| {
            let text = self.line.text(cell).unwrap_or_default();
            let is_number = !matches!(number::read(text, false), Number::Text | Number::Nothing);
            !matches!(field, Field::Channel(_)) || is_number
        })
    }

    fn read_cells(&self, draft: &mut Draft<'_>, sink: Sink<'_>) {
        if self.columns.converted != 0 {
            draft.declare(self.columns.converted, &self.columns.linear);
        }
        let mut sensor = None;
        for (cell, field) in self.columns.fields.iter().enumerate() {
            if *field == Field::Unknown {
                continue;
            }
            if let Err(fault) = self.read_cell(draft, &mut sensor, cell, *field) {
                return sink(Err(*in_cell(fault, cell)));
            }
        }
        match draft.finish() {
            Ok(()) => sink(Ok(Decoded {
                reading: &draft.state.reading,
                channels: draft.state.channels(),
                sensor,
            })),
            Err(fault) => sink(Err(*fault)),
        }
    }

    fn read_cell<'s>(
        &'s self,
        draft: &mut Draft<'_>,
        sensor: &mut Option<Cow<'s, str>>,
        cell: usize,
        field: Field,
    ) -> Result<(), Fault> {
        let text = self.line.text(cell)?;
        draft.claim(field, false)?;
        let mapping = draft.mapping;
        match field {
            Field::Channel(channel) => match text.parse() {
                Ok(value) if !mapping.decimal_comma => {
                    draft.set_channel(channel, Scalar::Float(value))
                }
                _ => draft.set_channel(channel, Scalar::Text(text)),
            },
            Field::Sequence => draft.set_sequence(exact(text)),
            Field::Timestamp => {
                let unit = self.columns.time_unit.unwrap_or(mapping.time.unit);
                let is_text = mapping.has_time_of_day() || mapping.time.has_format();
                let scalar = if is_text {
                    Scalar::Text(text)
                } else {
                    exact(text)
                };
                draft.set_timestamp(scalar, unit)
            }
            Field::TimeOfDay => draft.set_time_of_day(Scalar::Text(text)),
            Field::Sensor => {
                *sensor = (!text.is_empty()).then_some(Cow::Borrowed(text));
                Ok(())
            }
            Field::Values | Field::Units | Field::Readings | Field::Unknown => Ok(()),
        }
    }

    /// A delimiter behind the last cell makes no cell.
    fn check_len(&self) -> Result<(), Fault> {
        let (expected, found) = (self.columns.fields.len(), self.line.len());
        let is_closed = found == expected + 1 && self.line.text(expected).is_ok_and(str::is_empty);
        if expected == found || is_closed {
            return Ok(());
        }
        Err(Rejected::new(
            Rejection::ChannelCount,
            format_args!("expected {expected} cells, found {found}"),
        ))
    }
}

fn first_channel(fields: &[Field]) -> usize {
    let is_channel = |field: &Field| matches!(field, Field::Channel(_));
    fields.iter().position(is_channel).unwrap_or_default()
}

/// Takes the next line from `text`: to CR, LF or CRLF outside of quotes.
fn take_line<'t>(text: &mut &'t [u8]) -> &'t [u8] {
    let (mut end, mut is_quoted) = (0, false);
    loop {
        let found = match memchr::memchr3(b'\n', b'\r', b'"', &text[end..]) {
            None => return std::mem::take(text),
            Some(found) => end + found,
        };
        if text[found] == b'"' {
            is_quoted = !is_quoted;
        } else if !is_quoted || !text[found..].contains(&b'"') {
            let line = &text[..found];
            let is_pair = text[found..].starts_with(b"\r\n");
            *text = &text[found + 1 + usize::from(is_pair)..];
            return line;
        }
        end = found + 1;
    }
}

/// Without the white space and the NULs at its end.
fn trim_end(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., 0 | b' ' | b'\r'] = line {
        line = rest;
    }
    line
}

/// A number that may have to be exact beyond 2^53.
fn exact(text: &str) -> Scalar<'_> {
    let text = number::trim(text);
    if text.is_empty() {
        Scalar::Null
    } else if let Ok(value) = text.parse() {
        Scalar::Unsigned(value)
    } else if let Ok(value) = text.parse() {
        Scalar::Signed(value)
    } else {
        Scalar::Text(text)
    }
}

/// The meaning of a header's cell, and the unit that it declares.
fn column<'c>(mapping: &Mapping, cell: &'c str) -> (Field, Option<&'c str>) {
    let (whole, (name, unit)) = (mapping.column(cell), split_unit(cell));
    if unit.is_none() || whole != Field::Unknown {
        return (whole, None);
    }
    (mapping.column(name), unit)
}

/// Splits `pressure [bar]` or `pressure (bar)` into name and unit.
fn split_unit(cell: &str) -> (&str, Option<&str>) {
    for (open, close) in [('[', ']'), ('(', ')')] {
        let inside = cell.strip_suffix(close);
        if let Some((name, unit)) = inside.and_then(|inside| inside.split_once(open)) {
            return (name.trim_end(), Some(unit.trim()));
        }
    }
    (cell, None)
}

/// The unit of the time that a header declares. A date may be called anything, such
/// as `ts (UTC)`; a unit must be the right one.
fn time_unit(configured: TimestampUnit, declared: &str) -> Result<Option<TimestampUnit>, Fault> {
    let unit = match declared {
        "s" => TimestampUnit::Seconds,
        "ms" => TimestampUnit::Millis,
        "us" | "µs" | "μs" => TimestampUnit::Micros,
        "ns" => TimestampUnit::Nanos,
        _ => return Ok(None),
    };
    if unit == configured || configured == TimestampUnit::Auto {
        return Ok(Some(unit));
    }
    Err(Rejected::malformed(format_args!(
        "the timestamp is in {}, timestamp_unit says otherwise",
        Shown(declared)
    )))
}

#[cold]
fn in_cell(fault: Fault, cell: usize) -> Fault {
    fault.at(format_args!(" in cell {}", cell + 1))
}

/// One line cut into cells.
#[derive(Clone, Debug)]
struct Line {
    reader: Reader,
    delimiter: u8,
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
            delimiter,
            cells: vec![0; LINE_MAX].into(),
            ends: vec![0; COLUMNS_MAX].into(),
            len: 0,
        }
    }

    fn set_delimiter(&mut self, delimiter: u8) {
        self.reader = ReaderBuilder::new().delimiter(delimiter).build();
        self.delimiter = delimiter;
    }

    fn split(&mut self, line: &[u8]) -> Result<(), Fault> {
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

    /// A cell without the white space around it.
    ///
    /// # Errors
    /// If it is not UTF-8.
    fn text(&self, cell: usize) -> Result<&str, Fault> {
        let start = cell.checked_sub(1).map_or(0, |before| self.ends[before]);
        let bytes = self.cells[start..self.ends[cell]].trim_ascii();
        std::str::from_utf8(bytes).map_err(|_| not_utf8())
    }
}
