//! One decoder for one source, whatever its format.

use std::{borrow::Cow, fmt, str::FromStr};

use hark_engine::{Reading, Rejection, Schema};
use serde::Deserialize;

use crate::{
    BYTE_ORDER_MARK, MappingConfig, Rejected, cbor,
    csv::Csv,
    draft::{Draft, Memory, Scalar},
    encoding, json,
    mapping::{Field, Mapping, MappingError},
    number,
    rejected::Fault,
};

/// The longest payload, bytes. The largest sensible one, 32 channels with long
/// names and units, takes about 4 KiB; past this the time to parse it would
/// show in the latency of the sensors beside it.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// The most readings that are taken from one message: what was gathered in a quarter
/// of an hour at one a second. They wait in memory until each is served.
pub const READINGS_MAX: usize = 1024;

/// The format of a source's payloads.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 8259, one value or more for each payload.
    Json,
    /// RFC 8949, one data item for each payload.
    Cbor,
    /// RFC 4180, one line or more for each payload.
    Csv,
}

/// A format's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {name:?}, right is json, cbor or csv")]
pub struct UnknownFormat {
    /// The name as given.
    pub name: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "json" => Ok(Self::Json),
            "cbor" => Ok(Self::Cbor),
            "csv" => Ok(Self::Csv),
            _ => Err(UnknownFormat { name: name.into() }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
            Self::Csv => "csv",
        })
    }
}

/// What a payload holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// The channels of the schema, in its order: a finite value for each, unless
    /// the mapping says that payloads are partial.
    pub reading: &'a Reading,
    /// The channels that have a value, a bit each from the lowest.
    pub channels: u32,
    /// The sensor's name, if the payload gives it; of any length that fits in
    /// a payload, and not yet compared with the sensors that are configured.
    pub sensor: Option<Cow<'a, str>>,
}

/// Takes each reading of a payload, or why it is none.
///
/// Not a type of its own for each user: decoding is compiled here, once and fast.
pub type Sink<'s> = &'s mut dyn FnMut(Result<Decoded<'_>, Rejected>);

/// Decodes the payloads of one source.
///
/// ```
/// use hark_codec::{Decoder, Format, MappingConfig};
/// use hark_engine::{Channel, Schema};
///
/// let pressure = Channel {
///     name: "pressure".into(), unit: "bar".into(), min: 0.0, max: 10.0, rate_max: None,
/// };
/// let schema = Schema { period_ms: 10.0, age_max_ms: None, channels: vec![pressure] };
/// let mut decoder = Decoder::new(Format::Json, &schema, &MappingConfig::default())?;
///
/// let mut outcomes = Vec::new();
/// let mut decode = |payload: &str| {
///     decoder.decode(payload.as_bytes(), 0, &mut |outcome| {
///         outcomes.push(outcome.map(|decoded| *decoded.reading).map_err(|e| e.to_string()));
///     })
/// };
/// assert_eq!(decode(r#"{"seq":7,"pressure":1.5}"#), 1);
/// assert_eq!(decode(r#"[{"pressure":"1.6"},{"pressure":"high"}]"#), 2);
/// assert_eq!(outcomes[0].as_ref().unwrap().sequence, Some(7));
/// assert_eq!(outcomes[1].as_ref().unwrap().values(), [1.6]);
/// assert_eq!(
///     outcomes[2].as_ref().unwrap_err(),
///     r#"wrong_type: "pressure": expected a number, found "high" at column 38 in reading 2"#,
/// );
/// # Ok::<(), hark_codec::MappingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    format: Format,
    mapping: Mapping,
    memory: Memory,
    csv: Option<Box<Csv>>,
    /// For text in another encoding.
    text: String,
}

impl Decoder {
    /// A decoder for payloads in `format` of the channels of `schema`.
    ///
    /// # Errors
    /// [`MappingError`] if `config` does not fit the schema or itself.
    pub fn new(
        format: Format,
        schema: &Schema,
        config: &MappingConfig,
    ) -> Result<Self, MappingError> {
        let mapping = Mapping::new(schema, config)?;
        if format == Format::Csv && mapping.has_readings {
            return Err(MappingError::Path {
                key: "readings".to_owned(),
                problem: "CSV has a reading in each line and none below a field".to_owned(),
            });
        }
        Ok(Self {
            format,
            csv: (format == Format::Csv).then(|| Box::new(Csv::new(&mapping))),
            mapping,
            memory: Memory::new(),
            text: String::new(),
        })
    }

    /// A file, a stream or a message begins, whose first lines may be passed over.
    pub fn handle_start(&mut self) {
        if let Some(csv) = &mut self.csv {
            csv.handle_start(&self.mapping);
        }
    }

    /// Takes a line of which nobody knows whether its start was seen for the header,
    /// if it is a usable one: half of one is not.
    pub fn adopt_header(&mut self, line: &[u8]) -> bool {
        let (mapping, memory) = (&self.mapping, &mut self.memory);
        let line = encoding::to_utf8(mapping.encoding, line, &mut self.text);
        self.csv
            .as_mut()
            .is_some_and(|csv| csv.adopt_header(mapping, memory, line))
    }

