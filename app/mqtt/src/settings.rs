//! What a session is made from.

use std::fmt;

/// The version of the protocol that the session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Protocol {
    /// The protocol level in CONNECT (3.1.1, 3.1.2.2; 5.0, 3.1.2.2).
    pub(crate) fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// An empty list of properties, where this version has one.
    pub(crate) fn no_properties(self) -> &'static [u8] {
        match self {
            Self::V311 => &[],
            Self::V5 => &[0],
        }
    }
}

/// How to present oneself to the broker.
#[derive(Clone)]
pub struct Settings {
    /// The version of the protocol.
    pub protocol: Protocol,
    /// The client's identifier, at most 65,535 bytes; each client of a broker
    /// has its own. If it is empty the broker chooses one.
    pub client_id: String,
    /// User name and password, each at most 65,535 bytes.
    pub login: Option<(String, String)>,
    /// The longest silence in seconds before the broker may take this client
    /// for dead; 0 for any. A broker of MQTT 5 may set another.
    pub keep_alive_s: u16,
    /// The largest packet that is taken, in bytes, with its fixed header.
    pub packet_bytes_max: usize,
}

impl fmt::Debug for Settings {
    /// Without the password, which may stand in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("user", &self.login.as_ref().map(|(user, _)| user))
            .field("keep_alive_s", &self.keep_alive_s)
            .field("packet_bytes_max", &self.packet_bytes_max)
            .finish()
    }
}

/// What the broker publishes, at QoS 1 and retained, if the connection breaks
/// without a goodbye.
#[derive(Clone, Debug)]
pub struct Will {
    /// Its topic, at most 65,535 bytes.
    pub topic: String,
    /// Its payload, at most 65,535 bytes.
    pub payload: String,
}
