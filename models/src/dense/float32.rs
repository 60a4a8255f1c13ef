//! Dense layers in float32.
//!
//! Weights lie in blocks of [`BLOCK`] outputs, input after input: a loop over the
//! inputs keeps a block's sums in registers and reads the weights in order.

use super::chain::Link;
use super::check_weights;
use super::operation::{Operation, Product};
use crate::infer::BATCH_MAX;
use crate::load::LoadError;

/// The sums of a block are four registers of AVX2 or eight of NEON: enough to hide
/// the latency of an addition, and all of them stay in registers.
const BLOCK: usize = 32;

/// Where a fused multiply-add is an instruction of every CPU of the target.
/// Elsewhere it would be a call.
pub(super) const HAS_FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Layers, and room for the rows between them.
pub(super) struct Chain {
    layers: Vec<Layer>,
    /// Elements from one row to the next in the buffers.
    stride: usize,
    front: Vec<f32>,
    back: Vec<f32>,
}

struct Layer {
    inputs: usize,
    outputs: usize,
    /// Shape `[blocks, inputs]`.
    weights: Vec<[f32; BLOCK]>,
    bias: Vec<[f32; BLOCK]>,
    has_relu: bool,
}

impl Chain {
    /// # Errors
    /// [`LoadError::Unfit`] for operations in another order than product, sums, Relu.
    pub(super) fn compile(links: Vec<Link>) -> Result<Self, LoadError> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut weights = 0;
        for link in &links {
            match (&link.operation, layers.last_mut()) {
                (Operation::Product(product), _) => {
                    let blocks = product.outputs.div_ceil(BLOCK);
                    let elements = blocks.checked_mul(BLOCK * product.inputs);
                    check_weights(link, weights, elements)?;
                    layers.push(Layer::new(product));
                    weights += blocks * BLOCK * product.inputs;
                }
                (Operation::Add(terms), Some(layer)) if !layer.has_relu => layer.add(terms),
                (Operation::Relu, Some(layer)) => layer.has_relu = true,
                _ => return Err(link.unfit("is not after a product and before its Relu")),
            }
        }
        let widest = layers.iter().map(|layer| layer.outputs).max();
        let stride = widest.unwrap_or(0).next_multiple_of(BLOCK);
        Ok(Chain {
            layers,
            stride,
            front: vec![0.0; BATCH_MAX * stride],
            back: vec![0.0; BATCH_MAX * stride],
        })
    }

    /// Shapes `[rows, inputs]` and `[rows, outputs]`. `FUSED`: multiply and add in one
    /// instruction, which the caller must have been compiled with; always inlined,
    /// so that it is compiled as its caller is.
    #[inline(always)]
    pub(super) fn run<const FUSED: bool>(
        &mut self,
        rows: usize,
        features: &[f32],
        outputs: &mut [f32],
    ) {
        let (last, inner) = self.layers.split_last().expect("a model has a layer");
        let mut x = (features, features.len() / rows);
        let (mut from, mut to) = (&mut self.front, &mut self.back);
        for layer in inner {
            let stride = self.stride;
            layer.run::<FUSED>(rows, x, |row, block, sums| {
                to[row * stride + block * BLOCK..][..BLOCK].copy_from_slice(sums);
            });
            std::mem::swap(&mut from, &mut to);
            x = (from.as_slice(), stride);
        }
        let width = last.outputs;
        last.run::<FUSED>(rows, x, |row, block, sums| {
            let row = &mut outputs[row * width..][..width];
            let part = &mut row[block * BLOCK..];
            let len = part.len().min(BLOCK);
            part[..len].copy_from_slice(&sums[..len]);
        });
    }
}

impl Layer {
    fn new(product: &Product) -> Self {
        let (inputs, outputs) = (product.inputs, product.outputs);
        let weight = |output: usize, input: usize| match output < outputs {
            true => product.weights[output * inputs + input],
            false => 0.0,
        };
        let blocks = outputs.div_ceil(BLOCK);
        let block = |block: usize| {
            (0..inputs)
                .map(move |input| std::array::from_fn(|lane| weight(block * BLOCK + lane, input)))
        };
        Layer {
            inputs,
            outputs,
            weights: (0..blocks).flat_map(block).collect(),
            bias: vec![[0.0; BLOCK]; blocks],
            has_relu: false,
        }
    }

    /// One term for all outputs, or one for each.
    fn add(&mut self, terms: &[f32]) {
        let bias = self.bias.as_flattened_mut()[..self.outputs].iter_mut();
        for (bias, term) in bias.zip(terms.iter().cycle()) {
            *bias += term;
        }
    }

    /// `x` is a slice and the distance of its rows. The rows of a batch share each
    /// block of weights while it is near.
    #[inline(always)]
    fn run<const FUSED: bool>(
        &self,
        rows: usize,
        x: (&[f32], usize),
        mut emit: impl FnMut(usize, usize, &[f32; BLOCK]),
    ) {
        let low = if self.has_relu {
            0.0
        } else {
            f32::NEG_INFINITY
        };
        let blocks = self.weights.chunks_exact(self.inputs).zip(&self.bias);
        for (block, (weights, bias)) in blocks.enumerate() {
            for (row, x) in x.0.chunks_exact(x.1).take(rows).enumerate() {
                let sums = sums::<FUSED>(&x[..self.inputs], weights, bias);
                // Written so that a NaN stays one.
                let sums = sums.map(|sum| if sum < low { low } else { sum });
                emit(row, block, &sums);
            }
        }
    }
}

#[inline(always)]
fn sums<const FUSED: bool>(
    x: &[f32],
    weights: &[[f32; BLOCK]],
    bias: &[f32; BLOCK],
) -> [f32; BLOCK] {
    let mut sums = *bias;
    for (&x, weights) in x.iter().zip(weights) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum = if FUSED {
                x.mul_add(*weight, *sum)
            } else {
                x * weight + *sum
            };
        }
    }
    sums
}
