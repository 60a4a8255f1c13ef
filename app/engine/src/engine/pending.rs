//! Windows that wait for the model, in a fixed number of slots.
//!
//! A slot is free, waiting or running. The driver has its own copy of the
//! features that it runs, so a slot is free as soon as its verdict is given,
//! even while the model still runs.

use super::SensorId;
use heapless::Deque;

/// Windows that may wait for the model at once. More would not be answered by
/// their deadline: at 37 µs a run, the slowest of the small models, 32 is
/// already a millisecond.
pub const PENDING_MAX: usize = 32;

/// What a verdict needs besides the model's outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) sensor: SensorId,
    pub(super) sequence: Option<u64>,
    pub(super) timestamp_us: Option<i64>,
    /// `None`: the rule still learns.
    pub(super) rule_score: Option<f32>,
    pub(super) arrived_us: u64,
    pub(super) deadline_us: u64,
    /// Of the receipt, for the verdict.
    pub(super) read_ns: u64,
}

#[derive(Clone, Copy)]
enum Slot {
    Free,
    Waiting(Question),
    Running(Question),
}

pub(super) struct Pending {
    slots: [Slot; PENDING_MAX],
    /// Shape `[PENDING_MAX, features]`.
    features: Box<[f32]>,
    features_len: usize,
    /// Unanswered slots, oldest first; deadlines rise with age.
    order: Deque<u8, PENDING_MAX>,
    waiting: usize,
}

impl Pending {
    pub(super) fn new(features_len: usize) -> Self {
        Self {
            slots: [Slot::Free; PENDING_MAX],
            features: vec![0.0; PENDING_MAX * features_len].into(),
            features_len,
            order: Deque::new(),
            waiting: 0,
        }
    }

    /// A free slot and where its features go; it stays free until
    /// [`Pending::ask`].
    pub(super) fn free_slot(&mut self) -> Option<(u8, &mut [f32])> {
        let slot = self.slots.iter().position(|s| matches!(s, Slot::Free))?;
        let features = &mut self.features[slot * self.features_len..][..self.features_len];
        Some((slot as u8, features))
    }

    /// Takes in a question whose features are in the free `slot`.
    pub(super) fn ask(&mut self, slot: u8, question: Question) {
        self.slots[usize::from(slot)] = Slot::Waiting(question);
        self.waiting += 1;
        self.order
            .push_back(slot)
            .expect("there are as many places as slots");
    }

    /// Starts the oldest waiting question; returns its slot and its deadline.
    pub(super) fn start_next(&mut self) -> Option<(u8, u64)> {
        let slots = &mut self.slots;
        self.order.iter().find_map(|&slot| {
            let state = &mut slots[usize::from(slot)];
            let Slot::Waiting(question) = *state else {
                return None;
            };
            *state = Slot::Running(question);
            self.waiting -= 1;
            Some((slot, question.deadline_us))
        })
    }

    /// The features in `slot`.
    pub(super) fn features(&self, slot: u8) -> &[f32] {
        &self.features[usize::from(slot) * self.features_len..][..self.features_len]
    }

    /// Frees a running slot; returns its question unless its verdict has been
    /// given already.
    pub(super) fn finish(&mut self, slot: u8) -> Option<Question> {
        let Slot::Running(question) = self.slots[usize::from(slot)] else {
            return None;
        };
        self.slots[usize::from(slot)] = Slot::Free;
        self.forget(slot);
        Some(question)
    }

    /// Takes the oldest unanswered question if it is due by `due_us`, and says
    /// whether it was running.
    pub(super) fn expire(&mut self, due_us: u64) -> Option<(Question, bool)> {
        let slot = usize::from(*self.order.front()?);
        let (question, was_running) = match self.slots[slot] {
            Slot::Waiting(question) => (question, false),
            Slot::Running(question) => (question, true),
            Slot::Free => unreachable!("only unanswered slots stand in the order"),
        };
        if question.deadline_us > due_us {
            return None;
        }
        self.slots[slot] = Slot::Free;
        self.waiting -= usize::from(!was_running);
        self.order.pop_front();
        Some((question, was_running))
    }

    /// Takes the oldest running question.
    pub(super) fn take_running(&mut self) -> Option<Question> {
        let is_running = |slot: &&u8| matches!(self.slots[usize::from(**slot)], Slot::Running(_));
        let slot = *self.order.iter().find(is_running)?;
        self.finish(slot)
    }

    /// Takes the oldest waiting question.
    pub(super) fn take_waiting(&mut self) -> Option<Question> {
        let (slot, _) = self.start_next()?;
        self.finish(slot)
    }

    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        match &self.slots[usize::from(*self.order.front()?)] {
            Slot::Waiting(question) | Slot::Running(question) => Some(question.deadline_us),
            Slot::Free => None,
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        self.order.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
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
