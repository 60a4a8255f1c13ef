//! The properties of MQTT 5 (5.0, 2.2.2).

use crate::fields::{Fields, Wrong};

pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
pub(crate) const CONTENT_TYPE: u8 = 0x03;
pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
pub(crate) const CORRELATION: u8 = 0x09;
pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
pub(crate) const SESSION_EXPIRY: u8 = 0x11;
pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
pub(crate) const REQUEST_PROBLEM: u8 = 0x17;
pub(crate) const WILL_DELAY: u8 = 0x18;
pub(crate) const REQUEST_RESPONSE: u8 = 0x19;
pub(crate) const REASON: u8 = 0x1F;
pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(crate) const TOPIC_ALIAS: u8 = 0x23;
pub(crate) const USER_PROPERTY: u8 = 0x26;
pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
pub(crate) const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;

/// What a property may say, as far as the broker has a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Other,
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Property<'a> {
    pub(crate) name: u8,
    pub(crate) value: Value<'a>,
    /// As it was sent, with its name.
    pub(crate) bytes: &'a [u8],
}

/// The properties at the front of `fields`, each handed to `take`; those that
/// are not `allowed` there, and those that come twice, are refused.
pub(crate) fn read<'a>(
    fields: &mut Fields<'a>,
    allowed: &[u8],
    mut take: impl FnMut(Property<'a>) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let len = fields.variable()?;
    let bytes = fields.take(len)?;
    let mut left = Fields::new(bytes);
    let mut seen = 0_u64;
    while !left.is_empty() {
        let before = left;
        let name = left.u8()?;
        if !allowed.contains(&name) {
            return Err(Wrong::protocol("it has a property that it may not have"));
        }
        let bit = 1_u64 << (name & 63);
        if seen & bit > 0 && name != USER_PROPERTY {
            return Err(Wrong::protocol("it has a property twice"));
        }
        seen |= bit;
        let value = value(name, &mut left)?;
        let bytes = before.before(&left);
        take(Property { name, value, bytes })?;
    }
    Ok(())
}

/// The value of a property that is known (5.0, 2.2.2.2).
fn value<'a>(name: u8, fields: &mut Fields<'a>) -> Result<Value<'a>, Wrong> {
    Ok(match name {
        PAYLOAD_FORMAT | REQUEST_PROBLEM | REQUEST_RESPONSE => match fields.u8()? {
            bit @ 0..=1 => Value::Number(u32::from(bit)),
            _ => return Err(Wrong::protocol("a property of one bit is neither 0 nor 1")),
        },
        RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => {
            Value::Number(u32::from(fields.u16()?))
        }
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => {
            Value::Number(fields.u32()?)
        }
        SUBSCRIPTION_ID => {
            fields.variable()?;
            Value::Other
        }
        CORRELATION | AUTHENTICATION_DATA => {
            fields.binary()?;
            Value::Other
        }
        USER_PROPERTY => {
            fields.text()?;
            fields.text()?;
            Value::Other
        }
        _ => Value::Text(fields.text()?),
    })
}
