//! The `tract` backend: ONNX in pure Rust, on the CPU, for every target.
//!
//! A model is turned into a plan once: every shape fixed, constants packed for the
//! kernels that this CPU has. A model that leaves a shape open is refused, for its
//! latency would have no bound; only the batch axis may be free, and then a second
//! plan of [`CHUNK`] rows takes the whole chunks of a batch. The plans' states and
//! input tensors are kept between runs; what a recurrent layer remembers is not.
//!
//! Model files are not trusted. tract reports most damage as an error and panics
//! on some; both become a [`LoadError`]. Weights in files beside the model are
//! refused, because the manifest's digests would not cover them.

mod check;
mod plan;
mod recurrence;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::pb;
use tract_onnx::prelude::*;

use crate::infer::{BATCH_MAX, Infer, InferError, check_finite, check_shapes};
use crate::load::{LoadError, panic_text};
use crate::manifest::Precision;
use crate::onnx;
use check::{has_free_batch, invalid};
use plan::Plan;

/// Rows in a run of the second plan. Small, so that a batch of few rows fills it;
/// at 8 most of the runtime's cost for each node is shared out already.
const CHUNK: usize = 8;

/// How far a row's outputs may be from those that it gets alone, relative to their
/// size: other kernels may sum in another order.
const ROW_TOLERANCE: f32 = 1e-6;

/// The operators that tract reads, those left out that answer by chance.
pub(crate) fn operator_names() -> Vec<String> {
    let known = tract_onnx::onnx().op_register.0;
    let is_fit = |name: &String| !onnx::RANDOM.contains(&name.as_str());
    let mut names: Vec<String> = known.into_keys().filter(is_fit).collect();
    names.sort_unstable();
    names
}

/// An ONNX model as plans of tract's.
///
/// It may be moved to another thread, where its first run allocates the kernels'
/// scratch space anew.
pub struct TractModel {
    single: Plan,
    chunk: Option<Plan>,
    inputs: usize,
    outputs: usize,
    backend: String,
}

impl TractModel {
    /// Loads an ONNX model of one f32 input and one f32 output.
    ///
    /// `inputs` and `outputs` are the numbers of elements at batch 1; dimensions
    /// that the file leaves open are taken as 1, but for the batch axis.
    /// `precision` only names the backend.
    ///
    /// # Errors
    /// [`LoadError`], for every kind of file: this never panics.
    pub fn load(
        onnx: &[u8],
        inputs: usize,
        outputs: usize,
        precision: Precision,
    ) -> Result<Self, LoadError> {
        // Sound: the closure borrows bytes that nobody writes, and what it built
        // is dropped with the panic.
        match catch_unwind(AssertUnwindSafe(|| {
            Self::build(onnx, inputs, outputs, precision)
        })) {
            Ok(result) => result,
            Err(payload) => Err(LoadError::Panicked(panic_text(payload.as_ref()))),
        }
    }

    fn build(
        onnx: &[u8],
        inputs: usize,
        outputs: usize,
        precision: Precision,
    ) -> Result<Self, LoadError> {
        let file = onnx::read(onnx)?;
        let parsed = parse(&file)?;
        let is_batch_free = has_free_batch(&parsed);
        let single = Plan::build(parsed, inputs, outputs, 1)?;
        let mut model = TractModel {
            single,
            chunk: None,
            inputs,
            outputs,
            backend: format!("tract {precision}"),
        };
        // A model that mixes its rows, or that has no plan at this batch, is as good
        // as one whose batch axis is fixed.
        if is_batch_free && let Ok(chunk) = Plan::build(parse(&file)?, inputs, outputs, CHUNK) {
            model.chunk = model.treats_rows_alike(chunk);
        }
        Ok(model)
    }

    /// Returns `chunk` if rows that differ get from it what each gets alone.
    fn treats_rows_alike(&mut self, mut chunk: Plan) -> Option<Plan> {
        let features: Vec<f32> = (0..self.inputs * CHUNK)
            .map(|index| (index as f32 * 0.73).sin())
            .collect();
        let mut together = vec![0.0; self.outputs * CHUNK];
        chunk.run(&features, &mut together).ok()?;
        let mut alone = vec![0.0; self.outputs * CHUNK];
        self.run_each(&features, &mut alone).ok()?;
        let is_close =
            |(a, b): (&f32, &f32)| (a - b).abs() <= ROW_TOLERANCE * a.abs().max(b.abs()).max(1.0);
        together.iter().zip(&alone).all(is_close).then_some(chunk)
    }

    fn run_each(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        let rows = features.chunks_exact(self.inputs);
        for (features, outputs) in rows.zip(outputs.chunks_exact_mut(self.outputs)) {
            self.single.run(features, outputs)?;
        }
        Ok(())
    }

    fn run_chunks(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        let Some(chunk) = &mut self.chunk else {
            return self.run_each(features, outputs);
        };
        let mut rows = features.chunks_exact(self.inputs * CHUNK);
        let mut answers = outputs.chunks_exact_mut(self.outputs * CHUNK);
        for (features, outputs) in rows.by_ref().zip(answers.by_ref()) {
            chunk.run(features, outputs)?;
        }
        self.run_each(rows.remainder(), answers.into_remainder())
    }
}

/// Only nodes decide a shape: what the file says about its inner tensors may hold
/// symbols, or be wrong.
fn parse(file: &pb::ModelProto) -> Result<InferenceModel, LoadError> {
    tract_onnx::onnx()
        .with_ignore_value_info(true)
        .model_for_proto_model(file)
        .map_err(invalid)
}

impl Infer for TractModel {
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        check_shapes(self, features, outputs)?;
        self.run_chunks(features, outputs)?;
        check_finite(outputs, self.outputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn batch_max(&self) -> usize {
        if self.chunk.is_some() { BATCH_MAX } else { 1 }
    }

    fn backend(&self) -> &str {
        &self.backend
    }
}

#[cfg(test)]
mod tests;
