//! Operators that move numbers and change none.

use super::Kind;
use super::node::{Made, Node, Value};
use super::tensor::{Tensor, positions, strides, volume};
use crate::load::LoadError;

pub(super) fn identity(node: &Node<'_>) -> Result<Made, LoadError> {
    Ok(Made::Same(node.input(0)?.clone()))
}

/// The same numbers as `shape`.
fn seen_as(node: &Node<'_>, value: &Value, shape: Vec<usize>) -> Result<Made, LoadError> {
    if volume(&shape) != Some(value.len()) {
        return Err(node.unfit(format!("{:?} is not {shape:?}", value.shape)));
    }
    let value = value.clone();
    Ok(Made::Same(Value { shape, ..value }))
}

pub(super) fn reshape(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let wanted = node.constants(1)?;
    let is_kept = node.integer("allowzero", 0) == 0;
    let mut shape = Vec::new();
    for (axis, &dim) in wanted.iter().enumerate() {
        shape.push(match dim {
            -1 => 1,
            0 if is_kept => input.shape.get(axis).copied().unwrap_or(0),
            dim => usize::try_from(dim).map_err(|_| node.unfit(format!("to {wanted:?}")))?,
        });
    }
    if let Some(open) = wanted.iter().position(|&dim| dim == -1) {
        let known = volume(&shape).filter(|&known| known > 0);
        let known = known.ok_or_else(|| node.unfit(format!("to {wanted:?}")))?;
        shape[open] = input.len() / known;
    }
    seen_as(node, input, shape)
}

pub(super) fn flatten(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let axis = node.integer("axis", 1);
    let rank = input.shape.len();
    let axis = if axis == rank as i64 {
        rank
    } else {
        node.axis(axis, rank)?
    };
    let (outer, inner) = input.shape.split_at(axis);
    let shape = vec![outer.iter().product(), inner.iter().product()];
    seen_as(node, input, shape)
}

/// An attribute before version 13, an input since.
fn axes(node: &Node<'_>, rank: usize) -> Result<Option<Vec<usize>>, LoadError> {
    let axes = match node.optional(1) {
        Some(_) => node.constants(1)?,
        None if node.attribute("axes").is_none() => return Ok(None),
        None => node.integers("axes").to_vec(),
    };
    let axes: Result<Vec<usize>, LoadError> = axes.iter().map(|&a| node.axis(a, rank)).collect();
    Ok(Some(axes?))
}

pub(super) fn squeeze(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let axes = axes(node, input.shape.len())?;
    let goes = |(axis, &dim): (usize, &usize)| match &axes {
        Some(axes) => axes.contains(&axis),
        None => dim == 1,
    };
    let kept = input.shape.iter().enumerate().filter(|&place| !goes(place));
    let shape = kept.map(|(_, &dim)| dim).collect();
    seen_as(node, input, shape)
}

pub(super) fn unsqueeze(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let count = match node.optional(1) {
        Some(axes) => axes.len(),
        None => node.integers("axes").len(),
    };
    let axes = axes(node, input.shape.len() + count)?.unwrap_or_default();
    let mut dims = input.shape.iter().copied();
    let dim = |axis| {
        if axes.contains(&axis) {
            Some(1)
        } else {
            dims.next()
        }
    };
    let shape: Option<Vec<usize>> = (0..input.shape.len() + count).map(dim).collect();
    let shape = shape.ok_or_else(|| node.unfit("an axis twice"))?;
    seen_as(node, input, shape)
}

/// A copy of the numbers at these places of the arena.
fn pick(shape: &[usize], kind: Kind, places: Vec<usize>) -> Result<Made, LoadError> {
    Made::new(shape, kind, move |numbers, to| {
        to.iter_mut()
            .zip(&places)
            .for_each(|(to, &at)| *to = numbers[at]);
    })
}

pub(super) fn transpose(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let rank = input.shape.len();
    let order: Vec<usize> = match node.attribute("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => {
            let order: Result<_, LoadError> =
                perm.ints.iter().map(|&a| node.axis(a, rank)).collect();
            order?
        }
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(node.unfit(format!("perm {order:?} of {rank} axes")));
    }
    let shape: Vec<usize> = order.iter().map(|&axis| input.shape[axis]).collect();
    let strides = strides(&input.shape);
    let place = |at: Vec<usize>| {
        let along = at
            .iter()
            .zip(&order)
            .map(|(index, &axis)| index * strides[axis]);
        input.at + along.sum::<usize>()
    };
    let places = positions(&shape).map(place).collect();
    pick(&shape, input.kind, places)
}

pub(super) fn gather(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let axis = node.axis(node.integer("axis", 0), input.shape.len())?;
    let wanted = node.constants(1)?;
    take(node, input, axis, &wanted, &node.input(1)?.shape)
}

