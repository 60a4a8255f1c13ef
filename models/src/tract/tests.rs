use std::path::Path;

use tract_onnx::pb::tensor_proto::DataType;

use super::*;
use crate::fixture::{Dim, HIDDEN, INPUTS, OUTPUTS, Onnx, Random, STEPS, answer, recurrent, tiny};

const ROW: [Dim; 2] = [Dim::Fixed(1), Dim::Fixed(INPUTS as i64)];
/// Summation order is the kernel's, so the last bits may differ.
const CLOSE: f32 = 1e-5;

fn load_tiny(precision: Precision) -> TractModel {
    TractModel::load(&tiny(precision, &ROW), INPUTS, OUTPUTS, precision).expect("it is sound")
}

fn features(seed: u64) -> [f32; INPUTS] {
    let mut random = Random(seed);
    std::array::from_fn(|_| random.feature())
}

fn check_answers(model: &mut TractModel, precision: Precision) {
    for seed in 0..64 {
        let features = features(seed);
        let mut outputs = [0.0; OUTPUTS];
        model.infer(&features, &mut outputs).expect("it runs");
        for (found, expected) in outputs.iter().zip(answer(precision, &features)) {
            let off = (found - expected).abs();
            assert!(off <= CLOSE, "seed {seed}: {found} is not {expected}");
        }
    }
}

