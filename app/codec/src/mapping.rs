//! From the field names of a payload to the channels of a schema.
//!
//! Built once for each source. Building it refuses what could only fail later,
//! at every reading: a channel that the schema does not have, one name with
//! two meanings, a decimal comma between commas.

use hark_engine::{CHANNELS_MAX, Channel, Schema};

use crate::{
    COLUMNS_MAX,
    config::{Delimiter, MappingConfig, TimestampUnit},
};

/// The field of a payload that declares units: a map of field name to unit.
pub(crate) const UNITS_FIELD: &str = "units";

/// Why a [`Mapping`] cannot be. `key` is the configuration's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A schema without channels, or with more than a reading can hold.
    #[error("the schema has {channels} channels, right is 1 to {CHANNELS_MAX}")]
    SchemaLength {
        /// How many it has.
        channels: usize,
    },
    /// `channels` maps a name that the schema does not have.
    #[error("channels.{key:?}: the schema has no such channel; did you mean {nearest:?}?")]
    UnknownChannel {
        /// The name that is not in the schema.
        key: String,
        /// The schema's channel whose name is nearest.
        nearest: String,
    },
    /// One field name would have two meanings.
    #[error("{key} and {other} both name the field {field:?}; give one of them another name")]
    FieldTwice {
        /// The name in the payload.
        field: String,
        /// The key that claims the field.
        key: String,
        /// The key that claims it too.
        other: String,
    },
    /// A field name is empty.
    #[error("{key}: a field name must not be empty")]
    EmptyField {
        /// The key with the empty name.
        key: String,
    },
    /// `decimal_comma` with a comma as the delimiter.
    #[error("decimal_comma: needs another delimiter than a comma, such as delimiter = \";\"")]
    DecimalComma,
    /// `columns` lacks a channel.
    #[error("columns: no column {field:?} for channel {channel:?}; did {nearest:?} mean it?")]
    MissingColumn {
        /// The schema's channel.
        channel: String,
        /// The name that its column should have.
        field: String,
        /// The column whose name is nearest.
        nearest: String,
    },
    /// A line without a header lacks a field that a key names.
    #[error("columns: no column {field:?}, which another key of the mapping names")]
    MissingField {
        /// The name that its column should have.
        field: String,
    },
    /// `columns` names a field twice.
    #[error("columns: {field:?} stands there twice")]
    ColumnTwice {
        /// The name that is repeated.
        field: String,
    },
    /// `columns` is longer than a line can be.
    #[error("columns: {columns} columns, right is at most {COLUMNS_MAX}")]
    TooManyColumns {
        /// How many there are.
        columns: usize,
    },
}

/// What a field of a payload means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Channel(usize),
    Sequence,
    Timestamp,
    Sensor,
    Values,
    Units,
    Unknown,
}

/// Where each channel of a schema is found in the payloads of one source.
#[derive(Clone, Debug)]
pub struct Mapping {
    channels: Vec<MappedChannel>,
    sequence: Box<str>,
    timestamp: Box<str>,
    sensor: Option<Box<str>>,
    values: Box<str>,
    /// Fields beside the channels that the operator has named, and that payloads
    /// therefore have.
    pub(crate) named: Vec<Field>,
    pub(crate) timestamp_unit: TimestampUnit,
    pub(crate) delimiter: Delimiter,
    pub(crate) decimal_comma: bool,
    /// Meaning of each column of a line, if it needs no header to know it.
    pub(crate) columns: Option<Vec<Field>>,
    pub(crate) has_header: bool,
}

#[derive(Clone, Debug)]
struct MappedChannel {
    field: Box<str>,
    unit: Box<str>,
}

impl Mapping {
    /// The mapping of `config` onto the channels of `schema`.
    ///
    /// # Errors
    /// [`MappingError`], naming the key that is wrong and what would be right.
    pub fn new(schema: &Schema, config: &MappingConfig) -> Result<Self, MappingError> {
        let channels = schema.channels.len();
        if !(1..=CHANNELS_MAX).contains(&channels) {
            return Err(MappingError::SchemaLength { channels });
        }
        refuse_unknown_channels(schema, config)?;
        refuse_ambiguous_fields(schema, config)?;
        if config.decimal_comma && config.delimiter == Delimiter::Comma {
            return Err(MappingError::DecimalComma);
        }
        let mut mapping = Self {
            channels: schema
                .channels
                .iter()
                .map(|channel| MappedChannel {
                    field: field_of(channel, config).into(),
                    unit: channel.unit.as_str().into(),
                })
                .collect(),
            sequence: config.sequence.as_str().into(),
            timestamp: config.timestamp.as_str().into(),
            sensor: config.sensor.as_deref().map(Into::into),
            values: config.values.as_str().into(),
            named: named_fields(config),
            timestamp_unit: config.timestamp_unit,
            delimiter: config.delimiter,
            decimal_comma: config.decimal_comma,
            columns: None,
            has_header: config.header.unwrap_or(config.columns.is_none()),
        };
        mapping.columns = match &config.columns {
            Some(columns) => Some(mapping.read_columns(schema, columns)?),
            None if !mapping.has_header => Some((0..channels).map(Field::Channel).collect()),
            None => None,
        };
        let columns = mapping.columns.as_deref().unwrap_or_default();
        let is_absent = |field: &&Field| !columns.is_empty() && !columns.contains(field);
        match mapping.named.iter().find(is_absent) {
            Some(field) => Err(MappingError::MissingField {
                field: mapping.name_of(*field).to_owned(),
            }),
            None => Ok(mapping),
        }
    }

