//! Recurrent layers: each run begins as the file says, and not where the last ended.
//!
//! tract serves streams, so its `Scan` and its fused GRU carry their hidden state
//! from one run to the next. ONNX asks for the initial state at each run, and one
//! instance answers for many sensors, so they are told to begin anew. Any other
//! operator that keeps something is refused.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::scan::{OptScan, Scan};
use tract_onnx::tract_hir::internal::EvalContext;

use super::check::invalid;
use crate::load::LoadError;

/// Has every recurrent layer of a model that is not yet optimised begin anew at
/// each run, those in the bodies of others included.
pub(super) fn begin_anew_each_run(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            begin_anew_each_run(&mut scan.body);
        } else if let Some(gru) = node.op_as_mut::<GruSeq>() {
            gru.reset_every_turn = true;
        }
    }
}

/// Refuses what keeps a state and is not known to begin anew at each run.
pub(super) fn check_stateless(model: &TypedModel) -> Result<(), LoadError> {
    for node in model.nodes() {
        let begins_anew = if let Some(scan) = node.op_as::<OptScan>() {
            check_stateless(scan.plan.model())?;
            // One that skips its first steps counts them over all runs.
            scan.reset_every_turn && scan.skip == 0
        } else if let Some(gru) = node.op_as::<GruSeq>() {
            gru.reset_every_turn
        } else {
            let state = node.op.state(&EvalContext::out_of_plan());
            state.map_err(invalid)?.is_none()
        };
        if !begins_anew {
            return Err(LoadError::Stateful {
                node: node.name.clone(),
                operator: node.op.name().into_owned(),
            });
        }
    }
    Ok(())
}
