//! The bytes to be sent, in a buffer that never grows.
//!
//! A packet is written whole or not at all. Messages leave [`RESERVE_BYTES`]
//! free, so that acknowledgements and pings find room while the caller
//! publishes as fast as the socket allows.

use std::ops::Range;

use crate::length::{BODY_BYTES_MAX, LENGTH_BYTES_MAX, encode_length, u16_len};
use crate::payload::Payload;
use crate::{Full, Protocol};

/// What messages leave free: room for 255 acknowledgements between two
/// writes, and for a ping or a goodbye.
pub(crate) const RESERVE_BYTES: usize = 1024;

/// PUBACK, PUBREC and PUBCOMP with their identifier (3.1.1, 3.4 to 3.7; 5.0,
/// 3.4.2.1: without a code it is "success").
pub(crate) const ACKNOWLEDGEMENT_BYTES: usize = 4;

/// How many bytes the length is assumed to take while a message is written;
/// two suit bodies from 128 to 16,383 bytes.
const LENGTH_BYTES_ASSUMED: usize = 2;

/// The identifier of a message, which only one at QoS 1 has.
#[derive(Clone, Copy)]
pub(crate) struct Id(Option<[u8; 2]>);

impl Id {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new(id: u16) -> Self {
        Self(Some(id.to_be_bytes()))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes)
    }

    fn len(self) -> usize {
        self.bytes().len()
    }

    fn quality(self) -> u8 {
        u8::from(self.0.is_some())
    }
}

pub(crate) struct Output {
    bytes: Box<[u8]>,
    unsent: Range<usize>,
    sent: u64,
}

impl Output {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            bytes: vec![0; capacity.min(BODY_BYTES_MAX)].into_boxed_slice(),
            unsent: 0..0,
            sent: 0,
        }
    }

    /// Forgets everything, as for another connection.
    pub(crate) fn clear(&mut self) {
        self.unsent = 0..0;
        self.sent = 0;
    }

    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.unsent.clone()]
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn handle_written(&mut self, len: usize) {
        assert!(len <= self.unsent.len(), "only what is there is written");
        self.unsent.start += len;
        self.sent += len as u64;
        if self.unsent.is_empty() {
            self.unsent = 0..0;
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.unsent.len()
    }

    /// Appends a packet of a few bytes; it may use the reserve.
    pub(crate) fn push(&mut self, packet: &[u8]) -> Result<(), Full> {
        self.move_to_front();
        if packet.len() > self.room() {
            return Err(self.full(packet.len(), 0));
        }
        self.append(packet);
        Ok(())
    }

    /// Appends a SUBSCRIBE (3.1.1, 3.8; 5.0, 3.8).
    pub(crate) fn push_subscribe(
        &mut self,
        protocol: Protocol,
        id: u16,
        filters: &[(&str, u8)],
    ) -> Result<(), Full> {
        let properties: &[u8] = protocol.no_properties();
        let filter_bytes: usize = filters.iter().map(|(filter, _)| filter.len() + 3).sum();
        let body_len = 2 + properties.len() + filter_bytes;
        self.move_to_front();
        let needed = 1 + LENGTH_BYTES_MAX + body_len;
        let is_sayable = filters.iter().all(|(filter, _)| u16_len(filter).is_some());
        if !is_sayable || needed + RESERVE_BYTES > self.room() {
            return Err(self.full(if is_sayable { needed } else { usize::MAX }, RESERVE_BYTES));
        }
        self.append(&[0x82]);
        self.append_length(body_len);
        self.append(&id.to_be_bytes());
        self.append(properties);
        for (filter, quality) in filters {
            self.append_text(filter);
            self.append(&[*quality]);
        }
        Ok(())
    }

    /// The room that a PUBLISH asks for, counting its length field at its
    /// longest; [`usize::MAX`] for a topic that MQTT cannot say.
    pub(crate) fn needed(
        protocol: Protocol,
        topic_len: usize,
        id: Id,
        payload_len: usize,
    ) -> usize {
        if topic_len > usize::from(u16::MAX) {
            return usize::MAX;
        }
        let rest = 2 + topic_len + id.len() + protocol.no_properties().len() + payload_len;
        1 + LENGTH_BYTES_MAX + rest
    }

    /// Whether a message with this need fits once everything is sent.
    pub(crate) fn can_hold(&self, needed: usize) -> bool {
        !self.full(needed, RESERVE_BYTES).is_final()
    }

    /// Appends a PUBLISH (3.1.1, 3.3; 5.0, 3.3).
    pub(crate) fn push_publish(
        &mut self,
        protocol: Protocol,
        topic: &[&str],
        id: Id,
        is_retained: bool,
        write: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), Full> {
        let properties: &[u8] = protocol.no_properties();
        let topic_len: usize = topic.iter().map(|part| part.len()).sum();
        let needed = |payload_len| Self::needed(protocol, topic_len, id, payload_len);
        let Ok(sayable_len) = u16::try_from(topic_len) else {
            return Err(self.full(usize::MAX, RESERVE_BYTES));
        };
        self.move_to_front();
        let start = self.unsent.end;
        let Some(room) = self.room().checked_sub(RESERVE_BYTES + needed(0)) else {
            return Err(self.full(needed(0), RESERVE_BYTES));
        };
        let mut at = start + 1 + LENGTH_BYTES_ASSUMED;
        let texts = topic.iter().map(|part| part.as_bytes());
        for bytes in [&sayable_len.to_be_bytes()[..]]
            .into_iter()
            .chain(texts)
            .chain([id.bytes(), properties])
        {
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        let mut payload = Payload {
            room: &mut self.bytes[at..at + room],
            len: 0,
        };
        write(&mut payload);
        let payload_len = payload.len;
        if payload_len > room {
            return Err(self.full(needed(payload_len), RESERVE_BYTES));
        }
        let first = 0x30 | id.quality() << 1 | u8::from(is_retained);
        self.close(first, start, at + payload_len);
        Ok(())
    }

    /// Puts the fixed header in front of the body that ends at `end`, and
    /// moves the body if its length is said in fewer or more bytes than
    /// assumed.
    fn close(&mut self, first: u8, start: usize, end: usize) {
        let body = start + 1 + LENGTH_BYTES_ASSUMED..end;
        let (length, length_len) = encode_length(body.len());
        let to = start + 1 + length_len;
        if to != body.start {
            self.bytes.copy_within(body.clone(), to);
        }
        self.bytes[start] = first;
        self.bytes[start + 1..to].copy_from_slice(&length[..length_len]);
        self.unsent.end = to + body.len();
    }

    /// Makes all the room one piece. Costs a copy only after a write that the
    /// socket took in part, once.
    fn move_to_front(&mut self) {
        if self.unsent.start > 0 {
            self.bytes.copy_within(self.unsent.clone(), 0);
            self.unsent = 0..self.unsent.len();
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let start = self.unsent.end;
        self.unsent.end += bytes.len();
        self.bytes[start..self.unsent.end].copy_from_slice(bytes);
    }

    fn append_length(&mut self, len: usize) {
        let (bytes, count) = encode_length(len);
        self.append(&bytes[..count]);
    }

    fn append_text(&mut self, text: &str) {
        let len = u16_len(text).expect("its length was checked before");
        self.append(&len.to_be_bytes());
        self.append(text.as_bytes());
    }

    fn full(&self, needed: usize, reserve: usize) -> Full {
        Full {
            needed,
            room: self.room().saturating_sub(reserve),
            capacity: self.bytes.len().saturating_sub(reserve),
        }
    }
}
