//! What a client tells its caller.

use super::Down;
use crate::Full;

/// What a client tells its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// The broker has taken the connection and answered every subscription.
    Up,
    /// The broker will not send what matches this filter.
    SubscriptionRefused {
        /// The filter.
        filter: &'a str,
        /// The code in SUBACK.
        code: u8,
        /// The code in words.
        reason: &'static str,
    },
    /// A message, acknowledged as its quality of service demands, and told
    /// once at QoS 2.
    Message {
        /// Its topic, never empty.
        topic: &'a str,
        /// Its payload, any bytes.
        payload: &'a [u8],
        /// The broker kept it from before the subscription.
        is_retained: bool,
    },
    /// A message that is larger than the settings allow was skipped, and
    /// acknowledged.
    Oversize {
        /// The size of its packet.
        bytes: usize,
    },
    /// The broker has taken a letter. Letters are told in their order.
    Published {
        /// The letter's.
        handle: u64,
    },
    /// The broker has refused a letter, or would: it will not be sent again.
    Refused {
        /// The letter's.
        handle: u64,
        /// The letter's.
        topic: &'a str,
        /// The code in PUBACK.
        code: u8,
        /// The code in words.
        reason: &'static str,
    },
    /// The connection was lost or could not be made; the next try follows.
    Down {
        /// Why.
        why: Down,
        /// It had just been made: another client of this name may throw it
        /// off.
        is_young: bool,
        /// When the next try follows.
        retry_in_ms: u64,
    },
}

/// Why a message was not published; nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// There is no connection that the broker has taken.
    #[error("there is no connection to the broker")]
    Down,
    /// The output is full.
    #[error(transparent)]
    Full(#[from] Full),
}

/// A loss that is to be told.
pub(super) struct Lost {
    pub(super) why: Down,
    pub(super) is_young: bool,
    pub(super) retry_in_ms: u64,
}

impl Lost {
    pub(super) fn told(self) -> ClientEvent<'static> {
        let Self {
            why,
            is_young,
            retry_in_ms,
        } = self;
        ClientEvent::Down {
            why,
            is_young,
            retry_in_ms,
        }
    }
}