/// The numbers at `wanted` along `axis`, which becomes the axes `instead`.
fn take(
    node: &Node<'_>,
    input: &Value,
    axis: usize,
    wanted: &[i64],
    instead: &[usize],
) -> Result<Made, LoadError> {
    let dim = input.shape[axis];
    let indices: Result<Vec<usize>, LoadError> =
        wanted.iter().map(|&i| node.axis(i, dim)).collect();
    let indices = indices.map_err(|_| node.unfit(format!("indices {wanted:?} of {dim}")))?;
    let (outer, rest) = input.shape.split_at(axis);
    let shape = [outer, instead, &rest[1..]].concat();
    node.check_volume(&shape)?;
    let inner: usize = rest[1..].iter().product();
    let outer: usize = outer.iter().product();
    let mut places = Vec::with_capacity(outer * indices.len() * inner);
    for block in 0..outer {
        for index in &indices {
            let first = input.at + (block * dim + index) * inner;
            places.extend(first..first + inner);
        }
    }
    pick(&shape, input.kind, places)
}

/// Columns of the last axis.
pub(super) fn extract(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let wanted = node.constants(1)?;
    match input.shape.len() {
        0 => Err(node.unfit("takes a single number")),
        rank => take(node, input, rank - 1, &wanted, &[wanted.len()]),
    }
}

pub(super) fn slice(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let of = |index: usize, key: &str| match node.optional(index) {
        Some(_) => node.constants(index),
        None => Ok(node.integers(key).to_vec()),
    };
    let (starts, ends) = (of(1, "starts")?, of(2, "ends")?);
    let axis = match of(3, "axes")?[..] {
        [] => 0,
        [axis] => axis,
        _ => return Err(node.unfit("along more than one axis")),
    };
    let step = if node.optional(4).is_some() {
        node.constants(4)?
    } else {
        vec![1]
    };
    let (&[start], &[end], &[1]) = (&starts[..], &ends[..], &step[..]) else {
        return Err(node.unfit("along more than one axis, or in steps other than 1"));
    };
    let axis = node.axis(axis, input.shape.len())?;
    let dim = input.shape[axis] as i64;
    let counted = |at: i64| if at < 0 { at + dim } else { at }.clamp(0, dim);
    let wanted: Vec<i64> = (counted(start)..counted(end)).collect();
    take(node, input, axis, &wanted, &[wanted.len()])
}

pub(super) fn concat(node: &Node<'_>) -> Result<Made, LoadError> {
    let all = node.all()?;
    let axis = node.axis(node.integer("axis", 1), all[0].shape.len())?;
    join(node, &all, axis)
}

/// Rows one after the other.
pub(super) fn vectorize(node: &Node<'_>) -> Result<Made, LoadError> {
    let all = node.all()?;
    match all[0].shape.len() {
        0 => Err(node.unfit("takes a single number")),
        rank => join(node, &all, rank - 1),
    }
}

fn join(node: &Node<'_>, all: &[&Value], axis: usize) -> Result<Made, LoadError> {
    let first = all[0];
    let without = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        shape
            .get_mut(axis)
            .map(|dim| std::mem::replace(dim, 0))
            .map(|dim| (shape, dim))
    };
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for value in all {
        match without(&value.shape) {
            Some((others, dim))
                if without(&shape).is_some_and(|(s, _)| s == others)
                    && value.kind == first.kind =>
            {
                shape[axis] += dim;
            }
            _ => return Err(node.unfit("its inputs do not match")),
        }
    }
    node.check_volume(&shape)?;
    let outer: usize = shape[..axis].iter().product();
    let mut places = Vec::with_capacity(shape.iter().product());
    for block in 0..outer {
        for value in all {
            let len = value.len() / outer;
            let first = value.at + block * len;
            places.extend(first..first + len);
        }
    }
    pick(&shape, first.kind, places)
}

/// The shape at a batch of one, which is all that there is.
pub(super) fn shape(node: &Node<'_>) -> Result<Made, LoadError> {
    let dims = node.input(0)?.shape.iter();
    let dims: Vec<f64> = dims.map(|&dim| dim as f64).collect();
    known(&[dims.len()], Kind::Integer, dims)
}

pub(super) fn constant(node: &Node<'_>) -> Result<Made, LoadError> {
    if let Some(Tensor {
        shape,
        kind,
        numbers,
    }) = node.tensor("value")?
    {
        return known(&shape, kind, numbers);
    }
    if node.attribute("value_float").is_some() {
        return known(&[], Kind::Float, vec![node.real("value_float", 0.0)]);
    }
    known(
        &[],
        Kind::Integer,
        vec![node.integer("value_int", 0) as f64],
    )
}

fn known(shape: &[usize], kind: Kind, numbers: Vec<f64>) -> Result<Made, LoadError> {
    Made::new(shape, kind, move |_, to| to.copy_from_slice(&numbers))
}
