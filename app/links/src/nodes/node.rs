//! One node: what its Hello said of its channels, and its readings by that.

use hark_engine::{Reading, Rejection, Schema};
use hark_wire::{Hello, physical};
use std::sync::Arc;

pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) boot_id: u32,
    /// For each channel of the schema, its place in the node's readings and
    /// its scale; or why the node's readings cannot be used.
    channels: Result<Box<[(u8, f32)]>, Rejection>,
    /// Values in each of the node's readings.
    values_len: usize,
    /// The last sequence number, unwrapped.
    sequence: Option<u64>,
    /// When it was last heard, by the engine's clock.
    pub(super) heard_us: u64,
    /// One of its readings was valid.
    pub(super) is_proven: bool,
}

impl Node {
    pub(super) fn new(hello: &Hello, schema: &Schema, now_us: u64) -> Self {
        Self {
            name: hello.node.as_str().into(),
            boot_id: hello.boot_id,
            channels: map_channels(hello, schema),
            values_len: hello.channels.len(),
            sequence: None,
            heard_us: now_us,
            is_proven: false,
        }
    }

    /// It is the node that `last` was, and goes on counting.
    pub(super) fn go_on(&mut self, last: &Self) {
        self.sequence = last.sequence;
        self.is_proven = last.is_proven;
    }

    /// It has started again, and its Hello is yet to come: until then it is read by
    /// the one of before.
    pub(super) fn restart(&mut self, boot_id: u32) {
        self.boot_id = boot_id;
        self.sequence = None;
    }

    /// The node counts in 32 bits and wraps (SPEC.md): the number nearest to
    /// the last one is meant, as in RFC 1982.
    fn unwrap_sequence(&mut self, sequence: u32) -> u64 {
        let unwrapped = match self.sequence {
            None => sequence.into(),
            Some(last) => {
                let step = sequence.wrapping_sub(last as u32).cast_signed();
                last.saturating_add_signed(step.into())
            }
        };
        self.sequence = Some(unwrapped);
        unwrapped
    }

    /// What the operator has to mend about a reading refused for `reason`.
    pub(super) fn explain(&self, reason: Rejection, schema: &Schema) -> String {
        let name = &self.name;
        match (
            reason,
            reason.channel().map(|index| &schema.channels[index]),
        ) {
            (Rejection::Unit { .. }, Some(channel)) => {
                format!("node {name}: {} is not in {}", channel.name, channel.unit)
            }
            (Rejection::MissingChannel { .. }, Some(channel)) => {
                format!("node {name}: no value of {}", channel.name)
            }
            _ => format!("node {name}"),
        }
    }

    /// The reading in the schema's order and units.
    pub(super) fn reading(&mut self, message: &hark_wire::Reading) -> Result<Reading, Rejection> {
        let sequence = self.unwrap_sequence(message.sequence);
        let channels = self.channels.as_ref().map_err(|reason| *reason)?;
        if message.values.len() != self.values_len {
            return Err(Rejection::ChannelCount);
        }
        let mut reading = Reading::empty(channels.len());
        let slots = reading.values_mut().iter_mut();
        for (channel, (slot, &(place, scale))) in (0_u8..).zip(slots.zip(channels)) {
            *slot = physical(message.values[usize::from(place)], scale)
                .ok_or(Rejection::MissingChannel { channel })?;
        }
        reading.sequence = Some(sequence);
        reading.timestamp_us = i64::try_from(message.timestamp_us).ok();
        Ok(reading)
    }
}

/// Checks what nobody could read readings by.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn check_hello(hello: &Hello) -> Result<(), String> {
    for (index, channel) in hello.channels.iter().enumerate() {
        let (name, scale) = (channel.name.as_str(), channel.scale);
        if !scale.is_finite() || scale == 0.0 {
            return Err(format!("channel {name:?} has the scale {scale}"));
        }
        if hello.channels[..index]
            .iter()
            .any(|c| c.name == channel.name)
        {
            return Err(format!("two channels are called {name:?}"));
        }
    }
    Ok(())
}

fn map_channels(hello: &Hello, schema: &Schema) -> Result<Box<[(u8, f32)]>, Rejection> {
    let map = |(channel, declared): (u8, &hark_engine::Channel)| {
        let mut said = (0..).zip(&hello.channels);
        let (place, said) = said
            .find(|(_, said)| said.name.as_str() == declared.name)
            .ok_or(Rejection::MissingChannel { channel })?;
        if said.unit.as_str() != declared.unit {
            return Err(Rejection::Unit { channel });
        }
        Ok((place, said.scale))
    };
    (0_u8..).zip(&schema.channels).map(map).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[u32], expected: &[u64]) {
        let schema = Schema {
            period_ms: 1.0,
            age_max_ms: None,
            channels: Vec::new(),
        };
        let mut node = Node::new(&Hello::default(), &schema, 0);
        let found: Vec<u64> = sequences.iter().map(|&s| node.unwrap_sequence(s)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sequence_that_wraps_goes_on_counting() {
        let wrap = 1_u64 << 32;
        check(&[u32::MAX, 0, 1], &[wrap - 1, wrap, wrap + 1]);
        // A late reading from before the wrap stays before it.
        check(
            &[u32::MAX - 1, 0, u32::MAX, 1],
            &[wrap - 2, wrap, wrap - 1, wrap + 1],
        );
    }

    #[test]
    fn a_restart_and_a_gap_keep_their_numbers() {
        check(&[900, 0, 1], &[900, 0, 1]);
        check(&[5, 9], &[5, 9]);
    }
}
