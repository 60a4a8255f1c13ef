//! From the field names of a payload to the channels of a schema.
//!
//! Built once for each source. Building it refuses what could only fail later,
//! at every reading: a channel that the schema does not have, one name with
//! two meanings, a decimal comma between commas.

use hark_engine::{CHANNELS_MAX, Channel, Schema};

use crate::{
    COLUMNS_MAX,
    config::{Delimiter, Encoding, MappingConfig},
    path::{self, Step},
    timestamp::TimeRule,
    unit::{Linear, Relation, relate},
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
    /// A path that can lead nowhere.
    #[error("{key}: {problem}")]
    Path {
        /// The key that names it.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A scale that makes all values the same, or a number that is none.
    #[error("channels.{key:?}: scale must be a number other than 0, and offset one")]
    Scale {
        /// The channel.
        key: String,
    },
    /// A unit that is no other of the schema's.
    #[error("channels.{key:?}: unit {unit:?} cannot become the schema's {right:?}")]
    Unit {
        /// The channel.
        key: String,
        /// The unit as written.
        unit: String,
        /// The schema's.
        right: String,
    },
    /// Times could not be read so.
    #[error("{problem}")]
    Time {
        /// The key, and what is wrong with it.
        problem: String,
    },
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
    TimeOfDay,
    Sensor,
    Values,
    Units,
    Readings,
    Unknown,
}

/// Where a map or array of a payload is in the tree of the paths; 0: the payload
/// itself.
pub(crate) type Place = u16;

/// What is known of a map's field or an array's element.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    step: Step,
    pub(crate) field: Field,
    /// A path that was found by its whole name: it wins over the path.
    pub(crate) is_whole: bool,
    /// Where the paths go on that lead through it.
    pub(crate) below: Option<Place>,
}

impl Child {
    /// Of a field that means nothing.
    pub(crate) const UNKNOWN: Self = Self {
        step: Step::Index(0),
        field: Field::Unknown,
        is_whole: false,
        below: None,
    };

    fn of(step: Step) -> Self {
        Self {
            step,
            ..Self::UNKNOWN
        }
    }

    fn is_named(&self, name: &str) -> bool {
        matches!(&self.step, Step::Name(own) if own == name)
    }
}

/// Where each channel of a schema is found in the payloads of one source.
#[derive(Clone, Debug)]
pub struct Mapping {
    channels: Vec<MappedChannel>,
    /// The paths of all fields, as the children of each place.
    places: Vec<Vec<Child>>,
    names: Names,
    /// Fields beside the channels that the operator has named, and that payloads
    /// therefore have.
    pub(crate) named: Vec<Field>,
    /// Payloads hold their readings below a field.
    pub(crate) has_readings: bool,
    pub(crate) is_partial: bool,
    pub(crate) time: TimeRule,
    pub(crate) delimiter: Delimiter,
    pub(crate) decimal_comma: bool,
    /// Names of a line's columns, if it needs no header to know them.
    pub(crate) columns: Option<Vec<Field>>,
    pub(crate) has_header: bool,
    pub(crate) comment: Option<Box<str>>,
    pub(crate) skip_lines: usize,
    pub(crate) encoding: Encoding,
}

#[derive(Clone, Debug)]
struct MappedChannel {
    field: Box<str>,
    unit: Box<str>,
    /// What the operator says that the payload's values are in.
    own_unit: Option<Box<str>>,
    /// From the payload's value to the schema's unit, unless they are the same.
    linear: Option<Linear>,
}

