//! The `tract` backend: ONNX in pure Rust, on the CPU, for every target.
//!
//! A model is turned into a plan once: batch 1, every shape fixed, constants
//! packed for the kernels that this CPU has. A model that leaves a shape open is
//! refused, for its latency would have no bound. The plan's state and the input
//! tensor are kept between runs.
//!
//! Model files are not trusted. tract reports most damage as an error and panics
//! on some; both become a [`LoadError`]. Weights in files beside the model are
//! refused, because the manifest's digests would not cover them.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::unimpl::UnimplementedOp;
use tract_onnx::tract_hir::internal::{DimLike, Factoid, GenericFactoid};

use crate::infer::{Infer, InferError, check_finite, check_shapes};
use crate::manifest::Precision;

/// The largest tensor inside a model. A flipped bit in a shape can ask for any
/// amount of memory; a gateway's models are a few megabytes.
pub const TENSOR_BYTES_MAX: usize = 64 << 20;

/// Why a model file cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The model uses operators that the runtime does not have.
    #[error("operators that this runtime does not have: {0}")]
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
    #[error("{side} is {found}, expected {expected} f32 at batch 1")]
    Shape {
        /// `input` or `output`.
        side: &'static str,
        /// The manifest's number of elements.
        expected: usize,
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
    /// The runtime refused the model, in its own words.
    #[error("not a model that the runtime can run: {0}")]
    Invalid(String),
    /// The runtime panicked on the model, in its own words.
    #[error("the runtime panicked on the model: {0}")]
    Panicked(String),
}

/// An ONNX model as a plan of tract's, with the state that its runs reuse.
///
/// It may be moved to another thread, where its first run allocates the kernels'
/// scratch space anew.
pub struct TractModel {
    plan: Arc<TypedRunnableModel>,
    state: TypedSimpleState,
    input: Arc<Tensor>,
    input_node: usize,
    inputs: usize,
    outputs: usize,
    backend: String,
}

impl TractModel {
    /// Loads an ONNX model of one f32 input and one f32 output.
    ///
    /// `inputs` and `outputs` are the numbers of elements at batch 1; dimensions
    /// that the file leaves open are taken as 1. `precision` only names the backend.
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
        mut onnx: &[u8],
        inputs: usize,
        outputs: usize,
        precision: Precision,
    ) -> Result<Self, LoadError> {
        // Only nodes decide a shape: what the file says about its inner tensors may
        // hold symbols, or be wrong.
        let mut parsed = tract_onnx::onnx()
            .with_ignore_value_info(true)
            .model_for_read(&mut onnx)
            .map_err(invalid)?;
        check_ops(&parsed)?;
        check_arity(&parsed)?;
        fix_input(&mut parsed, inputs)?;

        let typed = parsed.into_typed().map_err(invalid)?;
        check_tensors(&typed)?;
        check_volume("output", typed.output_fact(0).map_err(invalid)?, outputs)?;

        let shape = typed.input_fact(0).map_err(invalid)?.shape.as_concrete();
        let shape: TVec<usize> = shape.expect("check_tensors found every shape fixed").into();
        let plan = typed
            .into_optimized()
            .and_then(IntoRunnable::into_runnable)
            .map_err(invalid)?;
        let input = Arc::new(Tensor::zero::<f32>(&shape).map_err(invalid)?);
        Ok(TractModel {
            state: spawn(&plan, &input).map_err(invalid)?,
            input,
            input_node: plan.model().inputs[0].node,
            plan,
            inputs,
            outputs,
            backend: format!("tract {precision}"),
        })
    }

    /// Writes the features into the input tensor, in place when the last run has
    /// let go of it.
    fn fill(&mut self, features: &[f32]) -> TractResult<()> {
        if Arc::get_mut(&mut self.input).is_none() {
            self.input = Arc::new(Tensor::zero::<f32>(self.input.shape())?);
        }
        Arc::get_mut(&mut self.input)
            .expect("replaced above unless it had one owner")
            .try_as_plain_ram_mut()?
            .as_slice_mut::<f32>()?
            .copy_from_slice(features);
        Ok(())
    }

    /// One turn of the plan. `state.run` would check the input against its fact
    /// and resolve symbols each time; the shape was settled at load time, and
    /// there are no symbols left.
    fn turn(&mut self, features: &[f32], outputs: &mut [f32]) -> TractResult<()> {
        self.fill(features)?;
        let input = self.input.clone().into_tvalue();
        self.state.set_value(self.input_node, input)?;
        self.state.exec()?;
        let output = self.state.output(0)?.try_as_plain_ram()?;
        outputs.copy_from_slice(output.as_slice::<f32>()?);
        self.state.reset_turn()
    }

    fn try_turn(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), String> {
        // Sound: all that a panic can leave half-written is the state and the
        // input tensor; the caller replaces the state, and `fill` overwrites the
        // tensor. The plan is shared and never written.
        match catch_unwind(AssertUnwindSafe(|| self.turn(features, outputs))) {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(payload) => Err(format!("panic: {}", panic_text(payload.as_ref()))),
        }
    }
}

