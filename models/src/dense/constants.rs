//! The constants of a graph: initialisers, and initialisers behind a
//! DequantizeLinear.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::node::{attributes, integer, name, unfit};
use super::tensor::{Tensor, Values, range};
use crate::load::LoadError;

/// What a graph knows before it runs.
pub(super) struct Constants<'a> {
    tensors: HashMap<&'a str, Tensor>,
    /// DequantizeLinear nodes whose first input is a tensor above, by output.
    dequantized: HashMap<&'a str, &'a NodeProto>,
}

/// A constant as real numbers, and as the integers that they were made from.
#[derive(Debug)]
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
    pub(super) integers: Option<Integers>,
}

/// `values[i] = centred[i] * scales[position of i along axis]`.
#[derive(Debug)]
pub(super) struct Integers {
    /// Less the zero point, so −255 to 255 for weights.
    pub(super) centred: Vec<i32>,
    /// One, or one for each position along `axis`.
    pub(super) scales: Vec<f32>,
    pub(super) axis: usize,
}

/// Where a QuantizeLinear or DequantizeLinear puts its integers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
    pub(super) scales: Vec<f32>,
    pub(super) zeros: Vec<i32>,
    pub(super) data_type: DataType,
}

impl<'a> Constants<'a> {
    pub(super) fn read(graph: &'a GraphProto) -> Result<Self, LoadError> {
        let mut tensors = HashMap::new();
        for proto in &graph.initializer {
            let tensor = Tensor::read(proto)
                .map_err(|problem| unfit(&proto.name, format!("initializer: {problem}")))?;
            if tensors.insert(proto.name.as_str(), tensor).is_some() {
                return Err(unfit(&proto.name, "two initializers have this name"));
            }
        }
        let first_is_known = |node: &&NodeProto| {
            let first = node.input.first();
            first.is_some_and(|name| tensors.contains_key(name.as_str()))
        };
        let dequantized = graph
            .node
            .iter()
            .filter(|node| node.op_type == "DequantizeLinear")
            .filter(first_is_known)
            .filter_map(|node| Some((node.output.first()?.as_str(), node)))
            .collect();
        Ok(Constants {
            tensors,
            dequantized,
        })
    }

    pub(super) fn is_initializer(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether [`Constants::get`] may be asked for what `node` puts out.
    pub(super) fn is_made_by(&self, node: &NodeProto) -> bool {
        let output = node.output.first().map(String::as_str);
        output.is_some_and(|output| {
            let known = self.dequantized.get(output);
            known.is_some_and(|known| std::ptr::eq(*known, node))
        })
    }

    /// The constant that `node` takes as `input`.
    pub(super) fn get(&self, node: &NodeProto, input: &str) -> Result<Constant, LoadError> {
        if let Some(tensor) = self.tensors.get(input) {
            let Values::Float32(values) = &tensor.values else {
                return Err(unfit(name(node), format!("{input:?} is not float32")));
            };
            return Ok(Constant {
                shape: tensor.shape.clone(),
                values: values.clone(),
                integers: None,
            });
        }
        match self.dequantized.get(input) {
            Some(maker) => self.dequantize(maker),
            None => Err(unfit(name(node), format!("{input:?} is not a constant"))),
        }
    }

    fn dequantize(&self, node: &NodeProto) -> Result<Constant, LoadError> {
        let tensor = &self.tensors[node.input[0].as_str()];
        let Values::Integer(values, data_type) = &tensor.values else {
            return Err(unfit(name(node), "its input is not an integer tensor"));
        };
        attributes(node, &["axis"])?;
        let scaling = self.scaling(node, *data_type)?;
        if scaling.data_type != *data_type {
            return Err(unfit(name(node), "its zero point is of another type"));
        }
        let axis = axis(node, &tensor.shape, scaling.scales.len())?;
        // Elements between two neighbours along the axis, and its length.
        let inner: usize = tensor.shape.iter().skip(axis + 1).product();
        let length = tensor.shape.get(axis).copied().unwrap_or(1);
        let position = |index: usize| (index / inner) % length;
        let pick = |index: usize, len: usize| if len == 1 { 0 } else { position(index) };
        let centred = values.iter().enumerate().map(|(index, &value)| {
            let zero = scaling.zeros[pick(index, scaling.zeros.len())];
            value.checked_sub(zero)
        });
        let Some(centred) = centred.collect::<Option<Vec<i32>>>() else {
            return Err(unfit(name(node), "a value less its zero point is no int32"));
        };
        let reals = centred.iter().enumerate().map(|(index, &value)| {
            value as f32 * scaling.scales[pick(index, scaling.scales.len())]
        });
        let values: Vec<f32> = reals.collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(unfit(name(node), "a dequantized value is not finite"));
        }
        Ok(Constant {
            shape: tensor.shape.clone(),
            values,
            integers: Some(Integers {
                centred,
                scales: scaling.scales,
                axis,
            }),
        })
    }

    /// Scale and zero point of a QuantizeLinear or DequantizeLinear; without a zero
    /// point it is 0 of type `default`.
    pub(super) fn scaling(
        &self,
        node: &NodeProto,
        default: DataType,
    ) -> Result<Scaling, LoadError> {
        let wrong = |problem: &str| unfit(name(node), problem);
        let tensor = |index: usize| {
            let name = node.input.get(index).filter(|name| !name.is_empty());
            name.map(|name| self.tensors.get(name.as_str()))
        };
        let Some(Some(Tensor {
            values: Values::Float32(scales),
            ..
        })) = tensor(1)
        else {
            return Err(wrong("its scale is not a float32 initializer"));
        };
        if !scales.iter().all(|scale| scale.is_normal() && *scale > 0.0) {
            return Err(wrong("a scale is not above 0"));
        }
        let (zeros, data_type) = match tensor(2) {
            None => (vec![0], default),
            Some(Some(Tensor {
                values: Values::Integer(zeros, data_type),
                ..
            })) => (zeros.clone(), *data_type),
            Some(_) => return Err(wrong("its zero point is not an integer initializer")),
        };
        if zeros.len() != 1 && zeros.len() != scales.len() {
            return Err(wrong("it has not as many zero points as scales"));
        }
        debug_assert!(zeros.iter().all(|zero| {
            let (low, high) = range(data_type);
            (low..=high).contains(zero)
        }));
        Ok(Scaling {
            scales: scales.clone(),
            zeros,
            data_type,
        })
    }
}

/// The axis that `scales` scales belong to.
fn axis(node: &NodeProto, shape: &[usize], scales: usize) -> Result<usize, LoadError> {
    if scales == 1 {
        return Ok(0);
    }
    let rank = shape.len();
    let given = integer(node, "axis").unwrap_or(1);
    let counted = if given < 0 {
        given.checked_add_unsigned(rank as u64)
    } else {
        Some(given)
    };
    let axis = counted.and_then(|axis| usize::try_from(axis).ok());
    match axis.filter(|&axis| shape.get(axis) == Some(&scales)) {
        Some(axis) => Ok(axis),
        None => {
            let problem = format!("{scales} scales do not fit axis {given} of shape {shape:?}");
            Err(unfit(name(node), problem))
        }
    }
}
