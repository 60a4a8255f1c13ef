//! How units are polled, and what they are at.

use std::time::Duration;

/// How units are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between two polls of a unit, above 0.
    pub poll: Duration,
    /// How long the first byte of an answer may take.
    pub response_timeout: Duration,
    /// How long a unit that does not answer is left alone at most.
    pub retry_max: Duration,
    /// What they are at.
    pub line: Line,
}

/// What units are at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// RTU on a serial line, on which a character takes so long.
    Serial {
        /// With its start, parity and stop bits.
        character: Duration,
    },
    /// A TCP connection.
    Tcp,
}

impl Line {
    /// The silence before a request, by which units know its beginning. Modbus over
    /// Serial Line V1.02, section 2.5.1.1: 3.5 characters, 1.75 ms above 19 200
    /// baud.
    pub fn silence(self) -> Duration {
        match self {
            Self::Serial { character } => (character * 7 / 2).max(Duration::from_micros(1750)),
            Self::Tcp => Duration::ZERO,
        }
    }

    pub(crate) fn characters(self, count: u32) -> Duration {
        match self {
            Self::Serial { character } => character * count,
            Self::Tcp => Duration::ZERO,
        }
    }

    pub(crate) fn is_serial(self) -> bool {
        matches!(self, Self::Serial { .. })
    }
}
