//! From a stream of bytes to messages, in fixed memory.
//!
//! A [`FrameDecoder`] is told whatever a read returned, in pieces of any
//! size. It keeps the bytes of at most one frame. Whatever else arrives, it
//! is back in step at the next delimiter, so a damaged byte costs one frame,
//! or two if the byte was a delimiter. Nothing is dropped without a count.

use crate::frame::{DecodeError, FRAME_MAX, decode};
use crate::message::Message;

/// A frame without its delimiter.
const HELD_MAX: usize = FRAME_MAX - 1;

/// What a [`FrameDecoder`] has seen since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameCounts {
    /// Frames that were messages.
    pub accepted: u64,
    /// Runs of bytes longer than any frame.
    pub too_long: u64,
    /// Frames that were no encoding by COBS.
    pub cobs: u64,
    /// Frames too short for a message.
    pub short: u64,
    /// Frames with a wrong checksum.
    pub crc: u64,
    /// Intact frames of an unknown protocol version.
    pub version: u64,
    /// Intact frames that hold no message.
    pub body: u64,
    /// Intact frames with bytes after the message.
    pub trailing: u64,
    /// Bytes passed over up to the delimiter of a run that was too long, or
    /// because the line was opened anew.
    pub bytes_skipped: u64,
}

impl FrameCounts {
    /// Frames that were not messages, for whatever reason.
    pub fn rejected(&self) -> u64 {
        self.too_long + self.cobs + self.short + self.crc + self.version + self.body + self.trailing
    }

    fn count(&mut self, outcome: &Result<Message, DecodeError>) {
        let counter = match outcome {
            Ok(_) => &mut self.accepted,
            Err(DecodeError::TooLong) => &mut self.too_long,
            Err(DecodeError::Cobs) => &mut self.cobs,
            Err(DecodeError::Short) => &mut self.short,
            Err(DecodeError::Crc) => &mut self.crc,
            Err(DecodeError::Version(_)) => &mut self.version,
            Err(DecodeError::Body) => &mut self.body,
            Err(DecodeError::Trailing) => &mut self.trailing,
        };
        *counter += 1;
    }
}

/// Finds the frames in a stream of bytes and decodes them.
///
/// ```
/// use hark_wire::{FRAME_MAX, FrameDecoder, Health, Message, encode};
/// let health = Message::Health(Health { uptime_s: 7, ..Health::default() });
/// let mut buffer = [0; FRAME_MAX];
/// let frame = encode(&health, &mut buffer);
///
/// let mut decoder = FrameDecoder::new();
/// let (first, second) = frame.split_at(3);
/// for mut bytes in [&*first, &*second] {
///     while let Some(outcome) = decoder.next_message(&mut bytes) {
///         assert_eq!(outcome, Ok(health.clone()));
///     }
/// }
/// assert_eq!(decoder.counts().accepted, 1);
/// ```
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    held: [u8; HELD_MAX],
    held_len: usize,
    /// A run was too long: its rest is passed over up to the delimiter.
    is_skipping: bool,
    counts: FrameCounts,
}

impl FrameDecoder {
    /// A decoder that takes the first byte as the first of a frame.
    ///
    /// On a line that is joined in the middle of a frame, the rest of that
    /// frame is its first error.
    pub const fn new() -> Self {
        Self {
            held: [0; HELD_MAX],
            held_len: 0,
            is_skipping: false,
            counts: FrameCounts {
                accepted: 0,
                too_long: 0,
                cobs: 0,
                short: 0,
                crc: 0,
                version: 0,
                body: 0,
                trailing: 0,
                bytes_skipped: 0,
            },
        }
    }

    /// Takes bytes off the front of `bytes` up to the end of the next frame,
    /// and decodes that frame.
    ///
    /// `None` says that all of `bytes` is taken and that the frame which they
    /// end in, if any, is held. Delimiters without a frame between them are
    /// passed over in silence: a node may send them to wake its line.
    ///
    /// # Errors
    /// The frame's [`DecodeError`]; the decoder is ready for the next frame.
    /// [`DecodeError::TooLong`] comes once, as soon as a run of bytes is
    /// longer than any frame.
    pub fn next_message(&mut self, bytes: &mut &[u8]) -> Option<Result<Message, DecodeError>> {
        while !bytes.is_empty() {
            let frame_end = bytes.iter().position(|byte| *byte == 0);
            let (run, rest) = match frame_end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => (*bytes, &bytes[bytes.len()..]),
            };
            *bytes = rest;
            if let Some(outcome) = self.handle_run(run, frame_end.is_some()) {
                self.counts.count(&outcome);
                return Some(outcome);
            }
        }
        None
    }

    /// What was seen since [`FrameDecoder::new`].
    pub fn counts(&self) -> &FrameCounts {
        &self.counts
    }

    /// Forgets the frame in progress, for a line that was opened anew. Its
    /// bytes count as skipped.
    pub fn forget_partial(&mut self) {
        self.counts.bytes_skipped += self.held_len as u64;
        self.held_len = 0;
        self.is_skipping = false;
    }

    /// Takes a run of bytes other than zero; `is_last` if a delimiter ends it.
    fn handle_run(&mut self, run: &[u8], is_last: bool) -> Option<Result<Message, DecodeError>> {
        if self.is_skipping {
            self.skip(run);
            self.is_skipping = !is_last;
            return None;
        }
        let held_end = self.held_len + run.len();
        if held_end > HELD_MAX {
            self.forget_partial();
            self.skip(run);
            self.is_skipping = !is_last;
            return Some(Err(DecodeError::TooLong));
        }
        self.held[self.held_len..held_end].copy_from_slice(run);
        self.held_len = held_end;
        if !is_last {
            return None;
        }
        self.held_len = 0;
        (held_end > 0).then(|| decode(&mut self.held[..held_end]))
    }

    fn skip(&mut self, run: &[u8]) {
        self.counts.bytes_skipped += run.len() as u64;
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}