impl Infer for TractModel {
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        check_shapes(self, features, outputs)?;
        if let Err(message) = self.try_turn(features, outputs) {
            self.state = spawn(&self.plan, &self.input).map_err(|error| {
                InferError::Runtime(format!("{message}; and no new state: {error:#}"))
            })?;
            return Err(InferError::Runtime(message));
        }
        check_finite(outputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn backend(&self) -> &str {
        &self.backend
    }
}

/// A fresh state, whose table of values has been laid out: `set_value` relies on it,
/// and `set_input` is what lays it out.
fn spawn(plan: &Arc<TypedRunnableModel>, input: &Arc<Tensor>) -> TractResult<TypedSimpleState> {
    let mut state = plan.spawn()?;
    state.set_input(0, input.clone().into_tvalue())?;
    state.reset_turn()?;
    Ok(state)
}

fn check_ops(model: &InferenceModel) -> Result<(), LoadError> {
    let missing: BTreeSet<String> = model
        .nodes()
        .iter()
        .filter(|node| node.op_is::<UnimplementedOp>())
        .map(|node| node.op.name().into_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.into_iter().collect();
    Err(LoadError::UnsupportedOps(names.join(", ")))
}

fn check_arity(model: &InferenceModel) -> Result<(), LoadError> {
    match (model.inputs.len(), model.outputs.len()) {
        (1, 1) => Ok(()),
        (inputs, outputs) => Err(LoadError::Arity { inputs, outputs }),
    }
}

/// Makes the batch axis, and whatever else the file leaves open, 1.
fn fix_input(model: &mut InferenceModel, inputs: usize) -> Result<(), LoadError> {
    let ones: HashMap<Symbol, TDim> = model
        .symbols
        .all_symbols()
        .into_iter()
        .map(|symbol| (symbol, 1.to_dim()))
        .collect();
    model.set_symbols(&ones).map_err(invalid)?;

    let declared = model.input_fact(0).map_err(invalid)?.clone();
    let dims: TVec<TDim> = match declared.shape.concretize() {
        Some(dims) => dims,
        None if declared.shape.is_open() => tvec![1.to_dim(), inputs.to_dim()],
        None => declared
            .shape
            .dims()
            .map(|dim| dim.concretize().unwrap_or_else(|| 1.to_dim()))
            .collect(),
    };
    let is_f32 = matches!(
        declared.datum_type,
        GenericFactoid::Any | GenericFactoid::Only(DatumType::F32)
    );
    let fact = f32::fact(&*dims);
    if !is_f32 {
        return Err(shape_error("input", inputs, format!("{declared:?}")));
    }
    check_volume("input", &fact, inputs)?;
    model.set_input_fact(0, fact.into()).map_err(invalid)
}

fn check_volume(side: &'static str, fact: &TypedFact, expected: usize) -> Result<(), LoadError> {
    let volume = fact.shape.volume().to_usize().ok();
    if fact.datum_type == f32::datum_type() && volume == Some(expected) {
        return Ok(());
    }
    Err(shape_error(side, expected, format!("{fact:?}")))
}

fn shape_error(side: &'static str, expected: usize, found: String) -> LoadError {
    LoadError::Shape {
        side,
        expected,
        found,
    }
}

/// Every tensor in the model has a fixed shape and a bearable size.
fn check_tensors(model: &TypedModel) -> Result<(), LoadError> {
    for node in model.nodes() {
        for outlet in &node.outputs {
            let fact = &outlet.fact;
            let elements = fact.shape.iter().try_fold(1_usize, |product, dim| {
                Some(product.saturating_mul(dim.to_usize().ok()?))
            });
            let Some(elements) = elements else {
                return Err(LoadError::OpenShape {
                    node: node.name.clone(),
                    shape: format!("{:?}", fact.shape),
                });
            };
            let bytes = elements.saturating_mul(fact.datum_type.size_of());
            if bytes > TENSOR_BYTES_MAX {
                return Err(LoadError::TooLarge {
                    node: node.name.clone(),
                    bytes,
                });
            }
        }
    }
    Ok(())
}

fn invalid(error: TractError) -> LoadError {
    LoadError::Invalid(format!("{error:#}"))
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
