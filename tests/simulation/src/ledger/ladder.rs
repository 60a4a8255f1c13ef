//! The ladder's rules once more, written out plainly: who may run what, which
//! rung stands, and why.

use hark_engine::{LadderPolicy, ModelRung, Rung, StepReason};
use std::collections::VecDeque;

/// Where the instance of a rung is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    OutSince(u64),
    Gone { is_asked_for: bool },
}

/// What is known of a rung that has stepped down.
#[derive(Clone, Copy, Debug)]
struct Down {
    next_trial_us: u64,
    good_trials: u32,
}

struct Book {
    rung: Rung,
    expires_utc_us: Option<i64>,
    place: Place,
    /// Counts instances.
    instance: u32,
    /// Of the last inferences: whether they missed.
    misses: VecDeque<bool>,
    down: Option<Down>,
    wait_us: u64,
    why: StepReason,
    last_trial_us: Option<u64>,
}

/// How an inference ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Good,
    Late,
    Faulty(StepReason),
}

pub(super) struct LadderBook {
    policy: LadderPolicy,
    books: Vec<Book>,
    utc_us: i64,
    pub(super) are_allowed: bool,
    /// Told by the engine: the ledger does not see the features.
    pub(super) is_drifted: bool,
    standing: usize,
}

impl LadderBook {
    pub(super) fn new(policy: LadderPolicy, models: &[ModelRung]) -> Self {
        let book = |model: &ModelRung| Book {
            rung: model.rung,
            expires_utc_us: model.expires_utc_us,
            place: Place::Here,
            instance: 0,
            misses: VecDeque::new(),
            down: None,
            wait_us: 0,
            why: StepReason::Recovered,
            last_trial_us: None,
        };
        Self {
            policy,
            books: models.iter().map(book).collect(),
            utc_us: 0,
            are_allowed: true,
            is_drifted: false,
            standing: 0,
        }
    }

    pub(super) fn handle_wall_clock(&mut self, utc_us: i64) {
        self.utc_us = utc_us;
    }

    fn distrust(&self, book: &Book) -> Option<StepReason> {
        if !self.are_allowed {
            Some(StepReason::NoRelief)
        } else if self.is_drifted {
            Some(StepReason::Drift)
        } else if book.expires_utc_us.is_some_and(|end| self.utc_us >= end) {
            Some(StepReason::Expired)
        } else {
            None
        }
    }

    fn is_ready(&self, book: &Book) -> bool {
        self.distrust(book).is_none() && book.place == Place::Here
    }

    /// Who would run the next window, and whether on trial.
    pub(super) fn choice(&self, now_us: u64) -> Option<(usize, bool)> {
        for (index, book) in self.books.iter().enumerate() {
            if self.is_ready(book) {
                match book.down {
                    None => return Some((index, false)),
                    Some(down) if now_us >= down.next_trial_us => return Some((index, true)),
                    Some(_) => {}
                }
            }
        }
        None
    }

    pub(super) fn has_server(&self) -> bool {
        let mut books = self.books.iter();
        books.any(|book| self.is_ready(book) && book.down.is_none())
    }

    pub(super) fn rung(&self, index: usize) -> Rung {
        self.books.get(index).map_or(Rung::Rule, |book| book.rung)
    }

    pub(super) fn standing(&self) -> Rung {
        self.rung(self.standing)
    }

    /// The step that is due: from, to and why.
    pub(super) fn poll_step(&mut self) -> Option<(Rung, Rung, StepReason)> {
        let stands = |book: &Book| self.distrust(book).is_none() && book.down.is_none();
        let count = self.books.len();
        let to = self.books.iter().position(stands).unwrap_or(count);
        let from = std::mem::replace(&mut self.standing, to);
        if to == from {
            return None;
        }
        let reason = if to < from {
            StepReason::Recovered
        } else {
            let book = &self.books[from];
            self.distrust(book).unwrap_or(book.why)
        };
        Some((self.rung(from), self.rung(to), reason))
    }

    /// Gives up who is out for too long; returns how many.
    pub(super) fn give_up(&mut self, now_us: u64) -> u64 {
        let mut count = 0;
        for index in 0..self.books.len() {
            if let Place::OutSince(since) = self.books[index].place
                && now_us > since + self.policy.hang_us
            {
                count += 1;
                let is_asked_for = false;
                self.books[index].place = Place::Gone { is_asked_for };
                if self.books[index].down.is_none() {
                    self.step_down(index, StepReason::Hang, now_us);
                }
                self.books[index].why = StepReason::Hang;
            }
        }
        count
    }

