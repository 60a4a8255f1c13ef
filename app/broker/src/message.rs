//! A message, kept once however many wait for it, and the bytes of all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::packet::{Publish, Quality};

/// What a message takes beside its bytes: two allocations and its fields.
const OVERHEAD_BYTES: usize = 128;

/// The bytes of everything that was not dropped yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Topic, forwarded properties and payload, and until when it is worth anything.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Box<[u8]>,
    topic_len: usize,
    properties_len: usize,
    quality: Quality,
    expires_at_ms: Option<u64>,
    budget: Budget,
}

impl Message {
    pub(crate) fn new(publish: &Publish<'_>, now_ms: u64, budget: &Budget) -> Arc<Self> {
        let topic = publish.topic.as_bytes();
        let mut bytes = Vec::with_capacity(Self::len_of(publish));
        bytes.extend(topic);
        publish.properties.write(&mut bytes);
        let properties_len = bytes.len() - topic.len();
        bytes.extend(publish.payload);
        let expiry_s = publish.properties.expiry_s;
        let message = Self {
            bytes: bytes.into_boxed_slice(),
            topic_len: topic.len(),
            properties_len,
            quality: publish.quality,
            expires_at_ms: expiry_s.map(|seconds| now_ms + 1000 * u64::from(seconds)),
            budget: budget.clone(),
        };
        budget.0.fetch_add(message.cost(), Ordering::Relaxed);
        Arc::new(message)
    }

    fn len_of(publish: &Publish<'_>) -> usize {
        publish.topic.len() + publish.properties.len + publish.payload.len()
    }

    /// What such a message would take.
    pub(crate) fn cost_of(publish: &Publish<'_>) -> usize {
        Self::len_of(publish) + OVERHEAD_BYTES
    }

    /// What it takes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }

    pub(crate) fn topic(&self) -> &str {
        let topic = std::str::from_utf8(&self.bytes[..self.topic_len]);
        topic.expect("it was a text when it came")
    }

    /// With which it was published.
    pub(crate) fn quality(&self) -> Quality {
        self.quality
    }

    pub(crate) fn properties(&self) -> &[u8] {
        &self.bytes[self.topic_len..][..self.properties_len]
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[self.topic_len + self.properties_len..]
    }

    /// Seconds that are left of its expiry, rounded up; `Some(None)` without one,
    /// and nothing once it is over (5.0, 3.3.2.3.3).
    pub(crate) fn left_s(&self, now_ms: u64) -> Option<Option<u32>> {
        let Some(at) = self.expires_at_ms else {
            return Some(None);
        };
        let left_ms = at.checked_sub(now_ms).filter(|left| *left > 0)?;
        Some(Some(
            u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX),
        ))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.cost(), Ordering::Relaxed);
    }
}
