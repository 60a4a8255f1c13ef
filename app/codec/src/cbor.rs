//! CBOR, value by value.
//!
//! Numbers may be integers or floats of any width; maps and arrays may be
//! definite or indefinite. A tag is looked through; tags 0 and 1 (RFC 8949,
//! 3.4: a date as text, seconds since the epoch) mean what they say on a timestamp.

use std::borrow::Cow;

use minicbor::data::{IanaTag, Tag, Type};

use crate::{
    config::TimestampUnit,
    decoder::Sink,
    draft::{Draft, Scalar, unexpected},
    rejected::{Fault, Rejected},
    walk::{NESTING_MAX, Tokens, Value, Walk},
};

/// Decodes the one item of `payload`. Returns how many readings and rejections there
/// were.
pub(crate) fn decode(draft: Draft<'_>, payload: &[u8], sink: Sink<'_>) -> usize {
    let mut walk = Walk::new(draft, Cbor(minicbor::Decoder::new(payload)), sink);
    let result = walk.message().and_then(|is_reading| {
        let input = &walk.tokens.0;
        match input.input().len() - input.position() {
            0 => Ok(is_reading),
            rest => Err(Rejected::malformed(format_args!(
                "{rest} bytes follow the payload's end"
            ))),
        }
    });
    match result {
        Ok(true) => walk.give(),
        Ok(false) => {}
        Err(fault) => {
            let fault = walk.tokens.at(fault);
            walk.reject(*fault);
        }
    }
    walk.count
}

#[derive(Clone)]
pub(crate) struct Cbor<'p>(minicbor::Decoder<'p>);

impl<'p> Cbor<'p> {
    /// The kind of the next item, inside one tag if it has one.
    fn untagged(&mut self) -> Result<Type, Fault> {
        if self.datatype()? == Type::Tag {
            self.0.tag().map_err(malformed)?;
        }
        self.datatype()
    }

    fn datatype(&self) -> Result<Type, Fault> {
        self.0.datatype().map_err(malformed)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Fault> {
        let (len, per_item) = match self.untagged()? {
            Type::Array | Type::ArrayIndef => (self.0.array(), 1),
            Type::Map | Type::MapIndef => (self.0.map(), 2),
            Type::Tag => return Err(Rejected::malformed(format_args!("a tag in a tag"))),
            // minicbor would pass over it as if it were a value.
            Type::Break => {
                return Err(Rejected::malformed(format_args!(
                    "a break where a value belongs"
                )));
            }
            _ => return self.0.skip().map_err(malformed),
        };
        if depth == NESTING_MAX {
            return Err(Rejected::malformed(format_args!(
                "nested deeper than {NESTING_MAX}"
            )));
        }
        let mut items = Items::new(len.map_err(malformed)?);
        while items.has_next(&mut self.0)? {
            for _ in 0..per_item {
                self.skip_within(depth + 1)?;
            }
        }
        Ok(())
    }
}

impl<'p> Tokens<'p> for Cbor<'p> {
    type Group = Items;

    fn value(&mut self) -> Result<Value<'p, Items>, Fault> {
        let kind = self.untagged()?;
        let input = &mut self.0;
        let scalar = match kind {
            Type::Array | Type::ArrayIndef => {
                let len = input.array().map_err(malformed)?;
                return Ok(Value::Array(Items::new(len)));
            }
            Type::Map | Type::MapIndef => {
                let len = input.map().map_err(malformed)?;
                return Ok(Value::Map(Items::new(len)));
            }
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
            Type::Bool => input
                .bool()
                .map(|yes| if yes { Scalar::True } else { Scalar::False }),
            Type::StringIndef => Ok(Scalar::Other("text in parts")),
            Type::Tag => Ok(Scalar::Other("a tag in a tag")),
            _ => Ok(Scalar::Other("neither number nor text")),
        };
        scalar.map(Value::Scalar).map_err(malformed)
    }

    fn has_element(&mut self, items: &mut Items) -> Result<bool, Fault> {
        items.has_next(&mut self.0)
    }

    fn name(&mut self, items: &mut Items) -> Result<Option<Cow<'p, str>>, Fault> {
        if !items.has_next(&mut self.0)? {
            return Ok(None);
        }
        match self.value()? {
            Value::Scalar(Scalar::Text(name)) => Ok(Some(Cow::Borrowed(name))),
            Value::Scalar(found) => Err(unexpected("a name in a map", "text", found)),
            Value::Array(_) | Value::Map(_) => Err(unexpected(
                "a name in a map",
                "text",
                Scalar::Other("an array or a map"),
            )),
        }
    }

    fn skip(&mut self) -> Result<(), Fault> {
        self.skip_within(0)
    }

    fn time_unit(&self) -> Option<TimestampUnit> {
        let mut ahead = self.0.clone();
        let is_tagged = ahead
            .tag()
            .is_ok_and(|tag| tag == Tag::from(IanaTag::Timestamp));
        is_tagged.then_some(TimestampUnit::Seconds)
    }

    #[cold]
    fn at(&self, fault: Fault) -> Fault {
        match self.0.position() {
            0 => fault,
            position => fault.at(format_args!(" at byte {position}")),
        }
    }
}

/// What is left of an array or a map. A declared length is only counted down,
/// never reserved: it may be 2^64.
pub(crate) struct Items {
    left: Option<u64>,
}

impl Items {
    fn new(len: Option<u64>) -> Self {
        Self { left: len }
    }

    fn has_next(&mut self, input: &mut minicbor::Decoder<'_>) -> Result<bool, Fault> {
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
fn malformed(error: minicbor::decode::Error) -> Fault {
    if error.is_end_of_input() {
        return Rejected::malformed(format_args!("the payload ends too early"));
    }
    Rejected::malformed(format_args!("{error}"))
}
