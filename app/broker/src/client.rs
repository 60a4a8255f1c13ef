//! One connection, and what it has once its CONNECT was accepted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::limits::{INFLIGHT_MAX, QUEUED_BYTES_MAX, QUEUED_MAX, UNREAD_BYTES_MAX};
use crate::message::Message;
use crate::output::{Output, Sent};
use crate::packet::{Options, Quality, Version};
use crate::retained::{Found, Retained, Scan};

/// Retained messages that are taken from a scan before others have their turn.
const SCAN_AHEAD: usize = 64;
/// Topics that a scan looks at in one turn.
pub(crate) const SCAN_STEPS: usize = 512;

#[derive(Debug)]
pub(crate) struct Client {
    /// Its address, for people.
    pub(crate) peer: String,
    /// When something came from it last.
    pub(crate) heard_at_ms: u64,
    /// The beginning of a packet whose end is still to come.
    pub(crate) input: Vec<u8>,
    pub(crate) output: Output,
    /// None before its CONNECT.
    pub(crate) session: Option<Session>,
    /// It was told to go; only its last bytes are of interest.
    pub(crate) is_closing: bool,
    /// It is in the list of those who have something to be sent.
    pub(crate) is_listed: bool,
}

impl Client {
    pub(crate) fn new(peer: String, now_ms: u64) -> Self {
        Self {
            peer,
            heard_at_ms: now_ms,
            input: Vec::new(),
            output: Output::default(),
            session: None,
            is_closing: false,
            is_listed: false,
        }
    }

    pub(crate) fn is_stranger(&self) -> bool {
        self.session.is_none() && !self.is_closing
    }

    pub(crate) fn wants_read(&self) -> bool {
        !self.is_closing && self.output.waiting() < UNREAD_BYTES_MAX
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) will: Option<Will>,
    /// Without a packet for so long it is let go: one and a half times its
    /// keep-alive (3.1.1, 3.1.2.10; 5.0, 3.1.2.10).
    pub(crate) silence_ms_max: Option<u64>,
    pub(crate) receive_max: u16,
    pub(crate) packet_bytes_max: usize,
    pub(crate) filters: BTreeMap<Box<str>, Options>,
    /// Subscriptions that are still being sent what is retained.
    pub(crate) scans: VecDeque<Scan>,
    /// Messages at QoS 2 that were taken and not released yet.
    pub(crate) unreleased: Vec<u16>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Messages at QoS 1 that were sent and not acknowledged yet. The session ends
    /// with the connection, so nothing is ever sent again.
    inflight: Vec<u16>,
    last_id: u16,
}

/// What is published if the connection ends without a goodbye.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: Arc<Message>,
    pub(crate) is_retained: bool,
}

#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: Arc<Message>,
    pub(crate) quality: Quality,
    pub(crate) is_retained: bool,
}

/// What became of the messages that were moved on to the output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) sent: u64,
    /// Worth nothing any more, or larger than the client takes.
    pub(crate) dropped: u64,
    /// A scan has looked at enough topics for one turn.
    pub(crate) has_more: bool,
}

impl Session {
    pub(crate) fn new(version: Version, client_id: String) -> Self {
        Self {
            version,
            client_id,
            will: None,
            silence_ms_max: None,
            receive_max: u16::MAX,
            packet_bytes_max: usize::MAX,
            filters: BTreeMap::new(),
            scans: VecDeque::new(),
            unreleased: Vec::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            inflight: Vec::new(),
            last_id: 0,
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether a message of `cost` bytes finds room in the queue.
    pub(crate) fn has_room(&self, cost: usize) -> bool {
        self.queue.len() < QUEUED_MAX && self.queued_bytes + cost <= QUEUED_BYTES_MAX
    }

    pub(crate) fn push(&mut self, queued: Queued) {
        self.queued_bytes += queued.message.cost();
        self.queue.push_back(queued);
    }

    /// Drops what waits at QoS 0; how many that were.
    pub(crate) fn drop_unassured(&mut self) -> usize {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.quality > Quality::Zero);
        self.queued_bytes = self.queue.iter().map(|queued| queued.message.cost()).sum();
        before - self.queue.len()
    }

    /// Starts sending what is retained for `filter`, from the beginning.
    pub(crate) fn scan(&mut self, filter: &str) {
        self.stop_scan(filter);
        self.scans.push_back(Scan::new(filter));
    }

    pub(crate) fn stop_scan(&mut self, filter: &str) {
        self.scans.retain(|scan| scan.filter.as_ref() != filter);
    }

    pub(crate) fn handle_acknowledged(&mut self, id: u16) {
        self.inflight.retain(|inflight| *inflight != id);
    }

    /// Moves messages on to `output`, as many as it and the client take.
    pub(crate) fn fill(&mut self, output: &mut Output, retained: &Retained, now_ms: u64) -> Moved {
        let mut moved = Moved::default();
        let mut steps = SCAN_STEPS;
        loop {
            self.advance_scans(retained, &mut steps);
            let has_place = self.inflight.len() < usize::from(self.receive_max.min(INFLIGHT_MAX));
            let is_sendable = |queued: &Queued| queued.quality == Quality::Zero || has_place;
            if !output.has_room() || !self.queue.front().is_some_and(is_sendable) {
                moved.has_more = steps == 0 && output.has_room() && self.queue.is_empty();
                return moved;
            }
            let Some(queued) = self.queue.pop_front() else {
                return moved;
            };
            self.queued_bytes -= queued.message.cost();
            if self.queue.is_empty() && self.queue.capacity() > SCAN_AHEAD {
                self.queue = VecDeque::new();
            }
            if self.send(&queued, output, now_ms) {
                moved.sent += 1;
            } else {
                moved.dropped += 1;
            }
        }
    }

    /// Takes retained messages into the queue, if it is short.
    fn advance_scans(&mut self, retained: &Retained, steps: &mut usize) {
        while let Some(scan) = self.scans.front_mut()
            && self.queue.len() < SCAN_AHEAD
            && self.queued_bytes < QUEUED_BYTES_MAX / 2
        {
            match scan.next(retained, steps) {
                Found::More => return,
                Found::End => drop(self.scans.pop_front()),
                Found::Message(message) => {
                    let options = self.filters.get(&scan.filter);
                    let quality = options.map_or(Quality::Zero, |options| options.quality);
                    let quality = quality.min(message.quality());
                    self.push(Queued {
                        message,
                        quality,
                        is_retained: true,
                    });
                }
            }
        }
    }

    /// Whether it was sent.
    fn send(&mut self, queued: &Queued, output: &mut Output, now_ms: u64) -> bool {
        let Some(expiry_s) = queued.message.left_s(now_ms) else {
            return false;
        };
        let is_assured = queued.quality > Quality::Zero;
        let id = if is_assured { self.next_id() } else { 0 };
        let sent = Sent {
            version: self.version,
            message: &queued.message,
            quality: queued.quality,
            is_retained: queued.is_retained,
            id,
            expiry_s,
        };
        if !output.push_message(&sent, self.packet_bytes_max) {
            return false;
        }
        if is_assured {
            self.inflight.push(id);
        }
        true
    }

    /// One that nothing under way has; those are few.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.inflight.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
