//! Small ONNX files for tests, written with tract's own message types.
//!
//! The tiny model is `relu(x · W1 + b1) · W2`, 4 features and 3 outputs, as float32
//! or with quantize/dequantize pairs around each product. [`answer`] computes it
//! by hand, and is the oracle that no runtime had a say in.

use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};

use crate::manifest::Precision;

pub(crate) const INPUTS: usize = 4;
pub(crate) const HIDDEN: usize = 5;
pub(crate) const OUTPUTS: usize = 3;

/// Weights are multiples of this, so that they are exact in int8 too.
const WEIGHT_SCALE: f32 = 0.125;
/// Input range in int8: −2 to 1.98.
const INPUT_SCALE: f32 = 1.0 / 64.0;
/// Hidden range in int8: −8 to 7.94.
const HIDDEN_SCALE: f32 = 1.0 / 16.0;

/// One dimension of the declared input.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    Fixed(i64),
    Symbol(&'static str),
    Open,
}

/// An ONNX graph in the making. The last node's output is the graph's.
pub(crate) struct Onnx(pb::GraphProto);

impl Onnx {
    /// A graph with the one input `x` of that type and shape.
    pub(crate) fn new(data_type: DataType, dims: &[Dim]) -> Self {
        let mut onnx = Onnx(pb::GraphProto::default());
        onnx.input("x", data_type, dims);
        onnx
    }

    pub(crate) fn input(&mut self, name: &str, data_type: DataType, dims: &[Dim]) {
        let dim = dims.iter().map(|dim| Dimension {
            value: match *dim {
                Dim::Fixed(size) => Some(dimension::Value::DimValue(size)),
                Dim::Symbol(name) => Some(dimension::Value::DimParam(name.to_owned())),
                Dim::Open => None,
            },
            ..Default::default()
        });
        let tensor = pb::type_proto::Tensor {
            elem_type: data_type as i32,
            shape: Some(pb::TensorShapeProto { dim: dim.collect() }),
        };
        self.0.input.push(pb::ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(pb::TypeProto {
                value: Some(pb::type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    pub(crate) fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        self.0.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            float_data: values.to_vec(),
            ..Default::default()
        });
    }

    /// Constants in half precision, by their bits.
    pub(crate) fn halves(&mut self, name: &str, dims: &[i64], bits: &[u16]) {
        self.0.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: DataType::Float16 as i32,
            raw_data: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(),
            ..Default::default()
        });
    }

    pub(crate) fn ints(&mut self, name: &str, data_type: DataType, dims: &[i64], values: &[i32]) {
        self.0.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: data_type as i32,
            int32_data: values.to_vec(),
            ..Default::default()
        });
    }

    /// A tensor whose content is in another file.
    pub(crate) fn external(&mut self, name: &str, dims: &[i64], location: &str) {
        self.0.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: DataType::Float as i32,
            data_location: Some(pb::tensor_proto::DataLocation::External as i32),
            external_data: vec![pb::StringStringEntryProto {
                key: "location".to_owned(),
                value: location.to_owned(),
            }],
            ..Default::default()
        });
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], output: &str) {
        self.node_with(op, inputs, output, &[]);
    }

    /// A node with integer attributes.
    pub(crate) fn node_with(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, i64)],
    ) {
        self.node_to(op, inputs, &[output], attributes);
    }

    /// A node of several outputs; those without a name are not wanted.
    pub(crate) fn node_to(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, i64)],
    ) {
        let attribute = attributes.iter().map(|(name, value)| pb::AttributeProto {
            name: (*name).to_owned(),
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            i: *value,
            ..Default::default()
        });
        self.0.node.push(pb::NodeProto {
            name: format!("{op}_{}", outputs.concat()),
            op_type: op.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            attribute: attribute.collect(),
            ..Default::default()
        });
    }

    /// A node of any kind.
    pub(crate) fn proto(&mut self, node: pb::NodeProto) {
        self.0.node.push(node);
    }

    /// The file, with `outputs` as the graph's outputs.
    pub(crate) fn bytes(mut self, outputs: &[&str]) -> Vec<u8> {
        let output = outputs.iter().map(|&name| pb::ValueInfoProto {
            name: name.to_owned(),
            ..Default::default()
        });
        self.0.output = output.collect();
        pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto {
                domain: String::new(),
                version: 13,
            }],
            graph: Some(self.0),
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// Readings in the window of a recurrent model; tract fuses a GRU from four on.
pub(crate) const STEPS: usize = 5;

/// One recurrent layer of [`HIDDEN`] cells with `gates` gates over [`STEPS`] readings
/// of [`INPUTS`] values; the output is its last hidden state.
pub(crate) fn recurrent(op: &str, gates: usize, attributes: &[(&str, i64)]) -> Vec<u8> {
    let [steps, inputs, hidden] = [STEPS, INPUTS, HIDDEN].map(|size| size as i64);
    let rows = (gates * HIDDEN) as i64;
    let dims = [steps, 1, inputs].map(Dim::Fixed);
    let mut onnx = Onnx::new(DataType::Float, &dims);
    let (w, r) = (
        weights(gates * HIDDEN * INPUTS, 3),
        weights(gates * HIDDEN * HIDDEN, 8),
    );
    onnx.floats("w", &[1, rows, inputs], &scaled(&w));
    onnx.floats("r", &[1, rows, hidden], &scaled(&r));
    let attributes = [attributes, &[("hidden_size", hidden)]].concat();
    onnx.node_to(op, &["x", "w", "r"], &["", "y"], &attributes);
    onnx.bytes(&["y"])
}

