//! The bytes that were received and not yet read as packets.

use std::ops::Range;

/// Room for a fixed header and the length of a topic, which are read at once.
const CAPACITY_MIN: usize = 64;

pub(crate) struct Input {
    bytes: Box<[u8]>,
    unread: Range<usize>,
    received: u64,
}

impl Input {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            bytes: vec![0; capacity.max(CAPACITY_MIN)].into_boxed_slice(),
            unread: 0..0,
            received: 0,
        }
    }

    /// Forgets everything, as for another connection.
    pub(crate) fn clear(&mut self) {
        self.unread = 0..0;
        self.received = 0;
    }

    /// Where the next bytes go, after what is unread was moved to the front:
    /// a part of one packet, if the caller has asked for every event.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.unread.start > 0 {
            self.bytes.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        &mut self.bytes[self.unread.end..]
    }

    pub(crate) fn add(&mut self, len: usize) {
        assert!(
            len <= self.bytes.len() - self.unread.end,
            "more bytes were read than there was space for"
        );
        self.unread.end += len;
        self.received += len as u64;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.unread.len() == self.bytes.len()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn consumed(&self) -> u64 {
        self.received - self.unread.len() as u64
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.unread.clone()]
    }

    /// Gives up the next `len` bytes; where they are, until the next
    /// [`space`](Self::space).
    pub(crate) fn consume(&mut self, len: usize) -> Range<usize> {
        assert!(len <= self.unread.len(), "only what is there is consumed");
        let consumed = self.unread.start..self.unread.start + len;
        self.unread.start = consumed.end;
        consumed
    }

    /// Bytes at a place that [`consume`](Self::consume) gave.
    pub(crate) fn at(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }
}
