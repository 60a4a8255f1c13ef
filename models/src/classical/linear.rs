//! Products, scalers, and the learners that are one product.

use super::Kind;
use super::elementwise::logistic;
use super::node::{Made, Node, Value};
use crate::load::LoadError;

pub(super) const IMPUTER: &[&str] = &["imputed_value_floats", "replaced_value_float"];
pub(super) const ENCODER: &[&str] = &[
    "keys_int64s",
    "keys_floats",
    "keys_tensor",
    "values_int64s",
    "values_floats",
    "values_tensor",
    "default_int64",
    "default_float",
    "default_tensor",
];
pub(super) const REGRESSOR: &[&str] = &["coefficients", "intercepts", "targets", "post_transform"];
pub(super) const CLASSIFIER: &[&str] = &[
    "coefficients",
    "intercepts",
    "classlabels_ints",
    "classlabels_strings",
    "multi_class",
    "post_transform",
];

/// What scores become at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Logistic,
    Softmax,
}

impl PostTransform {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, LoadError> {
        match node.text("post_transform", "NONE")? {
            "NONE" => Ok(Self::None),
            "LOGISTIC" => Ok(Self::Logistic),
            "SOFTMAX" => Ok(Self::Softmax),
            other => Err(node.unfit(format!("post_transform {other} is not supported"))),
        }
    }

    pub(super) fn apply(self, scores: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Logistic => scores
                .iter_mut()
                .for_each(|score| *score = logistic(*score)),
            Self::Softmax => {
                let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                scores
                    .iter_mut()
                    .for_each(|score| *score = (*score - greatest).exp());
                let sum: f64 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }
}

/// A matrix in the arena, perhaps to be read with its axes exchanged.
struct Matrix {
    value: Value,
    rows: usize,
    columns: usize,
    is_transposed: bool,
}

impl Matrix {
    fn of(node: &Node<'_>, index: usize, is_transposed: bool) -> Result<Self, LoadError> {
        let value = node.input(index)?.clone();
        let &[rows, columns] = &value.shape[..] else {
            return Err(node.unfit(format!("{:?} is not a matrix", value.shape)));
        };
        let (rows, columns) = if is_transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        Ok(Self {
            value,
            rows,
            columns,
            is_transposed,
        })
    }

