//! A slot that two threads race for: one that lends a value out and wants it
//! back, and the keeper that claims it at the deadline.
//!
//! One word decides: a generation and whether the slot is armed. Both sides
//! take the value by changing the word of *their* generation from armed to
//! free with one compare-and-swap; the loser knows at once that it has lost.
//! The generation keeps a keeper that looked a moment ago from claiming the
//! next loan, which is not due.
//!
//! Whoever has the value is the only one who may arm the slot, so the cell is
//! looked into by one thread at a time: its lock is never waited for.

use crate::sync::{AtomicU64, Mutex, Ordering};

/// The bit of the word that says that a value lies in the slot; the rest
/// counts the loans.
const ARMED: u64 = 1;
const GENERATION: u64 = 2;

/// The proof of one loan, to take it back with.
#[derive(Debug, PartialEq, Eq)]
pub struct Armed {
    word: u64,
}

/// Holds a value while its owner is away.
#[derive(Debug)]
pub struct Slot<T> {
    word: AtomicU64,
    /// Of the loan that is, or was last, in the slot.
    deadline_us: AtomicU64,
    value: Mutex<Option<T>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slot<T> {
    /// An empty slot.
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            deadline_us: AtomicU64::new(u64::MAX),
            value: Mutex::new(None),
        }
    }

    /// Lends `value` out: from `deadline_us` on, on the keeper's clock, the
    /// keeper may claim it.
    ///
    /// # Panics
    /// If a value lies in the slot already: there is one value for each slot.
    pub fn arm(&self, value: T, deadline_us: u64) -> Armed {
        let free = self.word.load(Ordering::Relaxed);
        assert!(free & ARMED == 0, "the only value of this slot is armed");
        let word = (free.wrapping_add(GENERATION)) | ARMED;
        *self.cell() = Some(value);
        self.deadline_us.store(deadline_us, Ordering::Relaxed);
        // Release: whoever sees the word sees the value and its deadline.
        self.word.store(word, Ordering::Release);
        Armed { word }
    }

    /// Takes the value back; `None` if the keeper has claimed it.
    pub fn disarm(&self, armed: Armed) -> Option<T> {
        self.take(armed.word)
    }

    /// When the value that lies in the slot is due, if one does.
    pub fn deadline_us(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (word & ARMED != 0).then(|| self.deadline_us.load(Ordering::Relaxed))
    }

    /// Claims the value if it is due at `now_us`.
    pub fn claim(&self, now_us: u64) -> Option<T> {
        let word = self.word.load(Ordering::Acquire);
        if word & ARMED == 0 || self.deadline_us.load(Ordering::Relaxed) > now_us {
            return None;
        }
        // If the deadline was that of another loan, so is the word by now.
        self.take(word)
    }

    fn take(&self, word: u64) -> Option<T> {
        self.word
            .compare_exchange(word, word & !ARMED, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        let value = self.cell().take();
        assert!(value.is_some(), "an armed slot holds a value");
        value
    }

    fn cell(&self) -> impl std::ops::DerefMut<Target = Option<T>> + '_ {
        self.value
            .try_lock()
            .expect("only the owner of the value looks into the slot")
    }
}
