//! JSON payloads: an object of fields, an object with `values`, or an array.
//!
//! The parser's events go straight into the draft, without a tree between. A
//! visitor that finds something wrong leaves the reason in [`Parse`] and fails
//! the parse, whose error then tells the place.

mod skip;

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{
    decoder::Decoded,
    draft::{Draft, Scalar, unexpected},
    mapping::{Field, Mapping},
    rejected::Rejected,
};

pub(crate) use skip::NESTING_MAX;
use skip::Skip;

pub(crate) fn decode<'p>(mapping: &Mapping, payload: &'p str) -> Result<Decoded<'p>, Rejected> {
    let mut parse = Parse {
        draft: Draft::new(mapping),
        sensor: None,
        channel: None,
        fault: None,
    };
    let mut parser = serde_json::Deserializer::from_str(payload);
    let parsed = Whole(&mut parse).deserialize(&mut parser);
    match parsed.and_then(|()| parser.end()) {
        Ok(()) => Ok(Decoded {
            reading: parse.draft.finish()?,
            sensor: parse.sensor,
        }),
        Err(error) => Err(parse.explain(&error)),
    }
}

/// What the visitors share.
struct Parse<'m, 'p> {
    draft: Draft<'m>,
    sensor: Option<Cow<'p, str>>,
    /// The channel whose value is being parsed.
    channel: Option<usize>,
    /// Why a visitor has stopped the parse.
    fault: Option<Rejected>,
}

impl Parse<'_, '_> {
    /// Leaves the fault where [`Parse::explain`] finds it.
    fn or_stop<T, E: Error>(&mut self, result: Result<T, Rejected>) -> Result<T, E> {
        result.map_err(|fault| {
            self.fault = Some(fault);
            E::custom("stopped")
        })
    }

    #[cold]
    fn explain(&self, error: &serde_json::Error) -> Rejected {
        let Some(fault) = self.fault else {
            return self.explain_syntax(error);
        };
        match (error.line(), error.column()) {
            // Found after the parser had left the place.
            (0, _) => fault,
            (1, column) => fault.at(format_args!(" at column {column}")),
            (line, column) => fault.at(format_args!(" at line {line} column {column}")),
        }
    }

    fn explain_syntax(&self, error: &serde_json::Error) -> Rejected {
        let text = error.to_string();
        match self.channel {
            // serde_json has no other way to tell this error from the rest,
            // and 1e999 is as infinite as 1e300 is for f32.
            Some(channel) if text.starts_with("number out of range") => {
                let column = error.column();
                self.draft
                    .not_finite(channel)
                    .at(format_args!(" at column {column}"))
            }
            _ => Rejected::malformed(format_args!("{text}")),
        }
    }
}

/// The whole payload.
struct Whole<'s, 'm, 'p>(&'s mut Parse<'m, 'p>);

impl<'p> DeserializeSeed<'p> for Whole<'_, '_, 'p> {
    type Value = ();

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'p> for Whole<'_, '_, 'p> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'p>>(self, seq: A) -> Result<(), A::Error> {
        Values(self.0).visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<(), A::Error> {
        let parse = self.0;
        while let Some(field) = map.next_key_seed(Key(&parse.draft))? {
            let claimed = parse.draft.claim(field);
            parse.or_stop(claimed)?;
            match field {
                Field::Values => map.next_value_seed(Values(parse))?,
                Field::Units => map.next_value_seed(Units(parse))?,
                Field::Unknown => map.next_value_seed(Skip::default())?,
                field => map.next_value_seed(Single { parse, field })?,
            }
        }
        Ok(())
    }
}

/// The name of a field.
struct Key<'s, 'm>(&'s Draft<'m>);

impl<'p> DeserializeSeed<'p> for Key<'_, '_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
        Ok(self.0.mapping.field(name, self.0.next))
    }
}

/// The array of values in the schema's order, or the object of them by name.
struct Values<'s, 'm, 'p>(&'s mut Parse<'m, 'p>);

