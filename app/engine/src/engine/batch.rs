//! The windows that the model is running now, as one batch of one rung.
//!
//! A batch grows until the first answer of it, or until something else ends
//! its growth. It is over when every ticket was answered, or when its thread
//! is taken for stuck; its tickets are void then.

use super::pending::PENDING_MAX;
use crate::ladder::Choice;

/// A window handed to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) place: u8,
    /// Tells apart two uses of one place.
    batch: u64,
}

/// One bit for each place whose ticket is out.
type Places = u32;

const _: () = assert!(PENDING_MAX <= Places::BITS as usize);

#[derive(Default)]
pub(super) struct Batch {
    /// Counts batches.
    id: u64,
    choice: Option<Choice>,
    running: Places,
    len: usize,
    is_closed: bool,
}

impl Batch {
    /// Who runs it, if there is one.
    pub(super) fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// Whether a window may be added, given the most that fit in one run.
    pub(super) fn has_room(&self, batch_max: usize) -> bool {
        let is_full = self.choice.is_some_and(|c| c.is_trial) || self.len >= batch_max;
        self.choice.is_none() || !(is_full || self.is_closed)
    }

    /// Adds the window in `place`; the first one says who runs the batch.
    pub(super) fn add(&mut self, place: u8, choice: Choice) -> Ticket {
        if self.choice.is_none() {
            *self = Self {
                id: self.id + 1,
                choice: Some(choice),
                ..Self::default()
            };
        }
        self.running |= 1 << place;
        self.len += 1;
        Ticket {
            place,
            batch: self.id,
        }
    }

    /// Takes back a ticket; returns who ran it unless it is void.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Option<Choice> {
        let bit = 1 << ticket.place;
        // The number tells a ticket of a batch that was abandoned from one of the batch
        // that has the same place now.
        if ticket.batch != self.id || self.running & bit == 0 {
            return None;
        }
        let choice = self.choice;
        self.running &= !bit;
        // Its run is over: a window added now would wait for a run that never comes.
        self.is_closed = true;
        if self.running == 0 {
            self.choice = None;
        }
        choice
    }

    /// The batch grows no more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Makes the tickets void; returns who ran them and how many there were.
    pub(super) fn abandon(&mut self) -> Option<(Choice, u32)> {
        let windows = std::mem::take(&mut self.running).count_ones();
        self.choice.take().map(|choice| (choice, windows))
    }
}
