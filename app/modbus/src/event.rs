//! What a master wants done, and what it has to say.

use crate::fault::Fault;
use std::time::Instant;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request may be made: [`Master::ask`](crate::Master::ask).
    Ask,
    /// An answer is awaited, until then at most: see [`Master::handle_time`](crate::Master::handle_time).
    Listen(Instant),
    /// Nothing, until then.
    Wait(Instant),
}

/// What became of a unit. The units are called by their place in the list that the
/// master was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All its blocks came: [`Master::values`](crate::Master::values).
    Reading {
        /// The unit.
        unit: usize,
        /// The number of the period in which it was asked, from 0: one that was
        /// left out is seen as a gap.
        sequence: u64,
        /// It does answer again, after so many failures; to be told.
        missed: Option<u32>,
        /// Periods before this one in which it could not be asked.
        overrun: u64,
    },
    /// A request brought nothing.
    Failed {
        /// The unit.
        unit: usize,
        /// Why.
        fault: Fault,
        /// Whether that is to be told: see [`Master::explain`](crate::Master::explain).
        is_news: bool,
    },
    /// What the connection brings is not Modbus: it is of no use any more.
    Broken,
}
