//! Operators that treat each number by itself, and spread their inputs to one shape.

use super::Kind;
use super::node::{Made, Node, Value};
use super::tensor::{broadcast, spread};
use crate::load::LoadError;

/// `1 / (1 + e^-x)`, without overflow on either side.
pub(super) fn logistic(x: f64) -> f64 {
    let falling = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - falling } else { falling }
}

/// −1, 0 or 1.
pub(super) fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}

pub(super) fn unary(node: &Node<'_>, f: fn(f64) -> f64) -> Result<Made, LoadError> {
    let input = node.input(0)?.clone();
    Made::new(&input.shape.clone(), input.kind, move |numbers, to| {
        let from = input.of(numbers);
        to.iter_mut().zip(from).for_each(|(to, &x)| *to = f(x));
    })
}

pub(super) fn binary(node: &Node<'_>, f: fn(f64, f64) -> f64) -> Result<Made, LoadError> {
    let kind = node.input(0)?.kind;
    combine(node, kind, f)
}

pub(super) fn compare(node: &Node<'_>, f: fn(f64, f64) -> bool) -> Result<Made, LoadError> {
    let [a, b] = pair(node)?;
    pairwise(a, b, Kind::Bool, move |a, b| f64::from(f(a, b)))
}

/// ONNX: the quotient of integers is cut.
pub(super) fn divide(node: &Node<'_>) -> Result<Made, LoadError> {
    match node.input(0)?.kind {
        Kind::Integer => combine(node, Kind::Integer, |a, b| (a / b).trunc()),
        kind => combine(node, kind, |a, b| a / b),
    }
}

/// The exponent may be of another kind than the base.
pub(super) fn power(node: &Node<'_>) -> Result<Made, LoadError> {
    let (base, exponent) = (node.input(0)?, node.input(1)?);
    pairwise(
        at_one(node, base, exponent)?,
        exponent.clone(),
        base.kind,
        f64::powf,
    )
}

fn combine(node: &Node<'_>, kind: Kind, f: fn(f64, f64) -> f64) -> Result<Made, LoadError> {
    let [a, b] = pair(node)?;
    pairwise(a, b, kind, f)
}

/// Both inputs, of one kind, whose shapes spread to one.
fn pair(node: &Node<'_>) -> Result<[Value; 2], LoadError> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    if a.kind != b.kind {
        return Err(node.unfit(format!("takes {:?} and {:?}", a.kind, b.kind)));
    }
    Ok([at_one(node, a, b)?, b.clone()])
}

/// `a`, if it and `b` spread to one bearable shape.
fn at_one(node: &Node<'_>, a: &Value, b: &Value) -> Result<Value, LoadError> {
    let (of_a, of_b) = (&a.shape, &b.shape);
    let Some(shape) = broadcast(of_a, of_b) else {
        return Err(node.unfit(format!("shapes {of_a:?} and {of_b:?} do not match")));
    };
    node.check_volume(&shape)?;
    Ok(a.clone())
}

fn pairwise(
    a: Value,
    b: Value,
    kind: Kind,
    f: impl Fn(f64, f64) -> f64 + Send + 'static,
) -> Result<Made, LoadError> {
    let shape = broadcast(&a.shape, &b.shape).expect("they have been checked");
    let places: Vec<(usize, usize)> = {
        let (of_a, of_b) = (spread(&a.shape, &shape), spread(&b.shape, &shape));
        of_a.into_iter().zip(of_b).collect()
    };
    Made::new(&shape, kind, move |numbers, to| {
        let (a, b) = (a.of(numbers), b.of(numbers));
        for (to, &(of_a, of_b)) in to.iter_mut().zip(&places) {
            *to = f(a[of_a], b[of_b]);
        }
    })
}

/// Any number of inputs, the first two combined, then that with the next.
pub(super) fn fold(node: &Node<'_>, f: fn(f64, f64) -> f64) -> Result<Made, LoadError> {
    folded(node, f, 1.0)
}