impl<'p> DeserializeSeed<'p> for Values<'_, '_, 'p> {
    type Value = ();

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'p> for Values<'_, '_, 'p> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object of numbers")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'p>>(self, mut seq: A) -> Result<(), A::Error> {
        let parse = self.0;
        let expected = parse.draft.mapping.len();
        for channel in 0..expected {
            let claimed = parse.draft.claim(Field::Channel(channel));
            parse.or_stop(claimed)?;
            let single = Single {
                parse: &mut *parse,
                field: Field::Channel(channel),
            };
            if seq.next_element_seed(single)?.is_none() {
                let counted = parse.draft.check_len(channel);
                return parse.or_stop(counted);
            }
        }
        let mut len = expected;
        while seq.next_element_seed(Skip::default())?.is_some() {
            len += 1;
        }
        let counted = parse.draft.check_len(len);
        parse.or_stop(counted)
    }

    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<(), A::Error> {
        let parse = self.0;
        while let Some(field) = map.next_key_seed(Key(&parse.draft))? {
            let Field::Channel(_) = field else {
                map.next_value_seed(Skip::default())?;
                continue;
            };
            let claimed = parse.draft.claim(field);
            parse.or_stop(claimed)?;
            map.next_value_seed(Single { parse, field })?;
        }
        Ok(())
    }
}

/// One value that is no array and no object.
struct Single<'s, 'm, 'p> {
    parse: &'s mut Parse<'m, 'p>,
    field: Field,
}

impl<'p> Single<'_, '_, 'p> {
    fn put<E: Error>(self, scalar: Scalar<'_>) -> Result<(), E> {
        let draft = &mut self.parse.draft;
        let put = match self.field {
            Field::Channel(channel) => draft.set_channel(channel, scalar),
            Field::Sequence => draft.set_sequence(scalar),
            Field::Timestamp => {
                let unit = draft.mapping.timestamp_unit;
                draft.set_timestamp(scalar, unit)
            }
            _ if matches!(scalar, Scalar::Null) => Ok(()),
            _ => Err(unexpected("the sensor", "text", scalar)),
        };
        self.parse.or_stop(put)
    }

    /// Takes the text if it is the sensor's name; gives it back otherwise.
    fn take_sensor(&mut self, text: Cow<'p, str>) -> Option<Cow<'p, str>> {
        if self.field != Field::Sensor {
            return Some(text);
        }
        self.parse.sensor = Some(text);
        None
    }
}

impl<'p> DeserializeSeed<'p> for Single<'_, '_, 'p> {
    type Value = ();

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        self.parse.channel = match self.field {
            Field::Channel(channel) => Some(channel),
            _ => None,
        };
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'p> for Single<'_, '_, 'p> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(Scalar::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(Scalar::Signed(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(Scalar::Float(value))
    }

    fn visit_borrowed_str<E: Error>(mut self, text: &'p str) -> Result<(), E> {
        match self.take_sensor(Cow::Borrowed(text)) {
            None => Ok(()),
            Some(text) => self.put(Scalar::Text(&text)),
        }
    }

    /// A text with escapes, which is not the payload's own.
    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        if self.field == Field::Sensor {
            self.take_sensor(Cow::Owned(text.to_owned()));
            return Ok(());
        }
        self.put(Scalar::Text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(Scalar::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.put(Scalar::Other("a boolean"))
    }

    fn visit_seq<A: SeqAccess<'p>>(self, _: A) -> Result<(), A::Error> {
        self.put(Scalar::Other("an array"))
    }

    fn visit_map<A: MapAccess<'p>>(self, _: A) -> Result<(), A::Error> {
        self.put(Scalar::Other("an object"))
    }
}

/// The object of field name to unit.
struct Units<'s, 'm, 'p>(&'s mut Parse<'m, 'p>);

impl<'p> DeserializeSeed<'p> for Units<'_, '_, 'p> {
    type Value = ();

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.channel = None;
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'p> for Units<'_, '_, 'p> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of units")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<(), A::Error> {
        let parse = self.0;
        while let Some(field) = map.next_key_seed(Key(&parse.draft))? {
            match field {
                Field::Channel(channel) => map.next_value_seed(Unit { parse, channel })?,
                _ => map.next_value_seed(Skip::default())?,
            }
        }
        Ok(())
    }
}

/// The declared unit of one channel.
struct Unit<'s, 'm, 'p> {
    parse: &'s mut Parse<'m, 'p>,
    channel: usize,
}

impl<'p> DeserializeSeed<'p> for Unit<'_, '_, 'p> {
    type Value = ();

    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Unit<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a unit")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, unit: &str) -> Result<(), E> {
        let checked = self.parse.draft.check_unit(self.channel, unit);
        self.parse.or_stop(checked)
    }
}
