//! What a connected client says.

use super::{Broker, QUOTA, SUCCESS, is_in_bounds};
use crate::ClientKey;
use crate::client::Session;
use crate::fields::{Fields, Header, Wrong};
use crate::limits::{FILTERS_PER_PACKET_MAX, RECEIVE_MAX, TOPIC_BYTES_MAX};
use crate::message::Message;
use crate::notices::{Kind, shown};
use crate::packet::{self, Handling, Options, Packet, Publish, Quality, Version};
use crate::subscriptions::{Added, Subscriber};
use crate::topic;

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xB0;
const PINGRESP: [u8; 2] = [0xD0, 0];

// 5.0, 2.4.
const NO_SUBSCRIPTION: u8 = 0x11;
const FILTER_INVALID: u8 = 0x8F;
const UNKNOWN_ID: u8 = 0x92;
const TOO_MANY_AT_ONCE: u8 = 0x93;
const SHARED_NOT_SUPPORTED: u8 = 0x9E;
/// 3.1.1, 3.9.3.
const FAILURE: u8 = 0x80;

/// Subscriptions are granted no more: at least once is enough where a reading has
/// a number.
const GRANTED_MAX: Quality = Quality::One;

impl Broker {
    pub(super) fn handle_packet(
        &mut self,
        key: ClientKey,
        version: Version,
        header: Header,
        body: &[u8],
    ) -> Result<(), Wrong> {
        match Packet::parse(version, header, body)? {
            Packet::Publish(publish) => self.handle_publish(key, version, &publish)?,
            Packet::PubAck(id) => {
                if let Some(session) = self.session(key) {
                    session.handle_acknowledged(id);
                }
                self.fill(key);
            }
            Packet::PubRel(id) => self.handle_release(key, version, id),
            Packet::Subscribe { id, filters } => self.subscribe(key, version, id, filters)?,
            Packet::Unsubscribe { id, filters } => self.unsubscribe(key, version, id, filters)?,
            Packet::Ping => self.answer(key, &PINGRESP),
            Packet::Disconnect { keeps_will } => {
                self.end_session(key, keeps_will);
                self.close(key, SUCCESS);
            }
        }
        Ok(())
    }

    fn handle_publish(
        &mut self,
        key: ClientKey,
        version: Version,
        publish: &Publish<'_>,
    ) -> Result<(), Wrong> {
        if publish.quality == Quality::Two && self.is_taken(key, publish.id)? {
            acknowledge(self, key, version, PUBREC, publish.id, SUCCESS);
            return Ok(());
        }
        self.counts.messages_received += 1;
        let code = if !is_in_bounds(publish) {
            self.refuse_message(publish, "its topic or its properties are too long");
            QUOTA
        } else if !self.make_room(Message::cost_of(publish)) {
            self.refuse_message(publish, "too many messages are kept");
            QUOTA
        } else {
            let message = Message::new(publish, self.now_ms, &self.budget);
            self.publish(Some(key), &message, publish.is_retained)
        };
        let first = match publish.quality {
            Quality::Zero => return Ok(()),
            Quality::One => PUBACK,
            Quality::Two => PUBREC,
        };
        let ends_there = version == Version::V5 && code >= 0x80;
        if publish.quality == Quality::Two
            && !ends_there
            && let Some(session) = self.session(key)
        {
            session.unreleased.push(publish.id);
        }
        acknowledge(self, key, version, first, publish.id, code);
        Ok(())
    }

    /// Whether a message at QoS 2 was taken before.
    fn is_taken(&mut self, key: ClientKey, id: u16) -> Result<bool, Wrong> {
        let Some(session) = self.session(key) else {
            return Ok(false);
        };
        let is_taken = session.unreleased.contains(&id);
        if !is_taken && session.unreleased.len() >= usize::from(RECEIVE_MAX) {
            return Err(Wrong {
                code: TOO_MANY_AT_ONCE,
                what: "it began too many messages at QoS 2 and released none",
            });
        }
        Ok(is_taken)
    }

    fn refuse_message(&mut self, publish: &Publish<'_>, why: &str) {
        self.counts.messages_refused += 1;
        self.notices.tell(Kind::Message, self.now_ms, || {
            format!("a message for {} is not taken: {why}", shown(publish.topic))
        });
    }

    fn handle_release(&mut self, key: ClientKey, version: Version, id: u16) {
        let Some(session) = self.session(key) else {
            return;
        };
        let before = session.unreleased.len();
        session.unreleased.retain(|unreleased| *unreleased != id);
        let code = match session.unreleased.len() == before {
            true => UNKNOWN_ID,
            false => SUCCESS,
        };
        acknowledge(self, key, version, PUBCOMP, id, code);
    }

