//! Frames on their way to the line: one writer, so that they never interleave.
//!
//! The writer lets the transmitter in between any two bytes, because a receiver
//! of one byte cannot wait for a whole frame. What it was told that there is
//! room for stays so: the transmitter only makes more.

use hark_wire::FRAME_MAX;
use heapless::Deque;

/// Bytes that wait for the line: a third of a second at 115 200 baud. A line
/// that is slower than its node for longer loses whole frames, counted.
const BYTES_MAX: usize = 4096;

const _: () = assert!(BYTES_MAX >= 2 * FRAME_MAX);

/// The bytes that the transmitter takes next.
#[derive(Debug)]
pub struct Outbox {
    bytes: Deque<u8, BYTES_MAX>,
    /// Frames that found no room.
    dropped: u32,
}

impl Outbox {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: Deque::new(),
            dropped: 0,
        }
    }

    /// Whether a frame of `len` bytes finds room; if not, it is dropped and
    /// counted.
    pub fn admit(&mut self, len: usize) -> bool {
        let has_room = len <= BYTES_MAX - self.bytes.len();
        self.dropped = self.dropped.saturating_add((!has_room).into());
        has_room
    }

    /// Puts the next byte of an admitted frame in line.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn push(&mut self, byte: u8) {
        self.bytes.push_back(byte).expect("its frame was admitted");
    }

    /// Whether nothing waits for the line: what can wait, waits for that.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte for the line.
    pub fn pop(&mut self) -> Option<u8> {
        self.bytes.pop_front()
    }

    /// Frames dropped so far.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hark_wire::{FrameDecoder, Health, Message, encode};

    #[test]
    fn what_finds_no_room_is_dropped_whole_and_counted() {
        let message = Message::Health(Health::default());
        let mut buffer = [0; FRAME_MAX];
        let frame = encode(&message, &mut buffer);
        let mut outbox = Outbox::new();
        for _ in 0..1000 {
            if outbox.admit(frame.len()) {
                frame.iter().for_each(|byte| outbox.push(*byte));
            }
        }
        assert!(!outbox.is_empty());
        let mut decoder = FrameDecoder::new();
        let mut frames = 0;
        while let Some(byte) = outbox.pop() {
            if let Some(outcome) = decoder.next_message(&mut &[byte][..]) {
                assert_eq!(outcome, Ok(message.clone()));
                frames += 1;
            }
        }
        assert_eq!(frames + outbox.dropped(), 1000);
        assert!(frames > 100, "{frames} frames fit");
        assert!(outbox.is_empty());
    }
}
