//! What every thread of hark is made of, and nothing of what it does: the
//! signal to stop, the progress that it shows, its panics, the waits between
//! two tries, and what it allocates.

pub mod allocations;
mod backoff;
pub mod panics;
pub mod progress;
pub mod shutdown;
mod threads;

pub use backoff::Backoff;
pub use shutdown::Shutdown;
pub use threads::{Outcome, Stage, Threads};
