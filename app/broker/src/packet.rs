//! Packets from a client, read and checked as a whole.
//!
//! Nothing is copied and nothing allocated: what is read points into the bytes
//! that came, which are bounded before they come here.

mod connect;

pub(crate) use connect::{Connect, NotConnect};

use crate::fields::{Fields, Header, Wrong};
use crate::properties::{self, Value};
use crate::topic;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// How often a message is delivered: at most once, at least once, exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    Zero,
    One,
    Two,
}

impl Quality {
    fn of(bits: u8) -> Result<Self, Wrong> {
        match bits {
            0 => Ok(Self::Zero),
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(Wrong::malformed("its quality of service is 3")),
        }
    }
}

/// What a client may send once it is connected.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    Publish(Publish<'a>),
    /// The answer to a message at QoS 1.
    PubAck(u16),
    /// The end of a message at QoS 2.
    PubRel(u16),
    Subscribe {
        id: u16,
        filters: Fields<'a>,
    },
    Unsubscribe {
        id: u16,
        filters: Fields<'a>,
    },
    Ping,
    /// It goes, and leaves its will behind or not.
    Disconnect {
        keeps_will: bool,
    },
}

/// A message, as it came or as a will says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) quality: Quality,
    pub(crate) is_retained: bool,
    /// Zero at [`Quality::Zero`].
    pub(crate) id: u16,
    pub(crate) topic: &'a str,
    pub(crate) properties: Forwarded<'a>,
    pub(crate) payload: &'a [u8],
}

/// The properties that go on with a message (5.0, 3.3.2.3).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Forwarded<'a> {
    /// The block of all of them, of which those that are forwarded are written.
    block: Option<Fields<'a>>,
    /// How many bytes those take.
    pub(crate) len: usize,
    /// Seconds until the message is worth nothing.
    pub(crate) expiry_s: Option<u32>,
}

const MESSAGE_PROPERTIES: [u8; 7] = [
    properties::PAYLOAD_FORMAT,
    properties::MESSAGE_EXPIRY,
    properties::CONTENT_TYPE,
    properties::RESPONSE_TOPIC,
    properties::CORRELATION,
    properties::TOPIC_ALIAS,
    properties::USER_PROPERTY,
];

const WILL_PROPERTIES: [u8; 7] = [
    properties::WILL_DELAY,
    properties::PAYLOAD_FORMAT,
    properties::MESSAGE_EXPIRY,
    properties::CONTENT_TYPE,
    properties::RESPONSE_TOPIC,
    properties::CORRELATION,
    properties::USER_PROPERTY,
];

const TOPIC_ALIAS_INVALID: u8 = 0x94;

impl<'a> Forwarded<'a> {
    fn read(fields: &mut Fields<'a>, allowed: &[u8]) -> Result<Self, Wrong> {
        let block = *fields;
        let mut forwarded = Self {
            block: Some(block),
            ..Self::default()
        };
        properties::read(fields, allowed, |property| {
            match (property.name, property.value) {
                (properties::TOPIC_ALIAS, _) => {
                    return Err(Wrong {
                        code: TOPIC_ALIAS_INVALID,
                        what: "it has a topic alias, and none was offered",
                    });
                }
                (properties::MESSAGE_EXPIRY, Value::Number(seconds)) => {
                    forwarded.expiry_s = Some(seconds);
                }
                // The session ends with the connection, and the will with it.
                (properties::WILL_DELAY, _) => {}
                (properties::RESPONSE_TOPIC, Value::Text(name)) => {
                    topic::check_name(name)?;
                    forwarded.len += property.bytes.len();
                }
                _ => forwarded.len += property.bytes.len(),
            }
            Ok(())
        })?;
        Ok(forwarded)
    }

    /// Appends those that are forwarded, without their length.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let Some(mut block) = self.block else {
            return;
        };
        let own = [properties::MESSAGE_EXPIRY, properties::WILL_DELAY];
        let known = [MESSAGE_PROPERTIES, WILL_PROPERTIES].concat();
        // They were read before, without an error.
        let read = properties::read(&mut block, &known, |property| {
            if !own.contains(&property.name) {
                to.extend(property.bytes);
            }
            Ok(())
        });
        debug_assert!(read.is_ok());
    }
}

const CONNECT: u8 = 1;
pub(crate) const PUBLISH: u8 = 3;

impl<'a> Packet<'a> {
    /// Reads the packet of `header` whose bytes after the header are `body`.
    pub(crate) fn parse(version: Version, header: Header, body: &'a [u8]) -> Result<Self, Wrong> {
        let is_v5 = version == Version::V5;
        let mut fields = Fields::new(body);
        let flags = match header.kind {
            PUBLISH => header.flags,
            6 | 8 | 10 => 2,
            _ => 0,
        };
        if flags != header.flags {
            return Err(Wrong::malformed("its flags are not as they must be"));
        }
        match header.kind {
            CONNECT => Err(Wrong::protocol("it is a second CONNECT")),
            PUBLISH => publish(is_v5, header.flags, &mut fields).map(Self::Publish),
            4 => acknowledged(is_v5, &mut fields).map(Self::PubAck),
            5 | 7 => Err(Wrong::protocol("it answers what was never sent")),
            6 => acknowledged(is_v5, &mut fields).map(Self::PubRel),
            8 => {
                let (id, filters) = subscribe(is_v5, &mut fields)?;
                Ok(Self::Subscribe { id, filters })
            }
            10 => {
                let (id, filters) = unsubscribe(is_v5, &mut fields)?;
                Ok(Self::Unsubscribe { id, filters })
            }
            12 => fields.nothing_left().map(|()| Self::Ping),
            14 => disconnect(is_v5, &mut fields),
            15 if is_v5 => Err(Wrong::protocol("no authentication was agreed on")),
            _ => Err(Wrong::protocol("a client does not send it")),
        }
    }
}

