//! hark's MQTT broker, for sites that have none.
//!
//! [`Broker`] is the protocol without sockets and clocks: connections, bytes and
//! the time go in, bytes to send and connections to close come out. [`Server`] is
//! the one thread that moves them, and decides nothing.
//!
//! It serves MQTT 3.1.1 and 5 on one address; each CONNECT says which. Whatever a
//! peer names or leaves unread is bounded in number and in bytes by [`limits`], and
//! what is refused is counted and told. What it does not do: sessions end with
//! their connection, subscriptions are granted QoS 1 at most, and there are neither
//! shared subscriptions, subscription identifiers nor topic aliases; clients of MQTT
//! 5 are told so.
//!
//! It has its own code for packets beside that of the client in `hark-mqtt`: one
//! reads what a broker may say and the other what a client may, and a fault of one
//! is not hidden by the same fault of the other.
//!
//! Section numbers in this crate are those of the OASIS standards: "3.1.1, 3.3"
//! is section 3.3 of MQTT 3.1.1, "5.0, 3.3" of MQTT 5.0.

mod broker;
mod client;
mod fields;
pub mod limits;
mod message;
mod notices;
mod output;
mod packet;
mod properties;
mod retained;
mod server;
mod subscriptions;
mod topic;

pub use broker::{Broker, ClientKey, Counts, Login};
pub use server::Server;