    /// The payload's name of the sequence or the time.
    pub(crate) fn name_of(&self, field: Field) -> &str {
        match field {
            Field::Sequence => &self.sequence,
            Field::Timestamp => &self.timestamp,
            _ => "",
        }
    }

    /// How many channels a reading has.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The payload's name of `channel`.
    pub(crate) fn name(&self, channel: usize) -> &str {
        &self.channels[channel].field
    }

    /// The schema's unit of `channel`.
    pub(crate) fn unit(&self, channel: usize) -> &str {
        &self.channels[channel].unit
    }

    /// The channel called `name` in the payload. `next` is tried first:
    /// a source names its channels in the same order every time.
    pub(crate) fn channel(&self, name: &str, next: usize) -> Option<usize> {
        let is_named = |channel: &MappedChannel| *channel.field == *name;
        if self.channels.get(next).is_some_and(is_named) {
            return Some(next);
        }
        self.channels.iter().position(is_named)
    }

    /// The meaning of the field called `name`, with the same hint.
    pub(crate) fn field(&self, name: &str, next: usize) -> Field {
        if *self.sequence == *name {
            Field::Sequence
        } else if *self.timestamp == *name {
            Field::Timestamp
        } else if *self.values == *name {
            Field::Values
        } else if let Some(channel) = self.channel(name, next) {
            Field::Channel(channel)
        } else if self.sensor.as_deref() == Some(name) {
            Field::Sensor
        } else if name == UNITS_FIELD {
            Field::Units
        } else {
            Field::Unknown
        }
    }

    /// The meaning of a CSV column called `name`: there, values and units
    /// have no field of their own.
    pub(crate) fn column(&self, name: &str) -> Field {
        match self.field(name, 0) {
            Field::Values | Field::Units => Field::Unknown,
            field => field,
        }
    }

    fn read_columns(
        &self,
        schema: &Schema,
        columns: &[String],
    ) -> Result<Vec<Field>, MappingError> {
        if columns.len() > COLUMNS_MAX {
            return Err(MappingError::TooManyColumns {
                columns: columns.len(),
            });
        }
        for (mapped, channel) in self.channels.iter().zip(&schema.channels) {
            if !columns.iter().any(|column| **column == *mapped.field) {
                return Err(MappingError::MissingColumn {
                    channel: channel.name.clone(),
                    field: mapped.field.to_string(),
                    nearest: nearest(&mapped.field, columns.iter().map(String::as_str)),
                });
            }
        }
        let fields: Vec<Field> = columns.iter().map(|column| self.column(column)).collect();
        for (place, field) in fields.iter().enumerate() {
            if *field != Field::Unknown && fields[..place].contains(field) {
                return Err(MappingError::ColumnTwice {
                    field: columns[place].clone(),
                });
            }
        }
        Ok(fields)
    }
}

fn field_of<'a>(channel: &'a Channel, config: &'a MappingConfig) -> &'a str {
    config.channels.get(&channel.name).unwrap_or(&channel.name)
}

fn refuse_unknown_channels(schema: &Schema, config: &MappingConfig) -> Result<(), MappingError> {
    match config
        .channels
        .keys()
        .find(|key| schema.channel(key).is_none())
    {
        None => Ok(()),
        Some(key) => Err(MappingError::UnknownChannel {
            key: key.clone(),
            nearest: nearest(key, schema.channels.iter().map(|c| c.name.as_str())),
        }),
    }
}

fn refuse_ambiguous_fields(schema: &Schema, config: &MappingConfig) -> Result<(), MappingError> {
    let mut claims: Vec<(String, &str)> = vec![
        ("sequence".into(), &config.sequence),
        ("timestamp".into(), &config.timestamp),
        ("values".into(), &config.values),
        ("the table of units".into(), UNITS_FIELD),
    ];
    claims.extend(
        config
            .sensor
            .as_deref()
            .map(|field| ("sensor".into(), field)),
    );
    claims.extend(schema.channels.iter().map(|channel| {
        let key = format!("channels.{:?}", channel.name);
        (key, field_of(channel, config))
    }));
    for (place, (key, field)) in claims.iter().enumerate() {
        if field.is_empty() {
            return Err(MappingError::EmptyField { key: key.clone() });
        }
        if let Some((other, _)) = claims[..place].iter().find(|(_, claimed)| claimed == field) {
            return Err(MappingError::FieldTwice {
                field: (*field).to_owned(),
                key: key.clone(),
                other: other.clone(),
            });
        }
    }
    Ok(())
}