/// Whole multiples of [`WEIGHT_SCALE`], −5 to 5.
fn weights(len: usize, seed: i32) -> Vec<i32> {
    let len = i32::try_from(len).expect("tiny");
    (0..len).map(|i| (i * 7 + seed) % 11 - 5).collect()
}

fn scaled(weights: &[i32]) -> Vec<f32> {
    let scale = |&weight: &i32| f32::from(i16::try_from(weight).expect("tiny")) * WEIGHT_SCALE;
    weights.iter().map(scale).collect()
}

fn bias() -> Vec<f32> {
    scaled(&weights(HIDDEN, 5))
}

/// The tiny model with the given input shape.
pub(crate) fn tiny(precision: Precision, dims: &[Dim]) -> Vec<u8> {
    match precision {
        Precision::Float32 => tiny_float32(dims),
        Precision::Int8 => tiny_int8(dims),
    }
}

fn tiny_float32(dims: &[Dim]) -> Vec<u8> {
    let mut onnx = Onnx::new(DataType::Float, dims);
    let (first, second) = (weights(INPUTS * HIDDEN, 3), weights(HIDDEN * OUTPUTS, 8));
    onnx.floats("w1", &[INPUTS as i64, HIDDEN as i64], &scaled(&first));
    onnx.floats("w2", &[HIDDEN as i64, OUTPUTS as i64], &scaled(&second));
    onnx.floats("b1", &[HIDDEN as i64], &bias());
    onnx.node("MatMul", &["x", "w1"], "xw");
    onnx.node("Add", &["xw", "b1"], "xwb");
    onnx.node("Relu", &["xwb"], "hidden");
    onnx.node("MatMul", &["hidden", "w2"], "y");
    onnx.bytes(&["y"])
}

fn tiny_int8(dims: &[Dim]) -> Vec<u8> {
    let mut onnx = Onnx::new(DataType::Float, dims);
    let (first, second) = (weights(INPUTS * HIDDEN, 3), weights(HIDDEN * OUTPUTS, 8));
    onnx.ints(
        "w1_q",
        DataType::Int8,
        &[INPUTS as i64, HIDDEN as i64],
        &first,
    );
    onnx.ints(
        "w2_q",
        DataType::Int8,
        &[HIDDEN as i64, OUTPUTS as i64],
        &second,
    );
    onnx.floats("b1", &[HIDDEN as i64], &bias());
    onnx.floats("w_scale", &[], &[WEIGHT_SCALE]);
    onnx.floats("x_scale", &[], &[INPUT_SCALE]);
    onnx.floats("h_scale", &[], &[HIDDEN_SCALE]);
    onnx.ints("zero", DataType::Int8, &[], &[0]);
    onnx.node("QuantizeLinear", &["x", "x_scale", "zero"], "x_q");
    onnx.node("DequantizeLinear", &["x_q", "x_scale", "zero"], "x_dq");
    onnx.node("DequantizeLinear", &["w1_q", "w_scale", "zero"], "w1");
    onnx.node("MatMul", &["x_dq", "w1"], "xw");
    onnx.node("Add", &["xw", "b1"], "xwb");
    onnx.node("Relu", &["xwb"], "hidden");
    onnx.node("QuantizeLinear", &["hidden", "h_scale", "zero"], "h_q");
    onnx.node("DequantizeLinear", &["h_q", "h_scale", "zero"], "h_dq");
    onnx.node("DequantizeLinear", &["w2_q", "w_scale", "zero"], "w2");
    onnx.node("MatMul", &["h_dq", "w2"], "y");
    onnx.bytes(&["y"])
}

/// The tiny model's outputs, by hand.
pub(crate) fn answer(precision: Precision, features: &[f32; INPUTS]) -> Vec<f32> {
    let quantize = |value: f32, scale: f32| match precision {
        Precision::Float32 => value,
        Precision::Int8 => (value / scale).round_ties_even().clamp(-128.0, 127.0) * scale,
    };
    let input: Vec<f32> = features.iter().map(|&x| quantize(x, INPUT_SCALE)).collect();
    let product = multiply(&input, &scaled(&weights(INPUTS * HIDDEN, 3)));
    let hidden: Vec<f32> = product
        .iter()
        .zip(bias())
        .map(|(sum, bias)| quantize((sum + bias).max(0.0), HIDDEN_SCALE))
        .collect();
    multiply(&hidden, &scaled(&weights(HIDDEN * OUTPUTS, 8)))
}

fn multiply(row: &[f32], matrix: &[f32]) -> Vec<f32> {
    let columns = matrix.len() / row.len();
    let column = |j| (0..row.len()).map(move |i| row[i] * matrix[i * columns + j]);
    (0..columns).map(|j| column(j).sum()).collect()
}

/// A small generator of repeatable numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// A feature, −1 to 1.
    pub(crate) fn feature(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}
