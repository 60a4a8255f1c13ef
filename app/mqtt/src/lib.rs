//! hark's MQTT client: readings in, verdicts and alerts out.
//!
//! [`Session`] is the protocol of one connection, 3.1.1 and 5.0, without a
//! socket and without a clock: bytes go in, [`Event`]s and bytes to send come
//! out. [`Client`] is one session after the other: it decides when to connect,
//! what to ask for, what to send again and when to give up. [`Endpoint`] moves
//! the bytes and the time of one client, and decides nothing. What belongs to
//! the hot path is allocated when they are made, nothing for a message.
//!
//! A session starts clean and lives as long as its connection, so whatever must
//! outlive one is the client's: letters at QoS 1. Messages are received at QoS
//! 0, 1 and 2.
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
mod output;
mod packet;
mod payload;
mod published_ids;
mod reason;
mod received_ids;
mod secured;
mod session;
mod settings;
mod skip;
mod subscribes;
mod tls;
mod transport;
mod waker;

pub use client::{CONNECT_MS_MAX, Client, ClientEvent, ClientSettings, Down, Letter, Unpublished};
pub use endpoint::Endpoint;
pub use error::{Full, SessionError};
pub use event::Event;
pub use payload::Payload;
pub use session::Session;
pub use settings::{Protocol, Settings, Will};
pub use tls::{Identity, Tls, TlsError};
pub use transport::Address;
pub use waker::Waker;
