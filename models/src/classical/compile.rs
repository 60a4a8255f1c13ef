//! From a graph to steps, nodes in the file's order, which ONNX promises to be one in
//! which they can run. Only what the output stands on is compiled.

use std::collections::{BTreeSet, HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

use super::node::{Made, Node, Value};
use super::operators::{Operator, find};
use super::tensor::Tensor;
use super::{ClassicalModel, Kind, NUMBERS_MAX, OUTPUTS_MAX, Step, TAKEN_MAX};
use crate::load::LoadError;

pub(super) fn compile(
    model: &ModelProto,
    inputs: usize,
    outputs: usize,
) -> Result<ClassicalModel, LoadError> {
    let graph = model.graph.as_ref();
    let graph = graph.ok_or_else(|| LoadError::Invalid("it has no graph".to_owned()))?;
    let versions = model.opset_import.iter();
    let version = versions.filter(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let opset = version.map(|set| set.version).max().unwrap_or(0);
    let initialized: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let fed = graph.input.iter();
    let fed: Vec<&ValueInfoProto> = fed.filter(|i| !initialized.contains(&*i.name)).collect();
    let &[input] = &fed[..] else {
        return Err(LoadError::Arity {
            inputs: fed.len(),
            outputs: graph.output.len(),
        });
    };
    if graph.output.len() > OUTPUTS_MAX {
        return Err(LoadError::Arity {
            inputs: 1,
            outputs: graph.output.len(),
        });
    }
    let mut fitting = Vec::new();
    let mut refused = Vec::new();
    for output in &graph.output {
        let mut compiler = Compiler::new(opset);
        compiler.input(input, inputs)?;
        match compiler.run(graph, &output.name) {
            Ok(value) if value.kind == Kind::Float && value.len() == outputs => {
                fitting.push(compiler.finish(inputs, &value));
            }
            Ok(value) => refused.push(LoadError::Shape {
                side: "output",
                expected: outputs,
                batch: 1,
                found: format!("{:?} of shape {:?}", value.kind, value.shape),
            }),
            Err(error) => refused.push(error),
        }
    }
    if fitting.len() == 1 {
        return fitting.pop().expect("there is one");
    }
    // Of one output the reason is what counts; of several, that none stood out.
    if graph.output.len() == 1
        && let Some(error) = refused.pop()
    {
        return Err(error);
    }
    let unsupported = |error: &LoadError| matches!(error, LoadError::UnsupportedOps(_));
    let missing = refused.into_iter().find(unsupported);
    Err(missing.unwrap_or(LoadError::Arity {
        inputs: 1,
        outputs: graph.output.len(),
    }))
}

struct Compiler<'a> {
    opset: i64,
    known: HashMap<&'a str, Value>,
    numbers: Vec<f64>,
    /// How many numbers its nodes take in.
    taken: usize,
    steps: Vec<Step>,
}

impl<'a> Compiler<'a> {
    fn new(opset: i64) -> Self {
        Self {
            opset,
            known: HashMap::new(),
            numbers: Vec::new(),
            taken: 0,
            steps: Vec::new(),
        }
    }

    /// Takes in the graph's input, whose batch axis is 1 here.
    fn input(&mut self, input: &'a ValueInfoProto, inputs: usize) -> Result<(), LoadError> {
        let kind = input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
        let Some(type_proto::Value::TensorType(tensor)) = kind else {
            let problem = format!("input {:?} has no tensor type", input.name);
            return Err(LoadError::Invalid(problem));
        };
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        let sizes: Vec<Option<i64>> = dims
            .iter()
            .map(|dim| match dim.value {
                Some(Dim::DimValue(size)) => Some(size),
                _ => None,
            })
            .collect();
        let is_row = |size: i64| usize::try_from(size) == Ok(inputs);
        let is_fit = match sizes[..] {
            [batch, row] => batch.is_none_or(|batch| batch <= 1) && row.is_none_or(is_row),
            _ => false,
        };
        if !is_fit || tensor.elem_type != DataType::Float as i32 {
            let elem_type = DataType::try_from(tensor.elem_type);
            let kind = elem_type.map_or("an unknown type", |kind| kind.as_str_name());
            return Err(LoadError::Shape {
                side: "input",
                expected: inputs,
                batch: 1,
                found: format!("{} of shape {sizes:?}", kind.to_ascii_lowercase()),
            });
        }
        let value = self.place(vec![1, inputs], Kind::Float, None)?;
        self.known.insert(&input.name, value);
        Ok(())
    }

    /// Compiles what `output` stands on.
    fn run(&mut self, graph: &'a GraphProto, output: &str) -> Result<Value, LoadError> {
        let wanted = wanted(graph, output);
        let missing: BTreeSet<String> = graph
            .node
            .iter()
            .filter(|node| {
                node.output
                    .iter()
                    .any(|name| wanted.contains(name.as_str()))
            })
            .filter(|node| find(node).is_none())
            .map(|node| node.op_type.clone())
            .collect();
        if !missing.is_empty() {
            let names: Vec<String> = missing.into_iter().collect();
            return Err(LoadError::UnsupportedOps(names.join(", ")));
        }
        for proto in &graph.initializer {
            if wanted.contains(proto.name.as_str()) {
                let tensor = Tensor::read(proto).map_err(|problem| LoadError::Unfit {
                    node: proto.name.clone(),
                    problem: format!("initializer: {problem}"),
                })?;
                let value = self.constant(tensor)?;
                self.known.insert(&proto.name, value);
            }
        }
        for proto in &graph.node {
            for (index, name) in proto.output.iter().enumerate() {
                if wanted.contains(name.as_str())
                    && let Some(operator) = find(proto)
                {
                    let value = self.node(proto, operator, index)?;
                    self.known.insert(name, value);
                }
            }
        }
        let known = self.known.get(output).cloned();
        known.ok_or_else(|| LoadError::Invalid(format!("nothing makes the output {output:?}")))
    }

    fn node(
        &mut self,
        proto: &NodeProto,
        operator: &Operator,
        output: usize,
    ) -> Result<Value, LoadError> {
        let known = |name: &String| match self.known.get(name.as_str()) {
            Some(value) => Ok(Some(value.clone())),
            None if name.is_empty() => Ok(None),
            None => Err(LoadError::Unfit {
                node: proto.name.clone(),
                problem: format!("nothing before it makes {name:?}"),
            }),
        };
        let inputs: Result<Vec<_>, LoadError> = proto.input.iter().map(known).collect();
        let node = Node {
            proto,
            inputs: inputs?,
            output,
            opset: self.opset,
        };
        // One that is not known could change what the node means.
        let is_known = |name: &str| operator.attributes.contains(&name);
        if let Some(odd) = proto.attribute.iter().find(|a| !is_known(&a.name)) {
            return Err(node.unfit(format!("attribute {:?} is not supported", odd.name)));
        }
        self.taken += node.inputs.iter().flatten().map(Value::len).sum::<usize>();
        if self.taken > TAKEN_MAX {
            return Err(node.unfit(format!(
                "with it the nodes take in more than {TAKEN_MAX} numbers"
            )));
        }
        let (shape, kind, run) = match (operator.read)(&node)? {
            Made::Same(value) => return Ok(value),
            Made::New { shape, kind, run } => (shape, kind, run),
        };
        node.check_volume(&shape)?;
        let is_constant = node.inputs.iter().flatten().all(|v| v.constant.is_some());
        let mut value = self.place(shape, kind, None)?;
        let to = value.at..value.at + value.len();
        let step = Step { run, to, kind };
        if is_constant {
            // It is what it is before every run: done once, here.
            step.run(&mut self.numbers);
            value.constant = Some(value.of(&self.numbers).to_vec());
        } else {
            self.steps.push(step);
        }
        Ok(value)
    }

    fn constant(&mut self, tensor: Tensor) -> Result<Value, LoadError> {
        self.place(tensor.shape, tensor.kind, Some(tensor.numbers))
    }

    /// A place at the end of the arena.
    fn place(
        &mut self,
        shape: Vec<usize>,
        kind: Kind,
        constant: Option<Vec<f64>>,
    ) -> Result<Value, LoadError> {
        let at = self.numbers.len();
        let end = at + shape.iter().product::<usize>();
        if end > NUMBERS_MAX {
            let problem = format!("its tensors have more than {NUMBERS_MAX} numbers together");
            return Err(LoadError::Invalid(problem));
        }
        match &constant {
            Some(numbers) => self.numbers.extend_from_slice(numbers),
            None => self.numbers.resize(end, 0.0),
        }
        Ok(Value {
            at,
            shape,
            kind,
            constant,
        })
    }

    fn finish(self, inputs: usize, output: &Value) -> Result<ClassicalModel, LoadError> {
        Ok(ClassicalModel {
            steps: self.steps,
            numbers: self.numbers.into(),
            // It was placed first.
            input: 0..inputs,
            output: output.at..output.at + output.len(),
        })
    }
}

/// The names that `output` stands on, its own among them.
fn wanted<'a>(graph: &'a GraphProto, output: &'a str) -> HashSet<&'a str> {
    let mut wanted = HashSet::from([output]);
    for node in graph.node.iter().rev() {
        if node
            .output
            .iter()
            .any(|name| wanted.contains(name.as_str()))
        {
            wanted.extend(node.input.iter().map(String::as_str));
        }
    }
    wanted
}
