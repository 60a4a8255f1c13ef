//! Models in half precision, made single before a runtime sees them.
//!
//! No gateway's CPU computes faster in f16 than in f32, and no backend here does all of
//! it: the file is small, and that is what half precision is for.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto,
};
use tract_onnx::prelude::f16;

const HALF: i32 = DataType::Float16 as i32;
const SINGLE: i32 = DataType::Float as i32;

/// Turns every half of a graph, and of the graphs in it, into a single. Their depth
/// and size have been checked.
pub(super) fn widen(graph: &mut GraphProto) {
    graph.initializer.iter_mut().for_each(widen_tensor);
    graph.node.iter_mut().for_each(widen_node);
    let values = graph.input.iter_mut().chain(&mut graph.output);
    values.chain(&mut graph.value_info).for_each(widen_value);
}

fn widen_value(value: &mut ValueInfoProto) {
    let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind
        && tensor.elem_type == HALF
    {
        tensor.elem_type = SINGLE;
    }
}

fn widen_node(node: &mut NodeProto) {
    let is_cast = node.op_type == "Cast";
    for attribute in &mut node.attribute {
        if is_cast && attribute.name == "to" && attribute.i == i64::from(HALF) {
            attribute.i = SINGLE.into();
        }
        widen_attribute(attribute);
    }
}

fn widen_attribute(attribute: &mut AttributeProto) {
    let tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
    tensors.for_each(widen_tensor);
    let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
    graphs.for_each(widen);
}

fn widen_tensor(tensor: &mut TensorProto) {
    if tensor.data_type != HALF {
        return;
    }
    // An odd byte at the end is left there, for whoever checks the length.
    let (words, rest) = tensor.raw_data.as_chunks::<2>();
    let raw = words.iter().map(|word| u16::from_le_bytes(*word));
    // ONNX: without raw data each is the low half of an int32.
    let listed = tensor.int32_data.iter().map(|&word| word as u16);
    let singles = raw.chain(listed).map(|bits| f16::from_bits(bits).to_f32());
    let mut bytes: Vec<u8> = singles.flat_map(f32::to_le_bytes).collect();
    bytes.extend_from_slice(rest);
    tensor.raw_data = bytes;
    tensor.int32_data = Vec::new();
    tensor.data_type = SINGLE;
}
