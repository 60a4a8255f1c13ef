//! An ONNX graph as a chain of operations, or the node at which it is none.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::type_proto;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use super::constants::{Constant, Constants};
use super::node::{attributes, integer, name, output, real, unfit};
use super::operation::{Operation, grid, product, terms_of};
use crate::load::LoadError;

/// One operation and the node that it comes from.
pub(super) struct Link {
    pub(super) node: String,
    pub(super) operation: Operation,
}

impl Link {
    /// A refusal that names this link's node.
    pub(super) fn unfit(&self, problem: impl Into<String>) -> LoadError {
        unfit(&self.node, problem)
    }
}

/// Reads the one chain that leads from the graph's input to its output. `inputs` is
/// the length of a row.
pub(super) fn read(model: &ModelProto, inputs: usize) -> Result<Vec<Link>, LoadError> {
    let is_default = |domain: &str| matches!(domain, "" | "ai.onnx");
    if !model.opset_import.iter().any(|set| is_default(&set.domain)) {
        return Err(LoadError::Invalid("it names no operator set".to_owned()));
    }
    let graph = model.graph.as_ref();
    let graph = graph.ok_or_else(|| LoadError::Invalid("it has no graph".to_owned()))?;
    for node in &graph.node {
        if !is_default(&node.domain) {
            return Err(unfit(name(node), format!("domain {:?}", node.domain)));
        }
    }
    let constants = Constants::read(graph)?;
    let (first, last) = ends(graph, &constants)?;
    check_input(first, inputs)?;
    Walk::new(graph, &constants).run(&first.name, &last.name)
}

/// The input that is no initialiser, and the output.
fn ends<'a>(
    graph: &'a GraphProto,
    constants: &Constants,
) -> Result<(&'a ValueInfoProto, &'a ValueInfoProto), LoadError> {
    let is_fed = |input: &&ValueInfoProto| !constants.is_initializer(&input.name);
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(is_fed).collect();
    match (inputs.as_slice(), graph.output.as_slice()) {
        ([input], [output]) => Ok((input, output)),
        (inputs, outputs) => Err(LoadError::Arity {
            inputs: inputs.len(),
            outputs: outputs.len(),
        }),
    }
}

/// Float32 of shape `[1 or open, inputs]`. Rows do not know of each other here, so
/// a batch axis that says 1 may be any.
fn check_input(input: &ValueInfoProto, inputs: usize) -> Result<(), LoadError> {
    let value = input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Err(unfit(&input.name, "the input has no tensor type"));
    };
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let sizes: Vec<Option<i64>> = dims
        .iter()
        .map(|dim| match dim.value {
            Some(Value::DimValue(size)) => Some(size),
            _ => None,
        })
        .collect();
    let is_row = |size: i64| usize::try_from(size) == Ok(inputs);
    let fits = match sizes[..] {
        [batch, row] => batch.is_none_or(|batch| batch == 1) && row.is_none_or(is_row),
        _ => false,
    };
    if fits && tensor.elem_type == DataType::Float as i32 {
        return Ok(());
    }
    Err(LoadError::Shape {
        side: "input",
        expected: inputs,
        batch: 1,
        found: describe(tensor.elem_type, &sizes),
    })
}

/// As `float32 of shape 1 × 615`.
fn describe(elem_type: i32, sizes: &[Option<i64>]) -> String {
    let kind = match DataType::try_from(elem_type) {
        Ok(DataType::Float) => "float32".to_owned(),
        Ok(kind) => kind.as_str_name().to_ascii_lowercase(),
        Err(_) => format!("of the unknown type {elem_type}"),
    };
    let size = |size: &Option<i64>| size.map_or_else(|| "open".to_owned(), |size| size.to_string());
    let sizes: Vec<String> = sizes.iter().map(size).collect();
    format!("{kind} of shape {}", sizes.join(" × "))
}

