//! Support vectors: ε-regression, and one class against all else.

use super::Kind;
use super::linear::PostTransform;
use super::node::{Made, Node, Value};
use crate::load::LoadError;

pub(super) const REGRESSOR: &[&str] = &[
    "coefficients",
    "kernel_params",
    "kernel_type",
    "n_supports",
    "one_class",
    "post_transform",
    "rho",
    "support_vectors",
];

/// How alike two rows are. γ, c₀ and degree are `kernel_params`.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    /// `x·v`
    Linear,
    /// `(γ x·v + c₀)^degree`
    Polynomial { gamma: f64, zero: f64, degree: f64 },
    /// `exp(−γ |x − v|²)`
    Radial { gamma: f64 },
    /// `tanh(γ x·v + c₀)`
    Sigmoid { gamma: f64, zero: f64 },
}

impl Kernel {
    fn read(node: &Node<'_>) -> Result<Self, LoadError> {
        let parameters = node.reals("kernel_params")?;
        let of = |index: usize| parameters.get(index).copied().unwrap_or(0.0);
        let (gamma, zero, degree) = (of(0), of(1), of(2));
        match node.text("kernel_type", "LINEAR")? {
            "LINEAR" => Ok(Self::Linear),
            "POLY" => Ok(Self::Polynomial {
                gamma,
                zero,
                degree,
            }),
            "RBF" => Ok(Self::Radial { gamma }),
            "SIGMOID" => Ok(Self::Sigmoid { gamma, zero }),
            other => Err(node.unfit(format!("kernel {other} is not supported"))),
        }
    }

    fn of(self, x: &[f64], v: &[f64]) -> f64 {
        let pairs = || x.iter().zip(v);
        let product = || pairs().map(|(x, v)| x * v).sum::<f64>();
        match self {
            Self::Linear => product(),
            Self::Polynomial {
                gamma,
                zero,
                degree,
            } => (gamma * product() + zero).powf(degree),
            Self::Radial { gamma } => {
                let distance: f64 = pairs().map(|(x, v)| (x - v) * (x - v)).sum();
                (-gamma * distance).exp()
            }
            Self::Sigmoid { gamma, zero } => (gamma * product() + zero).tanh(),
        }
    }
}

pub(super) fn regress(node: &Node<'_>) -> Result<Made, LoadError> {
    let row: Value = node.row()?.clone();
    let kernel = Kernel::read(node)?;
    let coefficients = node.reals("coefficients")?;
    let rho = node.reals("rho")?.first().copied().unwrap_or(0.0);
    let is_one_class = node.integer("one_class", 0) != 0;
    let post = PostTransform::read(node)?;
    let mut vectors = node.reals("support_vectors")?;
    // Without support vectors the coefficients are the one vector.
    let weights = if node.integer("n_supports", 0) == 0 {
        vectors = coefficients;
        vec![1.0]
    } else {
        coefficients
    };
    let width = row.len();
    if weights.len().checked_mul(width) != Some(vectors.len()) || weights.is_empty() {
        let (found, count) = (vectors.len(), weights.len());
        return Err(node.unfit(format!(
            "{found} numbers are not {count} vectors of {width}"
        )));
    }
    Made::new(&[1, 1], Kind::Float, move |numbers, to| {
        let x = row.of(numbers);
        let vectors = vectors.chunks_exact(width).zip(&weights);
        let parts = vectors.map(|(vector, weight)| weight * kernel.of(x, vector));
        to[0] = parts.sum::<f64>() + rho;
        if is_one_class {
            to[0] = if to[0] > 0.0 { 1.0 } else { -1.0 };
        }
        post.apply(to);
    })
}
