//! One decoder for one source, whatever its format.

use std::{borrow::Cow, fmt, str::FromStr};

use hark_engine::{Reading, Rejection, Schema};
use serde::Deserialize;

use crate::{
    CsvDecoder, MappingConfig, Rejected, cbor, json,
    mapping::{Mapping, MappingError},
};

/// The longest payload, bytes. The largest sensible one, 32 channels with long
/// names and units, takes about 4 KiB; past this the time to parse it would
/// show in the latency of the sensors beside it.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// What some editors and loggers write in front of UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The format of a source's payloads.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 8259, one value for each payload.
    Json,
    /// RFC 8949, one data item for each payload.
    Cbor,
    /// RFC 4180, one line for each payload.
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
    /// A finite value for every channel of the schema, in its order.
    pub reading: Reading,
    /// The sensor's name, if the payload gives it; of any length that fits in
    /// a payload, and not yet compared with the sensors that are configured.
    pub sensor: Option<Cow<'a, str>>,
}

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
/// let decoded = decoder.decode(br#"{"seq":7,"pressure":1.5}"#).unwrap().unwrap();
/// assert_eq!(decoded.reading.sequence, Some(7));
/// assert_eq!(decoded.reading.values(), [1.5]);
///
/// let rejected = decoder.decode(br#"{"seq":8,"pressure":"high"}"#).unwrap_err();
/// assert_eq!(
///     rejected.to_string(),
///     r#"wrong_type: "pressure": expected a number, found text at column 26"#,
/// );
/// # Ok::<(), hark_codec::MappingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Json(Mapping),
    Cbor(Mapping),
    Csv(Box<CsvDecoder>),
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
        Ok(Self(match format {
            Format::Json => Kind::Json(mapping),
            Format::Cbor => Kind::Cbor(mapping),
            Format::Csv => Kind::Csv(Box::new(CsvDecoder::new(mapping))),
        }))
    }

    /// Decodes one payload of at most [`PAYLOAD_MAX`] bytes. `None` is not a
    /// reading: a CSV header, or nothing but white space.
    ///
    /// # Errors
    /// [`Rejected`] with one of the reasons `Malformed`, `Oversize`, `MissingChannel`,
    /// `ChannelCount`, `WrongType`, `Unit` and `NotFinite`: the first one found
    /// in the order of the payload. The next payload is decoded as if this one
    /// had not been.
    pub fn decode<'a>(&'a mut self, payload: &'a [u8]) -> Result<Option<Decoded<'a>>, Rejected> {
        if payload.len() > PAYLOAD_MAX {
            return Err(oversize(payload.len(), PAYLOAD_MAX));
        }
        if let Kind::Cbor(mapping) = &self.0 {
            // White space is a valid item in CBOR, so only nothing is nothing.
            return (!payload.is_empty())
                .then(|| cbor::decode(mapping, payload))
                .transpose();
        }
        let text = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
        if text.trim_ascii_start().is_empty() {
            return Ok(None);
        }
        match &mut self.0 {
            Kind::Json(mapping) => json::decode(mapping, utf8(text)?).map(Some),
            Kind::Csv(decoder) => decoder.decode(text),
            Kind::Cbor(_) => unreachable!("returned above"),
        }
    }
}

pub(crate) fn oversize(len: usize, len_max: usize) -> Rejected {
    Rejected::new(
        Rejection::Oversize,
        format_args!("{len} bytes, at most {len_max} are allowed"),
    )
}

fn utf8(text: &[u8]) -> Result<&str, Rejected> {
    std::str::from_utf8(text).map_err(|error| {
        let column = error.valid_up_to() + 1;
        Rejected::malformed(format_args!("not UTF-8 at byte {column}"))
    })
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
