//! The MQTT client of the hot path: readings in, verdicts out in batches.
//!
//! [`Session`] is the protocol, 3.1.1 and 5.0, without a socket and without a
//! clock: bytes go in, [`Event`]s and bytes to send come out. [`Link`] is a
//! TCP connection around one session that never blocks but in
//! [`wait`](Link::wait). Everything is allocated when they are made, nothing
//! for a message.
//!
//! A session starts clean and lives as long as its connection. It receives
//! at QoS 0, 1 and 2, and publishes at QoS 0 only: what must not be lost, an
//! alert, belongs to a client that keeps it until it is acknowledged. There
//! is no TLS and no Last Will here for the same reason.
//!
//! Section numbers in this crate are those of the OASIS standards: "3.1.1, 3.3"
//! is section 3.3 of MQTT 3.1.1, "5.0, 3.3" of MQTT 5.0.

mod backoff;
mod body;
mod client;
mod connect;
mod endpoint;
mod error;
mod event;
mod input;
mod keep_alive;
mod length;
mod link;
mod output;
mod packet;
mod payload;
mod published_ids;
mod reason;
mod received_ids;
mod session;
mod settings;
mod skip;
mod subscribes;
mod transport;
mod waker;

pub use client::{CONNECT_MS_MAX, Client, ClientEvent, ClientSettings, Down, Letter, Unpublished};
pub use endpoint::Endpoint;
pub use error::{Full, SessionError};
pub use event::Event;
pub use link::{Link, Ready};
pub use payload::Payload;
pub use session::Session;
pub use settings::{Protocol, Settings, Will};
pub use transport::Address;
pub use waker::Waker;