/// `expected`: a part of the error's text.
fn check_refused(onnx: &[u8], inputs: usize, outputs: usize, expected: &str) {
    let error = match TractModel::load(onnx, inputs, outputs, Precision::Float32) {
        Ok(_) => panic!("loaded, expected {expected:?}"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains(expected), "{error:?} has no {expected:?}");
}

#[test]
fn both_precisions_give_the_outputs_computed_by_hand() {
    for precision in [Precision::Float32, Precision::Int8] {
        check_answers(&mut load_tiny(precision), precision);
    }
}

#[test]
fn open_batch_axes_become_one() {
    let n = Dim::Fixed(INPUTS as i64);
    let shapes: [&[Dim]; 4] = [&ROW, &[Dim::Symbol("N"), n], &[Dim::Open, n], &[n]];
    for dims in shapes {
        let onnx = tiny(Precision::Float32, dims);
        let mut model = TractModel::load(&onnx, INPUTS, OUTPUTS, Precision::Float32).expect("fine");
        check_answers(&mut model, Precision::Float32);
    }
}

fn load_batched(precision: Precision) -> TractModel {
    let dims = [Dim::Symbol("N"), Dim::Fixed(INPUTS as i64)];
    TractModel::load(&tiny(precision, &dims), INPUTS, OUTPUTS, precision).expect("it is sound")
}

#[test]
fn every_row_of_a_batch_gets_what_it_gets_alone() {
    for precision in [Precision::Float32, Precision::Int8] {
        let mut model = load_batched(precision);
        assert_eq!(model.batch_max(), BATCH_MAX);
        for rows in 1..=BATCH_MAX {
            let features: Vec<f32> = (0..rows as u64).flat_map(features).collect();
            let mut outputs = vec![0.0; rows * OUTPUTS];
            model.infer(&features, &mut outputs).expect("it runs");
            let answers = outputs.chunks_exact(OUTPUTS);
            for (row, found) in features.chunks_exact(INPUTS).zip(answers) {
                let mut alone = [0.0; OUTPUTS];
                model.infer(row, &mut alone).expect("it runs");
                assert!(alone.iter().zip(found).all(|(a, b)| (a - b).abs() <= 1e-6));
            }
        }
    }
}

#[test]
fn a_batch_of_too_many_rows_or_of_broken_ones_is_refused() {
    let mut model = load_batched(Precision::Float32);
    let mut check = |features: usize, outputs: usize, expected: &str| {
        let error = model.infer(&vec![0.0; features], &mut vec![0.0; outputs]);
        assert_eq!(error.expect_err("refused").to_string(), expected);
    };
    let rows = "expected 1 to 32 rows of 4";
    for features in [0, 1, 3, 5, 33 * INPUTS] {
        check(
            features,
            0,
            &format!("features has {features} elements, {rows}"),
        );
    }
    check(
        2 * INPUTS,
        3,
        "outputs has 3 elements, expected 2 rows of 3",
    );
}

/// Equal windows get equal outputs, bit by bit, whatever ran before and how often.
fn check_pure(op: &str, gates: usize, attributes: &[(&str, i64)]) {
    let onnx = recurrent(op, gates, attributes);
    let load = || TractModel::load(&onnx, STEPS * INPUTS, HIDDEN, Precision::Float32);
    let run = |model: &mut TractModel, seed: u64| {
        let mut random = Random(seed);
        let window: Vec<f32> = (0..STEPS * INPUTS).map(|_| random.feature()).collect();
        let mut outputs = [0.0; HIDDEN];
        model.infer(&window, &mut outputs).expect("it runs");
        outputs
    };
    let fresh = [1, 2].map(|seed| run(&mut load().expect("it is sound"), seed));
    assert_ne!(
        fresh[0], fresh[1],
        "{op} {attributes:?}: it sees its window"
    );
    let mut model = load().expect("it is sound");
    for seed in [1, 1, 2, 1, 2, 2] {
        let (found, expected) = (run(&mut model, seed), fresh[seed as usize - 1]);
        assert_eq!(found, expected, "{op} {attributes:?}, window {seed}");
    }
}

#[test]
fn a_recurrent_layer_remembers_nothing_of_the_run_before() {
    check_pure("LSTM", 4, &[]);
    check_pure("RNN", 1, &[]);
    check_pure("GRU", 3, &[]);
    // tract has one operator for the whole of this one.
    check_pure("GRU", 3, &[("linear_before_reset", 1)]);
}

#[test]
fn a_fixed_batch_axis_or_rows_that_mix_mean_one_row_a_call() {
    assert_eq!(load_tiny(Precision::Float32).batch_max(), 1);
    let dims = [Dim::Symbol("N"), Dim::Fixed(INPUTS as i64)];
    let mut onnx = Onnx::new(DataType::Float, &dims);
    onnx.node_with("Softmax", &["x"], "y", &[("axis", 0)]);
    let onnx = onnx.bytes(&["y"]);
    let model = TractModel::load(&onnx, INPUTS, INPUTS, Precision::Float32).expect("it is sound");
    assert_eq!(model.batch_max(), 1);
}

#[test]
fn backend_names_runtime_and_precision() {
    assert_eq!(load_tiny(Precision::Int8).backend(), "tract int8");
    assert_eq!(load_tiny(Precision::Float32).backend(), "tract float32");
}

#[test]
fn a_model_moves_to_another_thread() {
    let mut model = load_tiny(Precision::Int8);
    let thread = std::thread::spawn(move || check_answers(&mut model, Precision::Int8));
    thread.join().expect("it runs there");
}

#[test]
fn slices_of_a_wrong_length_are_refused_and_the_next_run_is_fine() {
    let mut model = load_tiny(Precision::Float32);
    let mut outputs = [0.0; OUTPUTS];
    for len in [0, INPUTS - 1, INPUTS + 1] {
        let error = model.infer(&vec![0.0; len], &mut outputs);
        assert_eq!(
            error,
            Err(InferError::Shape {
                side: "features",
                row: INPUTS,
                rows_min: 1,
                rows_max: 1,
                found: len
            })
        );
    }
    let error = model
        .infer(&[0.0; INPUTS], &mut outputs[1..])
        .expect_err("too short");
    assert_eq!(
        error.to_string(),
        "outputs has 2 elements, expected 1 row of 3"
    );
    check_answers(&mut model, Precision::Float32);
}

/// Seven divided by each feature, computed in `data_type`.
fn quotient(data_type: DataType) -> TractModel {
    let mut onnx = Onnx::new(DataType::Float, &ROW);
    onnx.floats("seven", &[1], &[7.0]);
    let to = [("to", data_type as i64)];
    onnx.node_with("Cast", &["x"], "divisor", &to);
    onnx.node_with("Cast", &["seven"], "dividend", &to);
    onnx.node("Div", &["dividend", "divisor"], "ratio");
    onnx.node_with("Cast", &["ratio"], "y", &[("to", DataType::Float as i64)]);
    let onnx = onnx.bytes(&["y"]);
    TractModel::load(&onnx, INPUTS, INPUTS, Precision::Float32).expect("it is sound")
}

#[test]
fn outputs_that_are_not_finite_are_an_error() {
    let mut model = quotient(DataType::Float);
    let mut outputs = [0.0; INPUTS];
    let error = model.infer(&[1.0, 2.0, 0.0, 4.0], &mut outputs);
    assert_eq!(error, Err(InferError::NonFinite { row: 0, index: 2 }));
    model
        .infer(&[1.0, 2.0, 7.0, 4.0], &mut outputs)
        .expect("finite");
    assert_eq!(outputs, [7.0, 3.5, 1.0, 1.75]);
}

#[test]
fn a_panic_in_the_runtime_is_an_error_and_the_next_run_is_fine() {
    let mut model = quotient(DataType::Int32);
    let mut outputs = [0.0; INPUTS];
    for _ in 0..3 {
        let error = model.infer(&[1.0, 2.0, 0.0, 4.0], &mut outputs);
        let text = "attempt to divide by zero".to_owned();
        assert_eq!(error, Err(InferError::Panicked(text)));
        model
            .infer(&[1.0, 2.0, 7.0, 4.0], &mut outputs)
            .expect("no zero");
        assert_eq!(outputs, [7.0, 3.0, 1.0, 1.0]);
    }
}

#[test]
fn a_shape_other_than_the_manifest_says_is_refused_with_both() {
    let onnx = tiny(Precision::Float32, &ROW);
    check_refused(&onnx, 5, OUTPUTS, "input is 1,4,F32, expected 5 f32");
    check_refused(&onnx, INPUTS, 2, "output is 1,3,F32, expected 2 f32");
    let mut doubles = Onnx::new(DataType::Double, &ROW);
    doubles.node("Relu", &["x"], "y");
    check_refused(&doubles.bytes(&["y"]), INPUTS, INPUTS, "input is 1,4,F64");
}

#[test]
fn unsupported_operators_are_named() {
    let mut onnx = Onnx::new(DataType::Float, &ROW);
    onnx.node("WarpDrive", &["x"], "a");
    onnx.node("FluxCapacitor", &["a"], "b");
    onnx.node("WarpDrive", &["b"], "y");
    let expected = "does not have: FluxCapacitor, WarpDrive;";
    check_refused(&onnx.bytes(&["y"]), INPUTS, INPUTS, expected);
}

#[test]
fn a_model_in_half_precision_runs_in_single() {
    // 1, 0.5, −2, the least subnormal.
    let bits = [0x3c00, 0x3800, 0xc000, 0x0001];
    let answer = |inputs_are_half: bool| {
        let kind = if inputs_are_half {
            DataType::Float16
        } else {
            DataType::Float
        };
        let mut onnx = Onnx::new(kind, &ROW);
        onnx.halves("w", &[1, INPUTS as i64], &bits);
        if inputs_are_half {
            onnx.node("Mul", &["x", "w"], "y");
        } else {
            onnx.node_with("Cast", &["x"], "half", &[("to", 10)]);
            onnx.node("Mul", &["half", "w"], "product");
            onnx.node_with("Cast", &["product"], "y", &[("to", 1)]);
        }
        let file = onnx.bytes(&["y"]);
        let mut model = TractModel::load(&file, INPUTS, INPUTS, Precision::Float32).unwrap();
        let mut outputs = [0.0; INPUTS];
        model.infer(&[3.0; INPUTS], &mut outputs).unwrap();
        outputs
    };
    let expected = [3.0, 1.5, -6.0, 3.0 / 16_777_216.0];
    assert_eq!([answer(true), answer(false)], [expected; 2]);
}

#[test]
fn graphs_of_another_kind_are_refused() {
    let mut pair = Onnx::new(DataType::Float, &ROW);
    pair.input("z", DataType::Float, &ROW);
    pair.node("Add", &["x", "z"], "y");
    check_refused(
        &pair.bytes(&["y", "x"]),
        INPUTS,
        INPUTS,
        "2 inputs and 2 outputs",
    );

    let mut external = Onnx::new(DataType::Float, &ROW);
    external.external("w", &[INPUTS as i64], "/etc/passwd");
    external.node("Add", &["x", "w"], "y");
    let remedy = "in another file, \"/etc/passwd\": export with external_data=False";
    check_refused(&external.bytes(&["y"]), INPUTS, INPUTS, remedy);

    let mut open = Onnx::new(DataType::Float, &ROW);
    open.node("NonZero", &["x"], "indices");
    open.node_with("Cast", &["indices"], "y", &[("to", DataType::Float as i64)]);
    check_refused(&open.bytes(&["y"]), INPUTS, INPUTS, "open shape");

    let mut huge = Onnx::new(DataType::Float, &ROW);
    huge.floats("one", &[1, 1], &[1.0]);
    huge.floats("column", &[1 << 25, 1], &vec![0.0; 1 << 25]);
    huge.node("MatMul", &["column", "x"], "y");
    check_refused(
        &huge.bytes(&["y"]),
        INPUTS,
        INPUTS,
        "at most 67108864 are allowed",
    );
}

/// Loads a damaged file, and runs it if it loads: either may fail, neither may panic.
fn survive(onnx: &[u8], inputs: usize, outputs: usize) -> bool {
    let Ok(mut model) = TractModel::load(onnx, inputs, outputs, Precision::Float32) else {
        return false;
    };
    let _ = model.infer(&vec![0.5; inputs], &mut vec![0.0; outputs]);
    true
}

#[test]
fn every_truncation_is_refused() {
    // The operator set is the last field, and a file without it is whole.
    const OPERATOR_SET_BYTES: usize = 4;
    let onnx = tiny(Precision::Int8, &ROW);
    for len in 0..onnx.len() - OPERATOR_SET_BYTES {
        let is_loaded = survive(&onnx[..len], INPUTS, OUTPUTS);
        assert!(!is_loaded, "{len} of {} bytes loaded", onnx.len());
    }
}

#[test]
fn every_flipped_byte_is_survived() {
    let onnx = tiny(Precision::Int8, &ROW);
    let mut random = Random(1);
    for at in 0..onnx.len() {
        let mut damaged = onnx.clone();
        damaged[at] ^= 1 << random.below(8);
        survive(&damaged, INPUTS, OUTPUTS);
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random(2);
    for len in 0..512 {
        let bytes: Vec<u8> = (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        assert!(
            !survive(&bytes, INPUTS, OUTPUTS),
            "{len} random bytes loaded"
        );
    }
}

/// The MLPerf Tiny anomaly detector: 640 features and outputs. The files are not
/// part of the repository; `None` says so aloud.
fn ad01(name: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models");
    let bytes = std::fs::read(folder.join(name)).ok();
    if bytes.is_none() {
        eprintln!("SKIPPED: no {name} in {}", folder.display());
    }
    bytes
}

const AD01: usize = 640;

/// The int8 file was calibrated on synthetic data, for speed and parity only. Over
/// the 49 seeds below, the root mean square of its error is 0.05 to 0.15 of that of
/// the float32 outputs; a runtime that gets int8 wrong is off by 1 or more.
const AD01_INT8_ERROR: f32 = 0.2;

/// The int8 file's input scale covers −75 to 7: log-mel energies in dB.
fn ad01_features(seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..AD01).map(|_| random.feature() * 40.0 - 34.0).collect()
}

fn run(model: &mut TractModel, features: &[f32]) -> Vec<f32> {
    let mut outputs = vec![0.0; model.outputs()];
    model.infer(features, &mut outputs).expect("it runs");
    outputs
}

fn rms(values: &[f32]) -> f32 {
    let sum: f32 = values.iter().map(|value| value * value).sum();
    (sum / values.len() as f32).sqrt()
}

#[test]
fn ad01_int8_is_close_to_float32_and_repeats_itself() {
    let (Some(float32), Some(int8)) = (ad01("ad01_fp32.onnx"), ad01("ad01_int8_qdq.onnx")) else {
        return;
    };
    let mut float32 = TractModel::load(&float32, AD01, AD01, Precision::Float32).expect("loads");
    let mut int8 = TractModel::load(&int8, AD01, AD01, Precision::Int8).expect("loads");
    let first = run(&mut int8, &ad01_features(0));
    for seed in 1..50 {
        let features = ad01_features(seed);
        let (exact, rounded) = (run(&mut float32, &features), run(&mut int8, &features));
        let off: Vec<f32> = exact.iter().zip(&rounded).map(|(a, b)| a - b).collect();
        let error = rms(&off) / rms(&exact);
        assert!(error <= AD01_INT8_ERROR, "seed {seed}: off by {error}");
    }
    assert_eq!(run(&mut int8, &ad01_features(0)), first);
}

#[test]
fn damaged_ad01_is_survived() {
    let Some(onnx) = ad01("ad01_int8_qdq.onnx") else {
        return;
    };
    let mut random = Random(3);
    for _ in 0..40 {
        let mut damaged = onnx.clone();
        for _ in 0..4 {
            damaged[random.below(onnx.len())] ^= 1 << random.below(8);
        }
        survive(&damaged, AD01, AD01);
        let cut = random.below(onnx.len());
        assert!(!survive(&onnx[..cut], AD01, AD01), "{cut} bytes loaded");
    }
}
