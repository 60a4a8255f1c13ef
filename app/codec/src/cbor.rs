//! CBOR payloads, of the same three shapes as JSON.
//!
//! Numbers may be integers or floats of any width; maps and arrays may be
//! definite or indefinite. A tag is looked through; tags 0 and 1 (RFC 8949,
//! 3.4: a date as text, seconds since the epoch) mean what they say on a timestamp.

use std::borrow::Cow;

use minicbor::data::{IanaTag, Tag, Type};

use crate::{
    config::TimestampUnit,
    decoder::Decoded,
    draft::{Draft, Scalar, unexpected},
    json::NESTING_MAX,
    mapping::{Field, Mapping},
    rejected::Rejected,
};

pub(crate) fn decode<'p>(mapping: &Mapping, payload: &'p [u8]) -> Result<Decoded<'p>, Rejected> {
    let mut parse = Parse {
        draft: Draft::new(mapping),
        input: minicbor::Decoder::new(payload),
        sensor: None,
    };
    parse
        .whole()
        .map_err(|fault| match parse.input.position() {
            0 => fault,
            position => fault.at(format_args!(" at byte {position}")),
        })?;
    Ok(Decoded {
        reading: parse.draft.finish()?,
        sensor: parse.sensor,
    })
}

struct Parse<'m, 'p> {
    draft: Draft<'m>,
    input: minicbor::Decoder<'p>,
    sensor: Option<Cow<'p, str>>,
}

