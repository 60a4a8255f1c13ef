//! Windows that wait for the model, in a fixed number of places, and those of them
//! that it is running, as one batch of one rung.
//!
//! A place is free, waiting or running. The driver has its own copy of the
//! features that it runs, so a place is free as soon as its verdict is given,
//! even while the model still runs.

use super::SensorId;
use hark_ladder::Choice;
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
enum Place {
    Free,
    Waiting(Question),
    Running(Question),
}

pub(super) struct Pending {
    places: [Place; PENDING_MAX],
    /// Shape `[PENDING_MAX, features]`.
    features: Box<[f32]>,
    features_len: usize,
    /// Unanswered places, oldest first. All have the same time from arrival to
    /// deadline, so the front is always the next to be due.
    order: Deque<u8, PENDING_MAX>,
    waiting: usize,
}

impl Pending {
    pub(super) fn new(features_len: usize) -> Self {
        Self {
            places: [Place::Free; PENDING_MAX],
            features: vec![0.0; PENDING_MAX * features_len].into(),
            features_len,
            order: Deque::new(),
            waiting: 0,
        }
    }

    /// A free place and where its features go; it stays free until
    /// [`Pending::ask`].
    pub(super) fn free_place(&mut self) -> Option<(u8, &mut [f32])> {
        // Nearly always the first one: few windows wait at a time.
        let place = self.places.iter().position(|s| matches!(s, Place::Free))?;
        let features = &mut self.features[place * self.features_len..][..self.features_len];
        Some((place as u8, features))
    }

    /// Takes in a question whose features are in the free `place`.
    pub(super) fn ask(&mut self, place: u8, question: Question) {
        self.places[usize::from(place)] = Place::Waiting(question);
        self.waiting += 1;
        self.order
            .push_back(place)
            .expect("the order is as long as there are places");
    }

    /// Starts the oldest waiting question; returns its place and its deadline.
    pub(super) fn start_next(&mut self) -> Option<(u8, u64)> {
        let places = &mut self.places;
        self.order.iter().find_map(|&place| {
            let state = &mut places[usize::from(place)];
            let Place::Waiting(question) = *state else {
                return None;
            };
            *state = Place::Running(question);
            self.waiting -= 1;
            Some((place, question.deadline_us))
        })
    }

    /// The features in `place`.
    pub(super) fn features(&self, place: u8) -> &[f32] {
        &self.features[usize::from(place) * self.features_len..][..self.features_len]
    }

    /// Frees a running place; returns its question unless its verdict has been
    /// given already.
    pub(super) fn finish(&mut self, place: u8) -> Option<Question> {
        let Place::Running(question) = self.places[usize::from(place)] else {
            return None;
        };
        // Free while the ticket may still be out: the model has a copy of the features,
        // and the batch knows the ticket from one of a later use.
        self.places[usize::from(place)] = Place::Free;
        self.forget(place);
        Some(question)
    }

    /// Takes the oldest unanswered question if it is due by `due_us`, and says
    /// whether it was running.
    pub(super) fn expire(&mut self, due_us: u64) -> Option<(Question, bool)> {
        let place = usize::from(*self.order.front()?);
        let (question, was_running) = match self.places[place] {
            Place::Waiting(question) => (question, false),
            Place::Running(question) => (question, true),
            Place::Free => unreachable!("only unanswered places stand in the order"),
        };
        if question.deadline_us > due_us {
            return None;
        }
        self.places[place] = Place::Free;
        self.waiting -= usize::from(!was_running);
        self.order.pop_front();
        Some((question, was_running))
    }

    /// Takes the oldest running question.
    pub(super) fn take_running(&mut self) -> Option<Question> {
        let is_running =
            |place: &&u8| matches!(self.places[usize::from(**place)], Place::Running(_));
        let place = *self.order.iter().find(is_running)?;
        self.finish(place)
    }

    /// Takes the oldest waiting question.
    pub(super) fn take_waiting(&mut self) -> Option<Question> {
        let (place, _) = self.start_next()?;
        self.finish(place)
    }

    pub(super) fn next_deadline_us(&self) -> Option<u64> {
        match &self.places[usize::from(*self.order.front()?)] {
            Place::Waiting(question) | Place::Running(question) => Some(question.deadline_us),
            Place::Free => None,
        }
    }

    /// Whether a window of `sensor` waits for its verdict.
    pub(super) fn holds(&self, sensor: SensorId) -> bool {
        self.places.iter().any(|place| match place {
            Place::Waiting(question) | Place::Running(question) => question.sensor == sensor,
            Place::Free => false,
        })
    }

    pub(super) fn unanswered(&self) -> usize {
        self.order.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    fn forget(&mut self, place: u8) {
        if self.order.front() == Some(&place) {
            self.order.pop_front();
            return;
        }
        // Answers out of order are rare: rotate once through the few that wait.
        for _ in 0..self.order.len() {
            let Some(other) = self.order.pop_front() else {
                return;
            };
            if other != place {
                self.order
                    .push_back(other)
                    .expect("one was taken out just before");
            }
        }
    }
}

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

/// What the model is running now.
///
/// A batch grows until the first answer of it, or until something else ends
/// its growth. It is over when every ticket was answered, or when its thread
/// is taken for stuck; its tickets are void then.
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

    /// Begins one of rows that nobody waits for.
    pub(super) fn begin_without_windows(&mut self, choice: Choice) {
        *self = Self {
            id: self.id + 1,
            choice: Some(choice),
            is_closed: true,
            ..Self::default()
        };
    }

    /// Ends one without windows.
    pub(super) fn end(&mut self) {
        if self.running == 0 {
            self.choice = None;
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
