//! Real exports of scikit-learn against onnxruntime, and files that mean harm.
//!
//! `scikit/make.py` made the files of `scikit/` and what onnxruntime says of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::*;
use crate::fixture::{Dim, Onnx};

/// Relative to the answer, or to 1. onnxruntime sums in f32, in an order of its own.
const TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
struct Answers {
    rows: Vec<Vec<f32>>,
    models: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    outputs: usize,
    answers: Vec<Vec<f32>>,
}

fn scikit(file: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/classical/tests/scikit");
    folder.join(file)
}

fn answers() -> Answers {
    let text = fs::read_to_string(scikit("answers.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn load(name: &str, inputs: usize, outputs: usize) -> Result<ClassicalModel, LoadError> {
    let bytes = fs::read(scikit(&format!("{name}.onnx"))).unwrap();
    ClassicalModel::load(&bytes, inputs, outputs)
}

#[test]
fn exports_of_scikit_learn_answer_as_onnxruntime_does() {
    let Answers { rows, models } = answers();
    assert!(models.len() >= 20, "{} models", models.len());
    let mut wrong = Vec::new();
    for (name, Expected { outputs, answers }) in &models {
        let mut model = match load(name, rows[0].len(), *outputs) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut found = vec![0.0; *outputs];
        for (row, answer) in rows.iter().zip(answers) {
            model.infer(row, &mut found).unwrap();
            let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
            if !found.iter().zip(answer).all(is_close) {
                wrong.push(format!("{name}: {row:?} gives {found:?}, not {answer:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_batch_answers_as_its_rows_do_alone() {
    let Answers { rows, models } = answers();
    for (name, Expected { outputs, .. }) in &models {
        let mut model = load(name, rows[0].len(), *outputs).unwrap();
        let mut together = vec![0.0; outputs * rows.len()];
        model.infer(&rows.concat(), &mut together).unwrap();
        for (row, together) in rows.iter().zip(together.chunks_exact(*outputs)) {
            let mut alone = vec![0.0; *outputs];
            model.infer(row, &mut alone).unwrap();
            assert_eq!(alone, together, "{name}");
        }
    }
}

#[test]
fn an_output_of_another_width_or_kind_is_not_taken() {
    let refused = load("isolation_forest", 4, 2).err().unwrap();
    assert_eq!(
        refused,
        LoadError::Arity {
            inputs: 1,
            outputs: 2
        }
    );
    let refused = load("k_means", 3, 3).err().unwrap().to_string();
    assert!(
        refused.contains("input is float of shape [None, Some(4)]"),
        "{refused}"
    );
}

#[test]
fn damage_anywhere_in_a_file_never_panics() {
    for name in [
        "tree",
        "one_class_svm",
        "gaussian_mixture",
        "boosted_classifier",
    ] {
        let bytes = fs::read(scikit(&format!("{name}.onnx"))).unwrap();
        let mut answered = 0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(mut model) = ClassicalModel::load(&damaged, 4, 1) {
                let mut outputs = [0.0];
                answered += usize::from(model.infer(&[0.5; 4], &mut outputs).is_ok());
            }
            ClassicalModel::load(&bytes[..at], 4, 1).ok();
        }
        assert!(
            name == "boosted_classifier" || answered > 0,
            "{name} is never read"
        );
    }
}

/// A regressor of one tree, whose branches are given.
fn tree(if_true: &[i64], if_false: &[i64], modes: &[&str]) -> Result<ClassicalModel, LoadError> {
    let mut onnx = Onnx::new(DataType::Float, &[Dim::Fixed(1), Dim::Fixed(2)]);
    let count = modes.len();
    let ids: Vec<i64> = (0..count as i64).collect();
    let leaves = ids
        .iter()
        .copied()
        .filter(|&id| modes[id as usize] == "LEAF");
    let leaves: Vec<i64> = leaves.collect();
    let ints = |name: &str, ints: &[i64]| AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..Default::default()
    };
    let floats = |name: &str, floats: Vec<f32>| AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Floats as i32,
        floats,
        ..Default::default()
    };
    let strings = modes.iter().map(|mode| mode.as_bytes().to_vec());
    let node = NodeProto {
        op_type: "TreeEnsembleRegressor".to_owned(),
        domain: LEARNERS.to_owned(),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        attribute: vec![
            ints("nodes_treeids", &vec![0; count]),
            ints("nodes_nodeids", &ids),
            ints("nodes_featureids", &vec![0; count]),
            ints("nodes_truenodeids", if_true),
            ints("nodes_falsenodeids", if_false),
            floats("nodes_values", vec![0.5; count]),
            AttributeProto {
                name: "nodes_modes".to_owned(),
                r#type: AttributeType::Strings as i32,
                strings: strings.collect(),
                ..Default::default()
            },
            ints("target_treeids", &vec![0; leaves.len()]),
            ints("target_nodeids", &leaves),
            ints("target_ids", &vec![0; leaves.len()]),
            floats(
                "target_weights",
                leaves.iter().map(|&id| id as f32).collect(),
            ),
        ],
        ..Default::default()
    };
    onnx.proto(node);
    ClassicalModel::load(&onnx.bytes(&["y"]), 2, 1)
}

#[test]
fn a_walk_through_a_tree_ends_whatever_the_file_says() {
    let leaf = "LEAF";
    let branch = "BRANCH_LEQ";
    let mut model = tree(&[1, 0, 0], &[2, 0, 0], &[branch, leaf, leaf]).unwrap();
    let mut answer = [0.0];
    model.infer(&[0.5, 9.0], &mut answer).unwrap();
    assert_eq!(answer, [1.0]);
    model.infer(&[0.6, 9.0], &mut answer).unwrap();
    assert_eq!(answer, [2.0]);
    for (if_true, if_false, modes) in [
        ([0, 0, 0], [1, 0, 0], [branch, leaf, leaf]),
        ([1, 0, 0], [2, 2, 0], [branch, branch, leaf]),
        ([1, 1, 0], [2, 2, 0], [branch, branch, leaf]),
        ([1, 0, 0], [9, 0, 0], [branch, leaf, leaf]),
    ] {
        let refused = tree(&if_true, &if_false, &modes).err().unwrap().to_string();
        assert!(refused.contains("TreeEnsembleRegressor"), "{refused}");
    }
}

#[test]
fn a_small_file_that_asks_for_much_is_refused() {
    let mut onnx = Onnx::new(DataType::Float, &[Dim::Fixed(1), Dim::Fixed(2)]);
    onnx.floats("column", &[1_000, 1], &[1.0; 1_000]);
    onnx.floats("row", &[1, 1_000], &[1.0; 1_000]);
    onnx.node("Add", &["column", "row"], "square");
    let sum = |n: usize| format!("sum{n}");
    (0..100).for_each(|n| onnx.node("ReduceSum", &["square"], &sum(n)));
    let sums: Vec<String> = (0..100).map(sum).collect();
    let inputs: Vec<&str> = sums.iter().map(String::as_str).collect();
    onnx.node("Sum", &inputs, "all");
    onnx.node("Add", &["x", "all"], "y");
    let file = onnx.bytes(&["y"]);
    let refused = ClassicalModel::load(&file, 2, 2).err().unwrap().to_string();
    assert!(refused.contains("more than 8388608 numbers"), "{refused}");
}

#[test]
fn operators_that_are_not_here_are_named() {
    let mut onnx = Onnx::new(DataType::Float, &[Dim::Fixed(1), Dim::Fixed(2)]);
    onnx.node("Scaler", &["x"], "a");
    onnx.node("DictVectorizer", &["a"], "y");
    let refused = ClassicalModel::load(&onnx.bytes(&["y"]), 2, 1)
        .err()
        .unwrap();
    let names = "DictVectorizer, Scaler".to_owned();
    assert_eq!(
        refused,
        LoadError::UnsupportedOps(names),
        "Scaler of ONNX's own domain"
    );
}

#[test]
fn every_operator_is_listed_once() {
    let names: Vec<&str> = operator_names().collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}
