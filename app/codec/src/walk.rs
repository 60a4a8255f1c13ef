//! The shapes of JSON and CBOR, walked in one way.
//!
//! A payload is one reading, an array of readings, or holds such an array below
//! a field. A reading is an object of fields, an object with `values`, or an
//! array of values in the schema's order. What a field means is found in the
//! mapping's tree of paths, a step for each step down; a value that no path
//! leads to is passed over.

use std::borrow::Cow;

use crate::{
    config::TimestampUnit,
    decoder::{Decoded, READINGS_MAX, Sink},
    draft::{Draft, Scalar, State, unexpected},
    json,
    mapping::{Field, Place},
    rejected::{Fault, Rejected},
};

/// How deep an ignored field may nest, the same in JSON and CBOR. It bounds
/// the stack: a hostile payload could be brackets only.
pub(crate) const NESTING_MAX: usize = 16;

/// The next value of a payload.
pub(crate) enum Value<'p, G> {
    Scalar(Scalar<'p>),
    /// An array, whose elements are next.
    Array(G),
    /// A map, whose fields are next.
    Map(G),
}

/// A payload, value by value. A clone is a place to come back to.
pub(crate) trait Tokens<'p>: Clone {
    /// What is known of an array or map that was begun.
    type Group;

    fn value(&mut self) -> Result<Value<'p, Self::Group>, Fault>;

    /// Whether the array has another element, which is next then.
    fn has_element(&mut self, group: &mut Self::Group) -> Result<bool, Fault>;

    /// The name of the map's next field, whose value is next then.
    fn name(&mut self, group: &mut Self::Group) -> Result<Option<Cow<'p, str>>, Fault>;

    /// Passes over the next value, which nests no deeper than [`NESTING_MAX`].
    fn skip(&mut self) -> Result<(), Fault>;

    /// The unit in which the next value says that it is a time.
    fn time_unit(&self) -> Option<TimestampUnit> {
        None
    }

    /// The fault with the place up to which the payload was read.
    fn at(&self, fault: Fault) -> Fault;
}

/// A payload on its way to readings, each of which goes to `sink`.
pub(crate) struct Walk<'m, 'p, 's, T> {
    draft: Draft<'m>,
    pub(crate) tokens: T,
    sensor: Option<Cow<'p, str>>,
    sink: Sink<'s>,
    /// Readings and rejections so far.
    pub(crate) count: usize,
    /// Where the array of readings begins that was found below a field.
    readings: Option<T>,
}

