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
    /// The schema's channel name to what holds it in the payload. A channel
    /// that is absent here has the same name in both.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// Path of the array of readings, if a payload holds several below a field.
    pub readings: Option<String>,
    /// Field with the node's own count of its readings. Default `seq`.
    pub sequence: String,
    /// Field with the time of the reading. Default `ts`.
    pub timestamp: String,
    /// Field with the time of day, where `timestamp` holds the date alone.
    pub time_of_day: Option<String>,
    /// Unit of a timestamp that is a number. Default `auto`.
    pub timestamp_unit: TimestampUnit,
    /// How a timestamp that is text is written, as in strptime. Absent: RFC 3339
    /// and its kin.
    pub timestamp_format: Option<String>,
    /// IANA name of the zone of times that name none. Absent: UTC.
    pub timezone: Option<String>,
    /// What the times are for.
    pub clock: TimeUse,
    /// Field with the sensor's name. Absent: the payload does not name it.
    pub sensor: Option<String>,
    /// Field with the array or map of values. Default `values`.
    pub values: String,
    /// A payload may lack channels: they are joined with those of others.
    pub is_partial: bool,
    /// CSV: what separates cells. Default: found out.
    pub delimiter: Delimiter,
    /// CSV: numbers are written `1,5`. Default false.
    pub decimal_comma: bool,
    /// CSV: field names by position, for lines whose header is absent or of
    /// no use. Names that are no field of this mapping are ignored columns.
    pub columns: Option<Vec<String>>,
    /// CSV: the first line is a header. Default: true, unless `columns` is
    /// given. With neither, a line is the channels in the schema's order.
    pub header: Option<bool>,
    /// CSV: a line that begins so is no reading. Absent: there are none.
    pub comment: Option<String>,
    /// CSV: so many lines at the start of a stream or message are no readings.
    pub skip_lines: usize,
    /// How text is encoded. Default UTF-8.
    pub encoding: Encoding,
}

impl Default for MappingConfig {
    fn default() -> Self {
        Self {
            channels: BTreeMap::new(),
            readings: None,
            sequence: "seq".into(),
            timestamp: "ts".into(),
            time_of_day: None,
            timestamp_unit: TimestampUnit::default(),
            timestamp_format: None,
            timezone: None,
            clock: TimeUse::default(),
            sensor: None,
            values: "values".into(),
            is_partial: false,
            delimiter: Delimiter::default(),
            decimal_comma: false,
            columns: None,
            header: None,
            comment: None,
            skip_lines: 0,
            encoding: Encoding::default(),
        }
    }
}

/// What holds a channel in the payload: a path, and what makes its value one in
/// the schema's unit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(from = "ChannelWritten")]
pub struct ChannelConfig {
    /// A field's name, a path `a.b[0]`, or a JSON pointer `/a/b/0`. Empty: the
    /// channel's own name.
    pub field: String,
    /// The payload's value times this,
    pub scale: f64,
    /// plus this,
    pub offset: f64,
    /// is in this unit. Empty: the schema's, or what the payload declares.
    pub unit: String,
}

impl From<&str> for ChannelConfig {
    fn from(field: &str) -> Self {
        Self {
            field: field.into(),
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
        }
    }
}

/// The two ways in which a channel is written down.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChannelWritten {
    Field(String),
    Table {
        #[serde(default)]
        field: String,
        #[serde(default = "one")]
        scale: f64,
        #[serde(default)]
        offset: f64,
        #[serde(default)]
        unit: String,
    },
}

fn one() -> f64 {
    1.0
}

impl From<ChannelWritten> for ChannelConfig {
    fn from(written: ChannelWritten) -> Self {
        match written {
            ChannelWritten::Field(field) => field.as_str().into(),
            ChannelWritten::Table {
                field,
                scale,
                offset,
                unit,
            } => Self {
                field,
                scale,
                offset,
                unit,
            },
        }
    }
}

/// How text is encoded.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8; UTF-16 where its mark stands in front.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1.
    #[serde(rename = "latin-1")]
    Latin1,
    /// What Windows wrote in western Europe.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// What times are for; decides what a time costs that cannot be read.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TimeUse {
    /// They are carried along, and cost no reading.
    #[default]
    None,
    /// They may count from anything, such as a node's start.
    Node,
    /// They are of the calendar.
    Utc,
}

/// The unit of a timestamp that is a number, counted from the Unix epoch or
/// from whatever the node's clock counts from.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Whichever of the others gives a time from 2000 to now.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
    /// Nanoseconds; what is below a microsecond is dropped.
    #[serde(rename = "ns")]
    Nanos,
}

/// What separates the cells of a CSV line.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Delimiter {
    /// Whichever of the others makes a header or a line of the right length.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// `,`
    #[serde(rename = ",", alias = "comma")]
    Comma,
    /// `;`
    #[serde(rename = ";", alias = "semicolon")]
    Semicolon,
    /// A tab character.
    #[serde(rename = "\t", alias = "tab")]
    Tab,
    /// `|`
    #[serde(rename = "|", alias = "pipe")]
    Pipe,
}

impl Delimiter {
    /// Those that are found out, the likeliest first.
    pub(crate) const KNOWN: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Auto | Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }
}
