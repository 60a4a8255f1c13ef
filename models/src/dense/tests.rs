use std::path::Path;

use tract_onnx::pb::tensor_proto::DataType;

use super::*;
use crate::fixture::{Dim, INPUTS, OUTPUTS, Onnx, Random, answer, tiny};
use crate::manifest::Precision;
use crate::tract::TractModel;

const ROW: [Dim; 2] = [Dim::Fixed(1), Dim::Fixed(INPUTS as i64)];

fn load_tiny(precision: Precision) -> DenseModel {
    DenseModel::load(&tiny(precision, &ROW), INPUTS, OUTPUTS).expect("it is sound")
}

fn random_features(random: &mut Random, len: usize, reach: f32) -> Vec<f32> {
    (0..len).map(|_| random.feature() * reach).collect()
}

fn run(model: &mut dyn Infer, features: &[f32]) -> Vec<f32> {
    let rows = features.len() / model.inputs();
    let mut outputs = vec![0.0; rows * model.outputs()];
    model.infer(features, &mut outputs).expect("it runs");
    outputs
}

/// Each output is within `tolerance` of the expected one.
fn check_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= tolerance,
            "{what}, {index}: {found} is not {expected}"
        );
    }
}

/// `expected`: a part of the error's text.
fn check_refused(onnx: &[u8], expected: &str) {
    let error = match DenseModel::load(onnx, INPUTS, INPUTS) {
        Ok(_) => panic!("loaded, expected {expected:?}"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains(expected), "{error:?} has no {expected:?}");
}

#[test]
fn both_precisions_give_the_outputs_computed_by_hand() {
    for precision in [Precision::Float32, Precision::Int8] {
        let mut model = load_tiny(precision);
        assert_eq!(model.backend(), format!("dense {precision}"));
        let mut random = Random(1);
        for case in 0..256 {
            // Up to twice what the int8 input holds: the rest saturates.
            let features: [f32; INPUTS] = std::array::from_fn(|_| random.feature() * 4.0);
            let expected = answer(precision, &features);
            let found = run(&mut model, &features);
            check_close(&found, &expected, 1e-5, &format!("{precision} case {case}"));
        }
    }
}

#[test]
fn halves_are_rounded_to_even_and_the_rest_saturates() {
    for (data_type, zero) in [(DataType::Int8, -3), (DataType::Uint8, 5)] {
        let mut onnx = Onnx::new(DataType::Float, &ROW);
        onnx.floats("scale", &[], &[0.5]);
        onnx.ints("zero", data_type, &[], &[zero]);
        let mut eye = [0; INPUTS * INPUTS];
        eye.iter_mut().step_by(INPUTS + 1).for_each(|one| *one = 1);
        onnx.ints(
            "eye_q",
            DataType::Int8,
            &[INPUTS as i64, INPUTS as i64],
            &eye,
        );
        onnx.floats("one", &[], &[1.0]);
        onnx.node("QuantizeLinear", &["x", "scale", "zero"], "q");
        onnx.node("DequantizeLinear", &["q", "scale", "zero"], "dq");
        onnx.node("DequantizeLinear", &["eye_q", "one"], "eye");
        onnx.node("MatMul", &["dq", "eye"], "y");
        let onnx = onnx.bytes(&["y"]);
        let mut model = DenseModel::load(&onnx, INPUTS, INPUTS).expect("sound");
        let (low, high) = tensor::range(data_type);
        let [low, high] = [low, high].map(|end| (end - zero) as f32 * 0.5);
        let ties = run(&mut model, &[0.25, 0.75, -0.75, 1.25]);
        assert_eq!(ties, [0.0, 1.0, -1.0, 1.0]);
        let far = run(&mut model, &[1e9, f32::NEG_INFINITY, f32::INFINITY, -1e30]);
        assert_eq!(far, [high, low, high, low]);
    }
}

#[test]
fn every_row_of_a_batch_gets_what_it_gets_alone() {
    for precision in [Precision::Float32, Precision::Int8] {
        let mut model = load_tiny(precision);
        for rows in 1..=model.batch_max() {
            let features = random_features(&mut Random(rows as u64), rows * INPUTS, 2.0);
            let together = run(&mut model, &features);
            let alone = features
                .chunks_exact(INPUTS)
                .flat_map(|row| run(&mut model, row));
            assert_eq!(together, alone.collect::<Vec<f32>>(), "{rows} rows");
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_answers() {
    for seed in 0..20 {
        let (onnx, inputs, outputs, _) = random_chain(&mut Random(seed), 3);
        let mut model = DenseModel::load(&onnx, inputs, outputs).expect("a chain");
        let features = random_features(&mut Random(seed), 3 * inputs, 2.5);
        let found = run(&mut model, &features);
        let Kernel::Int8(chain) = &mut model.kernel else {
            panic!("not quantized");
        };
        let mut expected = vec![0.0; 3 * outputs];
        chain.run(3, &features, &mut expected);
        assert_eq!(found, expected, "seed {seed}");
    }
    let onnx = pump_rig("model.float32.onnx");
    let mut model = DenseModel::load(&onnx, 31, 31).expect("a chain");
    let features = random_features(&mut Random(1), 3 * 31, 8.0);
    let found = run(&mut model, &features);
    let Kernel::Float32(chain) = &mut model.kernel else {
        panic!("quantized");
    };
    let mut expected = vec![0.0; 3 * 31];
    chain.run::<false>(3, &features, &mut expected);
    check_close(&found, &expected, 1e-4, "float32");
}

#[test]
fn slices_of_a_wrong_length_are_refused() {
    let mut model = load_tiny(Precision::Int8);
    let mut check = |features: usize, outputs: usize, expected: &str| {
        let error = model.infer(&vec![0.0; features], &mut vec![0.0; outputs]);
        assert_eq!(error.expect_err("refused").to_string(), expected);
    };
    check(0, 0, "features has 0 elements, expected 1 to 32 rows of 4");
    check(
        33 * INPUTS,
        33 * OUTPUTS,
        "features has 132 elements, expected 1 to 32 rows of 4",
    );
    check(
        2 * INPUTS,
        OUTPUTS,
        "outputs has 3 elements, expected 2 rows of 3",
    );
}

#[test]
fn a_feature_that_is_not_a_number_does_not_become_an_answer() {
    for precision in [Precision::Float32, Precision::Int8] {
        let mut model = load_tiny(precision);
        let mut features = [0.5; 3 * INPUTS];
        features[INPUTS + 2] = f32::NAN;
        let error = model.infer(&features, &mut [0.0; 3 * OUTPUTS]);
        assert_eq!(
            error,
            Err(InferError::NonFinite { row: 1, index: 0 }),
            "{precision}"
        );
    }
}

/// A chain of QDQ layers of random widths, types, zero points and scales; returns
/// the file, the number of features and of outputs, and the last grid's scale.
fn random_chain(random: &mut Random, layers: usize) -> (Vec<u8>, usize, usize, f32) {
    let width = |random: &mut Random| 1 + random.below(70);
    let mut from = width(random);
    let inputs = from;
    let mut onnx = Onnx::new(
        DataType::Float,
        &[Dim::Symbol("N"), Dim::Fixed(from as i64)],
    );
    let mut at = round(&mut onnx, random, "x", 0, 0.02);
    let mut scale = 0.02;
    for layer in 1..=layers {
        let to = width(random);
        at = product(&mut onnx, random, &at, layer, (from, to));
        if random.below(2) == 0 {
            let relu = format!("relu{layer}");
            onnx.node("Relu", &[&at], &relu);
            at = relu;
        }
        scale = 0.02 + 0.01 * random.below(4) as f32;
        at = round(&mut onnx, random, &at, layer, scale);
        from = to;
    }
    (onnx.bytes(&[&at]), inputs, from, scale)
}

/// A QuantizeLinear and DequantizeLinear pair; returns its output.
fn round(onnx: &mut Onnx, random: &mut Random, at: &str, layer: usize, scale: f32) -> String {
    let (data_type, zero) = match random.below(2) {
        0 => (DataType::Int8, random.below(200) as i32 - 100),
        _ => (DataType::Uint8, random.below(200) as i32),
    };
    let [s, z, q, dq] = ["s", "z", "q", "dq"].map(|prefix| format!("{prefix}{layer}"));
    onnx.floats(&s, &[], &[scale]);
    onnx.ints(&z, data_type, &[], &[zero]);
    onnx.node("QuantizeLinear", &[at, &s, &z], &q);
    onnx.node("DequantizeLinear", &[&q, &s, &z], &dq);
    dq
}

/// A Gemm with weights one way or the other round, scaled as a whole or by output.
fn product(
    onnx: &mut Onnx,
    random: &mut Random,
    at: &str,
    layer: usize,
    (from, to): (usize, usize),
) -> String {
    let is_transposed = random.below(2) == 1;
    let is_by_output = random.below(2) == 1;
    let by_output = [to as i64];
    let [w, wq, ws, b, out] = ["w", "wq", "ws", "b", "gemm"].map(|name| format!("{name}{layer}"));
    let weights: Vec<i32> = (0..from * to)
        .map(|_| random.below(255) as i32 - 127)
        .collect();
    let shape = if is_transposed {
        [to, from]
    } else {
        [from, to]
    };
    onnx.ints(&wq, DataType::Int8, &shape.map(|dim| dim as i64), &weights);
    let spread = 0.02 / (from as f32).sqrt();
    let scales: Vec<f32> = (0..to).map(|_| spread * (1.5 + random.feature())).collect();
    let scales = if is_by_output {
        &scales[..]
    } else {
        &scales[..1]
    };
    onnx.floats(&ws, &by_output[..usize::from(is_by_output)], scales);
    let axis = i64::from(!is_transposed);
    onnx.node_with("DequantizeLinear", &[&wq, &ws], &w, &[("axis", axis)]);
    onnx.floats(&b, &[to as i64], &random_features(random, to, 0.5));
    let transposed = [("transB", i64::from(is_transposed))];
    onnx.node_with("Gemm", &[at, &w, &b], &out, &transposed);
    out
}

/// The largest difference from tract, which runs the pairs in float32, and how many
/// of the outputs differ, over `rows` random rows.
fn differences(onnx: &[u8], inputs: usize, outputs: usize, rows: u64, reach: f32) -> (f32, usize) {
    let mut dense = DenseModel::load(onnx, inputs, outputs).expect("a chain");
    let mut tract = TractModel::load(onnx, inputs, outputs, Precision::Int8).expect("sound");
    let (mut worst, mut count) = (0.0_f32, 0);
    for seed in 0..rows {
        let features = random_features(&mut Random(seed), inputs, reach);
        let pairs = run(&mut dense, &features)
            .into_iter()
            .zip(run(&mut tract, &features));
        for (dense, tract) in pairs {
            worst = worst.max((dense - tract).abs());
            count += usize::from((dense - tract).abs() > 1e-5);
        }
    }
    (worst, count)
}

#[test]
fn one_quantized_layer_is_within_a_quantum_of_tract() {
    for seed in 0..60 {
        let (onnx, inputs, outputs, quantum) = random_chain(&mut Random(seed), 1);
        let (worst, count) = differences(&onnx, inputs, outputs, 40, 2.5);
        assert!(
            worst <= quantum * 1.001,
            "seed {seed}: off by {worst}, quantum {quantum}"
        );
        // Sums that lie on a half, and are not the same half in float32.
        assert!(
            count <= outputs * 40 / 50,
            "seed {seed}: {count} of {} differ",
            outputs * 40
        );
    }
}

#[test]
fn quantized_chains_follow_tract() {
    for seed in 0..30 {
        let (onnx, inputs, outputs, quantum) = random_chain(&mut Random(seed), 4);
        let (worst, count) = differences(&onnx, inputs, outputs, 20, 2.5);
        assert!(
            worst <= quantum * 2.001,
            "seed {seed}: off by {worst}, quantum {quantum}"
        );
        assert!(
            count <= outputs * 20 / 20,
            "seed {seed}: {count} of {} differ",
            outputs * 20
        );
    }
}

fn pump_rig(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pump-rig");
    std::fs::read(folder.join(file)).expect("part of the repository")
}

#[test]
fn the_pump_rig_answers_as_on_tract() {
    let (worst, _) = differences(&pump_rig("model.float32.onnx"), 31, 31, 200, 8.0);
    assert!(worst <= 1e-4, "float32 off by {worst}");
    // The output's scale.
    let quantum = 0.066_014_1;
    let (worst, _) = differences(&pump_rig("model.int8.onnx"), 31, 31, 200, 8.0);
    assert!(worst <= quantum * 1.001, "int8 off by {worst}");
}

/// The MLPerf Tiny anomaly detector, as in tract's tests.
fn ad01(name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    let bytes = std::fs::read(folder.join(name)).ok();
    if bytes.is_none() {
        eprintln!("SKIPPED: no {name} in {}", folder.display());
    }
    bytes
}

#[test]
fn ad01_answers_as_on_tract() {
    let check = |name: &str, tolerance: f32| {
        let Some(onnx) = ad01(name) else { return };
        let (worst, _) = differences(&onnx, 640, 640, 30, 40.0);
        assert!(worst <= tolerance, "{name}: off by {worst}");
    };
    check("ad01_fp32.onnx", 1e-3);
    // Ten layers of two roundings each: a step of the last grid, 0.305.
    check("ad01_int8_qdq.onnx", 0.306);
}

/// A graph that is refused, made from `x` and an identity matrix `w`.
fn check_graph(build: impl FnOnce(&mut Onnx), output: &str, expected: &str) {
    let mut onnx = Onnx::new(DataType::Float, &ROW);
    let n = INPUTS as i64;
    onnx.floats("w", &[n, n], &[0.5; INPUTS * INPUTS]);
    onnx.floats("scale", &[], &[0.5]);
    onnx.floats("other", &[], &[0.25]);
    onnx.ints("zero", DataType::Int8, &[], &[0]);
    build(&mut onnx);
    check_refused(&onnx.bytes(&[output]), expected);
}

#[test]
fn what_is_no_chain_of_dense_layers_is_refused_with_the_node_and_the_reason() {
    check_graph(
        |onnx| onnx.node("Softmax", &["x"], "y"),
        "y",
        "node \"Softmax_y\": Softmax is not supported",
    );
    check_graph(
        |onnx| {
            onnx.node("MatMul", &["x", "w"], "a");
            onnx.node("Add", &["a", "x"], "y");
        },
        "y",
        "node \"x\": more than one node takes it",
    );
    check_graph(
        |onnx| {
            onnx.node("MatMul", &["x", "w"], "y");
            onnx.node("Relu", &["y"], "z");
        },
        "y",
        "node \"y\": there are nodes beside the chain",
    );
    check_graph(
        |onnx| onnx.node("MatMul", &["x", "w"], "a"),
        "y",
        "node \"a\": no node takes it",
    );
    check_graph(
        |onnx| onnx.node("MatMul", &["w", "x"], "y"),
        "y",
        "\"MatMul_y\": its inputs are not",
    );
    check_graph(
        |onnx| onnx.node("MatMul", &["x", "v"], "y"),
        "y",
        "\"v\" is not a constant",
    );
    check_graph(|onnx| onnx.node("Relu", &["x"], "y"), "y", "0 dense layers");
    check_graph(
        |onnx| onnx.node_with("Gemm", &["x", "w"], "y", &[("transA", 1)]),
        "y",
        "\"Gemm_y\": only alpha 1, beta 1 and transA 0",
    );
    check_graph(
        |onnx| onnx.node_with("Gemm", &["x", "w"], "y", &[("warp", 1)]),
        "y",
        "attribute \"warp\" is not supported",
    );
    check_graph(
        |onnx| {
            onnx.floats("b", &[3], &[0.0; 3]);
            onnx.node("Gemm", &["x", "w", "b"], "y");
        },
        "y",
        "\"Gemm_y\": adds 3 values to 4",
    );
    check_graph(
        |onnx| {
            onnx.node("Relu", &["x"], "a");
            onnx.node("MatMul", &["a", "w"], "y");
        },
        "y",
        "\"Relu_a\": is not after a product",
    );
}

#[test]
fn quantized_graphs_that_integers_cannot_compute_are_refused() {
    let round = |onnx: &mut Onnx, at: &str, back: &str| {
        onnx.node("QuantizeLinear", &[at, "scale", "zero"], "q");
        onnx.node("DequantizeLinear", &["q", back, "zero"], "dq");
    };
    check_graph(
        |onnx| round(onnx, "x", "other"),
        "dq",
        "no DequantizeLinear of the same scale",
    );
    check_graph(
        |onnx| {
            round(onnx, "x", "scale");
            onnx.node("MatMul", &["dq", "w"], "y");
        },
        "y",
        "\"MatMul_y\": its weights are not int8",
    );
    check_graph(
        |onnx| {
            onnx.node("MatMul", &["x", "w"], "a");
            round(onnx, "a", "scale");
        },
        "dq",
        "the input is not",
    );
    for scale in [0.0, -0.5, 1e-40] {
        check_graph(
            |onnx| {
                onnx.floats("bad", &[], &[scale]);
                onnx.node("QuantizeLinear", &["x", "bad", "zero"], "q");
            },
            "q",
            "a scale is not above 0",
        );
    }
    check_graph(
        |onnx| onnx.ints("wide", DataType::Int8, &[1], &[128]),
        "x",
        "node \"wide\": initializer: 128 is not in -128 to 127",
    );
}

#[test]
fn absurd_shapes_cost_nothing() {
    for (dims, expected) in [
        ([-1, 4], "constant \"v\" has a negative dimension"),
        ([i64::MAX, i64::MAX], "its constants up to \"v\" need"),
        ([1 << 40, 0], "is empty, or more than"),
        ([1 << 31, 1 << 31], "its constants up to \"v\" need"),
    ] {
        check_graph(|onnx| onnx.floats("v", &dims, &[]), "x", expected);
    }
    check_graph(
        |onnx| onnx.floats("v", &[9, 9], &[0.0; 80]),
        "x",
        "80 values, its shape [9, 9] has 81",
    );
    check_graph(
        |onnx| onnx.external("v", &[4], "/etc/passwd"),
        "x",
        "in another file, \"/etc/passwd\"",
    );
    check_graph(
        |onnx| onnx.floats("v", &[1], &[f32::NAN]),
        "x",
        "value 0 is not finite",
    );
}

/// A quantized layer of one weight for all.
fn uniform(inputs: usize, outputs: usize) -> Vec<u8> {
    let dims = [Dim::Fixed(1), Dim::Fixed(inputs as i64)];
    let mut onnx = Onnx::new(DataType::Float, &dims);
    let shape = [inputs as i64, outputs as i64];
    onnx.ints("v", DataType::Int8, &shape, &vec![1; inputs * outputs]);
    onnx.floats("scale", &[], &[0.5]);
    onnx.ints("zero", DataType::Int8, &[], &[0]);
    onnx.node("QuantizeLinear", &["x", "scale", "zero"], "q");
    onnx.node("DequantizeLinear", &["q", "scale", "zero"], "dq");
    onnx.node("DequantizeLinear", &["v", "scale", "zero"], "w");
    onnx.node("MatMul", &["dq", "w"], "y");
    onnx.bytes(&["y"])
}

#[test]
fn layers_beyond_the_bounds_are_refused() {
    let check = |inputs: usize, outputs: usize, expected: &str| {
        let error = DenseModel::load(&uniform(inputs, outputs), inputs, outputs).err();
        let text = error.expect("too large").to_string();
        assert!(text.contains(expected), "{text:?} has no {expected:?}");
    };
    // 65 inputs are filled up to 96: the padding counts.
    check(
        65,
        60_000,
        "\"MatMul_y\": the model has more than 4194304 weights",
    );
    check(
        1,
        WIDTH_MAX + 1,
        "\"MatMul_y\": gives more than 65536 values",
    );
    check(32_769, 1, "\"MatMul_y\": more than 32768 inputs");
    let mut widest = DenseModel::load(&uniform(32_768, 1), 32_768, 1).expect("within bounds");
    assert_eq!(run(&mut widest, &[-64.0; 32_768]), [-64.0 * 0.5 * 32_768.0]);
}

#[test]
fn a_shape_other_than_the_manifest_says_is_refused() {
    let onnx = tiny(Precision::Float32, &ROW);
    let check = |inputs: usize, outputs: usize, expected: &str| {
        let error = DenseModel::load(&onnx, inputs, outputs)
            .err()
            .expect("refused");
        assert!(
            error.to_string().contains(expected),
            "{error} has no {expected:?}"
        );
    };
    check(5, OUTPUTS, "expected 5 f32 at batch 1");
    check(INPUTS, 2, "output is 3 wide, expected 2 f32 at batch 1");
    check(0, OUTPUTS, "expected 0 f32");
    check(usize::MAX, OUTPUTS, "f32 at batch 1");
}

/// Loads a damaged file, and runs it if it loads: either may fail, neither may panic.
fn survive(onnx: &[u8], inputs: usize, outputs: usize) -> bool {
    let Ok(mut model) = DenseModel::load(onnx, inputs, outputs) else {
        return false;
    };
    let _ = model.infer(&vec![0.5; 2 * inputs], &mut vec![0.0; 2 * outputs]);
    true
}

#[test]
fn every_truncation_is_refused() {
    for precision in [Precision::Float32, Precision::Int8] {
        let onnx = tiny(precision, &ROW);
        for len in 0..onnx.len() {
            let is_loaded = survive(&onnx[..len], INPUTS, OUTPUTS);
            // The operator set is the last field; its version may be cut off.
            assert!(
                !is_loaded || len >= onnx.len() - 2,
                "{len} of {} bytes loaded",
                onnx.len()
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_survived() {
    for precision in [Precision::Float32, Precision::Int8] {
        let onnx = tiny(precision, &ROW);
        for bit in 0..onnx.len() * 8 {
            let mut damaged = onnx.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            survive(&damaged, INPUTS, OUTPUTS);
        }
    }
}

#[test]
fn random_bytes_and_damaged_files_are_survived() {
    let mut random = Random(2);
    for len in 0..512 {
        let bytes: Vec<u8> = (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        assert!(
            !survive(&bytes, INPUTS, OUTPUTS),
            "{len} random bytes loaded"
        );
    }
    let onnx = pump_rig("model.int8.onnx");
    for _ in 0..2_000 {
        let mut damaged = onnx.clone();
        for _ in 0..4 {
            damaged[random.below(onnx.len())] ^= 1 << random.below(8);
        }
        survive(&damaged, 31, 31);
    }
}