impl<'m, 'p, 's, T: Tokens<'p>> Walk<'m, 'p, 's, T> {
    pub(crate) fn new(draft: Draft<'m>, tokens: T, sink: Sink<'s>) -> Self {
        Self {
            draft,
            tokens,
            sensor: None,
            sink,
            count: 0,
            readings: None,
        }
    }

    /// Walks the next value of the payload. True: it is one reading, which
    /// [`Walk::give`] gives.
    pub(crate) fn message(&mut self) -> Result<bool, Fault> {
        if self.count > 0 {
            self.draft.state = State::new(self.draft.mapping);
            self.sensor = None;
            self.readings = None;
        }
        let start = self.tokens.clone();
        match self.tokens.value()? {
            Value::Map(group) => {
                self.fields(group, 0)?;
                self.finish_map()
            }
            Value::Array(mut group) if !self.draft.mapping.has_elements(0) => {
                if !self.tokens.has_element(&mut group)? {
                    self.draft.check_len(0)?;
                }
                let first = self.tokens.clone().value()?;
                self.tokens = start;
                if let Value::Scalar(_) = first {
                    self.values(None)?;
                    return Ok(true);
                }
                self.list()?;
                Ok(false)
            }
            Value::Array(group) => {
                self.elements(group, 0)?;
                self.finish_map()
            }
            Value::Scalar(found) => Err(unexpected("the payload", "an object or an array", found)),
        }
    }

    fn finish_map(&mut self) -> Result<bool, Fault> {
        if !self.draft.mapping.has_readings {
            return Ok(true);
        }
        let Some(readings) = self.readings.take() else {
            let name = self.draft.mapping.name_of(Field::Readings);
            let name = crate::rejected::Shown(name);
            return Err(Rejected::malformed(format_args!(
                "the payload has no {name}, which readings names"
            )));
        };
        let end = std::mem::replace(&mut self.tokens, readings);
        match self.tokens.clone().value()? {
            Value::Array(_) => self.list()?,
            Value::Map(_) => {
                self.draft.state = self.draft.state.shared();
                self.reading()?;
                self.give();
            }
            Value::Scalar(Scalar::Null) => {}
            Value::Scalar(found) => {
                return Err(unexpected("the array of readings", "an array", found));
            }
        }
        self.tokens = end;
        Ok(false)
    }

    /// Gives what was walked last to the sink.
    pub(crate) fn give(&mut self) {
        self.count += 1;
        match self.draft.finish() {
            Ok(()) => (self.sink)(Ok(Decoded {
                reading: &self.draft.state.reading,
                channels: self.draft.state.channels(),
                sensor: self.sensor.as_deref().map(Cow::Borrowed),
            })),
            Err(fault) => (self.sink)(Err(*fault)),
        }
    }

    pub(crate) fn reject(&mut self, rejected: Rejected) {
        self.count += 1;
        (self.sink)(Err(rejected));
    }

    /// An array of readings. One that is wrong does not cost the others.
    fn list(&mut self) -> Result<(), Fault> {
        let Value::Array(mut group) = self.tokens.value()? else {
            unreachable!("it was looked at");
        };
        let (outer, sensor) = (self.draft.state.shared(), self.sensor.clone());
        let mut place = 0;
        while self.tokens.has_element(&mut group)? {
            place += 1;
            if self.count >= READINGS_MAX {
                self.tokens.skip()?;
                self.reject(*Rejected::new(
                    hark_engine::Rejection::Oversize,
                    format_args!("more than {READINGS_MAX} readings in one message"),
                ));
                continue;
            }
            self.draft.state = outer;
            self.sensor.clone_from(&sensor);
            let start = self.tokens.clone();
            match self.reading() {
                Ok(()) => self.give(),
                Err(fault) => {
                    let fault = self.tokens.at(fault);
                    self.tokens = start;
                    self.tokens.skip()?;
                    self.reject(*fault.at(format_args!(" in reading {place}")));
                }
            }
        }
        Ok(())
    }

    /// One element of an array of readings.
    fn reading(&mut self) -> Result<(), Fault> {
        let start = self.tokens.clone();
        match self.tokens.value()? {
            Value::Map(group) => self.fields(group, 0),
            Value::Array(group) if self.draft.mapping.has_elements(0) => self.elements(group, 0),
            Value::Array(_) => {
                self.tokens = start;
                self.values(None)
            }
            Value::Scalar(found) => Err(unexpected("a reading", "an object or an array", found)),
        }
    }

    fn fields(&mut self, mut group: T::Group, place: Place) -> Result<(), Fault> {
        let mapping = self.draft.mapping;
        let mut next = if place == 0 { self.draft.state.next } else { 0 };
        while let Some(name) = self.tokens.name(&mut group)? {
            let child = mapping.child(place, &name, &mut next);
            self.value_of(child.field, child.is_whole, child.below)?;
        }
        Ok(())
    }

    fn elements(&mut self, mut group: T::Group, place: Place) -> Result<(), Fault> {
        let mapping = self.draft.mapping;
        let mut index = 0;
        while self.tokens.has_element(&mut group)? {
            let child = mapping.element(place, index);
            self.value_of(child.field, child.is_whole, child.below)?;
            index += 1;
        }
        Ok(())
    }

    /// The next value, which means `field`, or through which paths go on `below`.
    fn value_of(
        &mut self,
        field: Field,
        is_whole: bool,
        below: Option<Place>,
    ) -> Result<(), Fault> {
        match (field, below) {
            (Field::Unknown, None) => return self.tokens.skip(),
            (Field::Unknown, Some(below)) => return self.descend(below),
            _ => {}
        }
        if !self.draft.claim(field, is_whole)? {
            return self.tokens.skip();
        }
        match field {
            Field::Channel(channel) => {
                let scalar = self.scalar()?;
                self.draft.set_channel(channel, scalar)
            }
            Field::Sequence => {
                let scalar = self.scalar()?;
                self.draft.set_sequence(scalar)
            }
            Field::Timestamp => {
                let unit = self.tokens.time_unit();
                let scalar = self.scalar()?;
                let unit = unit.unwrap_or(self.draft.mapping.time.unit);
                self.draft.set_timestamp(scalar, unit)
            }
            Field::TimeOfDay => {
                let scalar = self.scalar()?;
                self.draft.set_time_of_day(scalar)
            }
            Field::Sensor => self.name_sensor(),
            Field::Values => self.values(below),
            Field::Units => self.units(),
            Field::Readings => {
                self.readings = Some(self.tokens.clone());
                self.tokens.skip()
            }
            Field::Unknown => unreachable!("returned above"),
        }
    }

    fn descend(&mut self, place: Place) -> Result<(), Fault> {
        match self.tokens.value()? {
            Value::Map(group) => self.fields(group, place),
            Value::Array(group) => self.elements(group, place),
            // What lies below it is missing then.
            Value::Scalar(_) => Ok(()),
        }
    }

    /// The next value, of which only the kind is told if it is an array or a map.
    fn scalar(&mut self) -> Result<Scalar<'p>, Fault> {
        Ok(match self.tokens.value()? {
            Value::Scalar(scalar) => scalar,
            Value::Array(_) => Scalar::Other("an array"),
            Value::Map(_) => Scalar::Other("an object"),
        })
    }

    fn name_sensor(&mut self) -> Result<(), Fault> {
        self.sensor = match self.scalar()? {
            Scalar::Null => None,
            Scalar::Text("") => None,
            Scalar::Text(name) => Some(Cow::Borrowed(name)),
            Scalar::Escaped(name) => Some(Cow::Owned(json::unescape(name)?)),
            // A node's number is as good as a name.
            Scalar::Unsigned(number) => Some(Cow::Owned(number.to_string())),
            found => return Err(unexpected("the sensor", "text", found)),
        };
        Ok(())
    }

    /// The array of values in the schema's order, or the object of them by name.
    fn values(&mut self, below: Option<Place>) -> Result<(), Fault> {
        match self.tokens.value()? {
            Value::Scalar(Scalar::Null) => Ok(()),
            Value::Scalar(found) => Err(unexpected("the values", "an object or an array", found)),
            Value::Array(mut group) => {
                let expected = self.draft.mapping.len();
                let mut len = 0;
                while self.tokens.has_element(&mut group)? {
                    if len < expected {
                        self.value_of(Field::Channel(len), false, None)?;
                    } else {
                        self.tokens.skip()?;
                    }
                    len += 1;
                }
                self.draft.check_len(len)
            }
            Value::Map(mut group) => {
                let mapping = self.draft.mapping;
                let (mut next, mut next_below) = (0, 0);
                while let Some(name) = self.tokens.name(&mut group)? {
                    let child = below.map(|place| mapping.child(place, &name, &mut next_below));
                    let child = child.map(|child| (child.field, child.below));
                    match child.filter(|child| *child != (Field::Unknown, None)) {
                        Some((field, below)) => self.value_of(field, false, below)?,
                        None => match mapping.channel(&name, next) {
                            Some(channel) => {
                                next = channel + 1;
                                self.value_of(Field::Channel(channel), false, None)?;
                            }
                            None => self.tokens.skip()?,
                        },
                    }
                }
                Ok(())
            }
        }
    }

    /// The object of field name to unit.
    fn units(&mut self) -> Result<(), Fault> {
        let mut group = match self.tokens.value()? {
            Value::Map(group) => group,
            Value::Scalar(Scalar::Null) => return Ok(()),
            Value::Scalar(found) => return Err(unexpected("the units", "an object", found)),
            Value::Array(_) => {
                return Err(unexpected(
                    "the units",
                    "an object",
                    Scalar::Other("an array"),
                ));
            }
        };
        let mut next = 0;
        while let Some(name) = self.tokens.name(&mut group)? {
            let Some(channel) = self.draft.mapping.channel(&name, next) else {
                self.tokens.skip()?;
                continue;
            };
            next = channel + 1;
            match self.scalar()? {
                Scalar::Null => {}
                Scalar::Text(unit) => self.draft.declare_unit(channel, unit)?,
                Scalar::Escaped(unit) => {
                    let unit = json::unescape(unit)?;
                    self.draft.declare_unit(channel, &unit)?;
                }
                found => return Err(unexpected("a unit", "text", found)),
            }
        }
        Ok(())
    }
}
