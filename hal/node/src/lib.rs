//! What a sensor node does, apart from its registers.
//!
//! The node samples the pump of `hark-rig`, the very machine that the built-in
//! model was trained on, and speaks `hark-wire` with a gateway. Everything here
//! is pure: bytes and the time go in ([`Node::handle_bytes`]), messages and
//! notes come out ([`Node::poll_message`]). `main.rs` moves the bytes, and
//! `board/` holds the registers, one file for each board.
//!
//! It refuses to trust the line: what is no frame is counted, and a request
//! that it cannot meet is refused as a whole; only who it is it says whenever it is
//! asked.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod clock;
mod log_buffer;
mod node;
mod outbox;
mod settings;

pub use clock::Clock;
pub use log_buffer::LogBuffer;
pub use node::{Node, Note};
pub use outbox::Outbox;
pub use settings::{Settings, WrongSetting};
