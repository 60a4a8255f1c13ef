//! The engine's side that faces the models: batches out, answers in, and what
//! the ladder makes of them.

use super::causes::Basis;
use super::pending::Question;
use super::{Engine, Ticket};
use crate::Now;
use hark_ladder::{Ending, Hang, Rung, StepReason};

/// Why a model gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It said so.
    Error,
    /// It panicked.
    Panic,
    /// It gave no finite score. The engine finds that by itself.
    NotFinite,
}

/// A window for the model.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// To answer with.
    pub(crate) ticket: Ticket,
    /// Whose model runs it, the same for all windows of a batch.
    pub(crate) rung: Rung,
    /// The model's input, shape `[features]`.
    pub(crate) features: &'a [f32],
    /// When the verdict is due, on the monotonic clock.
    pub(crate) deadline_us: u64,
}

impl Engine {
    /// The next window for the model, oldest first, at the time of
    /// [`Engine::begin_batch`]. All windows that are taken
    /// before the first answer are one batch of one rung.
    pub(crate) fn poll_inference(&mut self, now_us: u64) -> Option<Job<'_>> {
        if !self.has_room() {
            return None;
        }
        // The first window chooses for the batch: it runs on one instance, whatever the
        // ladder would say of the next window.
        let choice = self.batch.choice().or(self.ladder.choice(now_us))?;
        let (place, deadline_us) = self.pending.start_next()?;
        let ticket = self.batch.add(place, choice);
        self.counters.probes += u64::from(choice.is_trial);
        Some(Job {
            ticket,
            rung: self.ladder.model(choice.model).rung,
            features: self.pending.features(place),
            deadline_us,
        })
    }

    /// How many windows to take as one batch now, if one costs `cost_us`: as
    /// many as wait, as fit in a run of the rung's model, and as are done before
    /// the keeper answers for the first of them. At least 1 if any waits and
    /// may run, exactly 1 for a trial.
    pub(crate) fn batch_len(&self, cost_us: f32, now_us: u64) -> usize {
        let room = self.batch_room(cost_us, now_us);
        room.min(self.pending.waiting())
    }

    /// How many windows a batch that begins now could hold, were there so many;
    /// 0 if none may begin.
    pub(crate) fn batch_room(&self, cost_us: f32, now_us: u64) -> usize {
        let choice = self.ladder.choice(now_us);
        let (Some(choice), Some(due_us), true) = (choice, self.next_timeout_us(), self.has_room())
        else {
            return 0;
        };
        // If the trial fails, no more than one window has paid for it.
        if choice.is_trial {
            return 1;
        }
        let left_us = due_us.saturating_sub(now_us) as f32;
        // Cast: saturates, as wanted where a window costs nothing.
        let in_time = (left_us / cost_us.max(0.0)) as usize;
        let batch_max = self.ladder.model(choice.model).batch_max;
        // One at least: what a run costs is a guess, and a model that was once slow
        // would else never have another chance to be quick.
        in_time.clamp(1, batch_max)
    }

    /// The rung whose model would run the next window.
    pub(crate) fn next_rung(&self, now_us: u64) -> Option<Rung> {
        let choice = self.ladder.choice(now_us)?;
        Some(self.ladder.model(choice.model).rung)
    }

    /// Whether a batch is running.
    pub(crate) fn is_running(&self) -> bool {
        self.batch.choice().is_some()
    }

    /// Windows that wait for a model, those that it is running left out.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.waiting()
    }

    /// Answers the windows that are due before any is given out: one that is due
    /// already would only make a healthy model miss.
    pub(crate) fn begin_batch(&mut self, now: Now) {
        self.observe(now);
        self.handle_timeout(now.mono_us);
    }

    /// Takes in what the model said of one window, shape `[outputs]`, or that it
    /// failed. What comes after its verdict was given is counted and ignored.
    pub(crate) fn handle_outputs(
        &mut self,
        ticket: Ticket,
        outputs: Result<&[f32], Fault>,
        now_us: u64,
    ) {
        // Two questions, since a window that was answered by the rule at its deadline
        // still has its ticket out, which keeps the batch from ending.
        let choice = self.batch.finish(ticket);
        let answered = choice.and_then(|c| Some((c, self.pending.finish(ticket.place)?)));
        let Some((choice, question)) = answered else {
            self.counters.late_results += 1;
            return;
        };
        let scoring = &self.scorings[choice.model];
        let features = self.pending.features(ticket.place);
        let scored = outputs.and_then(|outputs| {
            let score = scoring.score.of(features, outputs);
            let is_finite = score.is_finite();
            is_finite
                .then_some((score, outputs))
                .ok_or(Fault::NotFinite)
        });
        let ending = match scored {
            Err(fault) => {
                self.counters.model_faults += 1;
                self.give_fallback(&question, now_us);
                Ending::Faulty(fault.reason())
            }
            // By the deadline, not by the keeper's time before it: an answer that comes
            // in between is better than the rule's, and it is in time.
            Ok(_) if now_us > question.deadline_us => {
                self.counters.late_results += 1;
                self.give_fallback(&question, now_us);
                Ending::Late
            }
            Ok((score, outputs)) => {
                let basis = Basis::Outputs {
                    model: choice.model,
                    place: ticket.place,
                    outputs,
                };
                self.give_score(choice.model, ticket.place, &question, score, basis, now_us);
                Ending::Good
            }
        };
        let has_failed = self.ladder.handle_ending(choice, ending, now_us);
        self.counters.probes_failed += u64::from(has_failed);
        self.follow(now_us);
    }

    /// When the next window is due for the rule, because no model has answered it or
    /// because the one that runs it is stuck; on the monotonic clock.
    pub fn next_timeout_us(&self) -> Option<u64> {
        self.pending
            .next_deadline_us()
            .map(|at| self.timeout_us(at))
    }

    /// When the rule answers in place of a model, for a verdict due at `deadline_us`.
    pub(super) fn timeout_us(&self, deadline_us: u64) -> u64 {
        deadline_us.saturating_sub(self.limits.keeper_margin_us)
    }

    /// Answers every question that is due by the rule.
    pub(crate) fn handle_timeout(&mut self, now_us: u64) {
        let due_us = now_us.saturating_add(self.limits.keeper_margin_us);
        while let Some((question, was_running)) = self.pending.expire(due_us) {
            self.give_fallback(&question, now_us);
            if was_running {
                // The model is slow by now: more windows would only wait with it.
                self.batch.close();
                self.note_late(now_us);
            }
        }
        self.follow(now_us);
    }

    /// The model that runs is taken for stuck: the rule answers every window of
    /// its batch now, and any other that is due, and its instance is out. The driver keeps the [`Hang`]
    /// with the stuck thread, for [`Engine::handle_late_return`]. `None` if no
    /// model was running.
    pub(crate) fn handle_hang(&mut self, now_us: u64) -> Option<Hang> {
        let mut was_unanswered = false;
        while let Some(question) = self.pending.take_running() {
            was_unanswered = true;
            self.give_fallback(&question, now_us);
        }
        // Windows that timed out were misses then.
        if was_unanswered {
            self.note_late(now_us);
        }
        let (choice, windows) = self.batch.abandon()?;
        let hang = self.ladder.handle_hang(choice, windows, now_us);
        self.handle_occlusion_hang();
        // Last, since it asks the ladder who may run the windows that still wait, and
        // the instance must be out by then.
        self.handle_timeout(now_us);
        Some(hang)
    }

    /// A stuck thread came back, with whatever result. Returns whether its
    /// instance is taken back; if not, the driver drops it.
    pub(crate) fn handle_late_return(&mut self, hang: Hang, now_us: u64) -> bool {
        // First, because the time may have come to give the instance up, and then it
        // is given up, even if nobody has looked since.
        self.follow(now_us);
        self.counters.late_results += u64::from(hang.windows);
        self.ladder.handle_late_return(hang)
    }

    /// There is no instance of any model yet: the driver brings them, each by
    /// [`Engine::handle_instance`] or [`Engine::handle_no_instance`].
    pub(crate) fn await_instances(&mut self) {
        self.ladder.await_instances();
    }

    /// Which instance of `rung` is the present one.
    pub(crate) fn generation(&self, rung: Rung) -> Option<u32> {
        self.ladder.generation(rung)
    }

    /// The driver loaded a fresh instance of `rung`. If that had stepped down,
    /// it is due for a trial.
    pub(crate) fn handle_instance(&mut self, rung: Rung, now_us: u64) {
        self.ladder.handle_instance(rung, now_us);
        self.follow(now_us);
    }

    /// The driver has no instance of `rung`, and knows why.
    pub(crate) fn handle_no_instance(&mut self, rung: Rung, reason: StepReason, now_us: u64) {
        self.ladder.handle_no_instance(rung, reason, now_us);
        self.follow(now_us);
    }

    /// A rung that lacks an instance and has waited long enough for one: the
    /// driver loads it and answers with [`Engine::handle_instance`] or
    /// [`Engine::handle_no_instance`]. Told once until then.
    pub(crate) fn poll_wanted_instance(&mut self, now_us: u64) -> Option<Rung> {
        self.follow(now_us);
        self.ladder.poll_wanted_instance(now_us)
    }

    /// Whether models may be run at all: not without a thread left that could
    /// take over if one hangs.
    pub(crate) fn set_models_allowed(&mut self, are_allowed: bool, now_us: u64) {
        self.ladder.set_models_allowed(are_allowed);
        self.follow(now_us);
    }

    /// Whether a window that is complete is better asked than answered by the rule
    /// at once. Where nothing but a trial can run, only one may wait for it.
    pub(super) fn may_wait(&self, question: &Question) -> bool {
        let now_us = question.arrived_us;
        // Nobody looks at a question before another event comes, which may be a
        // minute later: one that is due by then must not be put at all.
        let starts_until_us = self.timeout_us(question.deadline_us);
        if starts_until_us <= now_us {
            return false;
        }
        let choice = self.ladder.choice(now_us);
        choice.is_some_and(|c| {
            !c.is_trial || self.ladder.has_server() || self.pending.unanswered() == 0
        })
    }

    fn has_room(&self) -> bool {
        let choice = self.batch.choice();
        let batch_max = choice.map_or(1, |c| self.ladder.model(c.model).batch_max);
        self.batch.has_room(batch_max)
    }

    fn note_late(&mut self, now_us: u64) {
        if let Some(choice) = self.batch.choice() {
            let has_failed = self.ladder.handle_ending(choice, Ending::Late, now_us);
            self.counters.probes_failed += u64::from(has_failed);
        }
    }

    /// What the time alone changes.
    pub(super) fn observe(&mut self, now: Now) {
        self.ladder.handle_wall_clock(now.utc_us);
        self.follow(now.mono_us);
    }
}

impl Fault {
    fn reason(self) -> StepReason {
        match self {
            Self::Error => StepReason::Error,
            Self::Panic => StepReason::Panic,
            Self::NotFinite => StepReason::NotFinite,
        }
    }
}
