//! The protocol between hark and its sensor nodes: messages, frames, and a
//! decoder for the stream of bytes that a serial line delivers.
//!
//! One frame is `COBS(version | postcard body | CRC-32C)` and a `0x00`. The
//! bytes are described without Rust in `SPEC.md` beside this crate.
//!
//! The crate runs on both ends, so it has no allocation, no clock and no
//! input or output: a node calls [`encode`] and sends the bytes, a gateway
//! pushes what it read into a [`FrameDecoder`]. Every capacity is a constant
//! here, and [`FRAME_MAX`] follows from them at compile time.
//!
//! It refuses to guess: a frame that differs from what its sender encoded
//! is an error that is counted, never a message.
#![no_std]
#![forbid(unsafe_code)]

mod decoder;
mod frame;
mod message;

pub use decoder::{FrameCounts, FrameDecoder};
pub use frame::{DecodeError, FRAME_MAX, VERSION, decode, encode};
pub use message::{
    CHANNELS_MAX, Channel, Config, FIRMWARE_MAX, Health, Hello, LABEL_MAX, LOG_MAX, Log, Message,
    NAME_MAX, NO_VALUE, Reading, UNIT_MAX, physical,
};