    fn subscribe(
        &mut self,
        key: ClientKey,
        version: Version,
        id: u16,
        mut filters: Fields<'_>,
    ) -> Result<(), Wrong> {
        let is_v5 = version == Version::V5;
        let mut answer = head_of_answer(version, id);
        let mut count = 0;
        while !filters.is_empty() {
            let (filter, options) = packet::filter(is_v5, &mut filters)?;
            count += 1;
            check_count(count)?;
            answer.push(match self.subscribe_one(key, filter, options) {
                Ok(granted) => granted as u8,
                Err(code) if is_v5 => code,
                Err(_) => FAILURE,
            });
        }
        self.answer_body(key, SUBACK, &answer);
        // What is retained follows the answer.
        self.fill(key);
        Ok(())
    }

    /// What is granted, or the code of MQTT 5 that says why not.
    fn subscribe_one(
        &mut self,
        key: ClientKey,
        filter: &str,
        options: Options,
    ) -> Result<Quality, u8> {
        let options = Options {
            quality: options.quality.min(GRANTED_MAX),
            ..options
        };
        let granted = self.try_subscribe(key, filter, options);
        if granted.is_err() {
            self.counts.subscriptions_refused += 1;
            let (all, bytes) = (self.subscriptions.count(), self.subscriptions.bytes());
            let client = self.clients.get(&key).and_then(|c| c.session.as_ref());
            let name = client.map_or("", |session| &session.client_id);
            self.notices.tell(Kind::Subscription, self.now_ms, || {
                let (name, filter) = (shown(name), shown(filter));
                format!(
                    "{name} may not subscribe to {filter}: it is no filter, shared, too long, \
                     or one too many ({all} of {bytes} bytes)"
                )
            });
        }
        granted
    }

    fn try_subscribe(
        &mut self,
        key: ClientKey,
        filter: &str,
        options: Options,
    ) -> Result<Quality, u8> {
        if filter.starts_with("$share/") {
            return Err(SHARED_NOT_SUPPORTED);
        }
        if !topic::is_filter(filter) {
            return Err(FILTER_INVALID);
        }
        let client = self.clients.get_mut(&key);
        let session = client.and_then(|client| client.session.as_mut());
        let session = session.ok_or(QUOTA)?;
        if filter.len() > TOPIC_BYTES_MAX {
            return Err(QUOTA);
        }
        let subscriber = Subscriber {
            client: key,
            options,
        };
        let of_client = session.filters.len();
        let added = self.subscriptions.add(filter, subscriber, of_client);
        let added = added.ok_or(QUOTA)?;
        session.filters.insert(filter.into(), options);
        let is_sent = match options.retained {
            Handling::Send => true,
            Handling::SendIfNew => added == Added::New,
            Handling::Not => false,
        };
        if is_sent {
            session.scan(filter);
        }
        Ok(options.quality)
    }

    fn unsubscribe(
        &mut self,
        key: ClientKey,
        version: Version,
        id: u16,
        mut filters: Fields<'_>,
    ) -> Result<(), Wrong> {
        let mut answer = head_of_answer(version, id);
        let mut count = 0;
        while !filters.is_empty() {
            let filter = filters.text()?;
            count += 1;
            check_count(count)?;
            let session = self.session(key);
            let was_there = session.is_some_and(|session| {
                session.stop_scan(filter);
                session.filters.remove(filter).is_some()
            });
            self.subscriptions.remove(filter, key);
            // 3.1.1 does not say which.
            if version == Version::V5 {
                answer.push(match was_there {
                    true => SUCCESS,
                    false => NO_SUBSCRIPTION,
                });
            }
        }
        self.answer_body(key, UNSUBACK, &answer);
        Ok(())
    }

    fn session(&mut self, key: ClientKey) -> Option<&mut Session> {
        self.clients.get_mut(&key)?.session.as_mut()
    }

    fn answer(&mut self, key: ClientKey, packet: &[u8]) {
        if let Some(client) = self.clients.get_mut(&key).filter(|c| !c.is_closing) {
            client.output.push(packet);
        }
        self.list(key);
    }

    fn answer_body(&mut self, key: ClientKey, first: u8, body: &[u8]) {
        if let Some(client) = self.clients.get_mut(&key).filter(|c| !c.is_closing) {
            client.output.push_body(first, body);
        }
        self.list(key);
    }
}

/// The identifier, and no properties (3.1.1, 3.9 and 3.11; 5.0, 3.9 and 3.11).
fn head_of_answer(version: Version, id: u16) -> Vec<u8> {
    let mut answer = Vec::from(id.to_be_bytes());
    if version == Version::V5 {
        answer.push(0);
    }
    answer
}

fn check_count(count: usize) -> Result<(), Wrong> {
    if count <= FILTERS_PER_PACKET_MAX {
        return Ok(());
    }
    Err(Wrong {
        code: QUOTA,
        what: "it sent too many filters in one packet",
    })
}

/// PUBACK, PUBREC and PUBCOMP; only MQTT 5 has a code, and leaves out success
/// (5.0, 3.4.2.1).
fn acknowledge(
    broker: &mut Broker,
    key: ClientKey,
    version: Version,
    first: u8,
    id: u16,
    code: u8,
) {
    let [high, low] = id.to_be_bytes();
    if version == Version::V311 || code == SUCCESS {
        broker.answer(key, &[first, 2, high, low]);
    } else {
        broker.answer(key, &[first, 3, high, low, code]);
    }
}
