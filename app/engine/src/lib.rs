//! The pure core of hark: sample to window to features to verdict to alert.
//!
//! Events and `now` go in through `handle_*`; actions come out through
//! `poll_*`. There is no clock, file, socket or thread in here, so a
//! simulation can run a year of faults in seconds from one seed.

mod reading;
mod rejection;
mod schema;

pub use reading::{CHANNELS_MAX, Reading};
pub use rejection::{REASONS, Rejection};
pub use schema::{Channel, Schema};
