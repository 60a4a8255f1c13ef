//! What the layers of a chain do, made from the constants of their nodes.

use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::constants::{Constant, Scaling};
use super::node::{name, unfit};
use super::tensor::range;
use crate::load::LoadError;

/// What happens to a row of real numbers.
pub(super) enum Operation {
    Product(Product),
    /// Adds one number to all, or one to each.
    Add(Vec<f32>),
    Relu,
    /// Rounds to the points of a grid: QuantizeLinear and DequantizeLinear.
    Round(Grid),
}

/// A matrix, output-major: shape `[outputs, inputs]`.
pub(super) struct Product {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) weights: Vec<f32>,
    pub(super) integers: Option<IntegerWeights>,
}

/// The same matrix as integers and a scale for each output.
pub(super) struct IntegerWeights {
    pub(super) weights: Vec<i16>,
    pub(super) scales: Vec<f32>,
}

/// The numbers `n * scale` for whole `n` from `low` to `high`, which are within ±255
/// and include 0. The zero point has been taken off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) scale: f32,
    pub(super) low: i16,
    pub(super) high: i16,
}

pub(super) fn grid(node: &NodeProto, scaling: &Scaling) -> Result<Grid, LoadError> {
    let is_byte = matches!(scaling.data_type, DataType::Int8 | DataType::Uint8);
    let (&[scale], &[zero], true) = (&scaling.scales[..], &scaling.zeros[..], is_byte) else {
        let problem = "activations are quantized to int8 or uint8 with one scale only";
        return Err(unfit(name(node), problem));
    };
    let (low, high) = range(scaling.data_type);
    let centred = |value: i32| i16::try_from(value - zero).expect("bytes differ by 255 at most");
    Ok(Grid {
        scale,
        low: centred(low),
        high: centred(high),
    })
}

/// `[inputs, outputs]`, or `[outputs, inputs]` if `is_transposed`.
pub(super) fn product(
    node: &NodeProto,
    constant: Constant,
    is_transposed: bool,
) -> Result<Product, LoadError> {
    let &[rows, columns] = &constant.shape[..] else {
        let problem = format!("weights of shape {:?}, expected a matrix", constant.shape);
        return Err(unfit(name(node), problem));
    };
    let (inputs, outputs) = if is_transposed {
        (columns, rows)
    } else {
        (rows, columns)
    };
    let outputs_axis = usize::from(!is_transposed);
    let integers = constant.integers.and_then(|integers| {
        let weights: Result<Vec<i16>, _> =
            integers.centred.iter().map(|&w| i16::try_from(w)).collect();
        // Wider weights stay real numbers, and so do those scaled along the inputs.
        let is_byte = |weight: &i16| (-255..=255).contains(weight);
        let weights = weights.ok().filter(|all| all.iter().all(is_byte))?;
        let scales = match integers.scales[..] {
            [scale] => vec![scale; outputs],
            _ if integers.axis == outputs_axis => integers.scales,
            _ => return None,
        };
        Some(IntegerWeights {
            weights: output_major(weights, rows, columns, is_transposed),
            scales,
        })
    });
    Ok(Product {
        inputs,
        outputs,
        weights: output_major(constant.values, rows, columns, is_transposed),
        integers,
    })
}

fn output_major<T: Copy>(values: Vec<T>, rows: usize, columns: usize, is_already: bool) -> Vec<T> {
    if is_already {
        return values;
    }
    let column = |j: usize| values.iter().skip(j).step_by(columns).copied();
    let transposed: Vec<T> = (0..columns).flat_map(column).collect();
    debug_assert_eq!(transposed.len(), rows * columns);
    transposed
}

/// A bias: all its axes but the last are 1.
pub(super) fn terms_of(node: &NodeProto, constant: Constant) -> Result<Vec<f32>, LoadError> {
    let is_row = constant.shape.iter().rev().skip(1).all(|&dim| dim == 1);
    if is_row && constant.shape.len() <= 2 {
        return Ok(constant.values);
    }
    let problem = format!("adds a tensor of shape {:?}", constant.shape);
    Err(unfit(name(node), problem))
}
