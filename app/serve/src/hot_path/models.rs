//! The models' part of the hot path: what a thread runs, what it came to, and
//! the instances that come and go with threads.

use super::{HotPath, Ran, Runner, identity_index};
use crate::bundle::Refused;
use crate::report::Event;
use hark_engine::{Rung, Stage};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// The weight of the newest run in what a row is taken to cost.
const COST_ALPHA: f32 = 1.0 / 8.0;

impl HotPath {
    pub(super) fn load_models(&mut self) {
        let rungs = Arc::clone(&self.rungs);
        for model in rungs.models() {
            match rungs.load(model.rung) {
                Ok(runner) => self.take_in(runner),
                Err(refused) => self.handle_refused(model.rung, &refused),
            }
        }
    }

    fn take_in(&mut self, runner: Runner) {
        let rung = runner.rung;
        self.identities[identity_index(rung)] = Arc::clone(&runner.identity);
        self.runners[rung as usize] = Some(runner);
    }

    /// Whether windows wait for a model that can run them, and no more of them
    /// would fit into its batch, or no more are at hand.
    pub fn wants_inference(&self, has_more: bool) -> bool {
        if self.arrivals.is_empty() || !self.engine.wants_inference(self.now()) {
            return false;
        }
        let runner = self.runners.iter().flatten().next();
        !has_more || self.arrivals.len() >= runner.map_or(1, Runner::batch_max)
    }

    /// The next batch, and when the keeper shall give it up: microseconds on
    /// the clock that all threads share.
    pub fn start_inference(&mut self) -> Option<(Runner, u64)> {
        let now = self.now();
        let cost_us = self.cost_us.get(self.engine.current_rung() as usize);
        let rows = self
            .engine
            .batch_len(cost_us.copied().unwrap_or(0.0), now.mono_us);
        let mut batch: Option<(Runner, u64)> = None;
        self.running.clear();
        for _ in 0..rows {
            if batch.as_ref().is_some_and(|(runner, _)| runner.is_full()) {
                break;
            }
            let Some(job) = self.engine.poll_inference(now) else {
                break;
            };
            let (runner, due_us) = match &mut batch {
                Some(batch) => batch,
                empty => {
                    let runner = self.runners[job.rung as usize].take();
                    let runner = runner.expect("the engine names rungs that have an instance");
                    empty.insert((runner, u64::MAX))
                }
            };
            runner.push(job.ticket, job.features);
            *due_us = (*due_us).min(job.deadline_us.saturating_sub(self.keeper_margin_us));
            let arrived_us = job.deadline_us.saturating_sub(self.deadline_us);
            let arrived = take_arrival(&mut self.arrivals, arrived_us);
            self.running.push(arrived.unwrap_or(self.stages.mark()));
        }
        let (mut runner, due_us) = batch?;
        self.loans += 1;
        runner.loan = self.loans;
        Some((
            runner,
            due_us.saturating_add_signed(self.shift_us.saturating_neg()),
        ))
    }

    /// Takes in what a batch came to, in time.
    pub fn finish_inference(&mut self, mut runner: Runner, ran: Ran) {
        let now_us = self.shifted_us(ran.ended);
        let taken = ran.ended - ran.started;
        self.note_cost(
            runner.rung,
            taken.as_secs_f32() * 1e6 / runner.rows() as f32,
        );
        self.allocations.by_models += ran.allocations;
        self.stages.begin(ran.ended);
        for (index, (ticket, outputs)) in runner.answers().enumerate() {
            self.stages
                .record(Stage::Inference, taken / runner.rows() as u32);
            self.inference_ns.saturating_record(taken.as_nanos() as u64);
            let answer = ran.answered.map(|()| outputs);
            self.engine.handle_outputs(ticket, answer, now_us);
            self.emit(self.running.get(index).copied());
        }
        self.load
            .handle_service(runner.rows() as u64, self.stages.take_busy_us(), now_us);
        runner.clear();
        let rung = runner.rung as usize;
        self.runners[rung] = Some(runner);
    }

    /// The keeper has taken over from a thread that is stuck in a model. Called
    /// on the keeper's thread: it waits for nothing and allocates nothing.
    pub fn handle_hang(&mut self) {
        self.stages.begin(Instant::now());
        let now_us = self.shifted_us(self.stages.mark());
        let hang = self.engine.handle_hang(now_us);
        self.hangs.extend(hang.map(|hang| (hang, self.loans)));
        self.emit(None);
    }

    /// A thread that was stuck came back with its instance.
    pub fn handle_late_return(&mut self, mut runner: Runner) {
        runner.clear();
        let Some(at) = self.hangs.iter().position(|(_, loan)| *loan == runner.loan) else {
            return;
        };
        let (hang, _) = self.hangs.swap_remove(at);
        let now_us = self.now().mono_us;
        if self.engine.handle_late_return(hang, now_us) {
            let rung = runner.rung as usize;
            self.runners[rung] = Some(runner);
        }
        self.emit(None);
    }

    /// The rung of which a fresh instance is to be loaded, if one is.
    pub fn poll_wanted_instance(&mut self) -> Option<Rung> {
        let now_us = self.now().mono_us;
        self.engine.poll_wanted_instance(now_us)
    }

    /// A fresh instance was loaded, or could not be.
    pub fn handle_loaded(&mut self, rung: Rung, loaded: Result<Runner, Refused>) {
        let now_us = self.now().mono_us;
        match loaded {
            Ok(runner) => {
                self.take_in(runner);
                self.engine.handle_instance(rung, now_us);
            }
            Err(refused) => self.handle_refused(rung, &refused),
        }
        self.emit(None);
    }

    fn handle_refused(&mut self, rung: Rung, refused: &Refused) {
        // What stays wrong is said once, not at every try.
        if refused.text != self.last_refusal {
            self.last_refusal.clone_from(&refused.text);
            tracing::error!(
                "{}: no {} model: {}",
                self.source,
                rung.name(),
                refused.text
            );
            self.reporter.report(Event::ModelRefused {
                source: Arc::clone(&self.source),
                rung: rung.name(),
                reason: refused.text.clone(),
            });
        }
        let now_us = self.now().mono_us;
        self.engine.handle_no_instance(rung, refused.reason, now_us);
        self.emit(None);
    }

    /// Whether a thread is at hand that could take over from one that hangs:
    /// without one no model may be run.
    pub fn set_relieved(&mut self, is_relieved: bool) {
        let now_us = self.now().mono_us;
        self.engine.set_models_allowed(is_relieved, now_us);
        self.emit(None);
    }

    fn note_cost(&mut self, rung: Rung, cost_us: f32) {
        let known = &mut self.cost_us[rung as usize];
        *known = if *known == 0.0 {
            cost_us
        } else {
            *known + COST_ALPHA * (cost_us - *known)
        };
    }
}

/// Takes out the arrival at `arrived_us`; older ones were answered by others
/// than a model.
fn take_arrival(arrivals: &mut VecDeque<(u64, Instant)>, arrived_us: u64) -> Option<Instant> {
    while let Some((us, at)) = arrivals.pop_front() {
        if us == arrived_us {
            return Some(at);
        }
        if us > arrived_us {
            arrivals.push_front((us, at));
            return None;
        }
    }
    None
}