/// The candidate that takes the fewest edits; empty if there is none.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    candidates
        .min_by_key(|candidate| strsim::osa_distance(name, candidate))
        .unwrap_or_default()
        .to_owned()
}

/// What is named otherwise than by default is there on purpose, and its absence a
/// mistake of one side or the other. (A sensor that a payload does not name is
/// called as its source, and a sequence is not needed to judge a reading.)
fn named_fields(config: &MappingConfig) -> Vec<Field> {
    let default = MappingConfig::default();
    let named = [(Field::Timestamp, config.timestamp != default.timestamp)];
    let named = named.into_iter().filter(|(_, is_named)| *is_named);
    named.map(|(field, _)| field).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Channels `names`, all in bar.
    pub(crate) fn schema(names: &[&str]) -> Schema {
        let channel = |name: &&str| Channel {
            name: (*name).to_owned(),
            unit: "bar".to_owned(),
            min: 0.0,
            max: 10.0,
            rate_max: None,
        };
        Schema {
            period_ms: 1000.0,
            age_max_ms: None,
            channels: names.iter().map(channel).collect(),
        }
    }

    /// A config from its JSON, the quickest notation in a test.
    pub(crate) fn config(json: &str) -> MappingConfig {
        serde_json::from_str(json).expect("a valid config")
    }

    fn check(json: &str, expected: &str) {
        let schema = schema(&["pressure", "flow"]);
        let error = Mapping::new(&schema, &config(json)).expect_err(json);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_error_names_the_wrong_key_and_the_nearest_right_one() {
        check(
            r#"{"channels":{"presure":"p"}}"#,
            r#"channels."presure": the schema has no such channel; did you mean "pressure"?"#,
        );
        check(
            r#"{"timestamp":"flow"}"#,
            r#"channels."flow" and timestamp both name the field "flow"; give one of them another name"#,
        );
        check(
            r#"{"channels":{"flow":"pressure"}}"#,
            r#"channels."flow" and channels."pressure" both name the field "pressure"; give one of them another name"#,
        );
        check(
            r#"{"sensor":"units"}"#,
            r#"sensor and the table of units both name the field "units"; give one of them another name"#,
        );
        check(
            r#"{"channels":{"flow":""}}"#,
            r#"channels."flow": a field name must not be empty"#,
        );
        check(
            r#"{"decimal_comma":true}"#,
            r#"decimal_comma: needs another delimiter than a comma, such as delimiter = ";""#,
        );
        check(
            r#"{"columns":["seq","pressure","flwo"]}"#,
            r#"columns: no column "flow" for channel "flow"; did "flwo" mean it?"#,
        );
        check(
            r#"{"columns":["flow","pressure","flow"]}"#,
            r#"columns: "flow" stands there twice"#,
        );
    }

    #[test]
    fn a_schema_that_no_reading_can_hold_is_refused() {
        let names = vec!["x"; CHANNELS_MAX + 1];
        for channels in [0, CHANNELS_MAX + 1] {
            let error = Mapping::new(&schema(&names[..channels]), &config("{}")).map(|_| ());
            assert_eq!(error, Err(MappingError::SchemaLength { channels }));
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_right_ones() {
        let error = serde_json::from_str::<MappingConfig>(r#"{"delimeter":";"}"#).unwrap_err();
        assert!(error.to_string().contains("`delimiter`"), "{error}");
    }

    #[test]
    fn a_field_is_found_whatever_is_expected_next() {
        let schema = schema(&["pressure", "flow"]);
        let config = config(r#"{"channels":{"flow":"Q"},"sensor":"node"}"#);
        let mapping = Mapping::new(&schema, &config).unwrap();
        for next in 0..4 {
            assert_eq!(mapping.field("pressure", next), Field::Channel(0));
            assert_eq!(mapping.field("Q", next), Field::Channel(1));
            assert_eq!(mapping.field("flow", next), Field::Unknown);
            assert_eq!(mapping.field("node", next), Field::Sensor);
            assert_eq!(mapping.field("seq", next), Field::Sequence);
            assert_eq!(mapping.field("ts", next), Field::Timestamp);
            assert_eq!(mapping.field("values", next), Field::Values);
            assert_eq!(mapping.field("units", next), Field::Units);
        }
    }
}
