//! A quantized chain as layers: weights in lanes, and the operations after each product as
//! stages that multiply, add, clamp and round.

use super::{BLOCK, Chain, INPUTS_MAX, LANES, Layer, Stage};
use crate::dense::chain::Link;
use crate::dense::check_weights;
use crate::dense::operation::{Grid, IntegerWeights, Operation};
use crate::infer::BATCH_MAX;
use crate::load::LoadError;

impl Chain {
    /// # Errors
    /// [`LoadError::Unfit`] for a product whose weights or input are not quantized.
    pub(in crate::dense) fn compile(links: Vec<Link>) -> Result<Self, LoadError> {
        let links = without_relu_at_grids(links);
        let mut links = links.iter().peekable();
        let Some(Operation::Round(input)) = links.next().map(|link| &link.operation) else {
            let problem = "some values are quantized, but the input is not".to_owned();
            return Err(LoadError::Invalid(problem));
        };
        let (mut grid, mut layers, mut weights) = (Some(*input), Vec::new(), 0);
        while let Some(link) = links.next() {
            let (Operation::Product(product), Some(of_input)) = (&link.operation, grid) else {
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
            while let Some(link) =
                links.next_if(|link| !matches!(link.operation, Operation::Product(_)))
            {
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
}

impl Stage {
    fn is_finite(&self) -> bool {
        let numbers = self.factor.iter().chain(&self.offset);
        numbers.flatten().all(|number| number.is_finite())
    }
}

/// A Relu before or after a grid is the grid without its negative points.
fn without_relu_at_grids(links: Vec<Link>) -> Vec<Link> {
    let mut kept: Vec<Link> = Vec::with_capacity(links.len());
    for mut link in links {
        match (
            kept.last_mut().map(|link| &mut link.operation),
            &mut link.operation,
        ) {
            (Some(Operation::Round(grid)), Operation::Relu) => {
                grid.low = grid.low.max(0);
                continue;
            }
            (Some(Operation::Relu), Operation::Round(grid)) => {
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
        match &link.operation {
            Operation::Add(terms) => {
                for (offset, term) in self.offset.iter_mut().zip(terms.iter().cycle()) {
                    *offset += f64::from(*term);
                }
            }
            Operation::Relu => self.push(1.0, (0.0, f32::INFINITY), false),
            Operation::Round(grid) => {
                let ends = (f32::from(grid.low), f32::from(grid.high));
                self.push(f64::from(grid.scale), ends, true);
                self.grid = Some(*grid);
            }
            Operation::Product(_) => return Err(link.unfit("a product within a layer")),
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
