//! A broker's side of the conversation, and a session that is fed with it.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod secured;

use hark_mqtt::{Protocol, Session, Settings};

pub(crate) const BOTH: [Protocol; 2] = [Protocol::V311, Protocol::V5];

/// Larger packets are skipped in these tests.
pub(crate) const PACKET_BYTES_MAX: usize = 200;

pub(crate) fn settings(protocol: Protocol) -> Settings {
    Settings {
        protocol,
        client_id: "hark".to_owned(),
        login: None,
        keep_alive_s: 60,
        packet_bytes_max: PACKET_BYTES_MAX,
    }
}

/// A session whose CONNECT was sent.
pub(crate) fn session(protocol: Protocol) -> Session {
    let mut session = Session::new(&settings(protocol), 0, 4096).unwrap();
    sent(&mut session);
    session
}

/// A session that the broker has taken.
pub(crate) fn connected(protocol: Protocol) -> Session {
    let mut session = session(protocol);
    let told = feed(&mut session, &conn_ack(protocol, 0));
    assert_eq!(told, ["Connected"]);
    session
}

/// Takes all output as written.
pub(crate) fn sent(session: &mut Session) -> Vec<u8> {
    let sent = session.output().to_vec();
    session.handle_written(sent.len());
    sent
}

/// What the session tells of `bytes`; the last is its error, if any.
pub(crate) fn feed(session: &mut Session, mut bytes: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    while !bytes.is_empty() {
        let space = session.read_space();
        let len = space.len().min(bytes.len());
        if len == 0 {
            break;
        }
        space[..len].copy_from_slice(&bytes[..len]);
        session.handle_read(len);
        bytes = &bytes[len..];
        told.extend(poll(session));
        assert!(session.consumed() <= session.received());
        if session.poll_event().is_err() {
            break;
        }
    }
    told
}

/// What the session tells of the bytes that it has.
pub(crate) fn poll(session: &mut Session) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        match session.poll_event() {
            Ok(Some(event)) => told.push(format!("{event:?}")),
            Ok(None) => return told,
            Err(error) => {
                assert_eq!(session.poll_event(), Err(error));
                told.push(error.to_string());
                return told;
            }
        }
    }
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    while rest > 0x7F {
        packet.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    packet.push(rest as u8);
    packet.extend(body);
    packet
}

fn properties(protocol: Protocol, properties: &[u8]) -> Vec<u8> {
    match protocol {
        Protocol::V311 => Vec::new(),
        Protocol::V5 => [&[properties.len() as u8], properties].concat(),
    }
}

pub(crate) fn conn_ack(protocol: Protocol, code: u8) -> Vec<u8> {
    // The broker's own maximum packet size and topic alias maximum.
    let own = [0x27, 0, 0, 16, 0, 0x22, 0, 10];
    packet(
        0x20,
        &[&[0, code][..], &properties(protocol, &own)].concat(),
    )
}

pub(crate) fn sub_ack(protocol: Protocol, id: u16, codes: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    packet(0x90, &[&id[..], &properties(protocol, &[]), codes].concat())
}

pub(crate) fn publish(
    protocol: Protocol,
    quality: u8,
    id: u16,
    topic: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let topic_len = (topic.len() as u16).to_be_bytes();
    let mut body = [&topic_len[..], topic].concat();
    if quality > 0 {
        body.extend(id.to_be_bytes());
    }
    // A message expiry interval.
    body.extend(properties(protocol, &[0x02, 0, 0, 0, 9]));
    body.extend(payload);
    packet(0x30 | quality << 1, &body)
}

pub(crate) fn pub_rel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}
