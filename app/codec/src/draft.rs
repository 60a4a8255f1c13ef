//! A reading while its payload is being read: the rules that all formats share.
//!
//! A format turns its tokens into [`Scalar`]s and says which [`Field`] they
//! belong to; the draft decides what is right there. The first thing found
//! wrong, in the order of the payload, is the reason that is reported.

use hark_engine::{CHANNELS_MAX, Reading, Rejection};

use crate::{
    config::TimestampUnit,
    mapping::{Field, Mapping},
    rejected::{Rejected, Shown},
    timestamp,
};

/// One value of a payload, whatever its format.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'p> {
    Null,
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'p str),
    /// Anything else, by its name in an explanation.
    Other(&'static str),
}

impl Scalar<'_> {
    fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Unsigned(_) | Self::Signed(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::Other(name) => name,
        }
    }
}

/// The first of the bits in `seen` that are not channels.
const FIELD_BITS: usize = 32;
const _: () = assert!(CHANNELS_MAX <= FIELD_BITS);

/// The greatest whole number up to which every one is exact in f64, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

pub(crate) struct Draft<'m> {
    pub(crate) mapping: &'m Mapping,
    reading: Reading,
    /// One bit for each channel and field that the payload has given.
    seen: u64,
    /// The channel that most likely comes next.
    pub(crate) next: usize,
}

impl<'m> Draft<'m> {
    pub(crate) fn new(mapping: &'m Mapping) -> Self {
        Self {
            mapping,
            reading: Reading::empty(mapping.len()),
            seen: 0,
            next: 0,
        }
    }

    /// Notes that `field` has come; a second time is an error, because there
    /// is no telling which of the two is meant.
    pub(crate) fn claim(&mut self, field: Field) -> Result<(), Rejected> {
        let Some(bit) = bit(field) else {
            return Ok(());
        };
        let name = match field {
            Field::Channel(_) | Field::Unknown => "",
            Field::Sequence => "the sequence",
            Field::Timestamp => "the timestamp",
            Field::Sensor => "the sensor",
            Field::Values => "the values",
            Field::Units => "the units",
        };
        let is_new = self.seen & (1 << bit) == 0;
        self.seen |= 1 << bit;
        match field {
            _ if is_new => Ok(()),
            Field::Channel(channel) => Err(Rejected::malformed(format_args!(
                "{} is given twice",
                Shown(self.mapping.name(channel))
            ))),
            _ => Err(Rejected::malformed(format_args!("{name} is given twice"))),
        }
    }

    /// Fills a channel that was claimed.
    pub(crate) fn set_channel(
        &mut self,
        channel: usize,
        scalar: Scalar<'_>,
    ) -> Result<(), Rejected> {
        self.next = channel + 1;
        let value = match scalar {
            Scalar::Float(value) => value as f32,
            Scalar::Unsigned(value) => value as f32,
            Scalar::Signed(value) => value as f32,
            Scalar::Null => return Err(self.missing(channel)),
            other => return Err(self.wrong_type(channel, other)),
        };
        if !value.is_finite() {
            return Err(self.not_finite(channel));
        }
        self.reading.values_mut()[channel] = value;
        Ok(())
    }

