//! The protocol of one connection, without the connection.

use std::ops::Range;

use crate::body::What;
use crate::connect::connect;
use crate::event::Event;
use crate::input::Input;
use crate::keep_alive::KeepAlive;
use crate::output::{ACKNOWLEDGEMENT_BYTES, Output, RESERVE_BYTES};
use crate::packet::{Header, PUBLISH, Packet, Quality, name};
use crate::payload::Payload;
use crate::received_ids::ReceivedIds;
use crate::skip::Skip;
use crate::subscribes::Subscribes;
use crate::{Full, Protocol, SessionError, Settings, reason};

const CONNACK_FIRST: What = "there is one CONNACK, and it comes before all others";

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
const PINGREQ: [u8; 2] = [0xC0, 0];
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// One connection to a broker, from CONNECT to its end.
///
/// The caller moves bytes: from the socket into [`read_space`](Self::read_space)
/// and from [`output`](Self::output) to the socket, and asks for every event in
/// between. See [`Link`](crate::Link) for a driver and an example.
pub struct Session {
    protocol: Protocol,
    packet_bytes_max: usize,
    input: Input,
    output: Output,
    is_connected: bool,
    subscribes: Subscribes,
    received_ids: ReceivedIds,
    keep_alive: KeepAlive,
    skip: Option<Skip>,
    is_blocked: bool,
    failed: Option<SessionError>,
}

/// An event whose bytes are still a place in the input.
enum Step {
    Message {
        at: u64,
        topic: Range<usize>,
        payload: Range<usize>,
    },
    Event(Event<'static>),
}

impl Session {
    /// A session whose CONNECT, with a clean start, waits to be sent.
    ///
    /// The buffers are made once: the one for reading holds at least a
    /// packet of [`Settings::packet_bytes_max`], the one for writing at
    /// least the CONNECT and a kilobyte for acknowledgements.
    ///
    /// # Errors
    /// [`SessionError::TooLong`] if a setting is longer than 65,535 bytes.
    pub fn new(
        settings: &Settings,
        read_buffer_bytes: usize,
        write_buffer_bytes: usize,
    ) -> Result<Self, SessionError> {
        let connect = connect(settings)?;
        let read_bytes = read_buffer_bytes.max(settings.packet_bytes_max);
        let mut output = Output::new(write_buffer_bytes.max(RESERVE_BYTES + connect.len()));
        output
            .push(&connect)
            .expect("the output was made large enough");
        Ok(Self {
            protocol: settings.protocol,
            packet_bytes_max: settings.packet_bytes_max,
            input: Input::new(read_bytes),
            output,
            is_connected: false,
            subscribes: Subscribes::new(),
            received_ids: ReceivedIds::new(),
            keep_alive: KeepAlive::new(settings.keep_alive_s),
            skip: None,
            is_blocked: false,
            failed: None,
        })
    }

    /// Where the next bytes from the broker go; empty if the buffer is full
    /// and events have to be asked for first.
    pub fn read_space(&mut self) -> &mut [u8] {
        self.input.space()
    }

    /// Takes the first `len` bytes of [`read_space`](Self::read_space) as
    /// received.
    ///
    /// # Panics
    /// If the space is smaller.
    pub fn handle_read(&mut self, len: usize) {
        self.input.add(len);
    }

    /// Whether there is no space to read into.
    pub fn is_read_full(&self) -> bool {
        self.input.is_full()
    }

    /// Bytes received since the start.
    pub fn received(&self) -> u64 {
        self.input.received()
    }

    /// Bytes of what was received that [`poll_event`](Self::poll_event) is
    /// done with; an event's last byte is the last of these.
    pub fn consumed(&self) -> u64 {
        self.input.consumed()
    }

