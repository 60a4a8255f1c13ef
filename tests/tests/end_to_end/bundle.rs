//! A bundle that a test can do in its head: two channels, and a score that is
//! the mean of `│level│` over a window of two readings.
//!
//! The model is `y = │x│` as an ONNX file of some eighty bytes, written here
//! field by field, so that nothing has to be trained or checked in. A window
//! is due at every reading but the first; two means above 5 in a
//! row raise the alert, two below half of it clear it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// A level that raises an alert, and one that clears it.
pub(crate) const HIGH: f32 = 9.0;
pub(crate) const LOW: f32 = 1.0;
/// The name of the model and of its folder.
pub(crate) const NAME: &str = "level";
/// The file of the model's only variant.
pub(crate) const MODEL_FILE: &str = "model.onnx";

const PIPELINE: &str = r#"
[pipeline.schema]
period_ms = 100
age_max_ms = 60000

[[pipeline.schema.channels]]
name = "level"
unit = "bar"
min = -100.0
max = 100.0

[[pipeline.schema.channels]]
name = "flow"
unit = "l/min"
min = 0.0
max = 1000.0
rate_max = 10.0

[pipeline.window]
length = 2
stride = 1
gap_max = 8

[[pipeline.features]]
kind = "mean"
channels = ["level"]

[pipeline.score]
kind = "output"
index = 0

[pipeline.verdict]
threshold = 5.0
k = 2
n = 2
clear_ratio = 0.5
"#;

/// Nodes of a model whose single run takes milliseconds, and golden vectors of which
/// so many take minutes. Both are within what a bundle may hold.
const SLOW: (usize, usize) = (9_000, 20_000);

/// What the first golden vector says that the model answers: the truth is 3.
pub(crate) fn golden(answer: f32) -> String {
    golden_of([vector(3.0, answer), vector(5.0, 5.0)])
}

fn golden_of(vectors: impl IntoIterator<Item = String>) -> String {
    let vectors: Vec<String> = vectors.into_iter().collect();
    let vectors = vectors.join(", ");
    format!(
        r#"{{"vectors": [{vectors}], "tolerance": {{"features": 1e-6, "outputs": {{"float32": 1e-6}}}}}}"#
    )
}

/// Readings whose mean is `level`, and what the model answers to them.
fn vector(level: f32, answer: f32) -> String {
    let (low, high) = (level - 1.0, level + 1.0);
    format!(
        r#"{{"readings": [[{low}, 0], [{high}, 0]], "features": [{level}],
        "outputs": {{"float32": [{answer}]}}, "score": {{"float32": {answer}}}}}"#
    )
}

/// Writes a bundle that is sound, and takes minutes to load: for its vectors.
pub(crate) fn write_slow(folder: &Path) -> Result<()> {
    let (nodes, vectors) = SLOW;
    let levels = (0..vectors).map(|n| (n % 50) as f32);
    let golden = golden_of(levels.map(|level| vector(level, level)));
    write_with(folder, &chain(nodes), &golden)
}

/// Writes the bundle into `folder`/[`NAME`].
pub(crate) fn write(folder: &Path) -> Result<()> {
    write_with(folder, &model(), &golden(3.0))
}

/// Writes the bundle with another model file or golden vectors, whose digests
/// the manifest gives rightly.
pub(crate) fn write_with(folder: &Path, model: &[u8], golden: &str) -> Result<()> {
    let bundle = folder.join(NAME);
    fs::create_dir_all(&bundle).context("making the bundle's folder")?;
    let manifest = format!(
        r#"
format = 1
[model]
name = "{NAME}"
version = "1.0.0"
description = "The mean level, for tests."
licence = "Apache-2.0 OR MIT"
data = "none"
inputs = 1
outputs = 1
[[variants]]
precision = "float32"
backend = "tract"
file = "{MODEL_FILE}"
sha256 = "{}"
[golden]
file = "golden.json"
sha256 = "{}"
{PIPELINE}"#,
        sha256(model),
        sha256(golden.as_bytes())
    );
    fs::write(bundle.join("manifest.toml"), manifest)?;
    fs::write(bundle.join(MODEL_FILE), model)?;
    fs::write(bundle.join("golden.json"), golden)?;
    Ok(())
}

/// The ONNX file of `y = │x│`, both of shape `[1, 1]`.
pub(crate) fn model() -> Vec<u8> {
    chain(1)
}

/// As [`model`], which takes so many nodes to the same answer.
pub(crate) fn chain(nodes: usize) -> Vec<u8> {
    let name = |n: usize| match n {
        0 => "x".to_owned(),
        n if n == nodes => "y".to_owned(),
        n => format!("t{n}"),
    };
    let nodes = (0..nodes).flat_map(|n| node("Abs", &[&name(n)], &name(n + 1)));
    graph(nodes.collect(), &[])
}

/// A model that pads a constant to 10¹¹ elements, and adds their sum, which is 0.
pub(crate) fn padded() -> Vec<u8> {
    let nodes = [
        node("ConstantOfShape", &["one"], "zero"),
        node("Pad", &["zero", "pads"], "huge"),
        node("ReduceSum", &["huge"], "sum"),
        node("Add", &["x", "sum"], "y"),
    ];
    let constants = [int64s("one", &[1]), int64s("pads", &[0, 100_000_000_000])];
    graph(nodes.concat(), &constants)
}

/// A model with a constant of 700 MB, all zeros, of which it adds the sum.
pub(crate) fn with_huge_constant() -> Vec<u8> {
    let nodes = [
        node("ConstantOfShape", &["size"], "huge"),
        node("ReduceSum", &["huge"], "sum"),
        node("Add", &["x", "sum"], "y"),
    ];
    graph(nodes.concat(), &[int64s("size", &[175_000_000])])
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    node.extend([text(2, output), text(4, operator)].concat());
    bytes(1, &node)
}

/// An initializer of one dimension.
fn int64s(name: &str, values: &[usize]) -> Vec<u8> {
    let packed: Vec<u8> = values.iter().flat_map(|&value| varint(value)).collect();
    let tensor = [
        number(1, values.len()),
        number(2, 7),
        bytes(7, &packed),
        text(8, name),
    ];
    bytes(5, &tensor.concat())
}

/// The file of a graph from `x` to `y`, both float32 of shape `[1, 1]`.
///
/// Field numbers are those of onnx.proto3, version 1.16.
fn graph(nodes: Vec<u8>, constants: &[Vec<u8>]) -> Vec<u8> {
    let dimension = bytes(1, &number(1, 1));
    let tensor_type = [number(1, 1), bytes(2, &dimension.repeat(2))].concat();
    let value = |name| [text(1, name), bytes(2, &bytes(1, &tensor_type))].concat();
    let graph = [
        nodes,
        text(2, "level"),
        constants.concat(),
        bytes(11, &value("x")),
        bytes(12, &value("y")),
    ];
    let operators = [text(1, ""), number(2, 13)].concat();
    [
        number(1, 8),
        bytes(7, &graph.concat()),
        bytes(8, &operators),
    ]
    .concat()
}

/// A field of Protocol Buffers with a number.
fn number(field: u8, value: usize) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

/// A field of Protocol Buffers with bytes.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2], &varint(value.len())[..], value].concat()
}

/// Seven bits a byte, the lowest first; all but the last have the highest bit set.
fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn text(field: u8, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
