//! Constants of a file as numbers, and shapes.

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::{Kind, NUMBERS_MAX};

/// Axes of a tensor: one more than any learner has.
const RANK_MAX: usize = 5;
/// Integers beyond this are not exact.
const INTEGER_MAX: f64 = (1_u64 << 53) as f64;

/// A constant, row-major.
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) numbers: Vec<f64>,
}

impl Tensor {
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(proto: &TensorProto) -> Result<Self, String> {
        let is_external = proto.data_location == Some(DataLocation::External as i32);
        if is_external || !proto.external_data.is_empty() || proto.segment.is_some() {
            return Err("its content is not in the file".to_owned());
        }
        let dims = proto.dims.iter().map(|&dim| usize::try_from(dim).ok());
        let shape: Option<Vec<usize>> = dims.collect();
        let shape = shape.filter(|shape| volume(shape).is_some());
        let shape = shape.ok_or_else(|| format!("shape {:?} is not supported", proto.dims))?;
        let (kind, numbers) = read_numbers(proto)?;
        if Some(numbers.len()) != volume(&shape) {
            let found = numbers.len();
            return Err(format!("{found} values do not make shape {shape:?}"));
        }
        let is_exact = |number: &f64| number.abs() <= INTEGER_MAX;
        if kind == Kind::Integer && !numbers.iter().all(is_exact) {
            return Err("integers beyond 2^53".to_owned());
        }
        Ok(Self {
            shape,
            kind,
            numbers,
        })
    }
}

fn read_numbers(proto: &TensorProto) -> Result<(Kind, Vec<f64>), String> {
    let raw = &proto.raw_data[..];
    Ok(match DataType::try_from(proto.data_type) {
        Ok(DataType::Float) => {
            let listed = proto.float_data.iter().copied();
            let all = words(raw)?.map(f32::from_le_bytes).chain(listed);
            (Kind::Float, all.map(f64::from).collect())
        }
        Ok(DataType::Double) => {
            let listed = proto.double_data.iter().copied();
            let all = words(raw)?.map(f64::from_le_bytes).chain(listed);
            (Kind::Double, all.collect())
        }
        Ok(DataType::Int64) => {
            let listed = proto.int64_data.iter().copied();
            let all = words(raw)?.map(i64::from_le_bytes).chain(listed);
            // Beyond 2^53 they are refused above.
            (Kind::Integer, all.map(|integer| integer as f64).collect())
        }
        Ok(DataType::Int32) => {
            let listed = proto.int32_data.iter().copied();
            let all = words(raw)?.map(i32::from_le_bytes).chain(listed);
            (Kind::Integer, all.map(f64::from).collect())
        }
        Ok(DataType::Bool) => {
            let listed = proto.int32_data.iter().map(|&word| word != 0);
            let all = raw.iter().map(|&byte| byte != 0).chain(listed);
            (Kind::Bool, all.map(f64::from).collect())
        }
        _ => return Err(format!("data type {} is not supported", proto.data_type)),
    })
}

fn words<const N: usize>(raw: &[u8]) -> Result<impl Iterator<Item = [u8; N]>, String> {
    let (words, rest) = raw.as_chunks::<N>();
    if rest.is_empty() {
        return Ok(words.iter().copied());
    }
    Err("its raw data ends within a number".to_owned())
}

/// How many numbers there are; `None` for none, or more than a model may have.
pub(super) fn volume(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1_usize, |product, &dim| {
        product
            .checked_mul(dim)
            .filter(|n| (1..=NUMBERS_MAX).contains(n))
    });
    product.filter(|_| shape.len() <= RANK_MAX)
}

/// The shape that both spread to, by NumPy's rule.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing {
            1
        } else {
            shape[axis - missing]
        }
    };
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

/// For each number of shape `to`, in order, the index of that of `from` which spreads
/// to it.
pub(super) fn spread(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let strides = strides(from);
    positions(to)
        .map(|at| {
            let along = at[missing..].iter().zip(from).zip(&strides);
            along
                .map(|((&index, &dim), stride)| if dim == 1 { 0 } else { index * stride })
                .sum()
        })
        .collect()
}

/// How far neighbours along each axis are from each other.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let inner = |axis: usize| shape[axis + 1..].iter().product();
    (0..shape.len()).map(inner).collect()
}

/// Every position in `shape`, the last axis fastest.
pub(super) fn positions(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let count = shape.iter().product::<usize>();
    (0..count).map(move |flat| {
        let along = strides(shape).into_iter().zip(shape);
        along.map(|(stride, dim)| flat / stride % dim).collect()
    })
}