    /// Whether [`poll_event`](Self::poll_event) stopped for want of room for
    /// an acknowledgement: send the output, then ask again before waiting for
    /// more bytes, since what is needed may have arrived long ago.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The next thing that the broker said, or `None` until more bytes come
    /// or, if [`is_blocked`](Self::is_blocked), until the output is sent.
    ///
    /// # Errors
    /// [`SessionError`], again at each further call: the connection is over.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, SessionError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.step() {
            Ok(None) => Ok(None),
            Ok(Some(Step::Event(event))) => Ok(Some(event)),
            Ok(Some(Step::Message { at, topic, payload })) => {
                let Ok(topic) = std::str::from_utf8(self.input.at(topic)) else {
                    let error = malformed(PUBLISH, at, "its topic is not UTF-8");
                    self.failed = Some(error);
                    return Err(error);
                };
                let payload = self.input.at(payload);
                Ok(Some(Event::Message { topic, payload }))
            }
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Asks for the messages of `filters`, each with its greatest quality of
    /// service, 0 to 2. Each is answered by an [`Event::Subscribed`].
    ///
    /// # Errors
    /// [`Full`] if it does not fit, or too many wait for their answer.
    ///
    /// # Panics
    /// If there is no filter, or a quality of service above 2.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Result<(), Full> {
        assert!(!filters.is_empty(), "a SUBSCRIBE has at least one filter");
        assert!(filters.iter().all(|(_, quality)| *quality <= 2));
        let id = self.subscribes.next_id()?;
        self.output.push_subscribe(self.protocol, id, filters)?;
        self.subscribes.handle_sent(filters.len());
        Ok(())
    }

    /// Publishes `payload` at QoS 0 on the topic that the parts of `topic`
    /// make together.
    ///
    /// # Errors
    /// [`Full`]; nothing of it was written.
    pub fn publish(&mut self, topic: &[&str], payload: &[u8]) -> Result<(), Full> {
        self.publish_with(topic, |room| room.push(payload))
    }

    /// As [`publish`](Self::publish), with a payload that `write` puts right
    /// into the output.
    ///
    /// # Errors
    /// [`Full`]; nothing of it was written.
    pub fn publish_with(
        &mut self,
        topic: &[&str],
        write: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), Full> {
        self.output.push_publish(self.protocol, topic, write)
    }

    /// What is to be sent, in order.
    pub fn output(&self) -> &[u8] {
        self.output.unsent()
    }

