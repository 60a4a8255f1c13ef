//! Packets from a broker, read and checked as a whole.
//!
//! What a session has no use for, such as the properties of a message, is
//! skipped; whatever contradicts the standard is refused with a sentence.

use std::ops::Range;

use crate::Protocol;
use crate::body::{Body, What, variable};

pub(crate) const PUBLISH: u8 = 3;

/// A fixed header (3.1.1, 2.2; 5.0, 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) len: usize,
    pub(crate) body_len: usize,
}

impl Header {
    /// The header at the front of `bytes`, or `None` if it is not whole.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, What> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        Ok(variable(rest)?.map(|(body_len, len)| Self {
            kind: first >> 4,
            flags: first & 0x0F,
            len: 1 + len,
            body_len,
        }))
    }

    pub(crate) fn packet_len(&self) -> usize {
        self.len + self.body_len
    }

    /// The quality of service of a PUBLISH (3.1.1, 3.3.1.2; 5.0, 3.3.1.2).
    pub(crate) fn quality(&self) -> Result<Quality, What> {
        match self.flags >> 1 & 3 {
            0 => Ok(Quality::Zero),
            1 => Ok(Quality::One),
            2 => Ok(Quality::Two),
            _ => Err("its quality of service is 3; there are 0, 1 and 2"),
        }
    }
}

/// How a message is delivered: at most once, at least once, exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Zero,
    One,
    Two,
}

/// A packet that a broker may send; ranges count from its body's start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck {
        code: u8,
        limits: Limits,
    },
    Publish {
        is_retained: bool,
        quality: Quality,
        /// Zero at [`Quality::Zero`].
        id: u16,
        topic: Range<usize>,
        payload: Range<usize>,
    },
    PubAck {
        id: u16,
        code: u8,
    },
    PubRel {
        id: u16,
    },
    SubAck {
        id: u16,
        codes: Range<usize>,
    },
    PingResp,
    Disconnect {
        code: u8,
    },
}

/// What a broker says of itself in CONNACK (5.0, 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// What it wants instead of the client's keep-alive.
    pub(crate) keep_alive_s: Option<u16>,
    /// Messages at QoS 1 that it takes at once.
    pub(crate) receive_max: u16,
    /// The largest packet that it takes.
    pub(crate) packet_bytes_max: usize,
    /// Whether it takes QoS 1.
    pub(crate) takes_quality_one: bool,
    /// Whether it keeps messages.
    pub(crate) takes_retained: bool,
}

impl Limits {
    /// Of a broker that says nothing.
    pub(crate) const NONE: Self = Self {
        keep_alive_s: None,
        receive_max: u16::MAX,
        packet_bytes_max: usize::MAX,
        takes_quality_one: true,
        takes_retained: true,
    };
}

impl Packet {
    /// Reads the packet of `header` whose bytes after the header are `body`.
    pub(crate) fn parse(protocol: Protocol, header: Header, body: &[u8]) -> Result<Self, What> {
        assert_eq!(header.body_len, body.len(), "the packet is whole");
        let is_v5 = protocol == Protocol::V5;
        let mut fields = Body::new(body);
        check_flags(header)?;
        match header.kind {
            2 => conn_ack(is_v5, &mut fields),
            PUBLISH => publish(is_v5, header, &mut fields),
            4 => pub_ack(is_v5, &mut fields),
            6 => pub_rel(is_v5, &mut fields),
            9 => sub_ack(is_v5, &mut fields),
            13 if fields.is_empty() => Ok(Self::PingResp),
            13 => Err("it has a body; there is none"),
            14 if is_v5 => disconnect(&mut fields),
            1 | 8 | 10 | 12 | 14 => Err("only a client sends it"),
            5 | 7 | 11 => Err("it answers something that was never sent"),
            15 if is_v5 => Err("no authentication method was offered"),
            _ => Err("this packet type is reserved"),
        }
    }
}

/// The name of a packet type (3.1.1, 2.2.1; 5.0, 2.1.2).
pub(crate) fn name(kind: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "packet of type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "packet of type 15",
    ];
    NAMES[usize::from(kind & 0x0F)]
}

/// 3.1.1, 2.2.2; 5.0, 2.1.3. Of what a broker sends only PUBLISH uses them.
fn check_flags(header: Header) -> Result<(), What> {
    match (header.kind, header.flags) {
        (PUBLISH, _) | (6, 2) => Ok(()),
        (6, _) => Err("its flags are not 2"),
        (_, 0) => Ok(()),
        _ => Err("its flags are not 0"),
    }
}