/// How the payload calls what is no channel.
#[derive(Clone, Debug)]
struct Names {
    sequence: Box<str>,
    timestamp: Box<str>,
    time_of_day: Box<str>,
    sensor: Box<str>,
    readings: Box<str>,
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
        let claims = claims(schema, config);
        refuse_ambiguous_fields(&claims)?;
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        let mut mapping = Self {
            channels: map_channels(schema, config)?,
            places: grow(&claims)?,
            names: Names {
                sequence: config.sequence.as_str().into(),
                timestamp: config.timestamp.as_str().into(),
                time_of_day: text(&config.time_of_day),
                sensor: text(&config.sensor),
                readings: text(&config.readings),
            },
            named: named_fields(config),
            has_readings: config.readings.is_some(),
            is_partial: config.is_partial,
            time: TimeRule::new(config).map_err(|problem| MappingError::Time { problem })?,
            delimiter: config.delimiter,
            decimal_comma: config.decimal_comma,
            columns: None,
            has_header: config.header.unwrap_or(config.columns.is_none()),
            comment: config.comment.as_deref().map(Into::into),
            skip_lines: config.skip_lines,
            encoding: config.encoding,
        };
        mapping.columns = match &config.columns {
            Some(columns) => Some(mapping.read_columns(schema, columns)?),
            None if !mapping.has_header => Some((0..channels).map(Field::Channel).collect()),
            None => None,
        };
        let columns = mapping.columns.as_deref().unwrap_or_default();
        let is_absent = |field: &&Field| !columns.is_empty() && !columns.contains(field);
        if let Some(field) = mapping.needed().find(is_absent) {
            return Err(MappingError::MissingField {
                field: mapping.name_of(*field).to_owned(),
            });
        }
        Ok(mapping)
    }

    /// Whether date and time of day stand in two fields.
    pub(crate) fn has_time_of_day(&self) -> bool {
        !self.names.time_of_day.is_empty()
    }

    /// Those of the named fields without which a payload is not what was meant: a
    /// sensor that is not named is called as its source, and a sequence is not needed.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &Field> {
        let is_time = |field: &&Field| matches!(field, Field::Timestamp | Field::TimeOfDay);
        self.named.iter().filter(is_time)
    }

    /// The payload's name of a field that is no channel.
    pub(crate) fn name_of(&self, field: Field) -> &str {
        match field {
            Field::Sequence => &self.names.sequence,
            Field::Timestamp => &self.names.timestamp,
            Field::TimeOfDay => &self.names.time_of_day,
            Field::Sensor => &self.names.sensor,
            Field::Readings => &self.names.readings,
            Field::Channel(_) | Field::Values | Field::Units | Field::Unknown => "",
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

    /// The unit of `channel` that the operator has named.
    pub(crate) fn own_unit(&self, channel: usize) -> Option<&str> {
        self.channels[channel].own_unit.as_deref()
    }

    /// From the payload's value of `channel` to the schema's unit, as far as the
    /// operator has said it.
    pub(crate) fn linear(&self, channel: usize) -> Option<Linear> {
        self.channels[channel].linear
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

    /// The child of `place` called `name`. `next` is tried first, and becomes the
    /// one after it.
    pub(crate) fn child(&self, place: Place, name: &str, next: &mut usize) -> &Child {
        let children = &self.places[usize::from(place)];
        if let Some(child) = children.get(*next).filter(|child| child.is_named(name)) {
            *next += 1;
            return child;
        }
        match children.iter().position(|child| child.is_named(name)) {
            None => &Child::UNKNOWN,
            Some(at) => {
                *next = at + 1;
                &children[at]
            }
        }
    }

    /// The child of `place` at `index` of an array.
    pub(crate) fn element(&self, place: Place, index: usize) -> &Child {
        let is_at = |child: &&Child| child.step == Step::Index(index);
        let children = &self.places[usize::from(place)];
        children.iter().find(is_at).unwrap_or(&Child::UNKNOWN)
    }

    /// Whether a path leads into an array at `place`.
    pub(crate) fn has_elements(&self, place: Place) -> bool {
        let is_index = |child: &Child| matches!(child.step, Step::Index(_));
        self.places[usize::from(place)].iter().any(is_index)
    }

    /// The meaning of the field called `name` of a payload without depth.
    pub(crate) fn field(&self, name: &str) -> Field {
        self.child(0, name, &mut 0).field
    }

    /// The meaning of a CSV column called `name`: there, values, units and readings
    /// have no field of their own.
    pub(crate) fn column(&self, name: &str) -> Field {
        match self.field(name) {
            Field::Values | Field::Units | Field::Readings => Field::Unknown,
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
    match config.channels.get(&channel.name) {
        // A table without a field changes the value alone.
        Some(mapped) if mapped.field.is_empty() && *mapped != "".into() => &channel.name,
        Some(mapped) => &mapped.field,
        None => &channel.name,
    }
}

fn map_channels(
    schema: &Schema,
    config: &MappingConfig,
) -> Result<Vec<MappedChannel>, MappingError> {
    let map = |channel: &Channel| {
        let own = config.channels.get(&channel.name);
        let mut linear = own.map_or(Linear::SAME, |own| Linear {
            scale: own.scale,
            offset: own.offset,
        });
        if linear.scale == 0.0 || !linear.scale.is_finite() || !linear.offset.is_finite() {
            let key = channel.name.clone();
            return Err(MappingError::Scale { key });
        }
        let own_unit = own.map(|own| own.unit.as_str());
        let own_unit = own_unit.filter(|unit| !unit.is_empty());
        if let Some(unit) = own_unit {
            match relate(unit, &channel.unit) {
                Relation::Same => {}
                Relation::Converts(convert) => linear = linear.then(&convert),
                Relation::Other => {
                    return Err(MappingError::Unit {
                        key: channel.name.clone(),
                        unit: unit.to_owned(),
                        right: channel.unit.clone(),
                    });
                }
            }
        }
        Ok(MappedChannel {
            field: field_of(channel, config).into(),
            unit: channel.unit.as_str().into(),
            own_unit: own_unit.map(Into::into),
            linear: (linear != Linear::SAME).then_some(linear),
        })
    };
    schema.channels.iter().map(map).collect()
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

/// A field that a key names, and what it is.
struct Claim<'a> {
    key: String,
    path: &'a str,
    field: Field,
}

/// All of them, in the order in which payloads usually have them.
fn claims<'a>(schema: &'a Schema, config: &'a MappingConfig) -> Vec<Claim<'a>> {
    let claim = |key: &str, path, field| Claim {
        key: key.to_owned(),
        path,
        field,
    };
    let mut claims = vec![
        claim("sequence", &config.sequence, Field::Sequence),
        claim("timestamp", &config.timestamp, Field::Timestamp),
    ];
    let optional = [
        ("timestamp", &config.time_of_day, Field::TimeOfDay),
        ("sensor", &config.sensor, Field::Sensor),
        ("readings", &config.readings, Field::Readings),
    ];
    for (key, path, field) in optional {
        claims.extend(path.as_deref().map(|path| claim(key, path, field)));
    }
    claims.push(claim("values", &config.values, Field::Values));
    claims.push(claim("the table of units", UNITS_FIELD, Field::Units));
    let channels = schema.channels.iter().enumerate();
    claims.extend(channels.map(|(index, channel)| Claim {
        key: format!("channels.{:?}", channel.name),
        path: field_of(channel, config),
        field: Field::Channel(index),
    }));
    claims
}

fn refuse_ambiguous_fields(claims: &[Claim<'_>]) -> Result<(), MappingError> {
    for (place, Claim { key, path, .. }) in claims.iter().enumerate() {
        if path.is_empty() {
            return Err(MappingError::EmptyField { key: key.clone() });
        }
        if let Some(other) = claims[..place].iter().find(|other| other.path == *path) {
            return Err(MappingError::FieldTwice {
                field: (*path).to_owned(),
                key: key.clone(),
                other: other.key.clone(),
            });
        }
    }
    Ok(())
}

/// The tree of all paths.
fn grow(claims: &[Claim<'_>]) -> Result<Vec<Vec<Child>>, MappingError> {
    let mut places = vec![Vec::new()];
    for claim in claims {
        let wrong = |problem| MappingError::Path {
            key: claim.key.clone(),
            problem,
        };
        let whole = Step::Name(claim.path.to_owned());
        let steps = path::parse(claim.path).map_err(wrong)?;
        if steps != [whole.clone()] {
            let child = child_of(&mut places, 0, whole);
            child.field = claim.field;
            child.is_whole = true;
        }
        let (last, way) = steps.split_last().expect("a path has a step");
        let mut place: Place = 0;
        for step in way {
            let new = places.len() as Place;
            let child = child_of(&mut places, place, step.clone());
            let is_leaf = matches!(child.field, Field::Channel(_));
            place = *child.below.get_or_insert(new);
            if is_leaf {
                let problem = "another channel is the number on its way".to_owned();
                return Err(wrong(problem));
            }
            if place == new {
                places.push(Vec::new());
            }
        }
        let child = child_of(&mut places, place, last.clone());
        let is_way = child.below.is_some() && matches!(claim.field, Field::Channel(_));
        if is_way || (child.field != Field::Unknown && !child.is_whole) {
            let problem = "another key leads through it, or to it".to_owned();
            return Err(wrong(problem));
        }
        child.field = claim.field;
        child.is_whole = false;
    }
    Ok(places)
}

fn child_of(places: &mut [Vec<Child>], place: Place, step: Step) -> &mut Child {
    let children = &mut places[usize::from(place)];
    let at = children.iter().position(|child| child.step == step);
    let at = at.unwrap_or_else(|| {
        children.push(Child::of(step));
        children.len() - 1
    });
    &mut children[at]
}

/// The candidate that takes the fewest edits; empty if there is none.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    candidates
        .min_by_key(|candidate| strsim::osa_distance(name, candidate))
        .unwrap_or_default()
        .to_owned()
}

/// What is named otherwise than by default is there on purpose, and its absence a
/// mistake of one side or the other.
fn named_fields(config: &MappingConfig) -> Vec<Field> {
    let default = MappingConfig::default();
    let named = [
        (Field::Timestamp, config.timestamp != default.timestamp),
        (Field::TimeOfDay, config.time_of_day.is_some()),
        (Field::Sequence, config.sequence != default.sequence),
        (Field::Sensor, config.sensor.is_some()),
    ];
    let named = named.into_iter().filter(|(_, is_named)| *is_named);
    named.map(|(field, _)| field).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::TimeUse;

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

    /// A config from its JSON, the quickest notation in a test. A time is needed, but
    /// may count from anything, unless the JSON says otherwise.
    pub(crate) fn config(json: &str) -> MappingConfig {
        let config: MappingConfig = serde_json::from_str(json).expect("a valid config");
        let clock = match config.clock {
            TimeUse::None if !json.contains("clock") => TimeUse::Node,
            clock => clock,
        };
        MappingConfig { clock, ..config }
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
            r#"the table of units and sensor both name the field "units"; give one of them another name"#,
        );
        check(
            r#"{"channels":{"flow":""}}"#,
            r#"channels."flow": a field name must not be empty"#,
        );
        check(
            r#"{"channels":{"flow":{"unit":"degC"}}}"#,
            r#"channels."flow": unit "degC" cannot become the schema's "bar""#,
        );
        check(
            r#"{"channels":{"flow":{"scale":0}}}"#,
            r#"channels."flow": scale must be a number other than 0, and offset one"#,
        );
        check(
            r#"{"channels":{"flow":"a.b","pressure":"a"}}"#,
            r#"channels."flow": another channel is the number on its way"#,
        );
        check(
            r#"{"channels":{"flow":"a","pressure":"a.b"}}"#,
            r#"channels."flow": another key leads through it, or to it"#,
        );
        check(
            r#"{"channels":{"flow":"/a/b","pressure":"a.b"}}"#,
            r#"channels."flow": another key leads through it, or to it"#,
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
        for next in 0..9 {
            let field = |name| mapping.child(0, name, &mut next.clone()).field;
            assert_eq!(field("pressure"), Field::Channel(0));
            assert_eq!(field("Q"), Field::Channel(1));
            assert_eq!(field("flow"), Field::Unknown);
            assert_eq!(field("node"), Field::Sensor);
            assert_eq!(field("seq"), Field::Sequence);
            assert_eq!(field("ts"), Field::Timestamp);
            assert_eq!(field("values"), Field::Values);
            assert_eq!(field("units"), Field::Units);
        }
    }
}
