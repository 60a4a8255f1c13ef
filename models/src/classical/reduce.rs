//! Operators that make one number of several along an axis.

use super::Kind;
use super::node::{Made, Node, Value};
use super::tensor::{positions, spread, strides};
use crate::load::LoadError;

pub(super) const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];
pub(super) const ARG: &[&str] = &["axis", "keepdims", "select_last_index"];

type Fold = fn(&mut dyn Iterator<Item = f64>) -> f64;

pub(super) fn sum(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    numbers.sum()
}

pub(super) fn product(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    numbers.product()
}

pub(super) fn mean(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    sum / count
}

pub(super) fn max(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    numbers.fold(f64::NEG_INFINITY, f64::max)
}

pub(super) fn min(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    numbers.fold(f64::INFINITY, f64::min)
}

pub(super) fn l1(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    numbers.map(f64::abs).sum()
}

pub(super) fn l2(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    sum_square(numbers).sqrt()
}

pub(super) fn sum_square(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum()
}

/// In one pass: the sum is scaled anew whenever a greater number comes.
pub(super) fn log_sum_exp(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    let (greatest, sum) = numbers.fold((f64::NEG_INFINITY, 0.0), |(greatest, sum), x| {
        if x <= greatest {
            (greatest, sum + (x - greatest).exp())
        } else {
            (x, sum * (greatest - x).exp() + 1.0)
        }
    });
    greatest + sum.ln()
}

pub(super) fn fold(node: &Node<'_>, f: Fold) -> Result<Made, LoadError> {
    let input = node.input(0)?.clone();
    let axes = match node.optional(1) {
        Some(_) => node.constants(1)?,
        None => node.integers("axes").to_vec(),
    };
    if axes.is_empty() && node.integer("noop_with_empty_axes", 0) != 0 {
        return Ok(Made::Same(input));
    }
    let rank = input.shape.len();
    let axes: Result<Vec<usize>, LoadError> = axes.iter().map(|&a| node.axis(a, rank)).collect();
    let axes = axes?;
    let goes = |axis: usize| axes.is_empty() || axes.contains(&axis);
    let (shape, groups) = groups(&input, goes, node.integer("keepdims", 1) != 0);
    Made::new(&shape, input.kind, move |numbers, to| {
        for (to, group) in to.iter_mut().zip(&groups) {
            *to = f(&mut group.iter().map(|&at| numbers[at]));
        }
    })
}

/// The shape without the axes that go, and for each number of it those of `input`, by
/// their places in the arena, which it is made of.
fn groups(
    input: &Value,
    goes: impl Fn(usize) -> bool,
    is_kept: bool,
) -> (Vec<usize>, Vec<Vec<usize>>) {
    let axes = input.shape.iter().enumerate();
    let kept: Vec<usize> = axes
        .clone()
        .map(|(axis, &dim)| if goes(axis) { 1 } else { dim })
        .collect();
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for (from, group) in spread(&kept, &input.shape).into_iter().enumerate() {
        groups[group].push(input.at + from);
    }
    let left = axes.filter(|(axis, _)| !goes(*axis)).map(|(_, &dim)| dim);
    let shape = if is_kept { kept } else { left.collect() };
    (shape, groups)
}

/// The index of the number along the axis that no other `beats`.
pub(super) fn arg(node: &Node<'_>, beats: fn(f64, f64) -> bool) -> Result<Made, LoadError> {
    let input = node.input(0)?;
    let axis = node.axis(node.integer("axis", 0), input.shape.len())?;
    if node.integer("select_last_index", 0) != 0 {
        return Err(node.unfit("select_last_index is not supported"));
    }
    let is_kept = node.integer("keepdims", 1) != 0;
    let (shape, groups) = groups(input, |a| a == axis, is_kept);
    Made::new(&shape, Kind::Integer, move |numbers, to| {
        for (to, group) in to.iter_mut().zip(&groups) {
            let mut best = 0;
            for (index, &at) in group.iter().enumerate() {
                if beats(numbers[at], numbers[group[best]]) {
                    best = index;
                }
            }
            *to = best as f64;
        }
    })
}

pub(super) fn softmax(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?.clone();
    let rank = input.shape.len();
    // Before version 13 all axes from the named one on are one.
    let default = if node.opset < 13 { 1 } else { -1 };
    let axis = node.axis(node.integer("axis", default), rank)?;
    if node.opset < 13 && axis + 1 != rank {
        return Err(node.unfit("along more than the last axis"));
    }
    let stride = strides(&input.shape)[axis];
    let dim = input.shape[axis];
    let heads: Vec<usize> = positions(&input.shape)
        .enumerate()
        .filter(|(_, at)| at[axis] == 0)
        .map(|(flat, _)| flat)
        .collect();
    Made::new(&input.shape.clone(), input.kind, move |numbers, to| {
        let from = input.of(numbers);
        for &head in &heads {
            let line = || (0..dim).map(|index| head + index * stride);
            let greatest = line().map(|at| from[at]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = line().map(|at| (from[at] - greatest).exp()).sum();
            line().for_each(|at| to[at] = (from[at] - greatest).exp() / sum);
        }
    })
}
