//! The models' part of the hot path: a model behind an instance of the engine's
//! driver, how a thread runs it, and the instances that come and go with threads.

use super::HotPath;
use crate::bundle::{Refused, called};
use crate::report::{Event, ModelIdentity};
use hark_engine::{Answers, Fault, Instance, PENDING_MAX, Rung};
use hark_models::{BATCH_MAX, Infer, InferError};
use hark_threads::{allocations, panics};
use std::sync::Arc;
use std::time::Instant;

const _: () = assert!(
    BATCH_MAX <= PENDING_MAX,
    "a batch is made of pending windows"
);

/// A model, ready to run up to a batch.
pub struct Runner(pub(super) Instance<Model>);

/// A model, and what it said when it was last run.
pub(super) struct Model {
    infer: Box<dyn Infer>,
    identity: Arc<ModelIdentity>,
    /// Shape `[batch_max, outputs]`.
    outputs: Box<[f32]>,
    answered: Result<(), Fault>,
}

/// How a run went.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub(super) started: Instant,
    pub(super) ended: Instant,
    /// Allocations of the model runtime.
    pub(super) allocations: u64,
}

impl Runner {
    /// A runner for `rung`.
    pub fn new(rung: Rung, infer: Box<dyn Infer>, identity: Arc<ModelIdentity>) -> Self {
        let (rows, inputs) = (infer.batch_max(), infer.inputs());
        assert!((1..=BATCH_MAX).contains(&rows), "a duty of every backend");
        let model = Model {
            outputs: vec![0.0; rows * infer.outputs()].into(),
            infer,
            identity,
            answered: Ok(()),
        };
        Self(Instance::new(rung, model, rows, inputs))
    }

    /// Whose model it is.
    pub(crate) fn rung(&self) -> Rung {
        self.0.rung()
    }

    /// How the model is called outside.
    pub(super) fn identity(&self) -> &Arc<ModelIdentity> {
        &self.0.model().identity
    }

    /// Runs the batch. This may take for ever.
    pub fn run(&mut self) -> Ran {
        let rows = self.0.rows();
        let (model, features) = self.0.to_run();
        let outputs = &mut model.outputs[..rows * model.infer.outputs()];
        let before = allocations::of_thread();
        let started = Instant::now();
        // Sound: what a panic leaves half-written is the model's own and these
        // buffers; neither is read before the next run has filled it.
        let run = || model.infer.infer(features, outputs).map_err(fault);
        model.answered = panics::catch(run).unwrap_or(Err(Fault::Panic));
        let ended = Instant::now();
        Ran {
            started,
            ended,
            allocations: allocations::of_thread() - before,
        }
    }
}

impl Answers for Model {
    fn answer(&self, row: usize) -> Result<&[f32], Fault> {
        let len = self.infer.outputs();
        self.answered.map(|()| &self.outputs[row * len..][..len])
    }
}

fn fault(error: InferError) -> Fault {
    match error {
        InferError::Panicked(_) => Fault::Panic,
        InferError::NonFinite { .. } => Fault::NotFinite,
        InferError::Shape { .. } | InferError::Runtime(_) => Fault::Error,
    }
}

impl HotPath {
    /// The next batch, if one is due, and when the keeper shall give it up:
    /// microseconds on the clock that all threads share. `has_more`: more readings
    /// are at hand. With nothing else to do it may be rows that explain an alert; a
    /// recording has all the time that they take.
    pub fn start_inference(&mut self, has_more: bool) -> Option<(Runner, u64)> {
        let now = self.clock.now_at(self.figures.stages.mark());
        let (driver, mut telling) = self.driver();
        let batch = driver.start_inference(now, has_more, &mut telling);
        let instance = match batch {
            Some(batch) => batch,
            None if driver.awaits_causes() => self.start_occlusion(has_more)?,
            None => return None,
        };
        // The keeper's clock knows nothing of the recording that is replayed.
        let due_us = self.clock.shared_us(instance.due_us());
        Some((Runner(instance), due_us))
    }

    fn start_occlusion(&mut self, has_more: bool) -> Option<Instance<Model>> {
        // The mark may be of a reading some time ago, and the keeper counts from here.
        self.handle_idle();
        let now = self.clock.now_at(self.figures.stages.mark());
        let is_recording = self.voice.reporting.row.is_some();
        let (driver, mut telling) = self.driver();
        driver.start_occlusion(now, has_more && !is_recording, &mut telling)
    }

    /// Takes in what a batch came to, in time.
    pub fn finish_inference(&mut self, Runner(instance): Runner, ran: Ran) {
        let now_us = self.clock.us_at(ran.ended);
        let (took, windows) = (ran.ended - ran.started, instance.windows());
        self.figures.stages.begin(ran.ended);
        let (driver, mut telling) = self.driver();
        driver.finish_inference(instance, took, now_us, &mut telling);
        // Figures can wait, verdicts cannot: a batch has two histograms for each row.
        self.figures.note_run(took, windows, ran.allocations);
        self.figures.note_served(windows, now_us);
    }

    /// The keeper has taken over from a thread that is stuck in a model: that of this
    /// rung. Called on the keeper's thread: it waits for nothing and allocates nothing.
    pub fn handle_hang(&mut self) -> Option<Rung> {
        // The mark is that of the read, a deadline ago.
        self.handle_idle();
        self.figures.note_setup();
        let now_us = self.now_us();
        let (driver, mut telling) = self.driver();
        driver.handle_hang(now_us, &mut telling)
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
        self.figures.note_setup();
        self.model_alert.handle_loaded(rung, loaded.as_ref().err());
        self.has_model_news = true;
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
        let last = &mut self.last_refusals[rung as usize];
        if refused.text == *last {
            return;
        }
        last.clone_from(&refused.text);
        let source = self.voice.source();
        let text = &refused.text;
        tracing::error!("{source}: the {} model is not loaded: {text}", called(rung));
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
