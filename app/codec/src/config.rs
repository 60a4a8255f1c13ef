//! How a source's payloads name things, as the operator writes it down.
//!
//! Every key has a default, so that a source which uses the schema's own names
//! needs no mapping at all.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The mapping table of one source. See [`crate::Mapping`] for the checks.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct MappingConfig {
    /// The schema's channel name to the payload's field name. A channel that
    /// is absent here has the same name in both.
    pub channels: BTreeMap<String, String>,
    /// Field with the node's own count of its readings. Default `seq`.
    pub sequence: String,
    /// Field with the time of the reading. Default `ts`.
    pub timestamp: String,
    /// Unit of a timestamp that is a number. Default `us`.
    pub timestamp_unit: TimestampUnit,
    /// Field with the sensor's name. Absent: the payload does not name it.
    pub sensor: Option<String>,
    /// JSON and CBOR: field with the array or map of values. Default `values`.
    pub values: String,
    /// CSV: what separates cells. Default comma.
    pub delimiter: Delimiter,
    /// CSV: numbers are written `1,5`. Default false.
    pub decimal_comma: bool,
    /// CSV: field names by position, for lines whose header is absent or of
    /// no use. Names that are no field of this mapping are ignored columns.
    pub columns: Option<Vec<String>>,
    /// CSV: the first line is a header. Default: true, unless `columns` is
    /// given. With neither, a line is the channels in the schema's order.
    pub header: Option<bool>,
}

impl Default for MappingConfig {
    fn default() -> Self {
        Self {
            channels: BTreeMap::new(),
            sequence: "seq".into(),
            timestamp: "ts".into(),
            timestamp_unit: TimestampUnit::default(),
            sensor: None,
            values: "values".into(),
            delimiter: Delimiter::default(),
            decimal_comma: false,
            columns: None,
            header: None,
        }
    }
}

/// The unit of a timestamp that is a number, counted from the Unix epoch or
/// from whatever the node's clock counts from.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds.
    #[default]
    #[serde(rename = "us")]
    Micros,
    /// Nanoseconds; what is below a microsecond is dropped.
    #[serde(rename = "ns")]
    Nanos,
}

/// What separates the cells of a CSV line.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Delimiter {
    /// `,`
    #[default]
    #[serde(rename = ",", alias = "comma")]
    Comma,
    /// `;`
    #[serde(rename = ";", alias = "semicolon")]
    Semicolon,
    /// A tab character.
    #[serde(rename = "\t", alias = "tab")]
    Tab,
}

impl Delimiter {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }
}
