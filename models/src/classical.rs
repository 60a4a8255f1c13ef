//! The `classical` backend: what scikit-learn's learners become in ONNX.
//!
//! Scalers, tree ensembles, support vectors and linear learners are operators of the
//! domain `ai.onnx.ml`, which tract does not have, among dozens of small nodes that
//! join them: an isolation forest of twenty trees is five hundred. Here the file is
//! compiled once into steps over one arena of numbers, each with a fixed place; a run
//! allocates nothing.
//!
//! Rows are run one after the other, each as a batch of one. Numbers are f64, rounded
//! after each step to what the file says they are: f32 sums, products and quotients are
//! then what f32 arithmetic gives, and integers are exact. [`operator_names`] lists what
//! runs, from the table by which files are compiled. Model files are not trusted:
//! everything is bounded before it is allocated.

mod compile;
mod elementwise;
mod linear;
mod node;
mod operators;
mod rearrange;
mod reduce;
mod support;
mod tensor;
mod trees;

use std::ops::Range;

use crate::infer::{BATCH_MAX, Infer, InferError, check_finite, check_shapes};
use crate::load::LoadError;
use crate::onnx;

pub use operators::operator_names;

/// The domain of the operators that scikit-learn's learners become.
const LEARNERS: &str = "ai.onnx.ml";

/// Numbers in the arena of one model, constants included: 16 MiB.
const NUMBERS_MAX: usize = 2 << 20;

/// Numbers that all nodes of one model take in, each time that one is taken in. Some
/// operators keep a place for each, and all of them pass over each in a run.
const TAKEN_MAX: usize = 4 * NUMBERS_MAX;

/// Outputs of one file that are looked at; learners have a label and its scores.
const OUTPUTS_MAX: usize = 8;

/// What one step does: from the numbers before its own, to its own.
type Run = Box<dyn Fn(&[f64], &mut [f64]) + Send>;

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Double,
    Integer,
    /// 0 or 1.
    Bool,
}

/// A model of scikit-learn's, ready to run.
pub struct ClassicalModel {
    steps: Vec<Step>,
    /// Every value of the graph, those made first at the front.
    numbers: Box<[f64]>,
    input: Range<usize>,
    output: Range<usize>,
}

/// One node of the graph.
struct Step {
    run: Run,
    to: Range<usize>,
    kind: Kind,
}

impl ClassicalModel {
    /// Loads an ONNX model with one float input of `inputs` features. Of several
    /// outputs it takes the only float one of `outputs` numbers, so that a file which
    /// also has labels needs no cutting.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedOps`] with the operators that are not here, and other
    /// [`LoadError`]s for what cannot be run: this never panics.
    pub fn load(onnx: &[u8], inputs: usize, outputs: usize) -> Result<Self, LoadError> {
        let model = onnx::read(onnx)?;
        compile::compile(&model, inputs, outputs)
    }

    fn run(&mut self, features: &[f32], outputs: &mut [f32]) {
        let input = &mut self.numbers[self.input.clone()];
        for (number, feature) in input.iter_mut().zip(features) {
            *number = f64::from(*feature);
        }
        self.steps
            .iter()
            .for_each(|step| step.run(&mut self.numbers));
        let output = &self.numbers[self.output.clone()];
        for (answer, number) in outputs.iter_mut().zip(output) {
            // The number is an f32 already, or overflows to an infinity, which the
            // caller refuses.
            *answer = *number as f32;
        }
    }
}

/// Whether a file has operators of scikit-learn's learners.
pub(crate) fn has_learners(bytes: &[u8]) -> bool {
    let graph = onnx::read(bytes).ok().and_then(|model| model.graph);
    graph.is_some_and(|graph| graph.node.iter().any(|node| node.domain == LEARNERS))
}

impl Step {
    fn run(&self, numbers: &mut [f64]) {
        let (before, rest) = numbers.split_at_mut(self.to.start);
        let to = &mut rest[..self.to.len()];
        (self.run)(before, to);
        if self.kind == Kind::Float {
            to.iter_mut()
                .for_each(|number| *number = f64::from(*number as f32));
        }
    }
}

impl Infer for ClassicalModel {
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        check_shapes(self, features, outputs)?;
        let (inputs, width) = (self.inputs(), self.outputs());
        let rows = features.chunks_exact(inputs);
        for (features, outputs) in rows.zip(outputs.chunks_exact_mut(width)) {
            self.run(features, outputs);
        }
        check_finite(outputs, width)
    }

    fn inputs(&self) -> usize {
        self.input.len()
    }

    fn outputs(&self) -> usize {
        self.output.len()
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn backend(&self) -> &str {
        "classical float32"
    }
}

#[cfg(test)]
mod tests;
