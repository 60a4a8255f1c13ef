//! Names, outputs and attributes of ONNX nodes, and the refusal that names one.

use tract_onnx::pb::NodeProto;

use crate::load::LoadError;

/// A refusal that names a node.
pub(super) fn unfit(node: &str, problem: impl Into<String>) -> LoadError {
    LoadError::Unfit {
        node: node.to_owned(),
        problem: problem.into(),
    }
}

/// The node's name, or that of its output if it has none.
pub(super) fn name(node: &NodeProto) -> &str {
    if node.name.is_empty() {
        node.output.first().map_or("", String::as_str)
    } else {
        &node.name
    }
}

pub(super) fn output(node: &NodeProto) -> Result<&str, LoadError> {
    match &node.output[..] {
        [output] => Ok(output),
        _ => Err(unfit(name(node), "it has not exactly one output")),
    }
}

/// An attribute that is not known could change what the node means.
pub(super) fn attributes(node: &NodeProto, known: &[&str]) -> Result<(), LoadError> {
    let unknown = node
        .attribute
        .iter()
        .find(|attribute| !known.contains(&attribute.name.as_str()));
    match unknown {
        None => Ok(()),
        Some(attribute) => {
            let problem = format!("attribute {:?} is not supported", attribute.name);
            Err(unfit(name(node), problem))
        }
    }
}

pub(super) fn integer(node: &NodeProto, key: &str) -> Option<i64> {
    let mut attributes = node.attribute.iter();
    attributes
        .find(|attribute| attribute.name == key)
        .map(|attribute| attribute.i)
}

pub(super) fn real(node: &NodeProto, key: &str) -> Option<f32> {
    let mut attributes = node.attribute.iter();
    attributes
        .find(|attribute| attribute.name == key)
        .map(|attribute| attribute.f)
}