    fn step_down(&mut self, index: usize, why: StepReason, now_us: u64) {
        let LadderPolicy {
            probe_us_min,
            probe_us_max,
            ..
        } = self.policy;
        let book = &mut self.books[index];
        book.wait_us = match book.wait_us {
            0 => probe_us_min,
            last => (2 * last).min(probe_us_max),
        };
        book.down = Some(Down {
            next_trial_us: now_us + book.wait_us,
            good_trials: 0,
        });
        book.why = why;
        for better in &mut self.books[..index] {
            if let Some(down) = &mut better.down {
                down.next_trial_us = down.next_trial_us.max(now_us + probe_us_min);
            }
        }
    }

    /// A trial begins.
    pub(super) fn handle_trial(&mut self, index: usize, now_us: u64) {
        let book = &mut self.books[index];
        if let Some(last_us) = book.last_trial_us.replace(now_us) {
            let spacing_us = now_us - last_us;
            assert!(spacing_us >= self.policy.probe_us_min, "trials too close");
        }
    }

    /// Returns whether it was a trial that failed.
    pub(super) fn handle_ending(
        &mut self,
        (index, is_trial): (usize, bool),
        ending: Ending,
        now_us: u64,
    ) -> bool {
        match ending {
            _ if !is_trial && self.books[index].down.is_some() => {}
            Ending::Faulty(why) => self.step_down(index, why, now_us),
            Ending::Late if is_trial => self.step_down(index, StepReason::Deadline, now_us),
            Ending::Good if is_trial => self.handle_good_trial(index, now_us),
            _ => {
                let book = &mut self.books[index];
                book.misses.push_front(ending == Ending::Late);
                book.misses.truncate(self.policy.misses_of as usize);
                let misses = book.misses.iter().filter(|&&missed| missed).count();
                if misses >= self.policy.misses_max as usize {
                    self.step_down(index, StepReason::Deadline, now_us);
                }
            }
        }
        is_trial && ending != Ending::Good
    }

    fn handle_good_trial(&mut self, index: usize, now_us: u64) {
        let book = &mut self.books[index];
        let down = book.down.as_mut().expect("only who is down is tried");
        down.good_trials += 1;
        down.next_trial_us = now_us + self.policy.probe_us_min;
        if down.good_trials == self.policy.probes_to_pass {
            book.down = None;
            book.wait_us = 0;
            book.misses.clear();
        }
    }

    /// Returns which instance is out.
    pub(super) fn handle_hang(&mut self, index: usize, now_us: u64) -> u32 {
        self.books[index].place = Place::OutSince(now_us);
        self.books[index].instance
    }

    /// Returns whether the instance is taken back.
    pub(super) fn handle_late_return(&mut self, index: usize, instance: u32) -> bool {
        let book = &mut self.books[index];
        let is_out = matches!(book.place, Place::OutSince(_));
        let is_wanted = is_out && book.instance == instance;
        if is_wanted {
            book.place = Place::Here;
        }
        is_wanted
    }

    pub(super) fn handle_instance(&mut self, rung: Rung, now_us: u64) {
        let book = self.book(rung);
        book.place = Place::Here;
        book.instance += 1;
        // A fresh instance is tried as soon as it is there.
        book.last_trial_us = None;
        if let Some(down) = &mut book.down {
            down.next_trial_us = down.next_trial_us.min(now_us);
        }
    }

    pub(super) fn handle_no_instance(&mut self, rung: Rung, why: StepReason, now_us: u64) {
        let is_asked_for = false;
        self.book(rung).place = Place::Gone { is_asked_for };
        let index = self.books.iter().position(|book| book.rung == rung);
        self.step_down(index.expect("it is planned"), why, now_us);
    }

    /// The rung for which an instance must be asked now.
    pub(super) fn poll_wanted(&mut self, now_us: u64) -> Option<Rung> {
        let index = self.books.iter().position(|book| {
            let is_asked_for = false;
            let is_due = book.down.is_some_and(|down| now_us >= down.next_trial_us);
            book.place == Place::Gone { is_asked_for } && is_due && self.distrust(book).is_none()
        })?;
        let is_asked_for = true;
        self.books[index].place = Place::Gone { is_asked_for };
        Some(self.books[index].rung)
    }

    fn book(&mut self, rung: Rung) -> &mut Book {
        let mut books = self.books.iter_mut();
        books.find(|book| book.rung == rung).expect("it is planned")
    }
}
