//! The first packet of a connection.

use super::{CONNECT, Forwarded, Publish, Quality, Version, WILL_PROPERTIES};
use crate::fields::{Fields, Header, Wrong};
use crate::properties::{self, Value};
use crate::topic;

/// CONNECT (3.1.1, 3.1; 5.0, 3.1).
#[derive(Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    pub(crate) is_clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) client_id: &'a str,
    pub(crate) will: Option<Publish<'a>>,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
    /// Seconds that the client wants its session to be kept.
    pub(crate) session_expiry_s: u32,
    pub(crate) receive_max: u16,
    pub(crate) packet_bytes_max: usize,
    pub(crate) wants_authentication: bool,
}

/// Why a first packet is no CONNECT of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotConnect {
    /// It asks for another version.
    Version,
    Wrong(Wrong),
}

impl From<Wrong> for NotConnect {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl<'a> Connect<'a> {
    pub(crate) fn parse(header: Header, body: &'a [u8]) -> Result<Self, NotConnect> {
        if header.kind != CONNECT {
            return Err(Wrong::protocol("the first packet is not CONNECT").into());
        }
        if header.flags != 0 {
            return Err(Wrong::malformed("its flags are not 0").into());
        }
        let mut fields = Fields::new(body);
        let version = version(&mut fields)?;
        let is_v5 = version == Version::V5;
        let flags = fields.u8()?;
        if flags & 1 > 0 {
            return Err(Wrong::malformed("its reserved flag is 1").into());
        }
        let mut connect = Self {
            version,
            is_clean: flags & 2 > 0,
            keep_alive_s: fields.u16()?,
            client_id: "",
            will: None,
            user: None,
            password: None,
            session_expiry_s: 0,
            receive_max: u16::MAX,
            packet_bytes_max: usize::MAX,
            wants_authentication: false,
        };
        if is_v5 {
            connect.read_properties(&mut fields)?;
        }
        connect.client_id = fields.text()?;
        connect.will = will(is_v5, flags, &mut fields)?;
        if flags & 0x80 > 0 {
            connect.user = Some(fields.text()?);
        }
        if flags & 0x40 > 0 {
            if !is_v5 && connect.user.is_none() {
                return Err(Wrong::malformed("it has a password and no user name").into());
            }
            connect.password = Some(fields.binary()?);
        }
        fields.nothing_left()?;
        Ok(connect)
    }

    /// 5.0, 3.1.2.11.
    fn read_properties(&mut self, fields: &mut Fields<'a>) -> Result<(), Wrong> {
        const ALLOWED: [u8; 9] = [
            properties::SESSION_EXPIRY,
            properties::AUTHENTICATION_METHOD,
            properties::AUTHENTICATION_DATA,
            properties::REQUEST_PROBLEM,
            properties::REQUEST_RESPONSE,
            properties::RECEIVE_MAXIMUM,
            properties::TOPIC_ALIAS_MAXIMUM,
            properties::USER_PROPERTY,
            properties::MAXIMUM_PACKET_SIZE,
        ];
        properties::read(fields, &ALLOWED, |property| {
            match (property.name, property.value) {
                (properties::SESSION_EXPIRY, Value::Number(seconds)) => {
                    self.session_expiry_s = seconds;
                }
                (properties::RECEIVE_MAXIMUM, Value::Number(messages)) => {
                    self.receive_max = u16::try_from(messages).unwrap_or(u16::MAX);
                    if self.receive_max == 0 {
                        return Err(Wrong::protocol("its receive maximum is 0"));
                    }
                }
                (properties::MAXIMUM_PACKET_SIZE, Value::Number(bytes)) => {
                    self.packet_bytes_max = bytes as usize;
                    if bytes == 0 {
                        return Err(Wrong::protocol("its maximum packet size is 0"));
                    }
                }
                (properties::AUTHENTICATION_METHOD, _) => self.wants_authentication = true,
                _ => {}
            }
            Ok(())
        })
    }
}

/// Protocol name and level (3.1.1, 3.1.2.1; 5.0, 3.1.2.1).
fn version(fields: &mut Fields<'_>) -> Result<Version, NotConnect> {
    let name = fields.text()?;
    let level = fields.u8()?;
    match (name, level) {
        ("MQTT", 4) => Ok(Version::V311),
        ("MQTT", 5) => Ok(Version::V5),
        ("MQTT" | "MQIsdp", _) => Err(NotConnect::Version),
        _ => Err(Wrong::protocol("its protocol is not MQTT").into()),
    }
}

/// 3.1.1, 3.1.2.5 to 3.1.2.7; 5.0, 3.1.3.2 to 3.1.3.4.
fn will<'a>(is_v5: bool, flags: u8, fields: &mut Fields<'a>) -> Result<Option<Publish<'a>>, Wrong> {
    if flags & 4 == 0 {
        if flags & 0x38 > 0 {
            return Err(Wrong::malformed("it has flags of a will and no will"));
        }
        return Ok(None);
    }
    let quality = Quality::of(flags >> 3 & 3)?;
    let properties = if is_v5 {
        Forwarded::read(fields, &WILL_PROPERTIES)?
    } else {
        Forwarded::default()
    };
    let topic = fields.text()?;
    topic::check_name(topic)?;
    Ok(Some(Publish {
        quality,
        is_retained: flags & 0x20 > 0,
        id: 0,
        topic,
        properties,
        payload: fields.binary()?,
    }))
}
