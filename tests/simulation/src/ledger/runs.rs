//! The ledger's side that faces the models: which window goes to whom, and
//! what becomes of it.

use super::ladder::Ending;
use super::{Ledger, Open};
use crate::model::Answer;
use hark_engine::{Driver, Fault, Limits, Now, Rung, StepReason};

/// The batch that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    choice: (usize, bool),
    windows: usize,
    /// Those without an answer yet.
    unanswered: u32,
    is_closed: bool,
}

/// A thread that was taken for stuck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stuck {
    index: usize,
    instance: u32,
    windows: u32,
}

/// A window that must be given out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedJob {
    pub(crate) id: u64,
    pub(crate) rung: Rung,
    /// When the keeper is to answer for it.
    pub(crate) due_us: u64,
}

/// What a batch may be that is to start now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectedBatch {
    cost_us: f32,
}

impl Ledger<'_> {
    /// A batch is asked for; `None` if the driver must not even look for one.
    pub(crate) fn handle_start<M>(
        &mut self,
        has_more: bool,
        now: Now,
        driver: &Driver<M>,
    ) -> Option<ExpectedBatch> {
        let now_us = now.mono_us;
        let waiting = self.waiting();
        if waiting == 0 {
            return None;
        }
        let choice = self.ladder.choice(now_us);
        if has_more && let Some((index, is_trial)) = choice {
            let cost_us = driver.cost_us(self.ladder.rung(index));
            let is_full = waiting >= self.rows_max(index, is_trial);
            if !is_full && self.is_in_time(waiting + 1, cost_us, now_us) {
                return None;
            }
        }
        self.observe(now);
        self.handle_timeout(now_us);
        let rung = self
            .ladder
            .choice(now_us)
            .map(|(index, _)| self.ladder.rung(index));
        Some(ExpectedBatch {
            cost_us: rung.map_or(0.0, |rung| driver.cost_us(rung)),
        })
    }

    /// The next window of a batch that has started; which one it must hold.
    pub(crate) fn handle_poll(&mut self, now: Now) -> Option<ExpectedJob> {
        let now_us = now.mono_us;
        let choice = match self.run {
            Some(run) if run.is_closed || run.choice.1 => return None,
            Some(run) if run.windows >= self.batch_max(run.choice.0) => return None,
            Some(run) => run.choice,
            None => self.ladder.choice(now_us)?,
        };
        let oldest = self.open.iter_mut().find(|open| !open.is_running)?;
        oldest.is_running = true;
        let job = ExpectedJob {
            id: oldest.id,
            rung: self.ladder.rung(choice.0),
            due_us: due_us(oldest, &self.limits),
        };
        let run = self.run.get_or_insert(Run {
            choice,
            windows: 0,
            unanswered: 0,
            is_closed: false,
        });
        run.windows += 1;
        run.unanswered += 1;
        if choice.1 {
            assert_eq!(run.windows, 1, "a trial is alone");
            self.counters.probes += 1;
            self.ladder.handle_trial(choice.0, now_us);
        }
        Some(job)
    }

    fn batch_max(&self, index: usize) -> usize {
        self.scenario.model.rungs[index].batch_max
    }

    fn rows_max(&self, index: usize, is_trial: bool) -> usize {
        if is_trial { 1 } else { self.batch_max(index) }
    }

    /// How many windows wait for a model.
    fn waiting(&self) -> usize {
        self.open.iter().filter(|open| !open.is_running).count()
    }

    /// Whether so many windows are done before the oldest one is due. The driver
    /// reckons in f32: what is as good as in time may go either way.
    fn is_in_time(&self, windows: usize, cost_us: f32, now_us: u64) -> bool {
        let Some(oldest) = self.open.first() else {
            return true;
        };
        let left_us = due_us(oldest, &self.limits).saturating_sub(now_us) as f64;
        windows as f64 * f64::from(cost_us) <= left_us * (1.0 + 1e-6)
    }

    /// Holds the length of a batch against the deadlines, before its windows are
    /// polled.
    pub(crate) fn check_batch_len(&self, len: usize, batch: ExpectedBatch, now_us: u64) {
        let choice = self.ladder.choice(now_us);
        let Some((index, is_trial)) = choice.filter(|_| !self.open.is_empty()) else {
            return assert_eq!(len, 0, "nothing can run");
        };
        let limit = self.rows_max(index, is_trial).min(self.waiting());
        assert!((1..=limit).contains(&len), "{len} of {limit}");
        let is_in_time = |windows| self.is_in_time(windows, batch.cost_us, now_us);
        assert!(len == 1 || is_in_time(len), "{len} windows are too many");
        let could_be_longer = len < limit && is_in_time(len + 1);
        assert!(!could_be_longer, "{len} windows are too few");
    }

    /// The model is about to answer the window `id` of the batch that runs.
    pub(crate) fn handle_answer(&mut self, id: u64, answer: &Answer, now_us: u64) {
        let run = self.run.as_mut().expect("a batch runs");
        run.unanswered -= 1;
        run.is_closed = true;
        let choice = run.choice;
        if run.unanswered == 0 {
            self.run = None;
        }
        let Some(at) = self.open.iter().position(|open| open.id == id) else {
            self.counters.late_results += 1;
            return;
        };
        let open = self.open.remove(at);
        let is_late = now_us > open.arrived_us + self.limits.deadline_us;
        let ending = match answer.score {
            Err(fault) => {
                self.counters.model_faults += 1;
                self.expect_fallback(open, now_us);
                Ending::Faulty(reason(fault))
            }
            Ok(_) if is_late => {
                self.counters.late_results += 1;
                self.expect_fallback(open, now_us);
                Ending::Late
            }
            Ok(score) => {
                self.expect(open, self.ladder.rung(choice.0), Some(score), now_us);
                Ending::Good
            }
        };
        self.note(choice, ending, now_us);
        self.follow(now_us);
    }

    fn note(&mut self, choice: (usize, bool), ending: Ending, now_us: u64) {
        let has_failed = self.ladder.handle_ending(choice, ending, now_us);
        self.counters.probes_failed += u64::from(has_failed);
    }

    /// `handle_timeout` is about to be called.
    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        let due_us = now_us + self.limits.keeper_margin_us;
        let deadline_us = self.limits.deadline_us;
        let is_due = |open: &mut Open| open.arrived_us + deadline_us <= due_us;
        let due: Vec<_> = self.open.extract_if(.., is_due).collect();
        for open in due {
            self.expect_fallback(open, now_us);
            if let Some(run) = self.run.as_mut().filter(|_| open.is_running) {
                run.is_closed = true;
                let choice = run.choice;
                self.note(choice, Ending::Late, now_us);
            }
        }
        self.follow(now_us);
    }

    /// The keeper is about to give up the batch that runs.
    pub(crate) fn handle_hang(&mut self, now_us: u64) -> Option<Stuck> {
        let run = self.run.take()?;
        let running: Vec<_> = self.open.extract_if(.., |open| open.is_running).collect();
        if !running.is_empty() {
            self.note(run.choice, Ending::Late, now_us);
        }
        running
            .into_iter()
            .for_each(|open| self.expect_fallback(open, now_us));
        let index = run.choice.0;
        let instance = self.ladder.handle_hang(index, now_us);
        self.handle_timeout(now_us);
        Some(Stuck {
            index,
            instance,
            windows: run.unanswered,
        })
    }

    /// A stuck thread is about to come back; whether its instance is wanted.
    pub(crate) fn handle_late_return(&mut self, stuck: Stuck, now_us: u64) -> bool {
        self.follow(now_us);
        self.counters.late_results += u64::from(stuck.windows);
        self.ladder.handle_late_return(stuck.index, stuck.instance)
    }
}

fn due_us(open: &Open, limits: &Limits) -> u64 {
    open.arrived_us + limits.deadline_us - limits.keeper_margin_us
}

fn reason(fault: Fault) -> StepReason {
    match fault {
        Fault::Error => StepReason::Error,
        Fault::Panic => StepReason::Panic,
        Fault::NotFinite => StepReason::NotFinite,
    }
}
