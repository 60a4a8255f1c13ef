//! What can go wrong with a session, by what the caller can do about it.

/// Why a session is over. Connect again, perhaps after other settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The broker does not want this client, see its reason.
    #[error("the broker refused the connection: {reason} (code {code:#04x})")]
    Refused {
        /// The code in CONNACK.
        code: u8,
        /// The code in words.
        reason: &'static str,
    },
    /// The broker ended the connection and said why (MQTT 5 only).
    #[error("the broker ended the connection: {reason} (code {code:#04x})")]
    Disconnected {
        /// The code in DISCONNECT.
        code: u8,
        /// The code in words.
        reason: &'static str,
    },
    /// The bytes are not MQTT, or not of this version.
    #[error("malformed {packet} at byte {at} of the connection: {what}")]
    Malformed {
        /// The packet's name in the standard.
        packet: &'static str,
        /// Where the packet begins, counted from the connection's start.
        at: u64,
        /// What is wrong, and what would be right.
        what: &'static str,
    },
    /// A packet other than a message is larger than
    /// [`packet_bytes_max`](crate::Settings::packet_bytes_max).
    #[error(
        "the {packet} at byte {at} of the connection has {bytes} bytes, more than the {bytes_max} allowed"
    )]
    TooLarge {
        /// The packet's name in the standard.
        packet: &'static str,
        /// Where the packet begins, counted from the connection's start.
        at: u64,
        /// Its size with its fixed header.
        bytes: usize,
        /// The largest size that is taken.
        bytes_max: usize,
    },
    /// The broker has sent nothing for too long and did not answer a ping.
    #[error("the broker has not answered a ping within {waited_ms} ms")]
    Silent {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The broker has taken nothing of what waits for it.
    #[error("the broker has taken nothing of what was sent within {waited_ms} ms")]
    Deaf {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// A setting is longer than the protocol can say.
    #[error("the {what} has {bytes} bytes; MQTT takes at most 65535")]
    TooLong {
        /// Which setting.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
}

/// The output has no room for a packet; nothing of it was written.
///
/// After the output has been sent there is room, unless the packet
/// [can never fit](Full::is_final).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {needed} bytes finds {room} of {capacity} bytes free")]
pub struct Full {
    /// The room in bytes that the packet asks for, counting its length field
    /// at its longest; [`usize::MAX`] for a topic that MQTT cannot say.
    pub needed: usize,
    /// How many bytes are free.
    pub room: usize,
    /// How many bytes are free once everything is sent.
    pub capacity: usize,
}

impl Full {
    /// Whether the packet is larger than the whole output.
    pub fn is_final(&self) -> bool {
        self.needed > self.capacity
    }
}