    /// Decodes one payload of at most [`PAYLOAD_MAX`] bytes, and gives each of its
    /// readings to `sink`, or why it is none. Returns how many there were. None is
    /// no reading: a CSV header, or nothing but white space.
    ///
    /// `now_us` is the wall clock's, microseconds since the epoch; times are told
    /// apart by it. At most [`READINGS_MAX`] readings are given.
    ///
    /// A [`Rejected`] has one of the reasons `Malformed`, `Oversize`, `MissingChannel`,
    /// `ChannelCount`, `WrongType`, `Unit` and `NotFinite`: the first one found
    /// in the order of the payload. The next payload is decoded as if this one
    /// had not been.
    pub fn decode(&mut self, payload: &[u8], now_us: i64, sink: Sink<'_>) -> usize {
        if payload.len() > PAYLOAD_MAX {
            sink(Err(*oversize(payload.len(), PAYLOAD_MAX)));
            return 1;
        }
        let (mapping, memory) = (&self.mapping, &mut self.memory);
        if self.format == Format::Cbor {
            // White space is a valid item in CBOR, so only nothing is nothing.
            if payload.is_empty() {
                return 0;
            }
            return cbor::decode(Draft::new(mapping, memory, now_us), payload, sink);
        }
        let wide = encoding::of_utf16(payload);
        let text = match &wide {
            Some(wide) => wide.as_bytes(),
            None => payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload),
        };
        let text = encoding::to_utf8(mapping.encoding, text, &mut self.text);
        match &mut self.csv {
            Some(csv) => csv.decode(mapping, memory, now_us, text, sink),
            None => match std::str::from_utf8(text) {
                Ok(text) => json::decode(Draft::new(mapping, memory, now_us), text, sink),
                Err(error) => {
                    let byte = error.valid_up_to() + 1;
                    sink(Err(*not_utf8().at(format_args!(" at byte {byte}"))));
                    1
                }
            },
        }
    }

    /// Decodes the value of one field, which came by itself: a number, a number and
    /// its unit, or an object with a `value`. Gives it to `sink` as a part of a reading;
    /// false: no key names this field.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_value(
        &mut self,
        field: &str,
        payload: &[u8],
        now_us: i64,
        sink: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<bool, Rejected> {
        self.give_value(field, payload, now_us, sink)
            .map_err(|fault| *fault)
    }

    fn give_value(
        &mut self,
        field: &str,
        payload: &[u8],
        now_us: i64,
        sink: &mut dyn FnMut(Decoded<'_>),
    ) -> Result<bool, Fault> {
        let meaning = self.mapping.field(field);
        let text = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
        let text = encoding::to_utf8(self.mapping.encoding, text, &mut self.text);
        let text = std::str::from_utf8(text).map_err(|_| not_utf8())?;
        let text = number::trim(text);
        let scalar = if text.starts_with(['{', '"']) {
            json::single(text)?.unwrap_or(Scalar::Other("an object without a value"))
        } else if text.eq_ignore_ascii_case("null") {
            Scalar::Null
        } else {
            Scalar::Text(text)
        };
        let mut draft = Draft::new(&self.mapping, &mut self.memory, now_us);
        let mut sensor = None;
        draft.claim(meaning, false)?;
        match meaning {
            Field::Channel(channel) => draft.set_channel(channel, scalar)?,
            Field::Sequence => draft.set_sequence(scalar)?,
            Field::Timestamp => draft.set_timestamp(scalar, self.mapping.time.unit)?,
            Field::Sensor => sensor = Some(Cow::Borrowed(text)),
            Field::TimeOfDay | Field::Values | Field::Units | Field::Readings | Field::Unknown => {
                return Ok(false);
            }
        }
        draft.finish_part()?;
        sink(Decoded {
            reading: &draft.state.reading,
            channels: draft.state.channels(),
            sensor,
        });
        Ok(true)
    }

    /// Something that the operator is to know of payloads that were read all the
    /// same; each is given once.
    pub fn take_note(&mut self) -> Option<String> {
        self.memory.notes.take()
    }

    /// The payload's name of a channel.
    pub fn field_of(&self, channel: usize) -> &str {
        self.mapping.name(channel)
    }
}

#[cold]
pub(crate) fn oversize(len: usize, len_max: usize) -> Fault {
    Rejected::new(
        Rejection::Oversize,
        format_args!("{len} bytes, at most {len_max} are allowed"),
    )
}

#[cold]
pub(crate) fn not_utf8() -> Fault {
    Rejected::malformed(format_args!(
        "not UTF-8; name its encoding, such as encoding = \"latin-1\","
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_parses_from_its_name() {
        for format in [Format::Json, Format::Cbor, Format::Csv] {
            let name = format.to_string();
            assert_eq!(name.parse(), Ok(format));
            let quoted = serde_json::from_str::<Format>(&format!("{name:?}"));
            assert_eq!(quoted.unwrap(), format);
        }
        let error = "xml".parse::<Format>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown format \"xml\", right is json, cbor or csv"
        );
    }
}
