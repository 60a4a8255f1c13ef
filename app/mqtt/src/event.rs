//! What a session tells its caller.

/// What the broker has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The broker took the connection.
    Connected,
    /// The answer to one filter of [`Session::subscribe`](crate::Session::subscribe): one event for each
    /// filter, in the order in which they were asked for.
    Subscribed {
        /// Whether its messages will come, at whatever quality of service.
        is_granted: bool,
    },
    /// A message, acknowledged as its quality of service demands, and told
    /// once at QoS 2.
    Message {
        /// Its topic, never empty.
        topic: &'a str,
        /// Its payload, any bytes.
        payload: &'a [u8],
    },
    /// A message larger than [`Settings::packet_bytes_max`](crate::Settings::packet_bytes_max) was skipped, and
    /// acknowledged, since the broker would only send it again.
    Oversize {
        /// The size of its packet.
        bytes: usize,
    },
    /// Housekeeping that needs nobody's attention.
    Other,
}
