//! The threads of one source that do not serve it: who stands by to take over,
//! and who is stuck in a model.
//!
//! ```text
//!                    taken_over               come_back
//!   serving ───────────────────────→ stuck ─────────────→ nobody stood by: stands by
//!      ↑     its shard is claimed                          somebody did: ends
//!      │
//!      └──── standing by ←──────────── relieve
//!              taken_over              the new serving thread starts one, if none
//!              calls it                stands by and not too many are stuck
//! ```
//!
//! A model may only be run while a thread stands by: that is what the thread
//! which serves asks with [`Crew::relieve`] after it has taken over. Where it is
//! told [`Relief::None`] it runs no model, and asks again until a stuck thread
//! has come back or a new one can be started. Nobody tells it: an answer that it
//! fetches cannot be lost.
//!
//! Both counts lie in one word, and each transition is one read-modify-write of
//! it. Two counters would not do: a thread that comes back takes itself out of
//! the stuck ones and then finds that another stands by, and ends; that other
//! one, called in the same moment, could still see it as stuck, find one too
//! many, and start nobody. With none to stand by and none to come back the models
//! would rest for good. A processor with weak ordering, such as an ARM, does show
//! the two writes to another core in the other order.

use crate::sync::{AtomicU64, Ordering};

/// One thread that stands by, and the mask of their count.
const STANDBY: u64 = 1;
const STANDBYS: u64 = (1 << 32) - 1;
/// One thread that is stuck; their count is what lies above.
const STUCK: u64 = 1 << 32;

/// Counts a source's threads beside the one that serves.
#[derive(Debug)]
pub struct Crew {
    word: AtomicU64,
    stuck_max: u64,
}

/// Whether somebody stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// A thread does.
    Stands,
    /// None does, and the caller has to start one. It counts already; where it
    /// cannot be started, [`Crew::not_started`] takes it back.
    Start,
    /// None does, and so many are stuck that no other is started.
    None,
}

/// What becomes of a stuck thread that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// It stands by.
    StandBy,
    /// It ends, for another does.
    End,
}

impl Crew {
    /// Nobody stands by, and nobody is stuck; of these at most `stuck_max` are
    /// relieved by a fresh thread.
    pub fn new(stuck_max: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            stuck_max: stuck_max as u64,
        }
    }

    /// Threads that are stuck.
    pub fn stuck(&self) -> u32 {
        // Relaxed: for people, who learn nothing else by it.
        (self.word.load(Ordering::Relaxed) / STUCK) as u32
    }

    /// The serving thread is stuck, and who stands by is called. Never waits.
    ///
    /// # Panics
    /// If nobody stands by: then no model may have been run.
    pub fn taken_over(&self) {
        // One addition for both: no word is ever seen in which the two threads
        // have not changed places together.
        //
        // Relaxed: the shard goes to the called thread through a channel, which
        // carries all that was written before; this word guards nothing else.
        let before = self.word.fetch_add(STUCK - STANDBY, Ordering::Relaxed);
        assert!(before & STANDBYS > 0, "a model was run without relief");
    }

    /// Asked by the thread that serves: whether a model may be run.
    pub fn relieve(&self) -> Relief {
        let start = |word: u64| {
            let (standbys, stuck) = (word & STANDBYS, word / STUCK);
            (standbys == 0 && stuck < self.stuck_max).then_some(word + STANDBY)
        };
        match self.change(start) {
            Ok(_) => Relief::Start,
            Err(word) if word & STANDBYS > 0 => Relief::Stands,
            Err(_) => Relief::None,
        }
    }

    /// The thread that [`Relief::Start`] asked for could not be started. A thread
    /// that came back meanwhile has ended, as it found one standing by: so ask
    /// [`Crew::relieve`] again after a while.
    pub fn not_started(&self) {
        // Relaxed: takes back a promise that nobody can have acted upon but by
        // ending, which needs to see nothing.
        self.word.fetch_sub(STANDBY, Ordering::Relaxed);
    }

    /// A stuck thread came back.
    pub fn come_back(&self) -> Return {
        let back = |word: u64| match word & STANDBYS {
            0 => Some(word - STUCK + STANDBY),
            _ => Some(word - STUCK),
        };
        let before = self.change(back).expect("there always is a next word");
        match before & STANDBYS {
            0 => Return::StandBy,
            _ => Return::End,
        }
    }

    /// Puts `next` of the word in its place; returns the word before, or the one
    /// that has no next.
    ///
    /// Release and acquire: whoever finds a thread back that was stuck finds what
    /// it left in the mailbox before it came back, too, its model; otherwise it
    /// would run none although it may.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        // Adding nothing reads the newest word, as every read-modify-write does; a
        // load could give one of before, and hide a thread that has come back.
        let mut word = self.word.fetch_add(0, Ordering::AcqRel);
        while let Some(after) = next(word) {
            let changed =
                self.word
                    .compare_exchange(word, after, Ordering::AcqRel, Ordering::Acquire);
            match changed {
                Ok(_) => return Ok(word),
                Err(newer) => word = newer,
            }
        }
        Err(word)
    }
}
