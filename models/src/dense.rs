//! The `dense` backend: hark's own fused kernels for plain chains of dense layers.
//!
//! On a model of a few thousand weights a general runtime spends its time on
//! nodes, tensors and allocations, not on arithmetic. Here a layer is one loop:
//! product, bias, activation and requantization at once, weights laid out for it,
//! buffers made at load time. A batch shares each block of weights among its rows.
//!
//! What it runs: Gemm, or MatMul, then Add, Relu and Identity, in float32; and the
//! same with QuantizeLinear/DequantizeLinear pairs around every product (int8 or
//! uint8, per tensor or per output), in integer arithmetic. Everything else is
//! refused with the node and the reason, and the next variant is tried. Model files
//! are not trusted: sizes are bounded before anything is allocated.

mod chain;
mod constants;
mod dispatch;
mod float32;
mod int8;
mod node;
mod operation;
mod tensor;

use crate::infer::{BATCH_MAX, Infer, InferError, check_finite, check_shapes};
use crate::load::LoadError;
use crate::manifest::WIDTH_MAX;
use crate::onnx;
use chain::Link;
use operation::Operation;

/// What a chain may be made of.
pub(crate) const OPERATORS: [&str; 7] = [
    "Add",
    "DequantizeLinear",
    "Gemm",
    "Identity",
    "MatMul",
    "QuantizeLinear",
    "Relu",
];

/// Weights of one model, padding included: 16 MiB in float32. A chain of more is no
/// work for a gateway's CPU within a deadline.
const WEIGHTS_MAX: usize = 4 << 20;

/// Layers of one model; ten times what the deepest known autoencoder has.
const LAYERS_MAX: usize = 128;

/// A chain of dense layers, ready to run.
pub struct DenseModel {
    kernel: Kernel,
    inputs: usize,
    outputs: usize,
}

enum Kernel {
    Float32(float32::Chain),
    Int8(int8::Chain),
}

impl DenseModel {
    /// Loads an ONNX model that is a chain of dense layers with `inputs` features
    /// and `outputs` outputs. The file decides on float32 or int8.
    ///
    /// # Errors
    /// [`LoadError::Unfit`] with the node for a model of another kind, and other
    /// [`LoadError`]s for a damaged one: this never panics.
    pub fn load(onnx: &[u8], inputs: usize, outputs: usize) -> Result<Self, LoadError> {
        let model = onnx::read(onnx)?;
        let links = chain::read(&model, inputs)?;
        check_widths(&links, inputs, outputs)?;
        let is_quantized = links
            .iter()
            .any(|link| matches!(link.operation, Operation::Round(_)));
        let kernel = if is_quantized {
            Kernel::Int8(int8::Chain::compile(links)?)
        } else {
            Kernel::Float32(float32::Chain::compile(links)?)
        };
        Ok(DenseModel {
            kernel,
            inputs,
            outputs,
        })
    }
}

/// Each product takes what the one before it gives, no row between them is wider than
/// a model may be, and there are not too many.
fn check_widths(links: &[Link], inputs: usize, outputs: usize) -> Result<(), LoadError> {
    let (mut width, mut layers) = (inputs, 0);
    for link in links {
        match &link.operation {
            Operation::Product(product) if product.inputs != width => {
                let found = product.inputs;
                return Err(link.unfit(format!("takes {found} values, but gets {width}")));
            }
            Operation::Product(product) if product.outputs > WIDTH_MAX => {
                return Err(link.unfit(format!("gives more than {WIDTH_MAX} values")));
            }
            Operation::Product(product) => {
                width = product.outputs;
                layers += 1;
            }
            Operation::Add(terms) if terms.len() != 1 && terms.len() != width => {
                let found = terms.len();
                return Err(link.unfit(format!("adds {found} values to {width}")));
            }
            Operation::Add(_) | Operation::Relu | Operation::Round(_) => {}
        }
    }
    if layers == 0 || layers > LAYERS_MAX {
        let expected = format!("{layers} dense layers, expected 1 to {LAYERS_MAX}");
        return Err(LoadError::Invalid(expected));
    }
    if width != outputs {
        return Err(LoadError::Shape {
            side: "output",
            expected: outputs,
            batch: 1,
            found: format!("{width} wide"),
        });
    }
    Ok(())
}

/// Fails if weights that take `elements` with their padding, beside `so_far`, are
/// more than [`WEIGHTS_MAX`].
fn check_weights(link: &Link, so_far: usize, elements: Option<usize>) -> Result<(), LoadError> {
    match elements.and_then(|elements| elements.checked_add(so_far)) {
        Some(sum) if sum <= WEIGHTS_MAX => Ok(()),
        _ => Err(link.unfit(format!("the model has more than {WEIGHTS_MAX} weights"))),
    }
}

impl Infer for DenseModel {
    fn infer(&mut self, features: &[f32], outputs: &mut [f32]) -> Result<(), InferError> {
        let rows = check_shapes(self, features, outputs)?;
        match &mut self.kernel {
            Kernel::Float32(chain) => dispatch::run_float32(chain, rows, features, outputs),
            Kernel::Int8(chain) => dispatch::run_int8(chain, rows, features, outputs),
        }
        check_finite(outputs, self.outputs)
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn backend(&self) -> &str {
        match self.kernel {
            Kernel::Float32(_) => "dense float32",
            Kernel::Int8(_) => "dense int8",
        }
    }
}

#[cfg(test)]
mod tests;
