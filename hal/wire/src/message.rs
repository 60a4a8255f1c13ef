//! What a node and its gateway say to each other in protocol version 1.
//!
//! The order of [`Message`]'s variants and of every struct's fields is the
//! wire format; `tests/frozen_v1.rs` holds their bytes. Another field or
//! variant is another protocol version.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// The most channels that one node may have.
///
/// Two nine-axis sensors and a dozen slow inputs fit, and a full reading
/// takes at most 16 ms at 115200 baud.
pub const CHANNELS_MAX: usize = 32;
/// The longest node name, in bytes of UTF-8.
pub const NAME_MAX: usize = 32;
/// The longest firmware version, in bytes of UTF-8: `1.2.3-rc.4+0123abcd`.
pub const FIRMWARE_MAX: usize = 24;
/// The longest channel name, in bytes of UTF-8.
pub const LABEL_MAX: usize = 16;
/// The longest unit, in bytes of UTF-8: `m/s²`, `mg`, `°C`, `µmol/mol`.
pub const UNIT_MAX: usize = 10;
/// The most bytes of defmt output in one [`Log`].
///
/// A longer log line spans frames. The bound keeps a chatty node from
/// holding the line for longer than one full reading does.
pub const LOG_MAX: usize = 160;
/// The raw value that says "this channel has no value in this reading".
pub const NO_VALUE: i32 = i32::MIN;

/// One message of the protocol.
///
/// Node to gateway: everything but [`Message::Config`], which goes the other
/// way. The size differs by a factor of ten between variants, because there
/// is no heap to put the large one on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would need an allocator, which a node does not have"
)]
pub enum Message {
    /// Who the node is; tag 0.
    Hello(Hello),
    /// One set of channel values; tag 1.
    Reading(Reading),
    /// How the node is; tag 2.
    Health(Health),
    /// Log output of the node; tag 3.
    Log(Log),
    /// What the gateway wants of the node; tag 4.
    Config(Config),
}

/// Who the node is and how to read its values; sent at start and on request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hello {
    /// The node's name, unique on its line.
    pub node: String<NAME_MAX, u8>,
    /// The version of the firmware.
    pub firmware: String<FIRMWARE_MAX, u8>,
    /// A number that differs at every start, so that a restart is seen.
    pub boot_id: u32,
    /// The channels, in the order in which a [`Reading`] gives their values.
    pub channels: Vec<Channel, CHANNELS_MAX, u8>,
}

/// One channel of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Channel {
    /// The channel's name, unique on its node.
    pub name: String<LABEL_MAX, u8>,
    /// The unit of the physical value.
    pub unit: String<UNIT_MAX, u8>,
    /// The physical value of one raw count.
    pub scale: f32,
}

impl Channel {
    /// The physical value of `raw` in this channel's unit: `raw × scale`.
    ///
    /// [`NO_VALUE`] gives `None`. The result is not finite if the node sent
    /// a scale that is not, or one so large that the product overflows.
    ///
    /// ```
    /// let volts = hark_wire::Channel { scale: 0.5, ..Default::default() };
    /// assert_eq!(volts.physical(-3), Some(-1.5));
    /// assert_eq!(volts.physical(hark_wire::NO_VALUE), None);
    /// ```
    pub fn physical(&self, raw: i32) -> Option<f32> {
        physical(raw, self.scale)
    }
}

/// As [`Channel::physical`], for a receiver that keeps of a channel only its scale.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding once to f32, after a product that f64 holds exactly"
)]
pub fn physical(raw: i32, scale: f32) -> Option<f32> {
    (raw != NO_VALUE).then(|| (f64::from(raw) * f64::from(scale)) as f32)
}

/// The values of a node's channels at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reading {
    /// Counts up by one with each reading and wraps; starts anywhere.
    pub sequence: u32,
    /// The node's own clock, µs since its start.
    pub timestamp_us: u64,
    /// Raw counts, one for each channel of the [`Hello`]; [`NO_VALUE`] where
    /// there is none.
    pub values: Vec<i32, CHANNELS_MAX, u8>,
}

/// How the node is; sent every few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Health {
    /// The start that this belongs to, as in the [`Hello`].
    pub boot_id: u32,
    /// Time since the node's start, s.
    pub uptime_s: u32,
    /// Frames that the node could not send, since its start.
    pub frames_dropped: u32,
    /// Frames from the gateway that the node rejected, since its start.
    pub frames_rejected: u32,
    /// The supply voltage, mV; 0 if the node does not measure it.
    pub supply_mv: u16,
}

/// Log output of the node: a piece of its defmt stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Log {
    /// Raw bytes of the defmt encoding, to be joined in order of arrival.
    pub bytes: Vec<u8, LOG_MAX, u8>,
}

/// What the gateway wants of the node. The node takes the period and running
/// together or, if it cannot, neither; its [`Hello`] it says in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// The time between two readings, ms; 0 leaves it as it is.
    pub period_ms: u32,
    /// Whether the node sends readings.
    pub running: bool,
    /// Whether the node shall say [`Hello`] again now.
    pub say_hello: bool,
}
