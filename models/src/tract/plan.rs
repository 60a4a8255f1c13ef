//! One plan of tract's: a model at one batch size, with the state that its runs
//! reuse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::prelude::*;

use super::check::{check_arity, check_ops, check_tensors, check_volume, fix_input, invalid};
use super::recurrence::{begin_anew_each_run, check_stateless};
use crate::infer::InferError;
use crate::load::{LoadError, panic_text};

/// A model planned for `batch` rows in each run.
pub(super) struct Plan {
    plan: Arc<TypedRunnableModel>,
    state: TypedSimpleState,
    input: Arc<Tensor>,
    input_node: usize,
}

impl Plan {
    /// Plans a parsed model; `inputs` and `outputs` are those of one row.
    pub(super) fn build(
        mut parsed: InferenceModel,
        inputs: usize,
        outputs: usize,
        batch: usize,
    ) -> Result<Self, LoadError> {
        check_ops(&parsed)?;
        check_arity(&parsed)?;
        fix_input(&mut parsed, inputs, batch)?;

        let mut typed = parsed.into_typed().map_err(invalid)?;
        begin_anew_each_run(&mut typed);
        check_tensors(&typed)?;
        let output = typed.output_fact(0).map_err(invalid)?;
        check_volume("output", output, outputs, batch)?;

        let shape = typed.input_fact(0).map_err(invalid)?.shape.as_concrete();
        let shape: TVec<usize> = shape.expect("check_tensors found every shape fixed").into();
        let plan = typed
            .into_optimized()
            .and_then(IntoRunnable::into_runnable)
            .map_err(invalid)?;
        check_stateless(plan.model())?;
        let input = Arc::new(Tensor::zero::<f32>(&shape).map_err(invalid)?);
        Ok(Plan {
            state: spawn(&plan, &input).map_err(invalid)?,
            input,
            input_node: plan.model().inputs[0].node,
            plan,
        })
    }

    /// One run. After an error the state is a fresh one.
    pub(super) fn run(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        // Sound: all that a panic can leave half-written is the state and the
        // input tensor; the state is replaced below, and `fill` overwrites the
        // tensor. The plan is shared and never written.
        let failure = match catch_unwind(AssertUnwindSafe(|| self.turn(features, outputs))) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => InferError::Runtime(format!("{error:#}")),
            Err(payload) => InferError::Panicked(panic_text(payload.as_ref())),
        };
        self.state = spawn(&self.plan, &self.input).map_err(|error| {
            InferError::Runtime(format!("{failure}; and no new state: {error:#}"))
        })?;
        Err(failure)
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
}

/// A fresh state, whose table of values has been laid out: `set_value` relies on it,
/// and `set_input` is what lays it out.
fn spawn(plan: &Arc<TypedRunnableModel>, input: &Arc<Tensor>) -> TractResult<TypedSimpleState> {
    let mut state = plan.spawn()?;
    state.set_input(0, input.clone().into_tvalue())?;
    state.reset_turn()?;
    Ok(state)
}