    fn at(&self, numbers: &[f64], row: usize, column: usize) -> f64 {
        let place = if self.is_transposed {
            column * self.rows + row
        } else {
            row * self.columns + column
        };
        self.value.of(numbers)[place]
    }
}

pub(super) fn mat_mul(node: &Node<'_>) -> Result<Made, LoadError> {
    let (a, b) = (Matrix::of(node, 0, false)?, Matrix::of(node, 1, false)?);
    multiply(node, a, b, 1.0, None)
}

pub(super) fn gemm(node: &Node<'_>) -> Result<Made, LoadError> {
    let is_set = |key| node.integer(key, 0) != 0;
    let a = Matrix::of(node, 0, is_set("transA"))?;
    let b = Matrix::of(node, 1, is_set("transB"))?;
    let beta = node.real("beta", 1.0);
    let terms = node.optional(2).map(|terms| (terms.clone(), beta));
    multiply(node, a, b, node.real("alpha", 1.0), terms)
}

fn multiply(
    node: &Node<'_>,
    a: Matrix,
    b: Matrix,
    alpha: f64,
    terms: Option<(Value, f64)>,
) -> Result<Made, LoadError> {
    if a.columns != b.rows {
        let (a, b) = (&a.value.shape, &b.value.shape);
        return Err(node.unfit(format!("shapes {a:?} and {b:?} do not match")));
    }
    let shape = [a.rows, b.columns];
    node.check_volume(&shape)?;
    let terms = match terms {
        None => None,
        Some((terms, beta)) => {
            let spreads = super::tensor::broadcast(&terms.shape, &shape);
            if spreads.as_deref() != Some(&shape) {
                return Err(node.unfit(format!("adds shape {:?}", terms.shape)));
            }
            let places = super::tensor::spread(&terms.shape, &shape);
            Some((terms, places, beta))
        }
    };
    Made::new(&shape, a.value.kind, move |numbers, to| {
        for (index, to) in to.iter_mut().enumerate() {
            let (row, column) = (index / b.columns, index % b.columns);
            let products = (0..a.columns).map(|k| a.at(numbers, row, k) * b.at(numbers, k, column));
            let added = terms.as_ref().map_or(0.0, |(terms, places, beta)| {
                beta * terms.of(numbers)[places[index]]
            });
            *to = alpha * products.sum::<f64>() + added;
        }
    })
}

/// One number for all of a row, or one for each.
fn by_column(node: &Node<'_>, key: &str, width: usize) -> Result<Vec<f64>, LoadError> {
    let numbers = node.reals(key)?;
    match numbers[..] {
        [one] => Ok(vec![one; width]),
        _ if numbers.len() == width => Ok(numbers),
        _ => Err(node.unfit(format!("{} of {key} for {width} columns", numbers.len()))),
    }
}

/// What treats each column of a row in a way of its own.
fn columnwise(
    node: &Node<'_>,
    f: impl Fn(usize, f64) -> f64 + Send + 'static,
) -> Result<Made, LoadError> {
    let row = node.row()?.clone();
    Made::new(&row.shape.clone(), Kind::Float, move |numbers, to| {
        let from = row.of(numbers).iter().enumerate();
        to.iter_mut()
            .zip(from)
            .for_each(|(to, (column, &x))| *to = f(column, x));
    })
}

pub(super) fn scale(node: &Node<'_>) -> Result<Made, LoadError> {
    let width = node.row()?.len();
    let (offset, scale) = (
        by_column(node, "offset", width)?,
        by_column(node, "scale", width)?,
    );
    columnwise(node, move |column, x| (x - offset[column]) * scale[column])
}

pub(super) fn impute(node: &Node<'_>) -> Result<Made, LoadError> {
    let width = node.row()?.len();
    let imputed = by_column(node, "imputed_value_floats", width)?;
    let replaced = node.real("replaced_value_float", f32::NAN);
    columnwise(node, move |column, x| {
        let is_missing = x == replaced || (x.is_nan() && replaced.is_nan());
        if is_missing { imputed[column] } else { x }
    })
}

pub(super) fn binarize(node: &Node<'_>) -> Result<Made, LoadError> {
    let threshold = node.real("threshold", 0.0);
    columnwise(node, move |_, x| f64::from(x > threshold))
}

pub(super) fn normalize(node: &Node<'_>) -> Result<Made, LoadError> {
    let norm: fn(&[f64]) -> f64 = match node.text("norm", "MAX")? {
        "MAX" => |row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "L1" => |row| row.iter().map(|x| x.abs()).sum(),
        "L2" => |row| row.iter().map(|x| x * x).sum::<f64>().sqrt(),
        other => return Err(node.unfit(format!("norm {other} is not supported"))),
    };
    let row = node.row()?.clone();
    Made::new(&row.shape.clone(), Kind::Float, move |numbers, to| {
        let from = row.of(numbers);
        let norm = norm(from);
        let divisor = if norm == 0.0 { 1.0 } else { norm };
        to.iter_mut()
            .zip(from)
            .for_each(|(to, &x)| *to = x / divisor);
    })
}

/// From numbers to numbers by a table; labels that are text have no place here.
pub(super) fn encode(node: &Node<'_>) -> Result<Made, LoadError> {
    let list = |what: &str| -> Result<(Kind, Vec<f64>), LoadError> {
        if let Some(tensor) = node.tensor(&format!("{what}_tensor"))? {
            return Ok((tensor.kind, tensor.numbers));
        }
        let integers = node.integers(&format!("{what}_int64s"));
        if integers.is_empty() {
            return Ok((Kind::Float, node.reals(&format!("{what}_floats"))?));
        }
        let numbers = integers.iter().map(|&integer| integer as f64).collect();
        Ok((Kind::Integer, numbers))
    };
    let ((_, keys), (kind, values)) = (list("keys")?, list("values")?);
    if keys.len() != values.len() || keys.is_empty() {
        return Err(node.unfit("its keys and values are not as many numbers"));
    }
    let default = match (node.tensor("default_tensor")?, kind) {
        (Some(tensor), _) => tensor.numbers[0],
        (None, Kind::Integer) => node.integer("default_int64", -1) as f64,
        (None, _) => node.real("default_float", -0.0),
    };
    let mut table: Vec<(f64, f64)> = keys.into_iter().zip(values).collect();
    table.sort_by(|a, b| a.0.total_cmp(&b.0));
    let input = node.input(0)?.clone();
    Made::new(&input.shape.clone(), kind, move |numbers, to| {
        for (to, x) in to.iter_mut().zip(input.of(numbers)) {
            let found = table.binary_search_by(|(key, _)| key.total_cmp(x));
            *to = found.map_or(default, |index| table[index].1);
        }
    })
}

/// Rows of coefficients, each with its intercept.
struct Product {
    row: Value,
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
}

impl Product {
    fn read(node: &Node<'_>, outputs: usize) -> Result<Self, LoadError> {
        let row = node.row()?.clone();
        let coefficients = node.reals("coefficients")?;
        let mut intercepts = node.reals("intercepts")?;
        if intercepts.is_empty() {
            intercepts = vec![0.0; outputs];
        }
        let expected = row.len().checked_mul(outputs);
        if expected != Some(coefficients.len()) || intercepts.len() != outputs {
            let (found, width) = (coefficients.len(), row.len());
            return Err(node.unfit(format!("{found} coefficients of {width} features")));
        }
        Ok(Self {
            row,
            coefficients,
            intercepts,
        })
    }

    fn run(&self, numbers: &[f64], to: &mut [f64]) {
        let row = self.row.of(numbers);
        let rows = self.coefficients.chunks_exact(row.len());
        for ((to, coefficients), intercept) in to.iter_mut().zip(rows).zip(&self.intercepts) {
            let products = row.iter().zip(coefficients).map(|(x, c)| x * c);
            *to = products.sum::<f64>() + intercept;
        }
    }
}

pub(super) fn regress(node: &Node<'_>) -> Result<Made, LoadError> {
    let targets = usize::try_from(node.integer("targets", 1)).unwrap_or(0);
    node.check_volume(&[1, targets])?;
    let product = Product::read(node, targets)?;
    let post = PostTransform::read(node)?;
    Made::new(&[1, targets], Kind::Float, move |numbers, to| {
        product.run(numbers, to);
        post.apply(to);
    })
}

/// The scores of the classes; of labels, those that are integers.
pub(super) fn classify(node: &Node<'_>) -> Result<Made, LoadError> {
    let labels = node.integers("classlabels_ints");
    let names = node
        .attribute("classlabels_strings")
        .map_or(0, |a| a.strings.len());
    let classes = labels.len().max(names);
    if classes < 2 || node.reals("intercepts")?.len() != classes {
        return Err(node.unfit("has not an intercept for each of two classes or more"));
    }
    let product = Product::read(node, classes)?;
    let post = PostTransform::read(node)?;
    if node.output == 1 {
        return Made::new(&[1, classes], Kind::Float, move |numbers, to| {
            product.run(numbers, to);
            post.apply(to);
        });
    }
    Err(node.unfit("its labels are not supported, only its scores"))
}