/// The way along the activations.
struct Walk<'a> {
    constants: &'a Constants<'a>,
    /// Nodes that are not constants, by each of their inputs.
    users: HashMap<&'a str, Vec<&'a NodeProto>>,
    /// Of those, how many have not been passed.
    left: usize,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a GraphProto, constants: &'a Constants<'a>) -> Self {
        let mut users: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        let mut left = 0;
        for node in graph.node.iter().filter(|node| !constants.is_made_by(node)) {
            left += 1;
            for input in &node.input {
                users.entry(input).or_default().push(node);
            }
        }
        Walk {
            constants,
            users,
            left,
        }
    }

    fn run(mut self, first: &'a str, last: &str) -> Result<Vec<Link>, LoadError> {
        let mut links = Vec::new();
        let mut at = first;
        while at != last {
            at = self.operation(at, &mut links)?;
        }
        if self.users.contains_key(last) || self.left > 0 {
            return Err(unfit(
                last,
                "there are nodes beside the chain to the output",
            ));
        }
        Ok(links)
    }

    /// Passes the node that takes `at`, and returns its output.
    fn operation(&mut self, at: &'a str, links: &mut Vec<Link>) -> Result<&'a str, LoadError> {
        let node = self.user(at)?;
        let operation = match node.op_type.as_str() {
            "Identity" | "Relu" if node.input.len() != 1 => {
                return Err(unfit(name(node), "it has not exactly one input"));
            }
            "Identity" => None,
            "Relu" => Some(Operation::Relu),
            "MatMul" => {
                attributes(node, &[])?;
                let weights = self.other(node, at, 0)?;
                Some(Operation::Product(product(node, weights, false)?))
            }
            "Gemm" => return self.gemm(node, at, links),
            "Add" => {
                let side = usize::from(node.input[0] != at);
                let terms = self.other(node, at, side)?;
                Some(Operation::Add(terms_of(node, terms)?))
            }
            "QuantizeLinear" => return self.round(node, links),
            other => return Err(unfit(name(node), format!("{other} is not supported"))),
        };
        links.extend(operation.map(|operation| link(node, operation)));
        output(node)
    }

    /// The one node that takes `at`. It is taken off the map, so a walk ends.
    fn user(&mut self, at: &str) -> Result<&'a NodeProto, LoadError> {
        match self.users.remove(at).as_deref() {
            Some([node]) => {
                self.left -= 1;
                Ok(node)
            }
            Some(_) => Err(unfit(at, "more than one node takes it: not a chain")),
            None => Err(unfit(at, "no node takes it, and it is not the output")),
        }
    }

    /// The constant of a node of two inputs whose activation is input `side`.
    fn other(&self, node: &NodeProto, at: &str, side: usize) -> Result<Constant, LoadError> {
        match &node.input[..] {
            [a, b] if [a, b][side] == at => self.constants.get(node, [b, a][side]),
            _ => Err(unfit(
                name(node),
                "its inputs are not activation and constant",
            )),
        }
    }

    fn gemm(
        &self,
        node: &'a NodeProto,
        at: &str,
        links: &mut Vec<Link>,
    ) -> Result<&'a str, LoadError> {
        attributes(node, &["alpha", "beta", "transA", "transB"])?;
        let is_one = |key| real(node, key).is_none_or(|value| value == 1.0);
        if !is_one("alpha") || !is_one("beta") || integer(node, "transA").unwrap_or(0) != 0 {
            return Err(unfit(name(node), "only alpha 1, beta 1 and transA 0"));
        }
        let (weights, bias) = match &node.input[..] {
            [a, b] if a == at => (b, None),
            [a, b, c] if a == at => (b, Some(c).filter(|name| !name.is_empty())),
            _ => return Err(unfit(name(node), "its first input is not the activation")),
        };
        let weights = self.constants.get(node, weights)?;
        let is_transposed = integer(node, "transB").unwrap_or(0) != 0;
        let product = product(node, weights, is_transposed)?;
        links.push(link(node, Operation::Product(product)));
        if let Some(bias) = bias {
            let terms = terms_of(node, self.constants.get(node, bias)?)?;
            links.push(link(node, Operation::Add(terms)));
        }
        output(node)
    }

    /// A QuantizeLinear, and the DequantizeLinear that must follow it.
    fn round(&mut self, node: &'a NodeProto, links: &mut Vec<Link>) -> Result<&'a str, LoadError> {
        attributes(node, &["axis"])?;
        // ONNX: without a zero point it is uint8.
        let scaling = self.constants.scaling(node, DataType::Uint8)?;
        let between = output(node)?;
        let back = self.user(between)?;
        attributes(back, &["axis"])?;
        let is_pair = back.op_type == "DequantizeLinear"
            && back.input[0] == between
            && self.constants.scaling(back, scaling.data_type)? == scaling;
        if !is_pair {
            let problem = "no DequantizeLinear of the same scale and zero point follows";
            return Err(unfit(name(node), problem));
        }
        links.push(link(node, Operation::Round(grid(node, &scaling)?)));
        output(back)
    }
}

fn link(node: &NodeProto, operation: Operation) -> Link {
    Link {
        node: name(node).to_owned(),
        operation,
    }
}
