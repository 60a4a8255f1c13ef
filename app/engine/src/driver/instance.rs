//! One instance of a model, and what goes with it into a thread.
//!
//! A model that hangs keeps what it was given. So the features of a batch are
//! copied here, and the whole instance goes with the thread that runs it: what a
//! stuck thread does to it is seen by nobody else.

use crate::engine::{Job, Ticket};
use crate::{Fault, Rung};

/// What a model said when its instance was last run.
pub trait Answers {
    /// The outputs of one row of the batch, or that it failed. Called only after
    /// a run, and for its rows.
    fn answer(&self, row: usize) -> Result<&[f32], Fault>;
}

/// An instance of a model, with buffers for one batch.
#[derive(Debug)]
pub struct Instance<M> {
    rung: Rung,
    model: M,
    /// Shape `[rows_max, inputs]`.
    features: Box<[f32]>,
    inputs: usize,
    rows_max: usize,
    tickets: Vec<Ticket>,
    due_us: u64,
    /// Which one of its rung the ladder counts it as.
    pub(super) generation: u32,
}

impl<M> Instance<M> {
    /// An instance of the model of `rung`, which takes batches of at most
    /// `rows_max` windows of `inputs` features.
    ///
    /// # Panics
    /// If not even one window fits.
    pub fn new(rung: Rung, model: M, rows_max: usize, inputs: usize) -> Self {
        assert!(rows_max > 0, "a model takes at least one window");
        Self {
            rung,
            model,
            features: vec![0.0; rows_max * inputs].into(),
            inputs,
            rows_max,
            tickets: Vec::with_capacity(rows_max),
            due_us: u64::MAX,
            generation: 0,
        }
    }

    /// Whose model it is.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model, and the batch that it is to run, shape `[rows, inputs]`.
    pub fn to_run(&mut self) -> (&mut M, &[f32]) {
        let features = &self.features[..self.tickets.len() * self.inputs];
        (&mut self.model, features)
    }

    /// Windows of the batch.
    pub fn rows(&self) -> usize {
        self.tickets.len()
    }

    /// When its thread is to be taken for stuck, on the engine's clock.
    pub fn due_us(&self) -> u64 {
        self.due_us
    }

    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    pub(super) fn ticket(&self, row: usize) -> Ticket {
        self.tickets[row]
    }

    pub(super) fn push(&mut self, job: &Job<'_>, margin_us: u64) {
        let row = self.tickets.len() * self.inputs;
        self.features[row..][..self.inputs].copy_from_slice(job.features);
        self.tickets.push(job.ticket);
        self.due_us = self.due_us.min(job.deadline_us.saturating_sub(margin_us));
    }

    pub(super) fn clear(&mut self) {
        self.tickets.clear();
        self.due_us = u64::MAX;
    }
}
