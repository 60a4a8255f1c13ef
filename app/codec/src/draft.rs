//! A reading while its payload is being read: the rules that all formats share.
//!
//! A format turns its tokens into [`Scalar`]s and says which [`Field`] they
//! belong to; the draft decides what is right there. The first thing found
//! wrong, in the order of the payload, is the reason that is reported.

use hark_engine::{CHANNELS_MAX, Reading, Rejection};

use crate::{
    config::TimestampUnit,
    json,
    mapping::{Field, Mapping},
    notes::{About, Notes},
    number::{self, Number},
    rejected::{Fault, Rejected, Shown},
    timestamp::Count,
    unit::{Linear, Relation, relate},
};

/// One value of a payload, whatever its format.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'p> {
    Null,
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    // Not of a `bool`: a value of one byte would be moved in odd pieces, and with it
    // every number.
    True,
    False,
    Text(&'p str),
    /// A text of JSON as it is written, with escapes.
    Escaped(&'p str),
    /// Anything else, by its name in an explanation.
    Other(&'static str),
}

impl Scalar<'_> {
    fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Unsigned(_) | Self::Signed(_) | Self::Float(_) => "a number",
            Self::True | Self::False => "a boolean",
            Self::Text(_) | Self::Escaped(_) => "text",
            Self::Other(name) => name,
        }
    }
}

/// The first of the bits in `seen` that are not channels.
const FIELD_BITS: usize = 32;
const _: () = assert!(CHANNELS_MAX <= FIELD_BITS);

/// The greatest whole number up to which every one is exact in f64, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The longest part of a time that stands in two fields, bytes.
const PART_MAX: usize = 40;

/// What a decoder keeps from one payload to the next.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) notes: Notes,
    /// The units that a payload declares, as far as they are others than the
    /// schema's; meaningful where [`State::declared`] says so.
    linear: [Linear; CHANNELS_MAX],
    /// Date and time of day, where they stand in two fields.
    parts: [Part; 2],
}

#[derive(Clone, Debug)]
struct Part {
    bytes: [u8; PART_MAX],
    len: usize,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let part = Part {
            bytes: [0; PART_MAX],
            len: 0,
        };
        Self {
            notes: Notes::default(),
            linear: [Linear::SAME; CHANNELS_MAX],
            parts: [part.clone(), part],
        }
    }
}

pub(crate) struct Draft<'m> {
    pub(crate) mapping: &'m Mapping,
    pub(crate) memory: &'m mut Memory,
    now_us: i64,
    pub(crate) state: State,
}

/// What is known of the reading so far.
#[derive(Clone, Copy)]
pub(crate) struct State {
    pub(crate) reading: Reading,
    /// One bit for each channel and field that the payload has given.
    seen: u64,
    /// Those of them that were found by their whole name, although it is a path.
    whole: u64,
    /// Those of them that stand beside an array of readings, until a reading says
    /// another.
    inherited: u64,
    /// One bit for each channel whose unit is to be converted.
    declared: u32,
    /// The field that most likely comes next.
    pub(crate) next: usize,
}

impl State {
    #[inline]
    pub(crate) fn new(mapping: &Mapping) -> Self {
        Self {
            reading: Reading::empty(mapping.len()),
            seen: 0,
            whole: 0,
            inherited: 0,
            declared: 0,
            next: 0,
        }
    }

    /// As it is for each of the readings that share it.
    pub(crate) fn shared(self) -> Self {
        Self {
            inherited: self.seen,
            ..self
        }
    }

    /// Channels that have a value, a bit each.
    pub(crate) fn channels(&self) -> u32 {
        self.seen as u32
    }
}

impl<'m> Draft<'m> {
    pub(crate) fn new(mapping: &'m Mapping, memory: &'m mut Memory, now_us: i64) -> Self {
        memory.parts[0].len = 0;
        memory.parts[1].len = 0;
        Self {
            mapping,
            memory,
            now_us,
            state: State::new(mapping),
        }
    }

