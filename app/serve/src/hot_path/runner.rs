//! One instance of a model with buffers of its own.
//!
//! A model that hangs keeps what it was given. So the features of a batch are
//! copied here, and the runner goes with the thread that is stuck in it.

use crate::report::ModelIdentity;
use hark_engine::{Fault, PENDING_MAX, Rung, Ticket};
use hark_models::{BATCH_MAX, Infer, InferError};
use hark_threads::allocations;
use hark_threads::panics;
use std::sync::Arc;
use std::time::Instant;

const _: () = assert!(
    BATCH_MAX <= PENDING_MAX,
    "a batch is made of pending windows"
);

/// A model, ready to run up to a batch.
pub struct Runner {
    pub(super) rung: Rung,
    pub(super) identity: Arc<ModelIdentity>,
    infer: Box<dyn Infer>,
    /// Shape `[batch_max, inputs]`.
    features: Box<[f32]>,
    /// Shape `[batch_max, outputs]`.
    outputs: Box<[f32]>,
    tickets: Vec<Ticket>,
    /// Since the thread lent the shard out; tells one loan from another.
    pub(super) loan: u64,
}

/// How a batch went.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub(super) answered: Result<(), Fault>,
    pub(super) started: Instant,
    pub(super) ended: Instant,
    /// Allocations of the model runtime.
    pub(super) allocations: u64,
}

impl Runner {
    /// A runner for `rung`.
    pub fn new(rung: Rung, infer: Box<dyn Infer>, identity: Arc<ModelIdentity>) -> Self {
        let rows = infer.batch_max();
        assert!((1..=BATCH_MAX).contains(&rows), "a duty of every backend");
        Self {
            rung,
            identity,
            features: vec![0.0; rows * infer.inputs()].into(),
            outputs: vec![0.0; rows * infer.outputs()].into(),
            infer,
            tickets: Vec::with_capacity(rows),
            loan: 0,
        }
    }

    /// Rows that fit into one batch.
    pub fn batch_max(&self) -> usize {
        self.infer.batch_max()
    }

    /// Adds one window to the batch.
    pub(super) fn push(&mut self, ticket: Ticket, features: &[f32]) {
        let inputs = self.infer.inputs();
        self.features[self.tickets.len() * inputs..][..inputs].copy_from_slice(features);
        self.tickets.push(ticket);
    }

    /// Runs the batch. This may take for ever.
    pub fn run(&mut self) -> Ran {
        let rows = self.tickets.len();
        let features = &self.features[..rows * self.infer.inputs()];
        let outputs = &mut self.outputs[..rows * self.infer.outputs()];
        let before = allocations::of_thread();
        let started = Instant::now();
        // Sound: what a panic leaves half-written is the model's own and these
        // buffers; neither is read before the next run has filled it.
        let run = || self.infer.infer(features, outputs).map_err(fault);
        let answered = panics::catch(run).unwrap_or(Err(Fault::Panic));
        let ended = Instant::now();
        Ran {
            answered,
            started,
            ended,
            allocations: allocations::of_thread() - before,
        }
    }

    /// The tickets of the batch, and the outputs of each.
    pub(super) fn answers(&self) -> impl Iterator<Item = (Ticket, &[f32])> {
        let outputs = self.outputs.chunks_exact(self.infer.outputs());
        self.tickets.iter().copied().zip(outputs)
    }

    pub(super) fn is_full(&self) -> bool {
        self.tickets.len() == self.infer.batch_max()
    }

    pub(super) fn rows(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn clear(&mut self) {
        self.tickets.clear();
    }
}

fn fault(error: InferError) -> Fault {
    match error {
        InferError::Panicked(_) => Fault::Panic,
        InferError::NonFinite { .. } => Fault::NotFinite,
        InferError::Shape { .. } | InferError::Runtime(_) => Fault::Error,
    }
}
