//! Why a backend refuses a model file.

use std::any::Any;

use thiserror::Error;

use crate::onnx::{CONSTANTS_BYTES_MAX, NODES_MAX};

/// The largest tensor inside a model. A flipped bit in a shape can ask for any
/// amount of memory; a gateway's models are a few megabytes.
pub const TENSOR_BYTES_MAX: usize = 64 << 20;

/// Why a model file cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The model uses operators that the runtime does not have.
    #[error(
        "operators that this runtime does not have: {0}; `hark model operators` lists what there is"
    )]
    UnsupportedOps(String),
    /// The model does not have exactly one input and one output.
    #[error("{inputs} inputs and {outputs} outputs, expected one of each")]
    Arity {
        /// Inputs found, initialised ones not counted.
        inputs: usize,
        /// Outputs found.
        outputs: usize,
    },
    /// The input or the output does not hold as many f32 as the manifest says.
    #[error("{side} is {found}, expected {expected} f32 at batch {batch}")]
    Shape {
        /// `input` or `output`.
        side: &'static str,
        /// The manifest's number of elements in a row.
        expected: usize,
        /// The number of rows asked for.
        batch: usize,
        /// The model's shape and type, in the runtime's notation.
        found: String,
    },
    /// A tensor inside the model has no fixed shape.
    #[error("node {node:?} has the open shape {shape}: its latency would have no bound")]
    OpenShape {
        /// The node's name.
        node: String,
        /// Its shape, in the runtime's notation.
        shape: String,
    },
    /// A tensor inside the model is larger than [`TENSOR_BYTES_MAX`].
    #[error("node {node:?} needs {bytes} bytes, at most {TENSOR_BYTES_MAX} are allowed")]
    TooLarge {
        /// The node's name.
        node: String,
        /// The size of its output.
        bytes: usize,
    },
    /// The model has more than [`NODES_MAX`] nodes.
    #[error("{nodes} nodes, at most {NODES_MAX} are allowed")]
    TooManyNodes {
        /// Nodes found before the rest was not counted.
        nodes: usize,
    },
    /// The model's constants are larger than [`CONSTANTS_BYTES_MAX`] together.
    #[error(
        "its constants up to {name:?} need {bytes} bytes, at most {CONSTANTS_BYTES_MAX} are allowed"
    )]
    TooManyConstants {
        /// The constant with which they are too large.
        name: String,
        /// The bytes of it and those before it.
        bytes: usize,
    },
    /// Weights are in another file, which the manifest's digests would not cover.
    #[error(
        "weights {name:?} are in another file, {file:?}: export with external_data=False, or put \
         them into the model with onnx.save(onnx.load(\"model.onnx\"), \"whole.onnx\")"
    )]
    External {
        /// The tensor.
        name: String,
        /// Where the model says that it is.
        file: String,
    },
    /// The model answers by chance.
    #[error(
        "operators that answer by chance: {0}; a model must give equal answers to equal features"
    )]
    Random(String),
    /// A node carries something from one run to the next, and cannot be told not to.
    #[error("node {node:?} ({operator}) keeps a state from one run to the next")]
    Stateful {
        /// The node's name.
        node: String,
        /// What the runtime calls its operator.
        operator: String,
    },
    /// The backend runs models of one kind only, and this is not one.
    #[error("node {node:?}: {problem}")]
    Unfit {
        /// The node's name, or that of its output if it has none.
        node: String,
        /// What about it the backend does not do.
        problem: String,
    },
    /// The runtime refused the model, in its own words.
    #[error("not a model that the runtime can run: {0}")]
    Invalid(String),
    /// The runtime panicked on the model, in its own words.
    #[error("the runtime panicked on the model: {0}")]
    Panicked(String),
}

/// What a panic said. For the fences around runtimes.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
