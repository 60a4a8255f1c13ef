//! Log lines on their way to the line, in defmt's encoding.
//!
//! defmt writes a line in small pieces. They are kept from the line's start to
//! its end, or not at all: half a line would cost the reader the next one too.

use heapless::Deque;

/// Bytes that wait: some fifty lines.
const BYTES_MAX: usize = 1024;

/// Whole lines, and the one that is being written.
#[derive(Debug)]
pub struct LogBuffer {
    bytes: Deque<u8, BYTES_MAX>,
    /// How many of `bytes` belong to the line that is being written.
    open: usize,
    is_overrun: bool,
    dropped: u32,
}

impl LogBuffer {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: Deque::new(),
            open: 0,
            is_overrun: false,
            dropped: 0,
        }
    }

    /// Adds a piece to the open line.
    pub fn write(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.is_overrun || self.bytes.push_back(*byte).is_err() {
                self.is_overrun = true;
                return;
            }
            self.open += 1;
        }
    }

    /// Ends the open line; one that found no room is dropped and counted.
    pub fn end_line(&mut self) {
        if self.is_overrun {
            self.drop_line();
        }
        self.open = 0;
    }

    /// Drops the open line, if there is one, and counts it.
    pub fn drop_line(&mut self) {
        if self.open > 0 || self.is_overrun {
            self.bytes.truncate(self.bytes.len() - self.open);
            self.dropped = self.dropped.saturating_add(1);
        }
        self.open = 0;
        self.is_overrun = false;
    }

    /// The next byte for the gateway; of whole lines only.
    pub fn pop(&mut self) -> Option<u8> {
        if self.bytes.len() == self.open {
            return None;
        }
        self.bytes.pop_front()
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

impl Default for LogBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(buffer: &mut LogBuffer) -> Vec<u8> {
        std::iter::from_fn(|| buffer.pop()).collect()
    }

    #[test]
    fn a_line_is_taken_when_it_is_whole() {
        let mut buffer = LogBuffer::new();
        buffer.write(b"one");
        assert_eq!(buffer.pop(), None);
        buffer.end_line();
        buffer.write(b"two");
        assert_eq!(drain(&mut buffer), b"one");
        buffer.write(b"!");
        buffer.end_line();
        assert_eq!(drain(&mut buffer), b"two!");
    }

    #[test]
    fn a_line_without_room_is_dropped_whole() {
        let mut buffer = LogBuffer::new();
        let mut sent = Vec::new();
        for n in 0..200_u8 {
            buffer.write(&[n; 9]);
            buffer.write(&[0]);
            buffer.end_line();
            sent.extend([n; 9]);
            sent.push(0);
        }
        let kept = drain(&mut buffer);
        assert_eq!(kept.len() % 10, 0);
        assert!(sent.starts_with(&kept), "the oldest lines, whole");
        assert_eq!(kept.len() as u32 / 10 + buffer.dropped(), 200);
    }

    #[test]
    fn a_line_that_is_dropped_leaves_those_before_and_after_it() {
        let mut buffer = LogBuffer::new();
        buffer.drop_line();
        assert_eq!(buffer.dropped(), 0);
        buffer.write(b"one");
        buffer.end_line();
        buffer.write(b"tw");
        buffer.drop_line();
        buffer.write(b"three");
        buffer.end_line();
        assert_eq!(drain(&mut buffer), b"onethree");
        assert_eq!(buffer.dropped(), 1);
    }
}