impl<'p> Parse<'_, 'p> {
    fn whole(&mut self) -> Result<(), Rejected> {
        match self.untagged()? {
            Type::Array | Type::ArrayIndef => self.array()?,
            Type::Map | Type::MapIndef => self.fields()?,
            _ => {
                let found = self.scalar()?;
                return Err(unexpected("the payload", "a map or an array", found));
            }
        }
        match self.input.input().len() - self.input.position() {
            0 => Ok(()),
            rest => Err(Rejected::malformed(format_args!(
                "{rest} bytes follow the payload's end"
            ))),
        }
    }

    fn fields(&mut self) -> Result<(), Rejected> {
        let len = self.input.map().map_err(malformed)?;
        let mut items = Items::new(len);
        while items.has_next(&mut self.input)? {
            let name = self.name()?;
            let field = self.draft.mapping.field(name, self.draft.next);
            self.draft.claim(field)?;
            match field {
                Field::Values => self.values()?,
                Field::Units => self.units()?,
                Field::Unknown => self.skip(0)?,
                Field::Channel(channel) => self.channel(channel)?,
                Field::Sequence => {
                    let scalar = self.scalar()?;
                    self.draft.set_sequence(scalar)?;
                }
                Field::Timestamp => self.timestamp()?,
                Field::Sensor => self.sensor()?,
            }
        }
        Ok(())
    }

    fn values(&mut self) -> Result<(), Rejected> {
        match self.untagged()? {
            Type::Array | Type::ArrayIndef => self.array(),
            Type::Map | Type::MapIndef => self.named(),
            _ => match self.scalar()? {
                Scalar::Null => Ok(()),
                found => Err(unexpected("the values", "a map or an array", found)),
            },
        }
    }

    fn array(&mut self) -> Result<(), Rejected> {
        let len = self.input.array().map_err(malformed)?;
        let mut items = Items::new(len);
        let mut count = 0;
        while items.has_next(&mut self.input)? {
            if count < self.draft.mapping.len() {
                self.draft.claim(Field::Channel(count))?;
                self.channel(count)?;
            } else {
                self.skip(0)?;
            }
            count += 1;
        }
        self.draft.check_len(count)
    }

    fn named(&mut self) -> Result<(), Rejected> {
        let len = self.input.map().map_err(malformed)?;
        let mut items = Items::new(len);
        while items.has_next(&mut self.input)? {
            let name = self.name()?;
            match self.draft.mapping.channel(name, self.draft.next) {
                Some(channel) => {
                    self.draft.claim(Field::Channel(channel))?;
                    self.channel(channel)?;
                }
                None => self.skip(0)?,
            }
        }
        Ok(())
    }

    fn units(&mut self) -> Result<(), Rejected> {
        if !matches!(self.untagged()?, Type::Map | Type::MapIndef) {
            return match self.scalar()? {
                Scalar::Null => Ok(()),
                found => Err(unexpected("the units", "a map", found)),
            };
        }
        let len = self.input.map().map_err(malformed)?;
        let mut items = Items::new(len);
        while items.has_next(&mut self.input)? {
            let name = self.name()?;
            match self.draft.mapping.channel(name, self.draft.next) {
                Some(channel) => self.unit(channel)?,
                None => self.skip(0)?,
            }
        }
        Ok(())
    }

    fn unit(&mut self, channel: usize) -> Result<(), Rejected> {
        match self.scalar()? {
            Scalar::Null => Ok(()),
            Scalar::Text(unit) => self.draft.check_unit(channel, unit),
            found => Err(unexpected("a unit", "text", found)),
        }
    }

    fn channel(&mut self, channel: usize) -> Result<(), Rejected> {
        let scalar = self.scalar()?;
        self.draft.set_channel(channel, scalar)
    }

    fn sensor(&mut self) -> Result<(), Rejected> {
        match self.scalar()? {
            Scalar::Null => Ok(()),
            Scalar::Text(name) => {
                self.sensor = Some(Cow::Borrowed(name));
                Ok(())
            }
            found => Err(unexpected("the sensor", "text", found)),
        }
    }

    fn timestamp(&mut self) -> Result<(), Rejected> {
        let unit = match self.input.probe().tag() {
            Ok(tag) if tag == Tag::from(IanaTag::Timestamp) => TimestampUnit::Seconds,
            _ => self.draft.mapping.timestamp_unit,
        };
        let scalar = self.scalar()?;
        self.draft.set_timestamp(scalar, unit)
    }

    /// The name of a map's next field.
    fn name(&mut self) -> Result<&'p str, Rejected> {
        match self.scalar()? {
            Scalar::Text(name) => Ok(name),
            found => Err(unexpected("a name in a map", "text", found)),
        }
    }

    /// A value that is no array and no map; of those, only the kind is read.
    fn scalar(&mut self) -> Result<Scalar<'p>, Rejected> {
        let kind = self.untagged()?;
        let input = &mut self.input;
        let scalar = match kind {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => input.u64().map(Scalar::Unsigned),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => input.i64().map(Scalar::Signed),
            // Below i64: only CBOR can write it, and only a float can hold it.
            Type::Int => input
                .int()
                .map(|value| Scalar::Float(i128::from(value) as f64)),
            Type::F16 | Type::F32 | Type::F64 => input.f64().map(Scalar::Float),
            Type::String => input.str().map(Scalar::Text),
            Type::Null => input.null().map(|()| Scalar::Null),
            Type::Undefined => input.undefined().map(|()| Scalar::Null),
            Type::Bool => Ok(Scalar::Other("a boolean")),
            Type::Array | Type::ArrayIndef => Ok(Scalar::Other("an array")),
            Type::Map | Type::MapIndef => Ok(Scalar::Other("a map")),
            Type::StringIndef => Ok(Scalar::Other("text in parts")),
            Type::Tag => Ok(Scalar::Other("a tag in a tag")),
            _ => Ok(Scalar::Other("neither number nor text")),
        };
        scalar.map_err(malformed)
    }

    /// The kind of the next item, inside one tag if it has one.
    fn untagged(&mut self) -> Result<Type, Rejected> {
        if self.datatype()? == Type::Tag {
            self.input.tag().map_err(malformed)?;
        }
        self.datatype()
    }

    fn datatype(&self) -> Result<Type, Rejected> {
        self.input.datatype().map_err(malformed)
    }

    /// Passes over an item of any shape up to [`NESTING_MAX`].
    fn skip(&mut self, depth: usize) -> Result<(), Rejected> {
        let (len, per_item) = match self.untagged()? {
            Type::Array | Type::ArrayIndef => (self.input.array(), 1),
            Type::Map | Type::MapIndef => (self.input.map(), 2),
            Type::Tag => return Err(Rejected::malformed(format_args!("a tag in a tag"))),
            // minicbor would pass over it as if it were a value.
            Type::Break => {
                return Err(Rejected::malformed(format_args!(
                    "a break where a value belongs"
                )));
            }
            _ => return self.input.skip().map_err(malformed),
        };
        if depth == NESTING_MAX {
            return Err(Rejected::malformed(format_args!(
                "nested deeper than {NESTING_MAX}"
            )));
        }
        let mut items = Items::new(len.map_err(malformed)?);
        while items.has_next(&mut self.input)? {
            for _ in 0..per_item {
                self.skip(depth + 1)?;
            }
        }
        Ok(())
    }
}

/// What is left of an array or a map. A declared length is only counted down,
/// never reserved: it may be 2^64.
struct Items {
    left: Option<u64>,
}

impl Items {
    fn new(len: Option<u64>) -> Self {
        Self { left: len }
    }

    fn has_next(&mut self, input: &mut minicbor::Decoder<'_>) -> Result<bool, Rejected> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if input.datatype().map_err(malformed)? == Type::Break => {
                input.set_position(input.position() + 1);
                Ok(false)
            }
            None => Ok(true),
        }
    }
}

#[cold]
fn malformed(error: minicbor::decode::Error) -> Rejected {
    if error.is_end_of_input() {
        return Rejected::malformed(format_args!("the payload ends too early"));
    }
    Rejected::malformed(format_args!("{error}"))
}
