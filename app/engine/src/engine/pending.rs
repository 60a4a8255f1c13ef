//! Windows that wait for the model, in a fixed number of slots.
//!
//! A slot is free, waiting, running, or abandoned: its verdict was given at
//! the deadline while the model still ran. An abandoned slot keeps its
//! features until the model answers, because the model may be reading them.

use super::{Job, SensorId};
use heapless::Deque;

/// Windows that may wait for the model at once. More would not be answered by
/// their deadline: at 37 µs a run, the slowest of the small models, 32 is
/// already a millisecond.
pub const PENDING_MAX: usize = 32;

/// A window handed to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u8,
    /// Tells apart two uses of one slot.
    generation: u64,
}

/// What a verdict needs besides the model's outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) sensor: SensorId,
    pub(super) sequence: Option<u64>,
    pub(super) timestamp_us: Option<i64>,
    pub(super) rule_score: f32,
    pub(super) arrived_us: u64,
    pub(super) deadline_us: u64,
}

enum Slot {
    Free,
    Waiting(Question),
    Running(Question),
    Abandoned,
}

pub(super) struct Pending {
    slots: [Slot; PENDING_MAX],
    generations: [u64; PENDING_MAX],
    /// Shape `[PENDING_MAX, features]`.
    features: Box<[f32]>,
    features_len: usize,
    /// Unanswered slots, oldest first; deadlines rise with age.
    order: Deque<u8, PENDING_MAX>,
}

impl Pending {
    pub(super) fn new(features_len: usize) -> Self {
        Self {
            slots: [const { Slot::Free }; PENDING_MAX],
            generations: [0; PENDING_MAX],
            features: vec![0.0; PENDING_MAX * features_len].into(),
            features_len,
            order: Deque::new(),
        }
    }

    /// Takes in a question; returns where its features go, or `None` if every
    /// slot is taken.
    pub(super) fn ask(&mut self, question: Question) -> Option<&mut [f32]> {
        let slot = self.slots.iter().position(|s| matches!(s, Slot::Free))?;
        self.slots[slot] = Slot::Waiting(question);
        self.generations[slot] += 1;
        self.order
            .push_back(slot as u8)
            .expect("there are as many places as slots");
        Some(&mut self.features[slot * self.features_len..][..self.features_len])
    }

    pub(super) fn start_next(&mut self) -> Option<Job<'_>> {
        let is_waiting = |slot: &&u8| matches!(self.slots[usize::from(**slot)], Slot::Waiting(_));
        let slot = *self.order.iter().find(is_waiting)?;
        let Slot::Waiting(question) = self.slots[usize::from(slot)] else {
            unreachable!("just found waiting");
        };
        self.slots[usize::from(slot)] = Slot::Running(question);
        let ticket = Ticket {
            slot,
            generation: self.generations[usize::from(slot)],
        };
        Some(Job {
            ticket,
            features: self.features(ticket),
            deadline_us: question.deadline_us,
        })
    }

    /// The features that were handed out with `ticket`.
    pub(super) fn features(&self, ticket: Ticket) -> &[f32] {
        &self.features[usize::from(ticket.slot) * self.features_len..][..self.features_len]
    }

    /// Frees the slot of `ticket`; returns its question unless its verdict has
    /// been given already.
    pub(super) fn finish(&mut self, ticket: Ticket) -> Option<Question> {
        let slot = usize::from(ticket.slot);
        if self.generations[slot] != ticket.generation {
            return None;
        }
        match std::mem::replace(&mut self.slots[slot], Slot::Free) {
            Slot::Running(question) => {
                self.forget(ticket.slot);
                Some(question)
            }
            Slot::Abandoned | Slot::Free => None,
            Slot::Waiting(_) => unreachable!("a ticket is made when its slot starts to run"),
        }
    }

    /// Takes the oldest unanswered question if it is due by `due_us`.
    pub(super) fn expire(&mut self, due_us: u64) -> Option<Question> {
        let slot = *self.order.front()?;
        let (Slot::Waiting(question) | Slot::Running(question)) = self.slots[usize::from(slot)]
        else {
            unreachable!("only unanswered slots stand in the order");
        };
        if question.deadline_us > due_us {
            return None;
        }
        let was_running = matches!(self.slots[usize::from(slot)], Slot::Running(_));
        self.slots[usize::from(slot)] = if was_running {
            Slot::Abandoned
        } else {
            Slot::Free
        };
        self.order.pop_front();
        Some(question)
    }

    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        let slot = *self.order.front()?;
        match &self.slots[usize::from(slot)] {
            Slot::Waiting(question) | Slot::Running(question) => Some(question.deadline_us),
            Slot::Free | Slot::Abandoned => None,
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        self.order.len()
    }

    fn forget(&mut self, slot: u8) {
        if self.order.front() == Some(&slot) {
            self.order.pop_front();
            return;
        }
        // Answers out of order are rare: rotate once through the few places.
        for _ in 0..self.order.len() {
            let Some(other) = self.order.pop_front() else {
                return;
            };
            if other != slot {
                self.order
                    .push_back(other)
                    .expect("a place was freed just before");
            }
        }
    }
}
