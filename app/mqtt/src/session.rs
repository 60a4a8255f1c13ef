//! The protocol of one connection, without the connection.

use std::ops::Range;

use crate::body::What;
use crate::connect::connect;
use crate::event::Event;
use crate::input::Input;
use crate::keep_alive::KeepAlive;
use crate::output::{ACKNOWLEDGEMENT_BYTES, Id, Output, RESERVE_BYTES};
use crate::packet::{Header, Limits, PUBLISH, Packet, Quality, name};
use crate::payload::Payload;
use crate::published_ids::PublishedIds;
use crate::received_ids::ReceivedIds;
use crate::skip::Skip;
use crate::subscribes::Subscribes;
use crate::{Full, Protocol, SessionError, Settings, Will, reason};

const CONNACK_FIRST: What = "there is one CONNACK, and it comes before all others";

const NEVER_SENT: What = "it answers something that was never sent";

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
const PINGREQ: [u8; 2] = [0xC0, 0];
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// One connection to a broker, from CONNECT to its end.
///
/// The caller moves bytes: from the socket into [`read_space`](Self::read_space)
/// and from [`output`](Self::output) to the socket, and asks for every event in
/// between. [`Client`](crate::Client) is its driver.
pub struct Session {
    protocol: Protocol,
    packet_bytes_max: usize,
    connect: Box<[u8]>,
    /// The client's own wish.
    keep_alive_s: u16,
    input: Input,
    output: Output,
    is_connected: bool,
    /// What the broker said of itself.
    limits: Limits,
    /// Identifiers of SUBSCRIBE and PUBLISH come from one count.
    last_id: u16,
    subscribes: Subscribes,
    published_ids: PublishedIds,
    received_ids: ReceivedIds,
    keep_alive: KeepAlive,
    skip: Option<Skip>,
    is_blocked: bool,
    failed: Option<SessionError>,
}

/// An event whose bytes are still a place in the input.
pub(crate) enum Incoming {
    Connected,
    Subscribed { code: u8 },
    Acknowledged { id: u16, code: u8 },
    Message(Place),
    Oversize { bytes: usize },
    Other,
}