/// 3.1.1, 3.2; 5.0, 3.2.
fn conn_ack(is_v5: bool, fields: &mut Body<'_>) -> Result<Packet, What> {
    const SHORT: What = "it ends before its code";
    let flags = fields.u8(SHORT)?;
    let code = fields.u8(SHORT)?;
    if flags > 1 {
        return Err("its reserved flags are not 0");
    }
    if code == 0 && flags == 1 {
        return Err("the broker kept a session, although a clean start was asked for");
    }
    // Some brokers refuse a version that they do not know in an older one's
    // words, without properties.
    if code != 0 {
        return Ok(Packet::ConnAck {
            code,
            limits: Limits::NONE,
        });
    }
    let limits = if is_v5 {
        limits(&mut fields.properties()?)?
    } else {
        Limits::NONE
    };
    nothing_after(fields)?;
    Ok(Packet::ConnAck { code, limits })
}

/// The limits among the properties of CONNACK (5.0, 3.2.2.3).
fn limits(properties: &mut Body<'_>) -> Result<Limits, What> {
    const SHORT: What = "a property runs past the properties' end";
    let mut limits = Limits::NONE;
    while !properties.is_empty() {
        match properties.u8(SHORT)? {
            0x13 => limits.keep_alive_s = Some(properties.u16(SHORT)?),
            0x21 => limits.receive_max = properties.u16(SHORT)?,
            0x24 => limits.takes_quality_one = properties.u8(SHORT)? > 0,
            0x25 => limits.takes_retained = properties.u8(SHORT)? > 0,
            0x27 => {
                let [high, low] = [properties.u16(SHORT)?, properties.u16(SHORT)?];
                limits.packet_bytes_max = usize::from(high) << 16 | usize::from(low);
            }
            // Wildcards, subscription ids, shared subscriptions.
            0x28..=0x2A => _ = properties.skip(1, SHORT)?,
            // Topic alias maximum.
            0x22 => _ = properties.skip(2, SHORT)?,
            // Session expiry.
            0x11 => _ = properties.skip(4, SHORT)?,
            // Client id, response information, server reference, reason,
            // authentication method and data.
            0x12 | 0x1A | 0x1C | 0x1F | 0x15 | 0x16 => _ = properties.prefixed(SHORT)?,
            // User property: a name and a value.
            0x26 => {
                properties.prefixed(SHORT)?;
                properties.prefixed(SHORT)?;
            }
            _ => return Err("it has a property that CONNACK does not have"),
        }
    }
    if limits.receive_max == 0 {
        return Err("its receive maximum is 0; that begins at 1");
    }
    Ok(limits)
}

/// 3.1.1, 3.3; 5.0, 3.3.
fn publish(is_v5: bool, header: Header, fields: &mut Body<'_>) -> Result<Packet, What> {
    let quality = header.quality()?;
    let topic = fields.prefixed("its topic runs past its end")?;
    if topic.is_empty() {
        return Err("its topic is empty, and no topic alias was offered");
    }
    let id = match quality {
        Quality::Zero => 0,
        _ => fields.packet_id()?,
    };
    if is_v5 {
        fields.properties()?;
    }
    Ok(Packet::Publish {
        is_retained: header.flags & 1 == 1,
        quality,
        id,
        topic,
        payload: fields.rest(),
    })
}

/// 3.1.1, 3.4; 5.0, 3.4. Without a code it is "success" (5.0, 3.4.2.1).
fn pub_ack(is_v5: bool, fields: &mut Body<'_>) -> Result<Packet, What> {
    let id = fields.packet_id()?;
    let code = if is_v5 && !fields.is_empty() {
        code_and_properties(fields)?
    } else {
        0
    };
    nothing_after(fields)?;
    Ok(Packet::PubAck { id, code })
}

/// 3.1.1, 3.6; 5.0, 3.6.
fn pub_rel(is_v5: bool, fields: &mut Body<'_>) -> Result<Packet, What> {
    let id = fields.packet_id()?;
    if is_v5 && !fields.is_empty() {
        code_and_properties(fields)?;
    }
    nothing_after(fields)?;
    Ok(Packet::PubRel { id })
}

/// 3.1.1, 3.9; 5.0, 3.9.
fn sub_ack(is_v5: bool, fields: &mut Body<'_>) -> Result<Packet, What> {
    let id = fields.packet_id()?;
    if is_v5 {
        fields.properties()?;
    }
    Ok(Packet::SubAck {
        id,
        codes: fields.rest(),
    })
}

/// 5.0, 3.14.
fn disconnect(fields: &mut Body<'_>) -> Result<Packet, What> {
    let code = if fields.is_empty() {
        0
    } else {
        code_and_properties(fields)?
    };
    nothing_after(fields)?;
    Ok(Packet::Disconnect { code })
}

/// A reason code, and properties unless the packet ends there.
fn code_and_properties(fields: &mut Body<'_>) -> Result<u8, What> {
    let code = fields.u8("it ends before its code")?;
    if !fields.is_empty() {
        fields.properties()?;
    }
    Ok(code)
}

fn nothing_after(fields: &Body<'_>) -> Result<(), What> {
    if fields.is_empty() {
        return Ok(());
    }
    Err("it has bytes after its last field")
}
