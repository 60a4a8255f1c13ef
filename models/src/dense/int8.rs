//! Dense layers on quantized values, in integer arithmetic.
//!
//! A value is held as the `i16` `n` of `n * scale`: its byte less the zero point. So
//! int8, uint8 and every zero point are the same to the kernel, products of 16 bits
//! are what SSE2 and NEON multiply, and sums are exact in `i32`. A layer's stages
//! then bring a sum back onto a grid: multiply, add, clamp, round half to even, as
//! ONNX says for QuantizeLinear.

mod compile;

use super::operation::Grid;

/// Inputs that one pass of the inner loop takes. Fixed, so that it is vectorised as
/// a whole; 32 was the fastest of 16, 32 and 64 on three autoencoders.
const LANES: usize = 32;

/// Outputs whose sums are requantized together.
const BLOCK: usize = 16;
const _: () = assert!(
    LANES.is_multiple_of(BLOCK),
    "a row of blocks fills whole lanes"
);

/// A value and a weight are within ±255, so sums of this many products fit.
const INPUTS_MAX: usize = 32_768;
const _: () = assert!(INPUTS_MAX * 255 * 255 <= i32::MAX as usize);

/// Adding 1.5 · 2²³ to an f32 within ±2²² rounds it to a whole number, half to even,
/// which is then in the low bits. `round_ties_even` is a call on baseline x86-64.
const ROUNDER: f32 = 12_582_912.0;

/// Layers, and room for the rows between them.
pub(super) struct Chain {
    grid: Grid,
    layers: Vec<Layer>,
    /// Lanes from one row to the next in the buffers.
    stride: usize,
    front: Vec<[i16; LANES]>,
    back: Vec<[i16; LANES]>,
}

struct Layer {
    outputs: usize,
    /// Groups of lanes in a row of weights.
    groups: usize,
    /// Shape `[outputs, groups]`.
    weights: Vec<[i16; LANES]>,
    stages: Vec<Stage>,
}

/// `clamp(value * factor + offset)`, and the nearest whole number of it if
/// `is_rounded`.
struct Stage {
    factor: Vec<[f32; BLOCK]>,
    offset: Vec<[f32; BLOCK]>,
    low: f32,
    high: f32,
    is_rounded: bool,
}

impl Chain {
    /// Shapes `[rows, inputs]` and `[rows, outputs]`. A row with a NaN gets NaN.
    /// Always inlined, so that it is compiled for what its caller is.
    #[inline(always)]
    pub(super) fn run(&mut self, rows: usize, features: &[f32], outputs: &mut [f32]) {
        let (last, inner) = self.layers.split_last().expect("a model has a layer");
        let (stride, inputs) = (self.stride, features.len() / rows);
        for (x, features) in self
            .front
            .chunks_exact_mut(stride)
            .zip(features.chunks_exact(inputs))
        {
            self.grid.quantize(features, x.as_flattened_mut());
        }
        let (mut from, mut to) = (&mut self.front, &mut self.back);
        for layer in inner {
            layer.run(&from[..rows * stride], stride, |row, block, values| {
                let row = to[row * stride..][..stride].as_flattened_mut();
                let part = &mut row[block * BLOCK..][..BLOCK];
                for (part, value) in part.iter_mut().zip(values) {
                    *part = whole(*value);
                }
            });
            std::mem::swap(&mut from, &mut to);
        }
        let width = last.outputs;
        last.run(&from[..rows * stride], stride, |row, block, values| {
            let part = &mut outputs[row * width..][..width][block * BLOCK..];
            let len = part.len().min(BLOCK);
            part[..len].copy_from_slice(&values[..len]);
        });
        let answers = outputs.chunks_exact_mut(width);
        for (features, answer) in features.chunks_exact(inputs).zip(answers) {
            if features.iter().any(|feature| feature.is_nan()) {
                answer.fill(f32::NAN);
            }
        }
    }
}

impl Grid {
    /// As QuantizeLinear does, less the zero point.
    #[inline(always)]
    fn quantize(&self, values: &[f32], to: &mut [i16]) {
        let (low, high) = (f32::from(self.low), f32::from(self.high));
        for (to, value) in to.iter_mut().zip(values) {
            *to = whole(clamp(value / self.scale, low, high));
        }
    }
}

impl Layer {
    /// The rows of a batch share each block of weights while it is near.
    #[inline(always)]
    fn run(
        &self,
        rows: &[[i16; LANES]],
        stride: usize,
        mut emit: impl FnMut(usize, usize, &[f32; BLOCK]),
    ) {
        for (block, weights) in self.weights.chunks(self.groups * BLOCK).enumerate() {
            for (row, x) in rows.chunks_exact(stride).enumerate() {
                let mut sums = [0; BLOCK];
                for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(self.groups)) {
                    *sum = dot(&x[..self.groups], weights);
                }
                let mut values = sums.map(|sum| sum as f32);
                for stage in &self.stages {
                    stage.apply(block, &mut values);
                }
                emit(row, block, &values);
            }
        }
    }
}

impl Stage {
    #[inline(always)]
    fn apply(&self, block: usize, values: &mut [f32; BLOCK]) {
        let (factor, offset) = (&self.factor[block], &self.offset[block]);
        for ((value, factor), offset) in values.iter_mut().zip(factor).zip(offset) {
            *value = clamp(*value * factor + offset, self.low, self.high);
        }
        if self.is_rounded {
            *values = values.map(|value| (value + ROUNDER) - ROUNDER);
        }
    }
}

#[inline(always)]
fn dot(x: &[[i16; LANES]], weights: &[[i16; LANES]]) -> i32 {
    let mut sum = 0;
    for (x, weights) in x.iter().zip(weights) {
        let mut part = 0;
        for lane in 0..LANES {
            part += i32::from(x[lane]) * i32::from(weights[lane]);
        }
        sum += part;
    }
    sum
}

/// A NaN becomes `low`.
#[inline(always)]
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// The nearest whole number of a value within ±255, half to even.
#[inline(always)]
fn whole(value: f32) -> i16 {
    let bits = (value + ROUNDER).to_bits().cast_signed();
    (bits - ROUNDER.to_bits().cast_signed()) as i16
}
