//! The first packet of a connection.

use crate::length::{encode_length, u16_len};
use crate::{SessionError, Settings, Will};

/// The CONNECT packet (3.1.1, 3.1; 5.0, 3.1), with a clean start.
pub(crate) fn connect(settings: &Settings, will: Option<&Will>) -> Result<Vec<u8>, SessionError> {
    const CLEAN: u8 = 0x02;
    // To be sent at QoS 1 and retained.
    const WILL: u8 = 0x04 | 0x08 | 0x20;
    const LOGIN: u8 = 0xC0;
    let mut body = Vec::new();
    text(&mut body, "protocol name", "MQTT")?;
    let login = if settings.login.is_some() { LOGIN } else { 0 };
    let will_flags = if will.is_some() { WILL } else { 0 };
    body.extend([settings.protocol.level(), CLEAN | will_flags | login]);
    body.extend(settings.keep_alive_s.to_be_bytes());
    body.extend(settings.protocol.no_properties());
    text(&mut body, "client identifier", &settings.client_id)?;
    if let Some(Will { topic, payload }) = will {
        body.extend(settings.protocol.no_properties());
        text(&mut body, "topic of the will", topic)?;
        text(&mut body, "will", payload)?;
    }
    if let Some((user, password)) = &settings.login {
        text(&mut body, "user name", user)?;
        text(&mut body, "password", password)?;
    }
    let (length, length_len) = encode_length(body.len());
    let mut packet = vec![0x10];
    packet.extend(&length[..length_len]);
    packet.extend(body);
    Ok(packet)
}

fn text(body: &mut Vec<u8>, what: &'static str, text: &str) -> Result<(), SessionError> {
    let bytes = text.len();
    let len = u16_len(text).ok_or(SessionError::TooLong { what, bytes })?;
    body.extend(len.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}
