//! What every backend does: features in, outputs out.
//!
//! A trait and not a type, because a model may run in pure Rust on the CPU or in
//! a vendor's runtime on an accelerator, and the hot path must not know which.

use thiserror::Error;

/// One loaded model, ready to run at batch size 1.
///
/// # For those who implement it
///
/// - [`infer`](Infer::infer) is a pure function of `features`: no state is
///   carried from one call to the next, so equal features give equal outputs.
/// - It never panics. A runtime that may is fenced off, and is put back into a
///   working state before the error is returned: a failed call does not spoil
///   the next.
/// - Shapes are checked before the runtime sees them, and every output is checked
///   to be finite before `Ok` is returned.
/// - Whatever can be allocated at load time is. A call takes neither locks that
///   another thread holds for long, nor files, nor the network.
/// - It need not watch the clock. Deadlines are the caller's.
pub trait Infer: Send {
    /// Runs the model once.
    ///
    /// Input: `features`, shape `[inputs()]`, in the units that the model was
    /// trained on. Output: `outputs`, shape `[outputs()]`, every element finite
    /// after `Ok`, unspecified after an error.
    ///
    /// # Errors
    /// [`InferError::Shape`] if a slice has the wrong length,
    /// [`InferError::NonFinite`] if the model answered with a NaN or an infinity,
    /// [`InferError::Runtime`] if the runtime failed or panicked. The next call
    /// may succeed after each of them.
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError>;

    /// The number of features that [`infer`](Infer::infer) takes.
    fn inputs(&self) -> usize;

    /// The number of outputs that [`infer`](Infer::infer) writes.
    fn outputs(&self) -> usize;

    /// Who runs the model, for logs and reports: runtime and precision, such as
    /// `tract int8`.
    fn backend(&self) -> &str;
}

/// Why one inference gave no outputs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InferError {
    /// A slice does not have the model's length.
    #[error("{side} has {found} elements, the model has {expected}")]
    Shape {
        /// Which slice: `features` or `outputs`.
        side: &'static str,
        /// The model's length.
        expected: usize,
        /// The slice's length.
        found: usize,
    },
    /// The model answered with a NaN or an infinity.
    #[error("output {index} is not finite")]
    NonFinite {
        /// The first such element.
        index: usize,
    },
    /// The runtime failed, in its own words.
    #[error("the runtime failed: {0}")]
    Runtime(String),
}

/// Checks both slices against the model's shape; a duty of every backend.
///
/// # Errors
/// [`InferError::Shape`] for the first slice of a wrong length.
pub(crate) fn check_shapes(
    model: &dyn Infer,
    features: &[f32],
    outputs: &[f32],
) -> Result<(), InferError> {
    check_len("features", model.inputs(), features.len())?;
    check_len("outputs", model.outputs(), outputs.len())
}

fn check_len(side: &'static str, expected: usize, found: usize) -> Result<(), InferError> {
    if expected == found {
        Ok(())
    } else {
        Err(InferError::Shape {
            side,
            expected,
            found,
        })
    }
}

/// Checks that every output is finite; a duty of every backend.
///
/// # Errors
/// [`InferError::NonFinite`] with the first element that is not.
pub(crate) fn check_finite(outputs: &[f32]) -> Result<(), InferError> {
    match outputs.iter().position(|output| !output.is_finite()) {
        None => Ok(()),
        Some(index) => Err(InferError::NonFinite { index }),
    }
}