    /// Takes the first `len` bytes of [`output`](Self::output) as sent.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn handle_written(&mut self, len: usize) {
        self.output.handle_written(len);
    }

    /// Keeps the connection alive. To be called a few times within the
    /// keep-alive; `now_ms` is from any clock that does not go back.
    ///
    /// # Errors
    /// [`SessionError::Silent`] if the broker has not answered a ping, and
    /// [`SessionError::Deaf`] if it takes nothing.
    pub fn handle_time(&mut self, now_ms: u64) -> Result<(), SessionError> {
        let (received, sent) = (self.input.received(), self.output.sent());
        let unsent = self.output.unsent().len();
        let is_due = self.keep_alive.handle_time(now_ms, received, sent, unsent);
        let is_due = is_due.inspect_err(|error| self.failed = Some(*error))?;
        // Without room a ping would wait behind what proves the same.
        if is_due && self.output.push(&PINGREQ).is_ok() {
            self.keep_alive.handle_ping(now_ms, received);
        }
        Ok(())
    }

    /// Says goodbye. Send the output, then close the connection; nothing may
    /// be published after this.
    pub fn disconnect(&mut self) {
        // Without room the goodbye would wait behind a socket that takes
        // nothing; closing the connection says the same.
        let _ = self.output.push(&DISCONNECT);
    }

    fn step(&mut self) -> Result<Option<Step>, SessionError> {
        self.is_blocked = false;
        if self.skip.is_some() {
            return self.skip_on();
        }
        let at = self.input.consumed();
        let unread = self.input.unread();
        let kind = unread.first().map_or(0, |first| first >> 4);
        let refuse = |what| malformed(kind, at, what);
        let Some(header) = Header::parse(unread).map_err(refuse)? else {
            return Ok(None);
        };
        if header.packet_len() > self.packet_bytes_max {
            return self.begin_skip(header);
        }
        let Some(body) = unread.get(header.len..header.packet_len()) else {
            return Ok(None);
        };
        let packet = Packet::parse(self.protocol, header, body).map_err(refuse)?;
        if self.is_connected == matches!(packet, Packet::ConnAck { .. }) {
            return Err(refuse(CONNACK_FIRST));
        }
        self.handle(at, header, packet)
    }

    fn handle(
        &mut self,
        at: u64,
        header: Header,
        packet: Packet,
    ) -> Result<Option<Step>, SessionError> {
        let event = match packet {
            Packet::ConnAck { code, keep_alive_s } => self.connected(code, keep_alive_s)?,
            Packet::Publish {
                quality,
                id,
                topic,
                payload,
            } => {
                let Some(is_new) = self.acknowledge(quality, id) else {
                    return Ok(None);
                };
                if is_new {
                    let body = self.input.consume(header.packet_len()).start + header.len;
                    return Ok(Some(Step::Message {
                        at,
                        topic: body + topic.start..body + topic.end,
                        payload: body + payload.start..body + payload.end,
                    }));
                }
                Event::Other
            }
            Packet::PubRel { id } => {
                if !self.has_room() {
                    return Ok(None);
                }
                self.received_ids.remove(id);
                self.push_acknowledgement(PUBCOMP, id);
                Event::Other
            }
            Packet::SubAck { id, codes } => return self.subscribed(at, header, id, codes),
            Packet::PingResp => Event::Other,
            Packet::Disconnect { code } => {
                let reason = reason::of_reason_code(code);
                return Err(SessionError::Disconnected { code, reason });
            }
        };
        self.input.consume(header.packet_len());
        Ok(Some(Step::Event(event)))
    }

    fn connected(
        &mut self,
        code: u8,
        keep_alive_s: Option<u16>,
    ) -> Result<Event<'static>, SessionError> {
        if code != 0 {
            let reason = reason::of_refusal(self.protocol, code);
            return Err(SessionError::Refused { code, reason });
        }
        if let Some(keep_alive_s) = keep_alive_s {
            self.keep_alive.set_period(keep_alive_s);
        }
        self.is_connected = true;
        Ok(Event::Connected)
    }

    /// Tells one code of the SUBACK in front, and consumes it with the last.
    fn subscribed(
        &mut self,
        at: u64,
        header: Header,
        id: u16,
        codes: Range<usize>,
    ) -> Result<Option<Step>, SessionError> {
        let refuse = |what| malformed(header.kind, at, what);
        let index = self.subscribes.code(id, codes.len()).map_err(refuse)?;
        let code = self.input.unread()[header.len + codes.start + index];
        if self.subscribes.handle_told(id, codes.len()) {
            self.input.consume(header.packet_len());
        }
        // 3.1.1, 3.9.3; 5.0, 3.9.3: from 0x80 on it is a refusal.
        let is_granted = code < 0x80;
        Ok(Some(Step::Event(Event::Subscribed { is_granted })))
    }

    /// Acknowledges a message; whether it is new, or `None` without room.
    fn acknowledge(&mut self, quality: Quality, id: u16) -> Option<bool> {
        if quality == Quality::Zero {
            return Some(true);
        }
        if !self.has_room() {
            return None;
        }
        if quality == Quality::One {
            self.push_acknowledgement(PUBACK, id);
            return Some(true);
        }
        self.push_acknowledgement(PUBREC, id);
        Some(self.received_ids.insert(id))
    }

    fn has_room(&mut self) -> bool {
        self.is_blocked = self.output.room() < ACKNOWLEDGEMENT_BYTES;
        !self.is_blocked
    }

    fn push_acknowledgement(&mut self, first: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.output
            .push(&[first, 2, high, low])
            .expect("the room was checked before");
    }

    /// Skips a message that is too large, as soon as its length is known.
    fn begin_skip(&mut self, header: Header) -> Result<Option<Step>, SessionError> {
        let at = self.input.consumed();
        let refuse = |what| malformed(header.kind, at, what);
        if header.kind != PUBLISH {
            return Err(SessionError::TooLarge {
                packet: name(header.kind),
                at,
                bytes: header.packet_len(),
                bytes_max: self.packet_bytes_max,
            });
        }
        if !self.is_connected {
            return Err(refuse(CONNACK_FIRST));
        }
        self.skip = Skip::begin(header, &mut self.input).map_err(refuse)?;
        self.skip_on()
    }

    fn skip_on(&mut self) -> Result<Option<Step>, SessionError> {
        let Some(skip) = &mut self.skip else {
            return Ok(None);
        };
        let at = skip.at();
        let is_over = skip.advance(&mut self.input);
        if !is_over.map_err(|what| malformed(PUBLISH, at, what))? {
            return Ok(None);
        }
        let (quality, id, bytes) = (skip.quality(), skip.id(), skip.packet_len());
        let Some(is_new) = self.acknowledge(quality, id) else {
            return Ok(None);
        };
        self.skip = None;
        let event = if is_new {
            Event::Oversize { bytes }
        } else {
            Event::Other
        };
        Ok(Some(Step::Event(event)))
    }
}

fn malformed(kind: u8, at: u64, what: What) -> SessionError {
    SessionError::Malformed {
        packet: name(kind),
        at,
        what,
    }
}
