//! The broker without its sockets: who is connected, who leaves, and what time
//! does to them.
//!
//! ```text
//!   opened ─→ stranger ──CONNECT──→ client ─→ leaving ─→ closing ─→ closed
//!                │                              will published      last bytes sent
//!                └──── anything else, too many, too slow ──┘
//! ```
//!
//! Whoever leaves is only noted while others are being served, and taken leave of
//! at the end of each call ([`Broker::settle`]): a will may make the next client
//! leave, and so on, but never within one another.

mod connect;
mod deliver;
mod packets;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Serialize;

use crate::client::Client;
use crate::fields::{Header, Wrong};
use crate::limits::{
    CONNECT_BYTES_MAX, CONNECT_MS_MAX, PACKET_BYTES_MAX, PARTIAL_BYTES_MAX, PROPERTY_BYTES_MAX,
    STRANGERS_MAX, TOPIC_BYTES_MAX,
};
use crate::message::Budget;
use crate::notices::{Kind, Notices, shown};
use crate::packet::{Options, Publish, Version};
use crate::retained::Retained;
use crate::subscriptions::Subscriptions;

/// Who may connect.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The only user name and password that are taken; without them all are.
    pub required: Option<(String, String)>,
}

impl fmt::Debug for Login {
    /// Without the password, which may stand in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.required.as_ref().map(|(user, _)| user);
        f.debug_struct("Login").field("user", &user).finish()
    }
}

/// A connection, for as long as it lasts; none is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey(u64);

/// What the broker has done, and what it has left undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Clients that were let in.
    pub connects: u64,
    /// Connections that were not.
    pub connects_refused: u64,
    /// Clients that were let go: silent, too slow, or against the standard.
    pub clients_let_go: u64,
    /// Messages that clients published.
    pub messages_received: u64,
    /// Messages that were sent on, each as often as to a client.
    pub messages_sent: u64,
    /// Messages that a client was not sent: it is slow, they had expired, or they
    /// are larger than it takes.
    pub messages_dropped: u64,
    /// Messages that were not taken, and states that were not kept.
    pub messages_refused: u64,
    /// Filters that were refused.
    pub subscriptions_refused: u64,
}

// 5.0, 2.4.
const SUCCESS: u8 = 0;
const BAD_LOGIN: u8 = 0x86;
const BUSY: u8 = 0x89;
const SHUTTING_DOWN: u8 = 0x8B;
const BAD_AUTHENTICATION: u8 = 0x8C;
const SILENT: u8 = 0x8D;
const TAKEN_OVER: u8 = 0x8E;
const BAD_CLIENT_ID: u8 = 0x85;
const PACKET_TOO_LARGE: u8 = 0x95;
const QUOTA: u8 = 0x97;

/// The broker; see the module.
#[derive(Debug)]
pub struct Broker {
    login: Login,
    clients: BTreeMap<ClientKey, Client>,
    /// Those that are connected, by what they call themselves.
    names: BTreeMap<String, ClientKey>,
    subscriptions: Subscriptions,
    retained: Retained,
    budget: Budget,
    /// Messages in the queues of all clients.
    queued: usize,
    /// Bytes of packets of which only a part has come.
    partial_bytes: usize,
    last_key: u64,
    now_ms: u64,
    /// When somebody may have been silent for too long, at the earliest.
    due_ms: u64,
    /// Noted to leave, with the reason's code, and what they did.
    leaving: VecDeque<(ClientKey, u8, &'static str)>,
    closing: VecDeque<ClientKey>,
    /// Those who have something to be sent.
    listed: Vec<ClientKey>,
    /// Those whose scans go on.
    scanning: Vec<ClientKey>,
    /// Of one message, made once.
    receivers: Vec<(ClientKey, Options)>,
    counts: Counts,
    notices: Notices,
}

impl Broker {
    /// A broker that nobody is connected to.
    pub fn new(login: Login) -> Self {
        Self {
            login,
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            retained: Retained::default(),
            budget: Budget::default(),
            queued: 0,
            partial_bytes: 0,
            last_key: 0,
            now_ms: 0,
            due_ms: u64::MAX,
            leaving: VecDeque::new(),
            closing: VecDeque::new(),
            listed: Vec::new(),
            scanning: Vec::new(),
            receivers: Vec::new(),
            counts: Counts::default(),
            notices: Notices::default(),
        }
    }

    /// A connection from `peer` was made.
    pub fn handle_opened(&mut self, peer: String, now_ms: u64) -> ClientKey {
        self.now_ms = now_ms;
        let strangers = self.clients.iter().filter(|(_, c)| c.is_stranger());
        if strangers.clone().count() >= STRANGERS_MAX
            && let Some((oldest, _)) = strangers.clone().next()
        {
            let what = "too many connections say nothing, and it was the first";
            self.leaving.push_back((*oldest, BUSY, what));
        }
        self.last_key += 1;
        let key = ClientKey(self.last_key);
        self.clients.insert(key, Client::new(peer, now_ms));
        self.due_ms = self.due_ms.min(now_ms + CONNECT_MS_MAX);
        self.settle();
        key
    }

