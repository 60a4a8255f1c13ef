//! Why there is no connection.

use crate::SessionError;

/// Why a connection was lost or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Down {
    /// It could not be made: the system's words.
    #[error("{0}")]
    Unreachable(String),
    /// It was not made in time.
    #[error("no connection within {waited_ms} ms")]
    NoConnection {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The broker did not answer CONNECT in time.
    #[error("the broker has not answered the CONNECT within {waited_ms} ms")]
    NoConnAck {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The broker did not answer a SUBSCRIBE in time.
    #[error("the broker has not answered the subscription to {filter} within {waited_ms} ms")]
    NoSubAck {
        /// The first filter without an answer.
        filter: String,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The broker refused subscriptions, and every one is needed.
    #[error("it refuses the subscription to {filter}{}", and_others(*.others))]
    SubscriptionsRefused {
        /// The first.
        filter: String,
        /// How many more.
        others: usize,
    },
    /// The broker closed the connection.
    #[error("the broker closed the connection")]
    Closed,
    /// It broke: the system's words.
    #[error("{0}")]
    Broken(String),
    /// It was closed, or broke, before the broker said anything.
    #[error("{how} before the CONNECT was answered{hint}")]
    Unanswered {
        /// What became of it.
        how: String,
        /// What may be the matter.
        hint: &'static str,
    },
    /// The broker refused it, ended it, or broke the protocol.
    #[error(transparent)]
    Protocol(#[from] SessionError),
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" and to {others} more"),
    }
}
