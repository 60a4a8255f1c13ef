//! What a node sent, decoded but not yet believed.

/// The most channels that one sensor may have, the wire protocol's own limit.
pub const CHANNELS_MAX: usize = hark_wire::CHANNELS_MAX;

/// One reading of one sensor, in the order of the schema's channels.
///
/// Nothing is validated yet: a value may be NaN, absurd or old.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The node's own count of its readings, if it sends one.
    pub sequence: Option<u64>,
    /// When the node took the reading, microseconds, on the node's own clock
    /// or since the Unix epoch, as the source declares.
    pub timestamp_us: Option<i64>,
    values: [f32; CHANNELS_MAX],
    channels: u8,
}

impl Reading {
    /// A reading of `channels` values, all NaN, so that a channel that the
    /// decoder never fills is seen as missing rather than as zero.
    ///
    /// # Panics
    /// If `channels` exceeds [`CHANNELS_MAX`]; a schema that long is refused
    /// when it is loaded.
    pub fn empty(channels: usize) -> Self {
        assert!(channels <= CHANNELS_MAX);
        Self {
            sequence: None,
            timestamp_us: None,
            values: [f32::NAN; CHANNELS_MAX],
            channels: channels as u8,
        }
    }

    /// The values, shape `[channels]`, in the schema's order and units.
    pub fn values(&self) -> &[f32] {
        &self.values[..usize::from(self.channels)]
    }

    /// The values, to be filled by a decoder.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values[..usize::from(self.channels)]
    }
}

impl PartialEq for Reading {
    /// Compares the channels in use; as for any float, NaN differs from NaN.
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.timestamp_us == other.timestamp_us
            && self.values() == other.values()
    }
}
