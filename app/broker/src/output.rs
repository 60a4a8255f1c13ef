//! The bytes that a client is to be sent.
//!
//! Small packets are gathered in one buffer; a large payload stays where it is
//! and is sent from there. Answers that come meanwhile wait until its end.

use std::sync::Arc;

use crate::limits::{COPIED_BYTES_MAX, OUTPUT_BYTES};
use crate::message::Message;
use crate::packet::{Quality, Version};
use crate::properties;

#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// The payload that follows `bytes`, and how much of it was sent.
    payload: Option<(Arc<Message>, usize)>,
    /// What follows that.
    after: Vec<u8>,
}

impl Output {
    pub(crate) fn unsent(&self) -> &[u8] {
        match (self.bytes.get(self.sent..), &self.payload) {
            (Some([]) | None, Some((message, sent))) => &message.payload()[*sent..],
            (bytes, _) => bytes.unwrap_or(&[]),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unsent().is_empty()
    }

    pub(crate) fn handle_written(&mut self, len: usize) {
        assert!(len <= self.unsent().len(), "only what is there is written");
        if self.sent < self.bytes.len() {
            self.sent += len;
        } else if let Some((_, sent)) = &mut self.payload {
            *sent += len;
        }
        if self.sent < self.bytes.len() {
            return;
        }
        self.sent = 0;
        self.bytes.clear();
        let is_sent = |(message, sent): &(Arc<Message>, usize)| *sent == message.payload().len();
        if self.payload.as_ref().is_none_or(is_sent) {
            self.payload = None;
            self.bytes = std::mem::take(&mut self.after);
            // Of a burst that is over.
            if self.bytes.is_empty() && self.bytes.capacity() > OUTPUT_BYTES {
                self.bytes = Vec::new();
            }
        }
    }

    /// Whether another message is to be written into it.
    pub(crate) fn has_room(&self) -> bool {
        self.payload.is_none() && self.bytes.len() - self.sent < OUTPUT_BYTES
    }

    /// Bytes that wait, but for a payload.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.sent + self.after.len()
    }

    /// Appends a packet that is small.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        self.end().extend(packet);
    }

    /// A packet of the first byte `first` with `body`.
    pub(crate) fn push_body(&mut self, first: u8, body: &[u8]) {
        let to = self.end();
        to.push(first);
        push_variable(to, body.len());
        to.extend(body);
    }

    fn end(&mut self) -> &mut Vec<u8> {
        if self.payload.is_some() {
            &mut self.after
        } else {
            &mut self.bytes
        }
    }

    /// Bytes of a message that is under way and was not copied.
    pub(crate) fn held_bytes(&self) -> usize {
        self.payload
            .as_ref()
            .map_or(0, |(message, _)| message.cost())
    }

    /// Lets go of a payload that is under way; whether another packet may follow.
    pub(crate) fn cut(&mut self) -> bool {
        if self.payload.is_none() {
            return true;
        }
        *self = Self::default();
        false
    }

    /// Appends a message, unless it is larger than `bytes_max`; whether it was.
    pub(crate) fn push_message(&mut self, sent: &Sent<'_>, bytes_max: usize) -> bool {
        assert!(self.payload.is_none(), "asked for room before");
        let message = sent.message;
        let payload = message.payload();
        let head_len = sent.head_len();
        let body_len = head_len + payload.len();
        if 1 + variable_len(body_len) + body_len > bytes_max {
            return false;
        }
        let to = &mut self.bytes;
        to.push(0x30 | (sent.quality as u8) << 1 | u8::from(sent.is_retained));
        push_variable(to, body_len);
        sent.write_head(to);
        if payload.len() <= COPIED_BYTES_MAX {
            to.extend(payload);
        } else {
            self.payload = Some((Arc::clone(message), 0));
        }
        true
    }
}

/// A message as it is sent to one client.
pub(crate) struct Sent<'a> {
    pub(crate) version: Version,
    pub(crate) message: &'a Arc<Message>,
    pub(crate) quality: Quality,
    pub(crate) is_retained: bool,
    /// Of no meaning at QoS 0.
    pub(crate) id: u16,
    /// What is left of its expiry.
    pub(crate) expiry_s: Option<u32>,
}

impl Sent<'_> {
    fn properties_len(&self) -> usize {
        let expiry = if self.expiry_s.is_some() { 5 } else { 0 };
        self.message.properties().len() + expiry
    }

    /// What lies between the fixed header and the payload.
    fn head_len(&self) -> usize {
        let id = if self.quality == Quality::Zero { 0 } else { 2 };
        let properties = match self.version {
            Version::V311 => 0,
            Version::V5 => variable_len(self.properties_len()) + self.properties_len(),
        };
        2 + self.message.topic().len() + id + properties
    }

    fn write_head(&self, to: &mut Vec<u8>) {
        push_text(to, self.message.topic());
        if self.quality != Quality::Zero {
            to.extend(self.id.to_be_bytes());
        }
        if self.version == Version::V5 {
            push_variable(to, self.properties_len());
            if let Some(seconds) = self.expiry_s {
                to.push(properties::MESSAGE_EXPIRY);
                to.extend(seconds.to_be_bytes());
            }
            to.extend(self.message.properties());
        }
    }
}

pub(crate) fn push_text(to: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("every text came with such a length");
    to.extend(len.to_be_bytes());
    to.extend(text.as_bytes());
}

fn variable_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

pub(crate) fn push_variable(to: &mut Vec<u8>, value: usize) {
    assert!(value <= 268_435_455, "packets are smaller");
    let mut rest = value;
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}
