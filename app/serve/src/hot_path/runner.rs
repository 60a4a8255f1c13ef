//! A model behind an instance of the engine's driver, and how it is run.

use crate::report::ModelIdentity;
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
