//! The simulated pump as a sensor node of the wire protocol.
//!
//! One raw count of a channel is the last digit of its instrument, so that the
//! gateway gets back what the instrument showed.

use hark_rig::{CHANNELS, RigReading};
use hark_wire::{
    Channel, FIRMWARE_MAX, Health, Hello, LABEL_MAX, Message, NAME_MAX, Reading, UNIT_MAX,
};

/// What the node says that it runs.
const FIRMWARE: &str = concat!("simulated ", env!("CARGO_PKG_VERSION"));
/// A regulated 24 V supply, mV.
const SUPPLY_MV: u16 = 24_000;

const _: () = assert!(FIRMWARE.len() <= FIRMWARE_MAX);
const _: () = assert!(CHANNELS.len() <= hark_wire::CHANNELS_MAX);
const _: () = {
    let mut i = 0;
    while i < CHANNELS.len() {
        assert!(CHANNELS[i].name.len() <= LABEL_MAX);
        assert!(CHANNELS[i].unit.len() <= UNIT_MAX);
        i += 1;
    }
};

/// A node's name has more than [`NAME_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is too long for a node's name: at most {NAME_MAX} bytes")]
pub struct NodeNameTooLong(String);

/// A node at the end of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Boxed, because it is a kilobyte of fixed capacities.
    hello: Box<Hello>,
}

impl Node {
    /// A node that has just started. `boot_id` has to differ at every start.
    ///
    /// # Errors
    /// [`NodeNameTooLong`].
    pub fn new(name: &str, boot_id: u32) -> Result<Self, NodeNameTooLong> {
        let node = name
            .try_into()
            .map_err(|_| NodeNameTooLong(name.to_owned()))?;
        let hello = Hello {
            node,
            firmware: FIRMWARE.try_into().expect("asserted above"),
            boot_id,
            channels: CHANNELS.iter().map(declare).collect(),
        };
        Ok(Self {
            hello: Box::new(hello),
        })
    }

    /// Who the node is.
    pub fn hello(&self) -> Message {
        Message::Hello(Hello::clone(&self.hello))
    }

    /// One reading. Its sequence wraps, as a node's does.
    pub fn reading(&self, reading: &RigReading) -> Message {
        let raws = reading.values.iter().zip(&CHANNELS);
        Message::Reading(Reading {
            sequence: reading.sequence as u32,
            timestamp_us: reading.time_us,
            values: raws
                .map(|(value, channel)| (f64::from(*value) / channel.resolution).round() as i32)
                .collect(),
        })
    }

    /// How the node is at `time_us` after its start, after as many frames that
    /// it could not send and that it could not read.
    pub fn health(&self, time_us: u64, dropped: u64, rejected: u64) -> Message {
        Message::Health(Health {
            boot_id: self.hello.boot_id,
            uptime_s: saturate(time_us / 1_000_000),
            frames_dropped: saturate(dropped),
            frames_rejected: saturate(rejected),
            supply_mv: SUPPLY_MV,
        })
    }
}

fn declare(channel: &hark_rig::Channel) -> Channel {
    Channel {
        name: channel.name.try_into().expect("asserted above"),
        unit: channel.unit.try_into().expect("asserted above"),
        scale: channel.resolution as f32,
    }
}

fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
