//! What goes over a link: frames of a node, or lines of text.

use super::node::Node;
use super::text::TextFormat;
use hark_rig::RigReading;
use hark_wire::{FRAME_MAX, Message, encode};

/// Simulated time between two repetitions of what a listener needs to know: a
/// listener that comes late is blind for this long at most.
const BEAT_US: u64 = 10_000_000;

/// How readings are written.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// As frames of this node.
    Frames(Node),
    /// As lines.
    Lines(TextFormat),
}

impl Encoding {
    /// What a new listener has to hear first: the node's `Hello`, the header
    /// of CSV, or nothing.
    pub fn greeting(&self) -> Option<Vec<u8>> {
        match self {
            Self::Frames(node) => Some(frame(&node.hello())),
            Self::Lines(format) => format.header().map(String::into_bytes),
        }
    }

    /// One reading; a frame with its delimiter, a line without its end.
    pub fn reading(&self, reading: &RigReading) -> Vec<u8> {
        match self {
            Self::Frames(node) => frame(&node.reading(reading)),
            Self::Lines(format) => {
                let mut line = Vec::new();
                format.write(reading, &mut line);
                line
            }
        }
    }
}

/// `message` with its delimiter.
pub(super) fn frame(message: &Message) -> Vec<u8> {
    encode(message, &mut [0; FRAME_MAX]).to_vec()
}

/// Says every [`BEAT_US`] of simulated time that it is time again.
#[derive(Debug)]
pub(super) struct Beat {
    next_us: u64,
}

impl Beat {
    pub(super) fn new() -> Self {
        Self { next_us: BEAT_US }
    }

    pub(super) fn is_due(&mut self, time_us: u64) -> bool {
        let is_due = time_us >= self.next_us;
        if is_due {
            self.next_us = time_us + BEAT_US;
        }
        is_due
    }
}