    /// `bytes` came from `key`; at most [`READ_BYTES`](crate::limits::READ_BYTES).
    pub fn handle_read(&mut self, key: ClientKey, bytes: &[u8], now_ms: u64) {
        self.now_ms = now_ms;
        let Some(client) = self.clients.get_mut(&key).filter(|c| !c.is_closing) else {
            return;
        };
        // A stranger has said nothing until it has said who it is.
        if client.session.is_some() {
            client.heard_at_ms = now_ms;
        }
        let mut partial = std::mem::take(&mut client.input);
        self.partial_bytes -= partial.len();
        let rest = if partial.is_empty() {
            let consumed = self.read_packets(key, bytes);
            partial.extend(&bytes[consumed..]);
            partial
        } else {
            partial.extend(bytes);
            let consumed = self.read_packets(key, &partial);
            partial.drain(..consumed);
            if partial.is_empty() {
                Vec::new()
            } else {
                partial
            }
        };
        self.partial_bytes += rest.len();
        if let Some(client) = self.clients.get_mut(&key) {
            client.input = rest;
        }
        self.bound_partial();
        self.settle();
    }

    /// The connection `key` is no more.
    pub fn handle_closed(&mut self, key: ClientKey, now_ms: u64) {
        self.now_ms = now_ms;
        self.end_session(key, true);
        if let Some(client) = self.clients.remove(&key) {
            self.partial_bytes -= client.input.len();
        }
        self.settle();
    }

    /// The time is `now_ms`; to be called before each wait.
    pub fn handle_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if now_ms >= self.due_ms {
            self.look_for_silent();
        }
        for key in std::mem::take(&mut self.scanning) {
            self.fill(key);
        }
        self.settle();
    }

