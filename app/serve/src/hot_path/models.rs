//! The models' part of the hot path: what a thread runs, what it came to, and
//! the instances that come and go with threads.

use super::{HotPath, Ran, Runner};
use crate::bundle::Refused;
use crate::report::Event;
use hark_engine::Rung;
use std::sync::Arc;

impl HotPath {
    /// The next batch, if one is due, and when the keeper shall give it up:
    /// microseconds on the clock that all threads share. `has_more`: more readings
    /// are at hand.
    pub fn start_inference(&mut self, has_more: bool) -> Option<(Runner, u64)> {
        let now = self.clock.now_at(self.figures.stages.mark());
        let (driver, mut telling) = self.driver();
        let instance = driver.start_inference(now, has_more, &mut telling)?;
        // The keeper's clock knows nothing of the recording that is replayed.
        let due_us = self.clock.shared_us(instance.due_us());
        Some((Runner(instance), due_us))
    }

    /// Takes in what a batch came to, in time.
    pub fn finish_inference(&mut self, Runner(instance): Runner, ran: Ran) {
        let now_us = self.clock.us_at(ran.ended);
        let (took, rows) = (ran.ended - ran.started, instance.rows());
        self.figures.stages.begin(ran.ended);
        let (driver, mut telling) = self.driver();
        driver.finish_inference(instance, took, now_us, &mut telling);
        // Figures can wait, verdicts cannot: a batch has two histograms for each row.
        self.figures.note_run(took, rows, ran.allocations);
        self.figures.note_served(rows, now_us);
    }

    /// The keeper has taken over from a thread that is stuck in a model. Called
    /// on the keeper's thread: it waits for nothing and allocates nothing.
    pub fn handle_hang(&mut self) {
        // The mark is that of the read, a deadline ago.
        self.handle_idle();
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.handle_hang(now_us, &mut telling);
    }

    /// A thread that was stuck came back with its instance.
    pub fn handle_late_return(&mut self, Runner(instance): Runner) {
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.handle_late_return(instance, now_us, &mut telling);
    }

    /// The rung of which a fresh instance is to be loaded, if one is.
    pub fn poll_wanted_instance(&mut self) -> Option<Rung> {
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.poll_wanted_instance(now_us, &mut telling)
    }

    /// A fresh instance was loaded, or could not be.
    pub fn handle_loaded(&mut self, rung: Rung, loaded: Result<Runner, Refused>) {
        let now_us = self.now_us();
        match loaded {
            Ok(runner) => {
                // Before the driver may have it say anything.
                self.voice.set_identity(rung, Arc::clone(runner.identity()));
                let (driver, mut telling) = self.driver();
                driver.handle_instance(runner.0, now_us, &mut telling);
            }
            Err(refused) => {
                self.note_refused(rung, &refused);
                let (driver, mut telling) = self.driver();
                driver.handle_no_instance(rung, refused.reason, now_us, &mut telling);
            }
        }
    }

    fn note_refused(&mut self, rung: Rung, refused: &Refused) {
        // What stays wrong is said once, not at every try.
        if refused.text == self.last_refusal {
            return;
        }
        self.last_refusal.clone_from(&refused.text);
        let source = &self.voice.source;
        tracing::error!("{source}: no {} model: {}", rung.name(), refused.text);
        self.voice.reporter.report(Event::ModelRefused {
            source: Arc::clone(source),
            rung: rung.name(),
            reason: refused.text.clone(),
        });
    }

    /// Whether a thread is at hand that could take over from one that hangs:
    /// without one no model may be run.
    pub fn set_relieved(&mut self, is_relieved: bool) {
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.set_models_allowed(is_relieved, now_us, &mut telling);
    }
}
