//! What a client is made from.

use crate::{Settings, Will};

/// A message to be published at QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether the broker is to keep it.
    pub is_retained: bool,
    /// The caller's own name for it, which comes back with its answer.
    pub handle: u64,
}

/// How to present oneself, and what to ask for at each connection.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Who one is.
    pub session: Settings,
    /// What the broker says if the connection breaks.
    pub will: Option<Will>,
    /// Topic filters, each with its greatest quality of service, 0 to 2.
    pub subscriptions: Vec<(String, u8)>,
    /// Whether a connection is of no use if the broker refuses one of them.
    pub needs_every_subscription: bool,
    /// What goes out first on each connection.
    pub greeting: Option<Letter>,
    /// Letters that are kept until the broker has answered for them, at least 1.
    pub letters_max: usize,
    /// The first and the last wait between two tries to connect.
    pub backoff_ms: [u64; 2],
    /// For reading: at least a packet of [`Settings::packet_bytes_max`].
    pub read_buffer_bytes: usize,
    /// For writing: at least the CONNECT, the longest filter and a kilobyte for
    /// acknowledgements.
    pub write_buffer_bytes: usize,
}

impl ClientSettings {
    /// A client that only connects, again after 100 ms to 5 s.
    pub fn new(session: Settings) -> Self {
        Self {
            session,
            will: None,
            subscriptions: Vec::new(),
            needs_every_subscription: false,
            greeting: None,
            letters_max: 1,
            backoff_ms: [100, 5_000],
            read_buffer_bytes: 4096,
            write_buffer_bytes: 64 * 1024,
        }
    }
}
