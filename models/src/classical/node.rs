//! A node as its operator sees it: values that are there, attributes, a refusal.

use tract_onnx::pb::{AttributeProto, NodeProto};

use super::tensor::{Tensor, volume};
use super::{Kind, Run};
use crate::load::LoadError;

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Where it begins in the arena.
    pub(super) at: usize,
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    /// What it holds, if that is known before any run.
    pub(super) constant: Option<Vec<f64>>,
}

impl Value {
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn of<'a>(&self, numbers: &'a [f64]) -> &'a [f64] {
        &numbers[self.at..][..self.len()]
    }
}

/// What an operator makes of its inputs.
pub(super) enum Made {
    /// The same numbers, seen in another shape.
    Same(Value),
    New {
        shape: Vec<usize>,
        kind: Kind,
        run: Run,
    },
}

impl Made {
    pub(super) fn new(
        shape: &[usize],
        kind: Kind,
        run: impl Fn(&[f64], &mut [f64]) + Send + 'static,
    ) -> Result<Self, LoadError> {
        Ok(Self::New {
            shape: shape.to_vec(),
            kind,
            run: Box::new(run),
        })
    }
}

/// A node, and what it takes.
pub(super) struct Node<'a> {
    pub(super) proto: &'a NodeProto,
    /// `None`: left out.
    pub(super) inputs: Vec<Option<Value>>,
    /// Which of its outputs is asked for.
    pub(super) output: usize,
    /// The version of the operators outside `ai.onnx.ml`.
    pub(super) opset: i64,
}

impl Node<'_> {
    pub(super) fn unfit(&self, problem: impl Into<String>) -> LoadError {
        let proto = self.proto;
        let output = || proto.output.first().cloned().unwrap_or_default();
        let name = Some(proto.name.clone()).filter(|name| !name.is_empty());
        LoadError::Unfit {
            node: name.unwrap_or_else(output),
            problem: format!("{}: {}", proto.op_type, problem.into()),
        }
    }

    /// Input `index`, which must be there.
    pub(super) fn input(&self, index: usize) -> Result<&Value, LoadError> {
        let input = self.inputs.get(index).and_then(Option::as_ref);
        input.ok_or_else(|| self.unfit(format!("input {index} is missing")))
    }

    /// Input `index`, if it is there.
    pub(super) fn optional(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// All inputs, one at least, none left out.
    pub(super) fn all(&self) -> Result<Vec<&Value>, LoadError> {
        let all: Option<Vec<&Value>> = self.inputs.iter().map(Option::as_ref).collect();
        let all = all.filter(|all| !all.is_empty());
        all.ok_or_else(|| self.unfit("an input is missing"))
    }

    /// The integers of input `index`, which must be known before any run.
    pub(super) fn constants(&self, index: usize) -> Result<Vec<i64>, LoadError> {
        let input = self.input(index)?;
        let known = input
            .constant
            .as_ref()
            .filter(|_| input.kind == Kind::Integer);
        let known =
            known.ok_or_else(|| self.unfit(format!("input {index} is not constant integers")))?;
        // Exact: they are below 2^53.
        Ok(known.iter().map(|&number| number as i64).collect())
    }

    /// The values of one row: input 0, its numbers along the last axis, all others 1.
    pub(super) fn row(&self) -> Result<&Value, LoadError> {
        let input = self.input(0)?;
        match input.shape.split_last() {
            Some((_, outer)) if outer.iter().all(|&dim| dim == 1) => Ok(input),
            _ => Err(self.unfit(format!("takes shape {:?}, not one row", input.shape))),
        }
    }

    /// An axis of `rank` axes, which may count from the last.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, LoadError> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        let counted = usize::try_from(counted).ok().filter(|&axis| axis < rank);
        counted.ok_or_else(|| self.unfit(format!("axis {axis} of {rank}")))
    }

    pub(super) fn attribute(&self, key: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == key)
    }

    pub(super) fn integer(&self, key: &str, default: i64) -> i64 {
        self.attribute(key).map_or(default, |attribute| attribute.i)
    }

    pub(super) fn real(&self, key: &str, default: f32) -> f64 {
        f64::from(self.attribute(key).map_or(default, |attribute| attribute.f))
    }

    pub(super) fn integers(&self, key: &str) -> &[i64] {
        self.attribute(key).map_or(&[], |attribute| &attribute.ints)
    }

    /// The numbers of `key`, or of its double precision twin `key_as_tensor`.
    pub(super) fn reals(&self, key: &str) -> Result<Vec<f64>, LoadError> {
        if let Some(tensor) = self.tensor(&format!("{key}_as_tensor"))? {
            return Ok(tensor.numbers);
        }
        let floats = self.attribute(key).map_or(&[][..], |a| &a.floats);
        Ok(floats.iter().map(|&float| f64::from(float)).collect())
    }

    pub(super) fn tensor(&self, key: &str) -> Result<Option<Tensor>, LoadError> {
        let tensor = self
            .attribute(key)
            .and_then(|attribute| attribute.t.as_ref());
        let read = tensor.map(Tensor::read).transpose();
        read.map_err(|problem| self.unfit(format!("{key}: {problem}")))
    }

    pub(super) fn text(&self, key: &str, default: &'static str) -> Result<&str, LoadError> {
        match self.attribute(key) {
            None => Ok(default),
            Some(attribute) => std::str::from_utf8(&attribute.s)
                .map_err(|_| self.unfit(format!("{key} is not text"))),
        }
    }

    /// Fails for a shape of more numbers than a model may have.
    pub(super) fn check_volume(&self, shape: &[usize]) -> Result<(), LoadError> {
        match volume(shape) {
            Some(_) => Ok(()),
            None => Err(self.unfit(format!("shape {shape:?} is too large"))),
        }
    }
}
