//! From a message to the outputs of those who asked for it.

use std::sync::Arc;

use super::{Broker, QUOTA, SUCCESS};
use crate::ClientKey;
use crate::client::Queued;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::Message;
use crate::notices::{Kind, shown};
use crate::packet::Quality;

/// What a place in a queue takes; a queue doubles as it grows.
pub(super) const QUEUED_OVERHEAD: usize = 2 * size_of::<Queued>();

/// Nobody asked for it (5.0, 3.4.2.1).
const NO_SUBSCRIBERS: u8 = 0x10;

impl Broker {
    /// Sends `message`, which `from` published, to all who ask for it, and keeps it
    /// if it is to be retained; what MQTT 5 answers.
    pub(super) fn publish(
        &mut self,
        from: Option<ClientKey>,
        message: &Arc<Message>,
        is_retained: bool,
    ) -> u8 {
        let is_kept = !is_retained || self.retain(message);
        let mut receivers = std::mem::take(&mut self.receivers);
        self.subscriptions.matching(message.topic(), |subscriber| {
            if !(subscriber.options.is_not_local && from == Some(subscriber.client)) {
                receivers.push((subscriber.client, subscriber.options));
            }
        });
        // Who asks for it by several filters gets it once, as the best of them says.
        receivers.sort_unstable_by_key(|(client, _)| *client);
        receivers.dedup_by(|(client, options), (before, best)| {
            let is_same = client == before;
            if is_same {
                best.quality = best.quality.max(options.quality);
                best.keeps_retain |= options.keeps_retain;
            }
            is_same
        });
        let is_wanted = !receivers.is_empty();
        for (client, options) in receivers.drain(..) {
            let queued = Queued {
                message: Arc::clone(message),
                quality: message.quality().min(options.quality),
                is_retained: is_retained && options.keeps_retain,
            };
            self.enqueue(client, queued);
        }
        self.receivers = receivers;
        match (is_kept, is_wanted) {
            (false, _) => QUOTA,
            (true, true) => SUCCESS,
            (true, false) => NO_SUBSCRIBERS,
        }
    }

    /// Keeps `message` as the state of its topic; an empty one empties it (3.1.1,
    /// 3.3.1.3; 5.0, 3.3.1.3). Whether there was room.
    fn retain(&mut self, message: &Arc<Message>) -> bool {
        if message.payload().is_empty() {
            self.retained.forget(message.topic());
            return true;
        }
        if self.retained.keep(message) {
            return true;
        }
        self.retained.forget_expired(self.now_ms);
        if self.retained.keep(message) {
            return true;
        }
        self.counts.messages_refused += 1;
        let (count, bytes) = (self.retained.count(), self.retained.bytes());
        self.notices.tell(Kind::Message, self.now_ms, || {
            let topic = shown(message.topic());
            format!("{topic} is not retained: {count} messages of {bytes} bytes are already")
        });
        false
    }

    /// A slow client loses what it is not assured of, and then its connection.
    fn enqueue(&mut self, key: ClientKey, queued: Queued) {
        let client = self.clients.get_mut(&key);
        let Some(session) = client.and_then(|client| client.session.as_mut()) else {
            return;
        };
        let cost = queued.message.cost();
        if !session.has_room(cost) {
            let dropped = match queued.quality {
                Quality::Zero => 1,
                _ => session.drop_unassured(),
            };
            let name = &session.client_id;
            self.counts.messages_dropped += dropped as u64;
            self.notices.tell(Kind::Slow, self.now_ms, || {
                format!("{} is slow: messages at QoS 0 are dropped", shown(name))
            });
            if queued.quality == Quality::Zero {
                return;
            }
            self.queued -= dropped;
            if !session.has_room(cost) {
                let what = "it takes its messages too slowly";
                if !self.is_leaving(key) {
                    self.leaving.push_back((key, QUOTA, what));
                }
                return;
            }
        }
        session.push(queued);
        self.queued += 1;
        self.fill(key);
    }

    /// Moves messages of `key` on to its output.
    pub(super) fn fill(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let Some(session) = &mut client.session else {
            return;
        };
        let before = session.queued();
        let moved = session.fill(&mut client.output, &self.retained, self.now_ms);
        // Scans may have added to it.
        self.queued = self.queued - before + session.queued();
        self.counts.messages_sent += moved.sent;
        self.counts.messages_dropped += moved.dropped;
        if moved.has_more && !self.scanning.contains(&key) {
            self.scanning.push(key);
        }
        self.list(key);
    }

    /// Makes room for a message of `cost` bytes: who has the most waiting loses
    /// what it is not assured of, and then its connection. Whether there is room.
    pub(super) fn make_room(&mut self, cost: usize) -> bool {
        let bytes_max = MESSAGE_BYTES_MAX - cost;
        while self.budget.used() + self.queued * QUEUED_OVERHEAD > bytes_max {
            let clients = self.clients.iter_mut();
            let held = clients.filter_map(|(key, client)| {
                let session = client.session.as_mut()?;
                let bytes = session.queued_bytes() + client.output.held_bytes();
                Some((bytes, *key, session))
            });
            let slowest = held.max_by_key(|(bytes, ..)| *bytes);
            let Some((_, key, session)) = slowest.filter(|(bytes, ..)| *bytes > 0) else {
                return false;
            };
            let dropped = session.drop_unassured();
            self.counts.messages_dropped += dropped as u64;
            self.queued -= dropped;
            if dropped == 0 {
                let what = "too many messages wait, and most of them for it";
                self.leaving.push_back((key, QUOTA, what));
                self.settle();
            }
        }
        true
    }
}
