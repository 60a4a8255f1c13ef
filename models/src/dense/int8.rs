//! Dense layers on quantized values, in integer arithmetic.
//!
//! A value is held as the `i16` `n` of `n * scale`: its byte less the zero point. So
//! int8, uint8 and every zero point are the same to the kernel, products of 16 bits
//! are what SSE2 and NEON multiply, and sums are exact in `i32`. A layer's stages
//! then bring a sum back onto a grid: multiply, add, clamp, round half to even, as
//! ONNX says for QuantizeLinear.

use super::chain::Link;
use super::check_weights;
use super::step::{Grid, IntegerWeights, Step};
use crate::infer::BATCH_MAX;
use crate::load::LoadError;

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
    /// # Errors
    /// [`LoadError::Unfit`] for a product whose weights or input are not quantized.
    pub(super) fn compile(links: Vec<Link>) -> Result<Self, LoadError> {
        let links = without_relu_at_grids(links);
        let mut links = links.iter().peekable();
        let Some(Step::Round(input)) = links.next().map(|link| &link.step) else {
            let problem = "some values are quantized, but the input is not".to_owned();
            return Err(LoadError::Invalid(problem));
        };
        let (mut grid, mut layers, mut weights) = (Some(*input), Vec::new(), 0);
        while let Some(link) = links.next() {
            let (Step::Product(product), Some(of_input)) = (&link.step, grid) else {
                return Err(link.unfit("is not a product of quantized values"));
            };
            let Some(integers) = &product.integers else {
                return Err(link.unfit("its weights are not int8, with a scale for each output"));
            };
            let groups = product.inputs.div_ceil(LANES);
            let padded = product.outputs.checked_mul(groups * LANES);
            check_weights(link, weights, padded)?;
            weights += product.outputs * groups * LANES;
            if product.inputs > INPUTS_MAX {
                return Err(link.unfit(format!("more than {INPUTS_MAX} inputs")));
            }
            let mut stages = Stages::new(of_input, integers);
            while let Some(link) = links.next_if(|link| !matches!(link.step, Step::Product(_))) {
                stages.take(link)?;
            }
            grid = stages.grid;
            let stages = stages.done(links.peek().is_none());
            if !stages.iter().all(Stage::is_finite) {
                return Err(link.unfit("its scales and those around it are too far apart"));
            }
            layers.push(Layer {
                outputs: product.outputs,
                groups,
                weights: in_lanes(&integers.weights, product.inputs),
                stages,
            });
        }
        Ok(Self::with_room(*input, layers))
    }

    fn with_room(grid: Grid, layers: Vec<Layer>) -> Self {
        let widths = layers
            .iter()
            .map(|layer| layer.outputs.div_ceil(LANES).max(layer.groups));
        let stride = widths.max().unwrap_or(0);
        Chain {
            grid,
            layers,
            stride,
            front: vec![[0; LANES]; BATCH_MAX * stride],
            back: vec![[0; LANES]; BATCH_MAX * stride],
        }
    }

    /// Shapes `[rows, inputs]` and `[rows, outputs]`. A row with a NaN gets NaN.
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
    fn is_finite(&self) -> bool {
        let numbers = self.factor.iter().chain(&self.offset);
        numbers.flatten().all(|number| number.is_finite())
    }

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

/// A Relu before or after a grid is the grid without its negative points.
fn without_relu_at_grids(links: Vec<Link>) -> Vec<Link> {
    let mut kept: Vec<Link> = Vec::with_capacity(links.len());
    for mut link in links {
        match (kept.last_mut().map(|link| &mut link.step), &mut link.step) {
            (Some(Step::Round(grid)), Step::Relu) => {
                grid.low = grid.low.max(0);
                continue;
            }
            (Some(Step::Relu), Step::Round(grid)) => {
                grid.low = grid.low.max(0);
                kept.pop();
            }
            _ => {}
        }
        kept.push(link);
    }
    kept
}

/// Rows of weights, each filled up with zeros to whole lanes.
fn in_lanes(weights: &[i16], inputs: usize) -> Vec<[i16; LANES]> {
    let groups = inputs.div_ceil(LANES);
    let mut lanes = vec![[0; LANES]; weights.len() / inputs * groups];
    let rows = lanes
        .chunks_exact_mut(groups)
        .zip(weights.chunks_exact(inputs));
    for (lanes, weights) in rows {
        lanes.as_flattened_mut()[..inputs].copy_from_slice(weights);
    }
    lanes
}

/// The stages of one layer in the making: a real output is
/// `value * factor + offset`, where `value` is what the stages so far give.
struct Stages {
    done: Vec<Stage>,
    factor: Vec<f64>,
    offset: Vec<f64>,
    /// The grid that `value` is on, if nothing has moved it since.
    grid: Option<Grid>,
}

impl Stages {
    fn new(input: Grid, integers: &IntegerWeights) -> Self {
        let real = |scale: &f32| f64::from(input.scale) * f64::from(*scale);
        Stages {
            done: Vec::new(),
            factor: integers.scales.iter().map(real).collect(),
            offset: vec![0.0; integers.scales.len()],
            grid: None,
        }
    }

    fn take(&mut self, link: &Link) -> Result<(), LoadError> {
        self.grid = None;
        match &link.step {
            Step::Add(terms) => {
                for (offset, term) in self.offset.iter_mut().zip(terms.iter().cycle()) {
                    *offset += f64::from(*term);
                }
            }
            Step::Relu => self.push(1.0, (0.0, f32::INFINITY), false),
            Step::Round(grid) => {
                let ends = (f32::from(grid.low), f32::from(grid.high));
                self.push(f64::from(grid.scale), ends, true);
                self.grid = Some(*grid);
            }
            Step::Product(_) => return Err(link.unfit("a product within a layer")),
        }
        Ok(())
    }

    /// Ends a stage whose values are in units of `unit`.
    fn push(&mut self, unit: f64, (low, high): (f32, f32), is_rounded: bool) {
        let in_units = |reals: &[f64]| blocks(reals.iter().map(|real| (real / unit) as f32));
        self.done.push(Stage {
            factor: in_units(&self.factor),
            offset: in_units(&self.offset),
            low,
            high,
            is_rounded,
        });
        self.factor.fill(unit);
        self.offset.fill(0.0);
    }

    /// The last layer's values leave as real numbers.
    fn done(mut self, is_last: bool) -> Vec<Stage> {
        if is_last {
            self.push(1.0, (f32::NEG_INFINITY, f32::INFINITY), false);
        }
        self.done
    }
}

fn blocks(values: impl ExactSizeIterator<Item = f32>) -> Vec<[f32; BLOCK]> {
    let mut blocks = vec![[0.0; BLOCK]; values.len().div_ceil(BLOCK)];
    for (to, value) in blocks.as_flattened_mut().iter_mut().zip(values) {
        *to = value;
    }
    blocks
}