    /// Notes that `field` has come. False: what was found before stands. A second
    /// time is an error, because there is no telling which of the two is meant; but
    /// a field whose whole name is the path wins over what the path leads to.
    pub(crate) fn claim(&mut self, field: Field, is_whole: bool) -> Result<bool, Fault> {
        let Some(bit) = bit(field) else {
            return Ok(true);
        };
        let mask = 1 << bit;
        if self.state.seen & mask == 0 {
            self.state.seen |= mask;
            self.state.whole |= u64::from(is_whole) << bit;
            return Ok(true);
        }
        if self.state.inherited & mask != 0 {
            self.state.inherited &= !mask;
            return Ok(true);
        }
        let was_whole = self.state.whole & mask != 0;
        if is_whole != was_whole {
            self.state.whole |= mask;
            return Ok(is_whole);
        }
        Err(self.given_twice(field))
    }

    #[cold]
    fn given_twice(&self, field: Field) -> Fault {
        let name = match field {
            Field::Channel(channel) => {
                let name = Shown(self.mapping.name(channel));
                return Rejected::malformed(format_args!("{name} is given twice"));
            }
            Field::Unknown => "",
            Field::Sequence => "the sequence",
            Field::Timestamp => "the timestamp",
            Field::TimeOfDay => "the time of day",
            Field::Sensor => "the sensor",
            Field::Values => "the values",
            Field::Units => "the units",
            Field::Readings => "the array of readings",
        };
        Rejected::malformed(format_args!("{name} is given twice"))
    }

    /// Fills a channel that was claimed.
    #[inline]
    pub(crate) fn set_channel(&mut self, channel: usize, scalar: Scalar<'_>) -> Result<(), Fault> {
        let value = match scalar {
            Scalar::Float(value) => value,
            Scalar::Unsigned(value) => value as f64,
            Scalar::Signed(value) => value as f64,
            other => match self.odd_number(channel, other)? {
                Some(value) => value,
                None => return Ok(()),
            },
        };
        let value = match self.mapping.linear(channel) {
            None => value,
            Some(linear) => linear.apply(value),
        };
        let value = value as f32;
        if !value.is_finite() {
            return Err(self.not_finite(channel));
        }
        self.state.reading.values_mut()[channel] = value;
        Ok(())
    }

    /// The number that something else stands for; none if it stands for nothing, and
    /// a reading may lack it.
    #[cold]
    fn odd_number(&mut self, channel: usize, scalar: Scalar<'_>) -> Result<Option<f64>, Fault> {
        match scalar {
            Scalar::Null => self.nothing(channel),
            Scalar::True => Ok(Some(1.0)),
            Scalar::False => Ok(Some(0.0)),
            Scalar::Text(text) => self.number_of(channel, text),
            Scalar::Escaped(text) => self.number_of(channel, &json::unescape(text)?),
            other => Err(self.wrong_type(channel, other)),
        }
    }

    fn nothing(&mut self, channel: usize) -> Result<Option<f64>, Fault> {
        if self.mapping.is_partial {
            self.state.seen &= !(1 << channel);
            return Ok(None);
        }
        Err(self.missing(channel))
    }

    fn number_of(&mut self, channel: usize, text: &str) -> Result<Option<f64>, Fault> {
        let notes = &mut self.memory.notes;
        let has_comma = self.mapping.decimal_comma || notes.has_told(About::DecimalComma);
        match number::read(text, has_comma) {
            Number::Nothing => self.nothing(channel),
            Number::Plain(value) => Ok(Some(value)),
            Number::WithComma(value) => {
                notes.tell(About::DecimalComma, || {
                    format!(
                        "{text:?} is taken for a number with a decimal comma; say decimal_comma = true"
                    )
                });
                Ok(Some(value))
            }
            Number::Ambiguous => Err(Rejected::new(
                Rejection::WrongType {
                    channel: channel as u8,
                },
                format_args!(
                    "{}: {} may be thousands; if not, say decimal_comma = true",
                    Shown(self.mapping.name(channel)),
                    Shown(text)
                ),
            )),
            Number::InUnit(value, unit) => {
                self.declare_unit(channel, unit)?;
                Ok(Some(value))
            }
            Number::Text => Err(self.wrong_type(channel, Scalar::Text(text))),
        }
    }

