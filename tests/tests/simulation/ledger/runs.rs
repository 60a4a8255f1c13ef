//! The ledger's side that faces the models: which window goes to whom, and
//! what becomes of it.

use super::ladder::Ending;
use super::{Ledger, Open};
use crate::model::Answer;
use hark_engine::{Fault, Now, Rung, StepReason};

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
    pub(crate) deadline_us: u64,
}

impl Ledger<'_> {
    /// A window is asked for; which one the engine must give out.
    pub(crate) fn handle_poll(&mut self, now: Now) -> Option<ExpectedJob> {
        let now_us = now.mono_us;
        self.observe(now);
        if self.run.is_none() {
            self.handle_timeout(now_us);
        }
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
            deadline_us: oldest.arrived_us + self.limits.deadline_us,
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

    /// How many windows wait for a model.
    pub(crate) fn waiting(&self) -> usize {
        self.open.iter().filter(|open| !open.is_running).count()
    }

    /// Holds the engine's proposal for a batch at `cost_us` a window against
    /// the deadlines.
    pub(crate) fn check_batch_len(&self, len: usize, cost_us: f32, now_us: u64) {
        let choice = self.ladder.choice(now_us).filter(|_| self.run.is_none());
        let Some(((index, is_trial), oldest)) = choice.zip(self.open.first()) else {
            return assert_eq!(len, 0, "nothing can run");
        };
        let limit = if is_trial { 1 } else { self.batch_max(index) };
        let limit = limit.min(self.waiting());
        assert!((1..=limit).contains(&len), "{len} of {limit}");
        let due_us = oldest.arrived_us + self.limits.deadline_us - self.limits.keeper_margin_us;
        let left_us = due_us.saturating_sub(now_us) as f64;
        let is_in_time = |n: usize| n as f64 * f64::from(cost_us) <= left_us;
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

    /// A ticket that is used up is about to be answered again.
    pub(crate) fn handle_echo(&mut self) {
        self.counters.late_results += 1;
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

fn reason(fault: Fault) -> StepReason {
    match fault {
        Fault::Error => StepReason::Error,
        Fault::Panic => StepReason::Panic,
        Fault::NotFinite => StepReason::NotFinite,
    }
}
