//! What a parsed model must be before tract may plan it: operators it has, one
//! input, one output, and no tensor without a fixed and bearable size.

use std::collections::{BTreeSet, HashMap};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::unimpl::UnimplementedOp;
use tract_onnx::tract_hir::internal::{DimLike, Factoid, GenericFactoid};

use crate::load::{LoadError, TENSOR_BYTES_MAX};

pub(super) fn check_ops(model: &InferenceModel) -> Result<(), LoadError> {
    let missing: BTreeSet<String> = model
        .nodes()
        .iter()
        .filter(|node| node.op_is::<UnimplementedOp>())
        .map(|node| {
            let name = node.op.name();
            let own = name.strip_prefix("Unimplemented(");
            let own = own.and_then(|name| name.strip_suffix(')'));
            own.unwrap_or(&name).to_owned()
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.into_iter().collect();
    Err(LoadError::UnsupportedOps(names.join(", ")))
}

pub(super) fn check_arity(model: &InferenceModel) -> Result<(), LoadError> {
    match (model.inputs.len(), model.outputs.len()) {
        (1, 1) => Ok(()),
        (inputs, outputs) => Err(LoadError::Arity { inputs, outputs }),
    }
}

/// Whether the file leaves the input's leading axis open, and has another one.
pub(super) fn has_free_batch(model: &InferenceModel) -> bool {
    let Ok(fact) = model.input_fact(0) else {
        return false;
    };
    let leading = fact.shape.dims().next();
    leading.is_some_and(|dim| fixed(dim).is_none()) && fact.shape.dims().count() > 1
}

fn fixed(dim: &impl Factoid<Concrete = TDim>) -> Option<usize> {
    dim.concretize()?.to_usize().ok()
}

/// Makes a free leading axis `batch`, and whatever else the file leaves open 1.
pub(super) fn fix_input(
    model: &mut InferenceModel,
    inputs: usize,
    batch: usize,
) -> Result<(), LoadError> {
    let declared = model.input_fact(0).map_err(invalid)?.clone();
    let is_f32 = matches!(
        declared.datum_type,
        GenericFactoid::Any | GenericFactoid::Only(DatumType::F32)
    );
    if !is_f32 {
        return Err(shape_error("input", inputs, batch, format!("{declared:?}")));
    }
    let dims: TVec<TDim> = if declared.shape.is_open() {
        tvec![batch.to_dim(), inputs.to_dim()]
    } else {
        let open = std::iter::once(batch).chain(std::iter::repeat(1));
        let sizes = declared.shape.dims().zip(open);
        sizes
            .map(|(dim, open)| fixed(dim).unwrap_or(open).to_dim())
            .collect()
    };
    let leading = declared.shape.dims().next().and_then(Factoid::concretize);
    fix_symbols(model, leading.as_ref(), batch)?;
    let fact = f32::fact(&*dims);
    check_volume("input", &fact, inputs, batch)?;
    model.set_input_fact(0, fact.into()).map_err(invalid)
}

/// The symbols of the leading axis stand for `batch`, all others for 1.
fn fix_symbols(
    model: &mut InferenceModel,
    leading: Option<&TDim>,
    batch: usize,
) -> Result<(), LoadError> {
    let batches = leading.map(TDim::symbols).unwrap_or_default();
    let size = |symbol: &Symbol| if batches.contains(symbol) { batch } else { 1 };
    let sizes: HashMap<Symbol, TDim> = model
        .symbols
        .all_symbols()
        .into_iter()
        .map(|symbol| {
            let size = size(&symbol).to_dim();
            (symbol, size)
        })
        .collect();
    model.set_symbols(&sizes).map_err(invalid)
}

/// The tensor is `batch` rows of `row` f32.
pub(super) fn check_volume(
    side: &'static str,
    fact: &TypedFact,
    row: usize,
    batch: usize,
) -> Result<(), LoadError> {
    let volume = fact.shape.volume().to_usize().ok();
    let expected = row.checked_mul(batch).filter(|&expected| expected > 0);
    if fact.datum_type == f32::datum_type() && expected.is_some() && volume == expected {
        return Ok(());
    }
    Err(shape_error(side, row, batch, format!("{fact:?}")))
}

fn shape_error(side: &'static str, row: usize, batch: usize, found: String) -> LoadError {
    LoadError::Shape {
        side,
        expected: row,
        batch,
        found,
    }
}

/// Every tensor in the model has a fixed shape and a bearable size.
pub(super) fn check_tensors(model: &TypedModel) -> Result<(), LoadError> {
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

pub(super) fn invalid(error: TractError) -> LoadError {
    LoadError::Invalid(format!("{error:#}"))
}
