//! Why a reading was refused: one flat list, so that counters can be an array.

/// The number of distinct reasons, the length of an array of counters.
pub const REASONS: usize = ALL.len();

/// Why a reading failed validation. `channel` indexes the schema's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The payload does not parse in its format.
    Malformed,
    /// A frame whose COBS, checksum or postcard encoding is wrong.
    Corrupt,
    /// The payload, line or frame is longer than its source allows.
    Oversize,
    /// A frame of a protocol version that this build does not speak.
    Version,
    /// A wire reading from a node that has not said `Hello` yet.
    NoHello,
    /// A `Hello` by which no reading could be read: a scale that is zero or not
    /// finite, or two channels of one name.
    BadHello,
    /// The sensor is not configured, or would be one more than `sensors_max`.
    UnknownSensor,
    /// A channel of the schema is absent.
    MissingChannel {
        /// Index of the absent channel.
        channel: u8,
    },
    /// The payload holds another number of values than the schema.
    ChannelCount,
    /// A value is not a number.
    WrongType {
        /// Index of the channel with the wrong type.
        channel: u8,
    },
    /// The declared unit is not the schema's.
    Unit {
        /// Index of the channel with the wrong unit.
        channel: u8,
    },
    /// NaN or infinite.
    NotFinite {
        /// Index of the channel that is not finite.
        channel: u8,
    },
    /// Outside the channel's `min..=max`.
    Range {
        /// Index of the channel out of range.
        channel: u8,
    },
    /// Changed faster than the channel's `rate_max`.
    RateOfChange {
        /// Index of the channel that changed too fast.
        channel: u8,
    },
    /// The sequence number equals one already seen.
    Duplicate,
    /// The sequence number lies before one already seen.
    Reordered,
    /// Older than `age_max_ms`.
    Stale,
    /// From further in the future than `age_max_ms`.
    Future,
    /// More readings in this second than the source allows.
    SourceRate,
}

/// One of each reason, in the order of [`Rejection::index`].
const ALL: [Rejection; 19] = [
    Rejection::Malformed,
    Rejection::Corrupt,
    Rejection::Oversize,
    Rejection::Version,
    Rejection::NoHello,
    Rejection::UnknownSensor,
    Rejection::MissingChannel { channel: 0 },
    Rejection::ChannelCount,
    Rejection::WrongType { channel: 0 },
    Rejection::Unit { channel: 0 },
    Rejection::NotFinite { channel: 0 },
    Rejection::Range { channel: 0 },
    Rejection::RateOfChange { channel: 0 },
    Rejection::Duplicate,
    Rejection::Reordered,
    Rejection::Stale,
    Rejection::Future,
    Rejection::SourceRate,
    Rejection::BadHello,
];

impl Rejection {
    /// The reason's place in an array of [`REASONS`] counters.
    pub fn index(self) -> usize {
        match self {
            Self::Malformed => 0,
            Self::Corrupt => 1,
            Self::Oversize => 2,
            Self::Version => 3,
            Self::NoHello => 4,
            Self::UnknownSensor => 5,
            Self::MissingChannel { .. } => 6,
            Self::ChannelCount => 7,
            Self::WrongType { .. } => 8,
            Self::Unit { .. } => 9,
            Self::NotFinite { .. } => 10,
            Self::Range { .. } => 11,
            Self::RateOfChange { .. } => 12,
            Self::Duplicate => 13,
            Self::Reordered => 14,
            Self::Stale => 15,
            Self::Future => 16,
            Self::SourceRate => 17,
            Self::BadHello => 18,
        }
    }

    /// The reason's name in JSON, logs and metrics.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; REASONS] = [
            "malformed",
            "corrupt",
            "oversize",
            "version",
            "no_hello",
            "unknown_sensor",
            "missing_channel",
            "channel_count",
            "wrong_type",
            "unit",
            "not_finite",
            "range",
            "rate_of_change",
            "duplicate",
            "reordered",
            "stale",
            "future",
            "source_rate",
            "bad_hello",
        ];
        NAMES[self.index()]
    }

    /// Every reason once, in the order of [`Rejection::index`].
    pub fn all() -> impl Iterator<Item = Rejection> {
        ALL.into_iter()
    }

    /// The schema channel that the reason points at, if it points at one.
    pub fn channel(self) -> Option<usize> {
        match self {
            Self::MissingChannel { channel }
            | Self::WrongType { channel }
            | Self::Unit { channel }
            | Self::NotFinite { channel }
            | Self::Range { channel }
            | Self::RateOfChange { channel } => Some(usize::from(channel)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let names: std::collections::BTreeSet<_> = Rejection::all().map(Rejection::name).collect();
        assert_eq!(names.len(), REASONS);
        assert!(Rejection::all().map(Rejection::index).eq(0..REASONS));
    }
}
