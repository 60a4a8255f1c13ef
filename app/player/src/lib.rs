//! Players of the simulated pump: its readings over a pseudo terminal, to a
//! broker or into a CSV file, at a pace.
//!
//! A [`Schedule`] decides which reading is due when, from the time it is told; an
//! [`Encoding`] turns it into bytes. The players [`play_pty`], [`play_mqtt`]
//! and [`write_csv`] wait and write. They run on the caller's thread until the
//! schedule or the [`Shutdown`](hark_threads::shutdown::Shutdown) ends them, wake within
//! 50 ms for the latter, and report every reading to the caller as it goes out.
//!
//! What a dead link would lose is lost here too, and counted: a player never
//! falls behind its pace in order to wait for a reader. Only a schedule without a
//! pace waits.

mod csv;
mod encoding;
mod mqtt;
mod node;
mod pty;
mod schedule;
mod text;

pub use csv::write_csv;
pub use encoding::Encoding;
pub use mqtt::{Publication, play_mqtt};
pub use node::{Node, NodeNameTooLong};
pub use pty::play_pty;
pub use schedule::{Due, InvalidSpeed, Pace, SPEED_MAX, SPEED_MIN, Schedule};
pub use text::TextFormat;

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The longest step in which a player waits before it looks for the shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// What became of the readings of one run: `readings = sent + dropped + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Readings made.
    pub readings: u64,
    /// Written whole to the line or file; acknowledged by the broker at QoS 1,
    /// handed to the connection at QoS 0.
    pub sent: u64,
    /// Kept back by a `dropout` fault, as the gap in the sequence shows.
    pub dropped: u64,
    /// Nobody listened, or whoever did was too slow.
    pub lost: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            readings,
            sent,
            dropped,
            lost,
        } = self;
        write!(
            f,
            "{readings} readings: {sent} sent, {dropped} dropped by a fault, {lost} lost"
        )
    }
}

#[cfg(test)]
mod tests;