/// 3.1.1, 3.3; 5.0, 3.3.
fn publish<'a>(is_v5: bool, flags: u8, fields: &mut Fields<'a>) -> Result<Publish<'a>, Wrong> {
    let quality = Quality::of(flags >> 1 & 3)?;
    if quality == Quality::Zero && flags & 8 > 0 {
        return Err(Wrong::malformed("it is sent again, at QoS 0"));
    }
    let topic = fields.text()?;
    let id = match quality {
        Quality::Zero => 0,
        _ => fields.packet_id()?,
    };
    // Before the topic: one that is empty for an alias is refused for the alias.
    let properties = if is_v5 {
        Forwarded::read(fields, &MESSAGE_PROPERTIES)?
    } else {
        Forwarded::default()
    };
    topic::check_name(topic)?;
    Ok(Publish {
        quality,
        is_retained: flags & 1 > 0,
        id,
        topic,
        properties,
        payload: fields.rest(),
    })
}

/// PUBACK and PUBREL (3.1.1, 3.4 and 3.6; 5.0, 3.4 and 3.6).
fn acknowledged(is_v5: bool, fields: &mut Fields<'_>) -> Result<u16, Wrong> {
    let id = fields.packet_id()?;
    if is_v5 && !fields.is_empty() {
        fields.u8()?;
        if !fields.is_empty() {
            let allowed = [properties::REASON, properties::USER_PROPERTY];
            properties::read(fields, &allowed, |_| Ok(()))?;
        }
    }
    fields.nothing_left()?;
    Ok(id)
}

/// 3.1.1, 3.8; 5.0, 3.8.
fn subscribe<'a>(is_v5: bool, fields: &mut Fields<'a>) -> Result<(u16, Fields<'a>), Wrong> {
    const NO_IDENTIFIERS: u8 = 0xA1;
    let id = fields.packet_id()?;
    if is_v5 {
        let allowed = [properties::SUBSCRIPTION_ID, properties::USER_PROPERTY];
        properties::read(fields, &allowed, |property| match property.name {
            properties::SUBSCRIPTION_ID => Err(Wrong {
                code: NO_IDENTIFIERS,
                what: "it has a subscription identifier, and none was offered",
            }),
            _ => Ok(()),
        })?;
    }
    let filters = *fields;
    if fields.is_empty() {
        return Err(Wrong::protocol("it has no filter"));
    }
    while !fields.is_empty() {
        filter(is_v5, fields)?;
    }
    Ok((id, filters))
}

/// How a filter is subscribed to (3.1.1, 3.8.3; 5.0, 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) quality: Quality,
    /// A client's own messages do not come back to it.
    pub(crate) is_not_local: bool,
    /// A message that goes on says whether it was published as retained.
    pub(crate) keeps_retain: bool,
    pub(crate) retained: Handling,
}

/// Whether retained messages are sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    Send,
    SendIfNew,
    Not,
}

/// One filter of a SUBSCRIBE.
pub(crate) fn filter<'a>(
    is_v5: bool,
    fields: &mut Fields<'a>,
) -> Result<(&'a str, Options), Wrong> {
    let filter = fields.text()?;
    let bits = fields.u8()?;
    if bits & 0xC0 > 0 || (!is_v5 && bits > 2) {
        return Err(Wrong::malformed("reserved bits of a filter are not 0"));
    }
    let options = Options {
        quality: Quality::of(bits & 3)?,
        is_not_local: bits & 4 > 0,
        keeps_retain: bits & 8 > 0,
        retained: match bits >> 4 & 3 {
            0 => Handling::Send,
            1 => Handling::SendIfNew,
            2 => Handling::Not,
            _ => return Err(Wrong::protocol("its retain handling is 3")),
        },
    };
    if options.is_not_local && filter.starts_with("$share/") {
        return Err(Wrong::protocol("a shared subscription is not local"));
    }
    Ok((filter, options))
}

/// 3.1.1, 3.10; 5.0, 3.10.
fn unsubscribe<'a>(is_v5: bool, fields: &mut Fields<'a>) -> Result<(u16, Fields<'a>), Wrong> {
    let id = fields.packet_id()?;
    if is_v5 {
        properties::read(fields, &[properties::USER_PROPERTY], |_| Ok(()))?;
    }
    let filters = *fields;
    if fields.is_empty() {
        return Err(Wrong::protocol("it has no filter"));
    }
    while !fields.is_empty() {
        fields.text()?;
    }
    Ok((id, filters))
}

/// 3.1.1, 3.14; 5.0, 3.14.
fn disconnect<'a>(is_v5: bool, fields: &mut Fields<'a>) -> Result<Packet<'a>, Wrong> {
    const WITH_WILL: u8 = 4;
    let mut code = 0;
    if is_v5 && !fields.is_empty() {
        code = fields.u8()?;
        if !fields.is_empty() {
            let allowed = [
                properties::SESSION_EXPIRY,
                properties::REASON,
                properties::USER_PROPERTY,
            ];
            properties::read(fields, &allowed, |_| Ok(()))?;
        }
    }
    fields.nothing_left()?;
    Ok(Packet::Disconnect {
        keeps_will: code == WITH_WILL || code >= 0x80,
    })
}