/// Where a message is, until the next read.
pub(crate) struct Place {
    at: u64,
    topic: Range<usize>,
    payload: Range<usize>,
    pub(crate) is_retained: bool,
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
        Self::with_will(settings, None, read_buffer_bytes, write_buffer_bytes)
    }

    pub(crate) fn with_will(
        settings: &Settings,
        will: Option<&Will>,
        read_buffer_bytes: usize,
        write_buffer_bytes: usize,
    ) -> Result<Self, SessionError> {
        let connect = connect(settings, will)?;
        let read_bytes = read_buffer_bytes.max(settings.packet_bytes_max);
        let write_bytes = write_buffer_bytes.max(RESERVE_BYTES + connect.len());
        let mut session = Self {
            protocol: settings.protocol,
            packet_bytes_max: settings.packet_bytes_max,
            connect: connect.into_boxed_slice(),
            keep_alive_s: settings.keep_alive_s,
            input: Input::new(read_bytes),
            output: Output::new(write_bytes),
            is_connected: false,
            limits: Limits::NONE,
            last_id: 0,
            subscribes: Subscribes::new(),
            published_ids: PublishedIds::new(),
            received_ids: ReceivedIds::new(),
            keep_alive: KeepAlive::new(settings.keep_alive_s),
            skip: None,
            is_blocked: false,
            failed: None,
        };
        session.begin();
        Ok(session)
    }

    /// As new, in the same memory: nothing of the connection before is left,
    /// no byte and no identifier.
    pub(crate) fn restart(&mut self) {
        self.input.clear();
        self.output.clear();
        self.is_connected = false;
        self.limits = Limits::NONE;
        self.last_id = 0;
        self.subscribes = Subscribes::new();
        self.published_ids = PublishedIds::new();
        self.received_ids.clear();
        self.keep_alive = KeepAlive::new(self.keep_alive_s);
        self.skip = None;
        self.is_blocked = false;
        self.failed = None;
        self.begin();
    }

    fn begin(&mut self) {
        self.output
            .push(&self.connect)
            .expect("the output was made large enough");
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
        Ok(match self.poll_step()? {
            None => None,
            Some(Incoming::Message(place)) => Some(self.message(place)?),
            Some(Incoming::Connected) => Some(Event::Connected),
            Some(Incoming::Subscribed { code }) => Some(Event::Subscribed {
                is_granted: !reason::is_refusal(code),
            }),
            Some(Incoming::Oversize { bytes }) => Some(Event::Oversize { bytes }),
            Some(Incoming::Acknowledged { .. } | Incoming::Other) => Some(Event::Other),
        })
    }

    /// As [`poll_event`](Self::poll_event), but a message stays where it is.
    pub(crate) fn poll_step(&mut self) -> Result<Option<Incoming>, SessionError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.step().inspect_err(|error| self.failed = Some(*error))
    }

    /// The message at `place`.
    pub(crate) fn message(&mut self, place: Place) -> Result<Event<'_>, SessionError> {
        let Ok(topic) = std::str::from_utf8(self.input.at(place.topic)) else {
            let error = malformed(PUBLISH, place.at, "its topic is not UTF-8");
            self.failed = Some(error);
            return Err(error);
        };
        let payload = self.input.at(place.payload);
        Ok(Event::Message { topic, payload })
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
        self.subscribes.check_room()?;
        let id = self.next_id();
        self.output.push_subscribe(self.protocol, id, filters)?;
        self.last_id = id;
        self.subscribes.handle_sent(id, filters.len());
        Ok(())
    }

    /// Whether another message may be published at QoS 1.
    pub(crate) fn has_room_at_least_once(&self) -> bool {
        self.published_ids.has_room()
    }

    /// Publishes at QoS 1; the packet's identifier, which comes back with
    /// [`Incoming::Acknowledged`].
    ///
    /// # Panics
    /// Without [room](Self::has_room_at_least_once) for it.
    pub(crate) fn publish_at_least_once(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
    ) -> Result<u16, Full> {
        let id = self.next_id();
        self.output
            .push_publish(self.protocol, &[topic], Id::new(id), is_retained, |room| {
                room.push(payload);
            })?;
        self.last_id = id;
        self.published_ids.insert(id);
        Ok(id)
    }

    /// The code with which this broker would refuse such a message, and end
    /// the connection (5.0, 3.2.2.3.4 to 3.2.2.3.6).
    pub(crate) fn refusal(&self, needed: usize, is_retained: bool) -> Option<u8> {
        if needed > self.limits.packet_bytes_max {
            Some(reason::PACKET_TOO_LARGE)
        } else if !self.limits.takes_quality_one {
            Some(reason::QUALITY_NOT_SUPPORTED)
        } else if is_retained && !self.limits.takes_retained {
            Some(reason::RETAIN_NOT_SUPPORTED)
        } else {
            None
        }
    }

    /// The room that a message at QoS 1 asks for, or nothing if there is never
    /// as much.
    pub(crate) fn room_needed(&self, topic: &str, payload: &[u8]) -> Option<usize> {
        let needed = Output::needed(self.protocol, topic.len(), Id::new(1), payload.len());
        self.output.can_hold(needed).then_some(needed)
    }

    /// An identifier that nothing under way has; both kinds are few.
    fn next_id(&self) -> u16 {
        let mut id = self.last_id;
        loop {
            id = id.checked_add(1).unwrap_or(1);
            if !self.subscribes.contains(id) && !self.published_ids.contains(id) {
                return id;
            }
        }
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
        self.output
            .push_publish(self.protocol, topic, Id::NONE, false, write)
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
        // Not `failed`: what was received before the silence is still to be polled.
        let is_due = self
            .keep_alive
            .handle_time(now_ms, received, sent, unsent)?;
        // Without room a ping would wait behind what proves the same.
        if is_due && self.output.push(&PINGREQ).is_ok() {
            self.keep_alive.handle_ping(now_ms, received);
        }
        Ok(())
    }

    /// When [`handle_time`](Self::handle_time) has something to do at the
    /// latest, if no byte moves until then.
    pub(crate) fn next_timeout_ms(&self) -> Option<u64> {
        let has_room = self.output.room() >= PINGREQ.len();
        self.keep_alive.next_timeout_ms(has_room)
    }

    /// Whether [`poll_step`](Self::poll_step) stopped for something that is no
    /// more in the way, or is over.
    pub(crate) fn is_stopped(&self) -> bool {
        let has_room = self.output.room() >= ACKNOWLEDGEMENT_BYTES;
        self.failed.is_some() || (self.is_blocked && has_room)
    }

    /// Says goodbye. Send the output, then close the connection; nothing may
    /// be published after this.
    pub fn disconnect(&mut self) {
        // Without room the goodbye would wait behind a socket that takes
        // nothing; closing the connection says the same.
        let _ = self.output.push(&DISCONNECT);
    }

    fn step(&mut self) -> Result<Option<Incoming>, SessionError> {
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
    ) -> Result<Option<Incoming>, SessionError> {
        let step = match packet {
            Packet::ConnAck { code, limits } => self.connected(code, limits)?,
            Packet::Publish {
                is_retained,
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
                    return Ok(Some(Incoming::Message(Place {
                        at,
                        topic: body + topic.start..body + topic.end,
                        payload: body + payload.start..body + payload.end,
                        is_retained,
                    })));
                }
                Incoming::Other
            }
            Packet::PubAck { id, code } => {
                if !self.published_ids.remove(id) {
                    return Err(malformed(header.kind, at, NEVER_SENT));
                }
                Incoming::Acknowledged { id, code }
            }
            Packet::PubRel { id } => {
                if !self.has_room() {
                    return Ok(None);
                }
                self.received_ids.remove(id);
                self.push_acknowledgement(PUBCOMP, id);
                Incoming::Other
            }
            Packet::SubAck { id, codes } => return self.subscribed(at, header, id, codes),
            Packet::PingResp => Incoming::Other,
            Packet::Disconnect { code } => {
                let reason = reason::of_reason_code(code);
                return Err(SessionError::Disconnected { code, reason });
            }
        };
        self.input.consume(header.packet_len());
        Ok(Some(step))
    }

    fn connected(&mut self, code: u8, limits: Limits) -> Result<Incoming, SessionError> {
        if code != 0 {
            let reason = reason::of_refusal(self.protocol, code);
            return Err(SessionError::Refused { code, reason });
        }
        if let Some(keep_alive_s) = limits.keep_alive_s {
            self.keep_alive.set_period(keep_alive_s);
        }
        self.published_ids.set_max(limits.receive_max);
        self.limits = limits;
        self.is_connected = true;
        Ok(Incoming::Connected)
    }

    /// Tells one code of the SUBACK in front, and consumes it with the last.
    fn subscribed(
        &mut self,
        at: u64,
        header: Header,
        id: u16,
        codes: Range<usize>,
    ) -> Result<Option<Incoming>, SessionError> {
        let refuse = |what| malformed(header.kind, at, what);
        let index = self.subscribes.code(id, codes.len()).map_err(refuse)?;
        let code = self.input.unread()[header.len + codes.start + index];
        if self.subscribes.handle_told(id, codes.len()) {
            self.input.consume(header.packet_len());
        }
        Ok(Some(Incoming::Subscribed { code }))
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
    fn begin_skip(&mut self, header: Header) -> Result<Option<Incoming>, SessionError> {
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

    fn skip_on(&mut self) -> Result<Option<Incoming>, SessionError> {
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
        Ok(Some(if is_new {
            Incoming::Oversize { bytes }
        } else {
            Incoming::Other
        }))
    }
}

fn malformed(kind: u8, at: u64, what: What) -> SessionError {
    SessionError::Malformed {
        packet: name(kind),
        at,
        what,
    }
}
