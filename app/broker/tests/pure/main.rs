//! The broker without sockets: what the standard says, what is bounded, and that
//! no bytes do it harm.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod bounds;
mod bytes;
mod peer;
mod protocol;