    pub(crate) fn set_sequence(&mut self, scalar: Scalar<'_>) -> Result<(), Fault> {
        let scalar = match scalar {
            Scalar::Text(text) => match (number::trim(text).parse(), number::read(text, false)) {
                (Ok(value), _) => Scalar::Unsigned(value),
                (_, Number::Plain(value)) => Scalar::Float(value),
                (_, Number::Nothing) => Scalar::Null,
                _ => scalar,
            },
            scalar => scalar,
        };
        self.state.reading.sequence = match scalar {
            Scalar::Null => None,
            Scalar::Unsigned(value) => Some(value),
            Scalar::Float(value) if value.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&value) => {
                Some(value as u64)
            }
            Scalar::Signed(_) | Scalar::Float(_) => {
                return Err(Rejected::malformed(format_args!(
                    "the sequence is not a whole number from 0"
                )));
            }
            other => return Err(not_a_number("the sequence", other)),
        };
        Ok(())
    }

    /// Fills the timestamp; a number is counted in `unit`.
    pub(crate) fn set_timestamp(
        &mut self,
        scalar: Scalar<'_>,
        unit: TimestampUnit,
    ) -> Result<(), Fault> {
        if let Scalar::Escaped(text) = scalar {
            return self.set_timestamp(Scalar::Text(&json::unescape(text)?), unit);
        }
        let (rule, notes) = (&self.mapping.time, &mut self.memory.notes);
        let mut of_count = |count| rule.of_count(count, unit, self.now_us, notes);
        self.state.reading.timestamp_us = match scalar {
            Scalar::Null => return Ok(()),
            Scalar::Unsigned(value) => match i64::try_from(value) {
                Ok(value) => of_count(Count::Whole(value))?,
                Err(_) => of_count(Count::Float(value as f64))?,
            },
            Scalar::Signed(value) => of_count(Count::Whole(value))?,
            Scalar::Float(value) => of_count(Count::Float(value))?,
            Scalar::Text(text) if self.mapping.has_time_of_day() => {
                self.memory.parts[0].set(text);
                return Ok(());
            }
            Scalar::Text(text) if number::trim(text).is_empty() => return Ok(()),
            Scalar::Text(text) => rule.of_text(text, self.now_us, notes)?,
            other => return Err(not_a_number("the timestamp", other)),
        };
        Ok(())
    }

    /// Fills the time of day, which the date in another field goes with.
    pub(crate) fn set_time_of_day(&mut self, scalar: Scalar<'_>) -> Result<(), Fault> {
        match scalar {
            Scalar::Null => {}
            Scalar::Text(text) => self.memory.parts[1].set(text),
            other => return Err(unexpected("the time of day", "text", other)),
        }
        Ok(())
    }

    /// The time of both fields.
    #[cold]
    fn join_time(&mut self) -> Result<(), Fault> {
        let [date, time] = &self.memory.parts;
        if date.len == 0 || time.len == 0 {
            return Ok(());
        }
        let mut joined = [0; 2 * PART_MAX + 1];
        joined[..date.len].copy_from_slice(&date.bytes[..date.len]);
        joined[date.len] = b' ';
        let len = date.len + 1 + time.len;
        joined[date.len + 1..len].copy_from_slice(&time.bytes[..time.len]);
        let text = std::str::from_utf8(&joined[..len]).expect("whole characters were kept");
        let notes = &mut self.memory.notes;
        self.state.reading.timestamp_us = self.mapping.time.of_text(text, self.now_us, notes)?;
        Ok(())
    }

    /// Compares the unit that a payload declares with the schema's: one of the same
    /// kind is converted, which is told once.
    pub(crate) fn declare_unit(&mut self, channel: usize, declared: &str) -> Result<(), Fault> {
        let unit = self.mapping.unit(channel);
        if declared == unit {
            return Ok(());
        }
        if let Some(linear) = self.unit_of(channel, declared)? {
            self.memory.linear[channel] = linear;
            self.state.declared |= 1 << channel;
        }
        Ok(())
    }

    /// The units that a header has declared, once for all rows.
    pub(crate) fn declare(&mut self, channels: u32, linear: &[Linear; CHANNELS_MAX]) {
        self.memory.linear = *linear;
        self.state.declared = channels;
    }

    /// How a value of `channel` in the unit `declared` becomes one in the schema's;
    /// none if it is one.
    pub(crate) fn unit_of(
        &mut self,
        channel: usize,
        declared: &str,
    ) -> Result<Option<Linear>, Fault> {
        let right = self.mapping.unit(channel);
        // What the operator says of a channel holds, if it is of the same kind.
        let own = self.mapping.own_unit(channel);
        match relate(declared, own.unwrap_or(right)) {
            Relation::Same => Ok(None),
            Relation::Converts(_) if own.is_some() => Ok(None),
            Relation::Converts(linear) => {
                let name = self.mapping.name(channel);
                self.memory.notes.tell(About::Unit(channel), || {
                    format!("{name:?} comes in {declared:?} and is converted to {right:?}")
                });
                Ok(Some(linear))
            }
            Relation::Other => Err(self.wrong_unit(channel, declared)),
        }
    }

    #[cold]
    fn wrong_unit(&self, channel: usize, declared: &str) -> Fault {
        Rejected::new(
            Rejection::Unit {
                channel: channel as u8,
            },
            format_args!(
                "{} is in {}, the schema says {}",
                Shown(self.mapping.name(channel)),
                Shown(declared),
                Shown(self.mapping.unit(channel))
            ),
        )
    }

    /// An array of values has ended after `len` of them.
    pub(crate) fn check_len(&self, len: usize) -> Result<(), Fault> {
        match self.mapping.len() {
            expected if expected == len => Ok(()),
            expected => Err(Rejected::new(
                Rejection::ChannelCount,
                format_args!("expected {expected} values, found {len}"),
            )),
        }
    }

    /// Whether every channel has come; `lament` begins the explanation if not.
    pub(crate) fn check_all_claimed(&self, lament: &str) -> Result<(), Fault> {
        let absent = (!self.state.seen).trailing_zeros() as usize;
        if absent >= self.mapping.len() || (self.mapping.is_partial && self.state.channels() != 0) {
            return Ok(());
        }
        Err(self.absent(absent, lament))
    }

    #[cold]
    fn absent(&self, channel: usize, lament: &str) -> Fault {
        Rejected::new(
            Rejection::MissingChannel {
                channel: channel as u8,
            },
            format_args!("{lament} {}", Shown(self.mapping.name(channel))),
        )
    }

    /// Whether the time has come that the mapping names.
    pub(crate) fn check_named(&self, lament: &str) -> Result<(), Fault> {
        let is_absent = |field: &&Field| match bit(**field) {
            Some(bit) => self.state.seen & (1 << bit) == 0,
            None => false,
        };
        match self.mapping.needed().find(is_absent) {
            None => Ok(()),
            Some(field) => Err(Rejected::malformed(format_args!(
                "{lament} {}, which the mapping names",
                Shown(self.mapping.name_of(*field))
            ))),
        }
    }

    /// The reading, if every channel has come.
    #[inline]
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        self.check_all_claimed("the payload has no")?;
        if self.state.declared != 0 {
            self.convert()?;
        }
        if self.mapping.has_time_of_day() {
            self.join_time()?;
        }
        if !self.mapping.named.is_empty() {
            self.note_named();
        }
        Ok(())
    }

    /// A part of a reading, whatever it lacks.
    pub(crate) fn finish_part(&mut self) -> Result<(), Fault> {
        if self.state.declared != 0 {
            self.convert()?;
        }
        Ok(())
    }

    /// Tells of named fields that never come.
    fn note_named(&mut self) {
        for (which, field) in self.mapping.named.iter().enumerate() {
            let notes = &mut self.memory.notes;
            if bit(*field).is_some_and(|bit| self.state.seen >> bit & 1 == 1) {
                notes.note_present(which);
            } else if notes.note_absent(which) {
                let key = match field {
                    Field::Sequence => "sequence",
                    Field::Sensor => "sensor",
                    _ => "timestamp",
                };
                let name = self.mapping.name_of(*field);
                notes.tell(About::Absent(which), || {
                    format!("no reading has had {name:?}, which mapping.{key} names")
                });
            }
        }
    }

    #[cold]
    fn convert(&mut self) -> Result<(), Fault> {
        for channel in 0..self.mapping.len() {
            if self.state.declared >> channel & 1 == 1 && self.state.seen >> channel & 1 == 1 {
                let value = &mut self.state.reading.values_mut()[channel];
                *value = self.memory.linear[channel].apply(f64::from(*value)) as f32;
                if !value.is_finite() {
                    return Err(self.not_finite(channel));
                }
            }
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn not_finite(&self, channel: usize) -> Fault {
        Rejected::new(
            Rejection::NotFinite {
                channel: channel as u8,
            },
            format_args!(
                "{} is infinite or not a number",
                Shown(self.mapping.name(channel))
            ),
        )
    }

    #[cold]
    fn missing(&self, channel: usize) -> Fault {
        Rejected::new(
            Rejection::MissingChannel {
                channel: channel as u8,
            },
            format_args!("{} has no value", Shown(self.mapping.name(channel))),
        )
    }

    #[cold]
    fn wrong_type(&self, channel: usize, found: Scalar<'_>) -> Fault {
        let reason = Rejection::WrongType {
            channel: channel as u8,
        };
        let name = Shown(self.mapping.name(channel));
        match found {
            Scalar::Text(text) => Rejected::new(
                reason,
                format_args!("{name}: expected a number, found {}", Shown(text)),
            ),
            found => Rejected::new(
                reason,
                format_args!("{name}: expected a number, found {}", found.describe()),
            ),
        }
    }
}

impl Part {
    /// Keeps as much of `text` as fits; a time is shorter.
    fn set(&mut self, text: &str) {
        let text = number::trim(text);
        self.len = text.floor_char_boundary(PART_MAX);
        self.bytes[..self.len].copy_from_slice(&text.as_bytes()[..self.len]);
    }
}

/// The bit in [`State::seen`].
fn bit(field: Field) -> Option<usize> {
    Some(match field {
        Field::Channel(channel) => channel,
        Field::Sequence => FIELD_BITS,
        Field::Timestamp => FIELD_BITS + 1,
        Field::Sensor => FIELD_BITS + 2,
        Field::Values => FIELD_BITS + 3,
        Field::Units => FIELD_BITS + 4,
        Field::TimeOfDay => FIELD_BITS + 5,
        Field::Readings => FIELD_BITS + 6,
        Field::Unknown => return None,
    })
}

#[cold]
fn not_a_number(what: &str, found: Scalar<'_>) -> Fault {
    unexpected(what, "a number", found)
}

/// What was found where only `expected` can be.
#[cold]
pub(crate) fn unexpected(what: &str, expected: &str, found: Scalar<'_>) -> Fault {
    let found = found.describe();
    Rejected::malformed(format_args!("{what}: expected {expected}, found {found}"))
}