    /// When [`handle_time`](Self::handle_time) has something to do at the latest.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        if !self.scanning.is_empty() {
            return Some(self.now_ms);
        }
        (self.due_ms < u64::MAX).then_some(self.due_ms)
    }

    /// Everybody is told that the broker ends; wills are not published, for they
    /// would tell of clients that are well.
    pub fn handle_stop(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let keys: Vec<ClientKey> = self.clients.keys().copied().collect();
        for key in keys {
            self.close(key, SHUTTING_DOWN);
            self.end_session(key, false);
        }
    }

    /// Whether more is to be read from `key`; not from one that leaves too many
    /// answers unread.
    pub fn wants_read(&self, key: ClientKey) -> bool {
        self.clients.get(&key).is_some_and(Client::wants_read)
    }

    /// What `key` is to be sent, in order.
    pub fn output(&self, key: ClientKey) -> &[u8] {
        self.clients
            .get(&key)
            .map_or(&[], |client| client.output.unsent())
    }

    /// `len` bytes of [`output`](Self::output) were sent.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn handle_written(&mut self, key: ClientKey, len: usize) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.output.handle_written(len);
        }
        self.fill(key);
    }

    /// Someone who has something to be sent that it had not before.
    pub fn poll_output(&mut self) -> Option<ClientKey> {
        let key = self.listed.pop()?;
        if let Some(client) = self.clients.get_mut(&key) {
            client.is_listed = false;
        }
        Some(key)
    }

    /// A connection to be closed, after its output was tried once.
    pub fn poll_closing(&mut self) -> Option<ClientKey> {
        self.closing.pop_front()
    }

    /// Something to be told to an operator.
    pub fn poll_notice(&mut self) -> Option<String> {
        self.notices.poll()
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that are held for clients: messages, subscriptions, and packets of
    /// which only a part has come.
    pub fn bytes(&self) -> usize {
        let queues = self.queued * deliver::QUEUED_OVERHEAD;
        self.budget.used() + queues + self.subscriptions.bytes() + self.partial_bytes
    }

    /// Reads every packet that is whole; how many bytes those had.
    fn read_packets(&mut self, key: ClientKey, bytes: &[u8]) -> usize {
        let mut consumed = 0;
        loop {
            let Some(client) = self.clients.get(&key) else {
                return bytes.len();
            };
            if client.is_closing || self.is_leaving(key) {
                return bytes.len();
            }
            let version = client.session.as_ref().map(|session| session.version);
            let unread = &bytes[consumed..];
            match self.read_packet(key, version, unread) {
                Ok(Some(len)) => consumed += len,
                Ok(None) => return consumed,
                Err(wrong) => {
                    self.leaving.push_back((key, wrong.code, wrong.what));
                    return bytes.len();
                }
            }
        }
    }

    /// The length of the packet at the front of `bytes`, once it is handled.
    fn read_packet(
        &mut self,
        key: ClientKey,
        version: Option<Version>,
        bytes: &[u8],
    ) -> Result<Option<usize>, Wrong> {
        let Some(header) = Header::parse(bytes)? else {
            return Ok(None);
        };
        let bytes_max = match version {
            Some(_) => PACKET_BYTES_MAX,
            None => CONNECT_BYTES_MAX,
        };
        if header.packet_len() > bytes_max {
            return Err(Wrong {
                code: PACKET_TOO_LARGE,
                what: "it sent a packet that is too large",
            });
        }
        let Some(body) = bytes.get(header.len..header.packet_len()) else {
            return Ok(None);
        };
        match version {
            None => self.handle_connect(key, header, body),
            Some(version) => self.handle_packet(key, version, header, body)?,
        }
        Ok(Some(header.packet_len()))
    }

    /// Takes leave of everyone who was noted to leave.
    fn settle(&mut self) {
        while let Some((key, code, what)) = self.leaving.pop_front() {
            let Some(client) = self.clients.get(&key).filter(|c| !c.is_closing) else {
                continue;
            };
            let Some(session) = &client.session else {
                self.refuse(key, &[], what);
                continue;
            };
            self.counts.clients_let_go += 1;
            let (name, peer) = (&session.client_id, &client.peer);
            self.notices.tell(Kind::LetGo, self.now_ms, || {
                format!("let {} at {peer} go: {what}", shown(name))
            });
            self.close(key, code);
            self.end_session(key, true);
        }
    }

    fn is_leaving(&self, key: ClientKey) -> bool {
        self.leaving.iter().any(|(leaving, ..)| *leaving == key)
    }

    /// Forgets what `key` asked for and is, and publishes its will.
    fn end_session(&mut self, key: ClientKey, publishes_will: bool) {
        let client = self.clients.get_mut(&key);
        let Some(session) = client.and_then(|client| client.session.take()) else {
            return;
        };
        self.queued -= session.queued();
        for filter in session.filters.keys() {
            self.subscriptions.remove(filter, key);
        }
        if self.names.get(&session.client_id) == Some(&key) {
            self.names.remove(&session.client_id);
        }
        if let Some(will) = session.will.filter(|_| publishes_will) {
            self.publish(None, &will.message, will.is_retained);
        }
    }

    /// Has `key` closed, with a goodbye if its version has one.
    fn close(&mut self, key: ClientKey, code: u8) {
        let Some(client) = self.clients.get_mut(&key).filter(|c| !c.is_closing) else {
            return;
        };
        let session = client.session.as_ref();
        let is_v5 = session.is_some_and(|session| session.version == Version::V5);
        if client.output.cut() && is_v5 && code != SUCCESS {
            client.output.push(&[0xE0, 1, code]);
        }
        client.is_closing = true;
        self.partial_bytes -= std::mem::take(&mut client.input).len();
        self.closing.push_back(key);
    }

    /// Notes to leave who has been silent for too long.
    fn look_for_silent(&mut self) {
        self.due_ms = u64::MAX;
        for (key, client) in &self.clients {
            if client.is_closing {
                continue;
            }
            let (limit_ms, what) = match &client.session {
                None => (Some(CONNECT_MS_MAX), "it said nothing"),
                Some(session) => (session.silence_ms_max, "it was silent for too long"),
            };
            let Some(limit_ms) = limit_ms else {
                continue;
            };
            let due_ms = client.heard_at_ms + limit_ms;
            if due_ms <= self.now_ms {
                self.leaving.push_back((*key, SILENT, what));
            } else {
                self.due_ms = self.due_ms.min(due_ms);
            }
        }
    }

    /// Lets the largest go while parts of packets are too many.
    fn bound_partial(&mut self) {
        let mut bytes = self.partial_bytes;
        while bytes > PARTIAL_BYTES_MAX {
            let open = self.clients.iter();
            let open = open.filter(|(key, c)| !c.is_closing && !self.is_leaving(**key));
            let Some((key, client)) = open.max_by_key(|(_, client)| client.input.len()) else {
                return;
            };
            bytes -= client.input.len();
            let what = "parts of large packets are too many, and its is the largest";
            self.leaving.push_back((*key, QUOTA, what));
        }
    }

    /// Notes that `key` has something to be sent.
    fn list(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(&key)
            && !client.is_listed
            && !client.output.is_empty()
        {
            client.is_listed = true;
            self.listed.push(key);
        }
    }
}

/// Whether a topic and properties may be stored.
fn is_in_bounds(publish: &Publish<'_>) -> bool {
    publish.topic.len() <= TOPIC_BYTES_MAX && publish.properties.len <= PROPERTY_BYTES_MAX
}
