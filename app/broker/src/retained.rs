//! The last retained message of each topic.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::limits::{RETAINED_BYTES_MAX, RETAINED_MAX};
use crate::message::Message;
use crate::topic::{literal_prefix, matches};

/// What a topic takes beside its message: its name again, and its place.
const OVERHEAD_BYTES: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
}

fn cost(message: &Message) -> usize {
    message.cost() + message.topic().len() + OVERHEAD_BYTES
}

impl Retained {
    /// Keeps `message` in place of the one before; whether there was room. None is
    /// kept then: a state that is no more true is worse than none.
    pub(crate) fn keep(&mut self, message: &Arc<Message>) -> bool {
        self.forget(message.topic());
        let bytes = self.bytes + cost(message);
        if self.messages.len() >= RETAINED_MAX || bytes > RETAINED_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.messages
            .insert(message.topic().into(), Arc::clone(message));
        true
    }

    pub(crate) fn forget(&mut self, topic: &str) {
        if let Some(before) = self.messages.remove(topic) {
            self.bytes -= cost(&before);
        }
    }

    pub(crate) fn forget_expired(&mut self, now_ms: u64) {
        let bytes = &mut self.bytes;
        self.messages.retain(|_, message| {
            let is_worth = message.left_s(now_ms).is_some();
            *bytes -= if is_worth { 0 } else { cost(message) };
            is_worth
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A subscription that is being sent what is retained: where it has come to.
///
/// It advances as far as its client takes messages, so that neither the queue of
/// a client nor a turn grows with what is retained.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) filter: Box<str>,
    after: Option<Box<str>>,
}

/// What a scan has found within its steps.
pub(crate) enum Found {
    Message(Arc<Message>),
    /// Nothing yet.
    More,
    End,
}

impl Scan {
    pub(crate) fn new(filter: &str) -> Self {
        Self {
            filter: filter.into(),
            after: None,
        }
    }

    /// The next message that the filter asks for, looked for among at most
    /// `steps` topics, which are counted down.
    pub(crate) fn next(&mut self, retained: &Retained, steps: &mut usize) -> Found {
        let prefix = literal_prefix(&self.filter);
        let from = match &self.after {
            Some(after) => Bound::Excluded(after.as_ref()),
            None => Bound::Included(prefix),
        };
        let range = retained.messages.range::<str, _>((from, Bound::Unbounded));
        for (topic, message) in range {
            if !topic.starts_with(prefix) {
                return Found::End;
            }
            if *steps == 0 {
                return Found::More;
            }
            *steps -= 1;
            if matches(&self.filter, topic) {
                self.after = Some(topic.clone());
                return Found::Message(Arc::clone(message));
            }
            if *steps == 0 {
                self.after = Some(topic.clone());
                return Found::More;
            }
        }
        Found::End
    }
}
