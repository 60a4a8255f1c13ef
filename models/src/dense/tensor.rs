//! Initialisers of an ONNX file as numbers, with every length checked.

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::WEIGHTS_MAX;

/// A constant tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

/// Its elements; every float is finite.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Float32(Vec<f32>),
    /// Of this type's range.
    Integer(Vec<i32>, DataType),
}

impl Tensor {
    /// Reads an initialiser.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(proto: &TensorProto) -> Result<Self, String> {
        let is_external = proto.data_location == Some(DataLocation::External as i32);
        if is_external || !proto.external_data.is_empty() || proto.segment.is_some() {
            return Err("its content is not in the file".to_owned());
        }
        let shape = read_shape(&proto.dims)?;
        let values = match DataType::try_from(proto.data_type) {
            Ok(DataType::Float) => read_floats(proto)?,
            Ok(data_type @ (DataType::Int8 | DataType::Uint8 | DataType::Int32)) => {
                Values::Integer(read_integers(proto, data_type)?, data_type)
            }
            _ => return Err(format!("data type {} is not supported", proto.data_type)),
        };
        let found = match &values {
            Values::Float32(values) => values.len(),
            Values::Integer(values, _) => values.len(),
        };
        let expected: usize = shape.iter().product();
        if found != expected {
            return Err(format!(
                "{found} values, its shape {shape:?} has {expected}"
            ));
        }
        Ok(Tensor { shape, values })
    }
}

/// Bounded so that the product of the dimensions cannot overflow.
fn read_shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    let too_large = || format!("shape {dims:?} is empty, or more than {WEIGHTS_MAX} elements");
    let mut product = 1_usize;
    let mut shape = Vec::with_capacity(dims.len().min(4));
    for &dim in dims {
        let dim = usize::try_from(dim).map_err(|_| too_large())?;
        product = product.checked_mul(dim).ok_or_else(too_large)?;
        if !(1..=WEIGHTS_MAX).contains(&product) {
            return Err(too_large());
        }
        shape.push(dim);
    }
    Ok(shape)
}

fn read_floats(proto: &TensorProto) -> Result<Values, String> {
    let (words, rest) = proto.raw_data.as_chunks::<4>();
    if !rest.is_empty() {
        return Err("its raw data ends within a number".to_owned());
    }
    let mut values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    values.extend_from_slice(&proto.float_data);
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(Values::Float32(values)),
        Some(index) => Err(format!("value {index} is not finite")),
    }
}

fn read_integers(proto: &TensorProto, data_type: DataType) -> Result<Vec<i32>, String> {
    let raw = &proto.raw_data[..];
    let mut values: Vec<i32> = match data_type {
        DataType::Int8 => raw
            .iter()
            .map(|&byte| i32::from(byte.cast_signed()))
            .collect(),
        DataType::Uint8 => raw.iter().map(|&byte| i32::from(byte)).collect(),
        _ => {
            let (words, rest) = raw.as_chunks::<4>();
            if !rest.is_empty() {
                return Err("its raw data ends within a number".to_owned());
            }
            words.iter().map(|word| i32::from_le_bytes(*word)).collect()
        }
    };
    values.extend_from_slice(&proto.int32_data);
    let (low, high) = range(data_type);
    match values.iter().find(|value| !(low..=high).contains(*value)) {
        None => Ok(values),
        Some(value) => Err(format!("{value} is not in {low} to {high}")),
    }
}

/// The least and the greatest value of an integer type.
pub(super) fn range(data_type: DataType) -> (i32, i32) {
    match data_type {
        DataType::Int8 => (-128, 127),
        DataType::Uint8 => (0, 255),
        _ => (i32::MIN, i32::MAX),
    }
}
