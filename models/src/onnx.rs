//! An ONNX file as its messages, and what it may hold before a runtime plans it.
//!
//! A runtime's plan takes time and memory as the graph has nodes and constants, and
//! some operators answer by chance. Both can be seen in the file, and are told
//! here by their names. What only shows while a runtime works (a small file can
//! ask for any amount of memory) is for whoever tries a load in another process.

mod half;

use std::collections::BTreeSet;

use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::Framework;

use crate::load::{LoadError, TENSOR_BYTES_MAX};

/// Nodes of a graph, those of its subgraphs included: ten times what quantized
/// sensor models have. tract's time grows faster than their number.
pub const NODES_MAX: usize = 10_000;

/// Bytes of all constants together.
pub const CONSTANTS_BYTES_MAX: usize = TENSOR_BYTES_MAX;

/// Graphs in graphs: a recurrent cell has one.
const DEPTH_MAX: usize = 8;

/// Operators that answer by chance: no golden vector could hold them.
pub(crate) const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Reads a model file and checks what it holds.
///
/// # Errors
/// [`LoadError`], for every content: this never panics.
pub(crate) fn read(mut bytes: &[u8]) -> Result<ModelProto, LoadError> {
    let mut model = tract_onnx::onnx()
        .proto_model_for_read(&mut bytes)
        .map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
    let mut found = Found::default();
    if let Some(graph) = &model.graph {
        found.graph(graph, 1)?;
    }
    for function in &model.functions {
        found.nodes(&function.node, 1)?;
    }
    if found.random.is_empty() {
        model.graph.iter_mut().for_each(half::widen);
        return Ok(model);
    }
    let names: Vec<&str> = found.random.into_iter().collect();
    Err(LoadError::Random(names.join(", ")))
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    nodes: usize,
    constants_bytes: usize,
    random: BTreeSet<&'static str>,
}

impl Found {
    fn graph(&mut self, graph: &GraphProto, depth: usize) -> Result<(), LoadError> {
        if depth > DEPTH_MAX {
            let problem = format!("graphs in graphs, more than {DEPTH_MAX} deep");
            return Err(LoadError::Invalid(problem));
        }
        for tensor in &graph.initializer {
            self.constant(tensor)?;
        }
        self.nodes(&graph.node, depth)
    }

    fn nodes(&mut self, nodes: &[NodeProto], depth: usize) -> Result<(), LoadError> {
        self.nodes = self.nodes.saturating_add(nodes.len());
        if self.nodes > NODES_MAX {
            return Err(LoadError::TooManyNodes { nodes: self.nodes });
        }
        for node in nodes {
            let random = RANDOM.iter().find(|name| **name == node.op_type);
            self.random.extend(random.copied());
            for attribute in &node.attribute {
                self.attribute(attribute, depth)?;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: &AttributeProto, depth: usize) -> Result<(), LoadError> {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            self.constant(tensor)?;
        }
        let mut graphs = attribute.g.iter().chain(&attribute.graphs);
        graphs.try_for_each(|graph| self.graph(graph, depth + 1))
    }

    fn constant(&mut self, tensor: &TensorProto) -> Result<(), LoadError> {
        let is_external = tensor.data_location == Some(DataLocation::External as i32);
        if is_external || !tensor.external_data.is_empty() {
            let mut entries = tensor.external_data.iter();
            let location = entries.find(|entry| entry.key == "location");
            return Err(LoadError::External {
                name: tensor.name.clone(),
                file: location.map_or_else(String::new, |entry| entry.value.clone()),
            });
        }
        let elements = tensor.dims.iter().try_fold(1_usize, |product, dim| {
            Some(product.saturating_mul(usize::try_from(*dim).ok()?))
        });
        let Some(elements) = elements else {
            let problem = format!("constant {:?} has a negative dimension", tensor.name);
            return Err(LoadError::Invalid(problem));
        };
        // Four bytes an element are the most common, and enough for a bound.
        self.constants_bytes = self
            .constants_bytes
            .saturating_add(elements.saturating_mul(4));
        if self.constants_bytes > CONSTANTS_BYTES_MAX {
            return Err(LoadError::TooManyConstants {
                name: tensor.name.clone(),
                bytes: self.constants_bytes,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::tensor_proto::DataType;

    use super::*;
    use crate::fixture::{Dim, Onnx};

    fn check(onnx: Onnx, expected: &str) {
        let refused = read(&onnx.bytes(&["y"])).expect_err("refused").to_string();
        assert!(
            refused.contains(expected),
            "{refused:?} has no {expected:?}"
        );
    }

    fn graph() -> Onnx {
        Onnx::new(DataType::Float, &[Dim::Fixed(1), Dim::Fixed(1)])
    }

    #[test]
    fn more_nodes_than_a_load_can_bear_are_refused_with_their_number() {
        let mut onnx = graph();
        let name = |n: usize| format!("t{n}");
        onnx.node("Abs", &["x"], "t0");
        (0..NODES_MAX).for_each(|n| onnx.node("Abs", &[&name(n)], &name(n + 1)));
        check(onnx, "10001 nodes, at most 10000 are allowed");
    }

    #[test]
    fn constants_that_claim_more_than_they_may_are_refused_by_name() {
        for dims in [&[1 << 24, 2][..], &[i64::MAX, i64::MAX]] {
            let mut onnx = graph();
            onnx.floats("huge", dims, &[1.0]);
            onnx.node("Add", &["x", "huge"], "y");
            check(onnx, "up to \"huge\"");
        }
        let mut onnx = graph();
        onnx.floats("odd", &[-1], &[1.0]);
        onnx.node("Add", &["x", "odd"], "y");
        check(onnx, "\"odd\" has a negative dimension");
    }

    #[test]
    fn what_answers_by_chance_is_refused_by_name() {
        for name in RANDOM {
            let mut onnx = graph();
            onnx.node(name, &["x"], "y");
            check(onnx, name);
        }
    }
}