    pub(crate) fn set_sequence(&mut self, scalar: Scalar<'_>) -> Result<(), Rejected> {
        self.reading.sequence = match scalar {
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
    ) -> Result<(), Rejected> {
        let micros = match scalar {
            Scalar::Null => return Ok(()),
            Scalar::Unsigned(value) => i64::try_from(value)
                .ok()
                .and_then(|value| timestamp::from_integer(value, unit)),
            Scalar::Signed(value) => timestamp::from_integer(value, unit),
            Scalar::Float(value) => timestamp::from_float(value, unit),
            Scalar::Text(text) => return self.set_date(text),
            other => return Err(not_a_number("the timestamp", other)),
        };
        self.reading.timestamp_us =
            Some(micros.ok_or_else(|| {
                Rejected::malformed(format_args!("the timestamp is out of range"))
            })?);
        Ok(())
    }

    fn set_date(&mut self, text: &str) -> Result<(), Rejected> {
        let micros = timestamp::from_text(text).ok_or_else(|| {
            Rejected::malformed(format_args!("the timestamp {} is no date", Shown(text)))
        })?;
        self.reading.timestamp_us = Some(micros);
        Ok(())
    }

    /// Compares the unit that a payload declares with the schema's.
    pub(crate) fn check_unit(&self, channel: usize, declared: &str) -> Result<(), Rejected> {
        let unit = self.mapping.unit(channel);
        if declared == unit {
            return Ok(());
        }
        Err(Rejected::new(
            Rejection::Unit {
                channel: channel as u8,
            },
            format_args!(
                "{} is in {}, the schema says {}",
                Shown(self.mapping.name(channel)),
                Shown(declared),
                Shown(unit)
            ),
        ))
    }

    /// An array of values has ended after `len` of them.
    pub(crate) fn check_len(&self, len: usize) -> Result<(), Rejected> {
        match self.mapping.len() {
            expected if expected == len => Ok(()),
            expected => Err(Rejected::new(
                Rejection::ChannelCount,
                format_args!("expected {expected} values, found {len}"),
            )),
        }
    }

    /// Whether every channel has come; `lament` begins the explanation if not.
    pub(crate) fn check_all_claimed(&self, lament: &str) -> Result<(), Rejected> {
        let absent = (!self.seen).trailing_zeros() as usize;
        if absent >= self.mapping.len() {
            return Ok(());
        }
        Err(Rejected::new(
            Rejection::MissingChannel {
                channel: absent as u8,
            },
            format_args!("{lament} {}", Shown(self.mapping.name(absent))),
        ))
    }

    /// Whether every other field has come that the mapping names.
    pub(crate) fn check_named(&self, lament: &str) -> Result<(), Rejected> {
        let is_absent = |field: &&Field| match bit(**field) {
            Some(bit) => self.seen & (1 << bit) == 0,
            None => false,
        };
        match self.mapping.named.iter().find(is_absent) {
            None => Ok(()),
            Some(field) => Err(Rejected::malformed(format_args!(
                "{lament} {}, which the mapping names",
                Shown(self.mapping.name_of(*field))
            ))),
        }
    }

    /// The reading, if every channel has come.
    pub(crate) fn finish(self) -> Result<Reading, Rejected> {
        self.check_all_claimed("the payload has no")?;
        debug_assert!(self.reading.values().iter().all(|value| value.is_finite()));
        Ok(self.reading)
    }

    #[cold]
    pub(crate) fn not_finite(&self, channel: usize) -> Rejected {
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
    fn missing(&self, channel: usize) -> Rejected {
        Rejected::new(
            Rejection::MissingChannel {
                channel: channel as u8,
            },
            format_args!("{} has no value", Shown(self.mapping.name(channel))),
        )
    }

    #[cold]
    fn wrong_type(&self, channel: usize, found: Scalar<'_>) -> Rejected {
        Rejected::new(
            Rejection::WrongType {
                channel: channel as u8,
            },
            format_args!(
                "{}: expected a number, found {}",
                Shown(self.mapping.name(channel)),
                found.describe()
            ),
        )
    }
}

/// The bit in [`Draft::seen`].
fn bit(field: Field) -> Option<usize> {
    Some(match field {
        Field::Channel(channel) => channel,
        Field::Sequence => FIELD_BITS,
        Field::Timestamp => FIELD_BITS + 1,
        Field::Sensor => FIELD_BITS + 2,
        Field::Values => FIELD_BITS + 3,
        Field::Units => FIELD_BITS + 4,
        Field::Unknown => return None,
    })
}

#[cold]
fn not_a_number(what: &str, found: Scalar<'_>) -> Rejected {
    Rejected::malformed(format_args!(
        "{what}: expected a number, found {}",
        found.describe()
    ))
}

/// What was found where only `expected` can be.
#[cold]
pub(crate) fn unexpected(what: &str, expected: &str, found: Scalar<'_>) -> Rejected {
    Rejected::malformed(format_args!(
        "{what}: expected {expected}, found {}",
        found.describe()
    ))
}
