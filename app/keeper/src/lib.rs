//! The deadline keeper: work that may hang is lent out under a deadline.
//!
//! Inference cannot be interrupted. So whoever is about to infer puts all that
//! is needed to go on without the answer into a [`Slot`], and takes it back
//! afterwards. At the deadline the keeper, a thread in [`keep`], claims what
//! still lies there and goes on with it. One compare-and-swap decides which of
//! the two has it; in the common case nothing is handed over at all.
//!
//! The thread that is stuck is lost until it comes back. A [`Crew`] counts those
//! threads and the ones that stand by to take their place.
//!
//! The keeper depends on nothing that it guards: it waits for no lock that a
//! guarded thread holds, allocates nothing, and sleeps by itself.

mod crew;
mod keeper;
mod slot;

pub use crew::{Crew, Relief, Return};
pub use keeper::keep;
pub use slot::{Armed, Slot};

/// What the slot and the crew are made of. The model checker compiles `slot.rs`
/// and `crew.rs` a second time with its own of the same names
/// (`tests/slot_model.rs`, `tests/crew_model.rs`).
mod sync {
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
}
