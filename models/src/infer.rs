//! What every backend does: features in, outputs out.
//!
//! A trait and not a type, because a model may run in pure Rust on the CPU or in
//! a vendor's runtime on an accelerator, and the hot path must not know which.

use std::ops::RangeInclusive;

use thiserror::Error;

/// The most rows that any backend takes in one call. It bounds the buffers of
/// callers and backends; beyond some tens of rows a batch saves nothing more.
pub const BATCH_MAX: usize = 32;

/// One loaded model, ready to run.
///
/// # For those who implement it
///
/// - [`infer`](Infer::infer) is a pure function of `features`: no state is
///   carried from one call to the next, so equal features give equal outputs.
///   A row's outputs do not depend on the other rows of its batch, and differ by
///   at most rounding from those that the row gets alone.
/// - It never panics. A runtime that may is fenced off, and is put back into a
///   working state before the error is returned: a failed call does not spoil
///   the next.
/// - Shapes are checked before the runtime sees them, and every output is checked
///   to be finite before `Ok` is returned.
/// - Whatever can be allocated at load time is. A call takes neither locks that
///   another thread holds for long, nor files, nor the network.
/// - It need not watch the clock. Deadlines are the caller's.
pub trait Infer: Send {
    /// Runs the model on `n` rows, 1 ≤ `n` ≤ [`batch_max`](Infer::batch_max).
    ///
    /// Input: `features`, shape `[n, inputs()]`, in the units that the model was
    /// trained on. Output: `outputs`, shape `[n, outputs()]`, every element finite
    /// after `Ok`, unspecified after an error.
    ///
    /// # Errors
    /// [`InferError::Shape`] if a slice has the wrong length,
    /// [`InferError::NonFinite`] if the model answered with a NaN or an infinity,
    /// [`InferError::Runtime`] if the runtime failed, [`InferError::Panicked`] if
    /// it panicked. The next call may succeed after each of them.
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError>;

    /// The number of features in a row.
    fn inputs(&self) -> usize;

    /// The number of outputs for a row.
    fn outputs(&self) -> usize;

    /// The most rows that one call takes, 1 to [`BATCH_MAX`].
    fn batch_max(&self) -> usize;

    /// Who runs the model, for logs and reports: runtime and precision, such as
    /// `tract int8`.
    fn backend(&self) -> &str;
}

/// Why one inference gave no outputs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InferError {
    /// A slice does not hold whole rows, or not as many as it may.
    #[error("{side} has {found} elements, expected {} of {row}", rows(*rows_min, *rows_max))]
    Shape {
        /// Which slice: `features` or `outputs`.
        side: &'static str,
        /// The elements of one row.
        row: usize,
        /// The fewest rows that would be right.
        rows_min: usize,
        /// The most rows that would be right: the model's for the features, and
        /// for the outputs those of the features.
        rows_max: usize,
        /// The slice's length.
        found: usize,
    },
    /// The model answered with a NaN or an infinity.
    #[error("output {index} of row {row} is not finite")]
    NonFinite {
        /// The first such row.
        row: usize,
        /// Its first such element.
        index: usize,
    },
    /// The runtime failed, in its own words.
    #[error("the runtime failed: {0}")]
    Runtime(String),
    /// The runtime panicked, in its own words.
    #[error("the runtime panicked: {0}")]
    Panicked(String),
}

fn rows(min: usize, max: usize) -> String {
    match (min, max) {
        (1, 1) => "1 row".to_owned(),
        (min, max) if min == max => format!("{max} rows"),
        (min, max) => format!("{min} to {max} rows"),
    }
}

/// Checks both slices against the model's shape and returns the number of rows; a
/// duty of every backend.
///
/// # Errors
/// [`InferError::Shape`] for the first slice of a wrong length.
pub(crate) fn check_shapes(
    model: &dyn Infer,
    features: &[f32],
    outputs: &[f32],
) -> Result<usize, InferError> {
    let (inputs, rows_max) = (model.inputs(), model.batch_max());
    let rows = features.len() / inputs;
    check_rows("features", features, inputs, 1..=rows_max)?;
    check_rows("outputs", outputs, model.outputs(), rows..=rows)?;
    Ok(rows)
}

fn check_rows(
    side: &'static str,
    slice: &[f32],
    row: usize,
    rows: RangeInclusive<usize>,
) -> Result<(), InferError> {
    let found = slice.len();
    if found.is_multiple_of(row) && rows.contains(&(found / row)) {
        return Ok(());
    }
    Err(InferError::Shape {
        side,
        row,
        rows_min: *rows.start(),
        rows_max: *rows.end(),
        found,
    })
}

/// Checks that every output, in rows of `width`, is finite; a duty of every backend.
///
/// # Errors
/// [`InferError::NonFinite`] with the first element that is not.
pub(crate) fn check_finite(outputs: &[f32], width: usize) -> Result<(), InferError> {
    match outputs.iter().position(|output| !output.is_finite()) {
        None => Ok(()),
        Some(at) => Err(InferError::NonFinite {
            row: at / width,
            index: at % width,
        }),
    }
}
