//! A real mosquitto for the tests of every crate, and a client that is not ours.
//!
//! Everything listens on the loopback only, on a free port, and ends with the
//! test that started it, by its own process handle. A missing mosquitto is an
//! error that says how to install it; a crate whose tests must pass without one
//! asks for [`Mosquitto::start_or_skip`], which says loudly that nothing was
//! proved.

mod broker;
mod certificates;
mod process;
mod subscription;

pub use broker::{Mosquitto, Persistence, Settings, Tls};
pub use certificates::{Authority, Issued, Subject};
pub use process::{send_signal, terminate, wait_until};
pub use subscription::{Message, Subscription};