pub(super) fn mean(node: &Node<'_>) -> Result<Made, LoadError> {
    folded(node, |a, b| a + b, node.inputs.len() as f64)
}

fn folded(node: &Node<'_>, f: fn(f64, f64) -> f64, parts: f64) -> Result<Made, LoadError> {
    let all = node.all()?;
    let kind = all[0].kind;
    let mut shape = Vec::new();
    for value in &all {
        let joined = broadcast(&shape, &value.shape).filter(|_| value.kind == kind);
        shape = joined.ok_or_else(|| node.unfit("its inputs do not match"))?;
    }
    node.check_volume(&shape)?;
    let all: Vec<(Value, Vec<usize>)> = all
        .into_iter()
        .map(|value| (value.clone(), spread(&value.shape, &shape)))
        .collect();
    Made::new(&shape, kind, move |numbers, to| {
        for (index, to) in to.iter_mut().enumerate() {
            let parts_at = all
                .iter()
                .map(|(value, places)| value.of(numbers)[places[index]]);
            *to = parts_at.reduce(f).unwrap_or_default() / parts;
        }
    })
}

/// `Where`: the second input where the first is true, else the third.
pub(super) fn choose(node: &Node<'_>) -> Result<Made, LoadError> {
    let [condition, a, b] = [node.input(0)?, node.input(1)?, node.input(2)?];
    let joined = broadcast(&a.shape, &b.shape).and_then(|s| broadcast(&condition.shape, &s));
    let shape = joined.filter(|_| a.kind == b.kind && condition.kind == Kind::Bool);
    let shape = shape.ok_or_else(|| node.unfit("its inputs do not match"))?;
    node.check_volume(&shape)?;
    let places = [condition, a, b].map(|value| (value.clone(), spread(&value.shape, &shape)));
    Made::new(&shape, a.kind, move |numbers, to| {
        for (index, to) in to.iter_mut().enumerate() {
            let [condition, a, b] = &places;
            let of = |(value, places): &(Value, Vec<usize>)| value.of(numbers)[places[index]];
            *to = if of(condition) == 0.0 { of(b) } else { of(a) };
        }
    })
}

/// The bounds are attributes before version 11, inputs since.
pub(super) fn clip(node: &Node<'_>) -> Result<Made, LoadError> {
    let bound = |index: usize, key: &str, default: f64| {
        if let Some(input) = node.optional(index) {
            let known = input.constant.as_ref().and_then(|numbers| numbers.first());
            return known
                .copied()
                .ok_or_else(|| node.unfit(format!("{key} is not constant")));
        }
        Ok(node.attribute(key).map_or(default, |a| f64::from(a.f)))
    };
    let low = bound(1, "min", f64::NEG_INFINITY)?;
    let high = bound(2, "max", f64::INFINITY)?;
    let input = node.input(0)?.clone();
    Made::new(&input.shape.clone(), input.kind, move |numbers, to| {
        let from = input.of(numbers);
        // Not `clamp`, which panics where the bounds cross.
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &x)| *to = x.max(low).min(high));
    })
}

pub(super) fn cast(node: &Node<'_>) -> Result<Made, LoadError> {
    let input = node.input(0)?.clone();
    let (kind, f): (Kind, fn(f64) -> f64) = match node.integer("to", 0) {
        1 => (Kind::Float, |x| x),
        11 => (Kind::Double, |x| x),
        6 | 7 => (Kind::Integer, f64::trunc),
        9 => (Kind::Bool, |x| f64::from(x != 0.0)),
        other => return Err(node.unfit(format!("to data type {other} is not supported"))),
    };
    Made::new(&input.shape.clone(), kind, move |numbers, to| {
        let from = input.of(numbers);
        to.iter_mut().zip(from).for_each(|(to, &x)| *to = f(x));
    })
}
