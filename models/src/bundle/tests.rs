use std::fs;

use serde::Deserialize;
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataType;

use super::*;
use crate::fixture::{Dim, INPUTS, Onnx, answer, tiny};

/// Stands in for the engine's section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline {
    window: usize,
}

/// The files of a sound bundle, for tests to spoil. The manifest's digests are
/// those of the files when it is written out.
struct Recipe {
    manifest: String,
    int8: Vec<u8>,
    float32: Vec<u8>,
    golden: String,
}

const MANIFEST_TEXT: &str = r#"format = 1
[model]
name = "tiny"
version = "1.0.0"
description = "four features, three outputs"
licence = "Apache-2.0 OR MIT"
data = "none"
inputs = 4
outputs = 3
[[variants]]
precision = "int8"
backend = "tract"
file = "model.int8.onnx"
sha256 = "INT8"
[[variants]]
precision = "float32"
backend = "tract"
file = "model.onnx"
sha256 = "FLOAT32"
[golden]
file = "golden.json"
sha256 = "GOLDEN"
[pipeline]
window = 16
"#;

const FEATURES: [[f32; INPUTS]; 2] = [[0.5, -0.25, 1.0, 0.125], [-1.0, 0.75, 0.0, 0.5]];

fn golden() -> String {
    let vectors: Vec<String> = FEATURES
        .iter()
        .map(|features| {
            format!(
                r#"{{"readings":[[1.5,2],[3,4]],"features":{features:?},
                "outputs":{{"int8":{:?},"float32":{:?}}},"score":{{"int8":0.5,"float32":0.25}}}}"#,
                answer(Precision::Int8, features),
                answer(Precision::Float32, features),
            )
        })
        .collect();
    format!(
        r#"{{"vectors":[{}],"tolerance":{{"features":1e-5,"outputs":{{"int8":0.01,"float32":1e-4}}}}}}"#,
        vectors.join(",")
    )
}

impl Recipe {
    fn sound() -> Self {
        let dims = [Dim::Fixed(1), Dim::Fixed(INPUTS as i64)];
        Recipe {
            manifest: MANIFEST_TEXT.to_owned(),
            int8: tiny(Precision::Int8, &dims),
            float32: tiny(Precision::Float32, &dims),
            golden: golden(),
        }
    }

    fn manifest(&self) -> String {
        self.manifest
            .replace("INT8", &sha256_hex(&self.int8))
            .replace("FLOAT32", &sha256_hex(&self.float32))
            .replace("GOLDEN", &sha256_hex(self.golden.as_bytes()))
    }

    fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let manifest = self.manifest();
        let files: [(&str, &[u8]); 4] = [
            (MANIFEST, manifest.as_bytes()),
            ("model.int8.onnx", &self.int8),
            ("model.onnx", &self.float32),
            ("golden.json", self.golden.as_bytes()),
        ];
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        folder
    }
}

fn open(folder: &TempDir) -> Result<Bundle<Pipeline>, BundleError> {
    Bundle::open(folder.path())
}

/// Opens the bundle, and loads a variant of each precision.
fn open_whole(folder: &TempDir) -> Result<Bundle<Pipeline>, BundleError> {
    let bundle = open(folder)?;
    for precision in [Precision::Int8, Precision::Float32] {
        bundle.load(&Runtimes::default(), Choice::Only(precision))?;
    }
    Ok(bundle)
}

/// Opens and loads the bundle after `spoil`; the error must hold every one of `expected`.
fn check_refused(spoil: impl FnOnce(&mut Recipe), expected: &[&str]) {
    let mut recipe = Recipe::sound();
    spoil(&mut recipe);
    let folder = recipe.write();
    check_error(open_whole(&folder).expect_err("it is spoilt"), expected);
}

fn check_error(error: BundleError, expected: &[&str]) {
    let text = error.to_string();
    for part in expected {
        assert!(text.contains(part), "{text:?} has no {part:?}");
    }
}

/// Replaces one line's text in the manifest.
fn check_manifest(from: &str, to: &str, expected: &[&str]) {
    assert!(MANIFEST_TEXT.contains(from), "nothing to replace: {from:?}");
    check_refused(
        |recipe| recipe.manifest = recipe.manifest.replace(from, to),
        expected,
    );
}

fn check_golden(from: &str, to: &str, expected: &[&str]) {
    assert!(golden().contains(from), "nothing to replace: {from:?}");
    check_refused(
        |recipe| recipe.golden = recipe.golden.replacen(from, to, 1),
        expected,
    );
}

/// Loads a bundle that opens, after `spoil`.
fn loaded_backend(spoil: impl FnOnce(&mut Recipe), choice: Choice) -> (String, String) {
    let mut recipe = Recipe::sound();
    spoil(&mut recipe);
    let folder = recipe.write();
    let bundle = open(&folder).expect("it opens");
    let loaded = bundle
        .load(&Runtimes::default(), choice)
        .expect("one variant works");
    let skipped: Vec<String> = loaded.skipped.iter().map(ToString::to_string).collect();
    (loaded.model.backend().to_owned(), skipped.join("; "))
}

#[test]
fn a_sound_bundle_opens_with_all_its_parts() {
    let folder = Recipe::sound().write();
    let bundle = open(&folder).expect("sound");
    assert_eq!(bundle.manifest().model.name, "tiny");
    assert_eq!(bundle.manifest().pipeline, Pipeline { window: 16 });
    assert_eq!(bundle.manifest().variants.len(), 2);
    assert_eq!(
        bundle.golden().vectors[0].readings,
        [[1.5, 2.0], [3.0, 4.0]]
    );
    assert_eq!(bundle.golden().vectors[1].score[&Precision::Float32], 0.25);
    let manifest = fs::read(folder.path().join(MANIFEST)).expect("there");
    assert_eq!(bundle.digest(), sha256_hex(&manifest));
}

#[test]
fn the_digest_follows_every_file() {
    let digest = |recipe: &Recipe| open(&recipe.write()).expect("sound").digest().to_owned();
    let mut recipe = Recipe::sound();
    let first = digest(&recipe);
    assert_eq!(digest(&recipe), first);
    recipe.golden.push('\n');
    assert_ne!(digest(&recipe), first);
}

#[test]
fn an_embedded_bundle_is_the_same_bundle() {
    let recipe = Recipe::sound();
    let leak = |bytes: &[u8]| -> &'static [u8] { bytes.to_vec().leak() };
    let files = vec![
        (MANIFEST, leak(recipe.manifest().as_bytes())),
        ("model.int8.onnx", leak(&recipe.int8)),
        ("model.onnx", leak(&recipe.float32)),
        ("golden.json", leak(recipe.golden.as_bytes())),
    ];
    let all: &'static [(&str, &[u8])] = files.leak();
    let bundle = Bundle::<Pipeline>::embedded(all).expect("sound");
    let folder = recipe.write();
    assert_eq!(bundle.digest(), open(&folder).expect("sound").digest());
    let loaded = bundle
        .load(&Runtimes::default(), Choice::Any)
        .expect("it works");
    assert_eq!(loaded.model.backend(), "tract int8");

    let error = Bundle::<Pipeline>::embedded(&all[..3]).expect_err("no golden file");
    check_error(error, &["golden.json (in the binary): not embedded"]);
}

#[test]
fn the_first_variant_that_works_is_loaded() {
    let (backend, skipped) = loaded_backend(|_| {}, Choice::Any);
    assert_eq!((backend.as_str(), skipped.as_str()), ("tract int8", ""));
    let (backend, skipped) = loaded_backend(|_| {}, Choice::Only(Precision::Float32));
    assert_eq!((backend.as_str(), skipped.as_str()), ("tract float32", ""));
}

#[test]
fn a_variant_that_does_not_work_is_passed_over_with_its_reason() {
    let check = |spoil: fn(&mut Recipe), expected: &str| {
        let (backend, skipped) = loaded_backend(spoil, Choice::Any);
        assert_eq!(backend, "tract float32");
        assert!(skipped.contains("int8 (model.int8.onnx): "), "{skipped}");
        assert!(
            skipped.contains(expected),
            "{skipped:?} has no {expected:?}"
        );
    };
    check(|recipe| recipe.int8.truncate(100), "not a model");
    check(|recipe| recipe.int8.clear(), "not a model");
    check(
        |recipe| recipe.manifest = recipe.manifest.replacen("\"tract\"", "\"npu\"", 1),
        "this binary has no such backend",
    );
}

#[test]
fn the_dense_backend_is_taken_where_it_is_named_and_passed_over_where_it_is_unfit() {
    let named = |recipe: &mut Recipe| {
        recipe.manifest = recipe.manifest.replacen("\"tract\"", "\"dense\"", 1);
    };
    let (backend, skipped) = loaded_backend(named, Choice::Any);
    assert_eq!((backend.as_str(), skipped.as_str()), ("dense int8", ""));

    let unfit = |recipe: &mut Recipe| {
        named(recipe);
        let dims = [Dim::Fixed(1), Dim::Fixed(INPUTS as i64)];
        let mut onnx = Onnx::new(DataType::Float, &dims);
        onnx.node("Softmax", &["x"], "y");
        recipe.int8 = onnx.bytes(&["y"]);
    };
    let (backend, skipped) = loaded_backend(unfit, Choice::Any);
    assert_eq!(backend, "tract float32");
    assert!(
        skipped.contains("dense int8 (model.int8.onnx): node \"Softmax_y\""),
        "{skipped}"
    );
}

#[test]
fn the_pump_rig_is_loaded_on_the_dense_backend() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pump-rig");
    let bundle = Bundle::<serde::de::IgnoredAny>::open(folder).expect("sound");
    let loaded = bundle
        .load(&Runtimes::default(), Choice::Any)
        .expect("it works");
    assert_eq!(loaded.model.backend(), "dense int8");
}

#[test]
fn wrong_answers_are_found_with_vector_element_and_values() {
    let expected = answer(Precision::Int8, &FEATURES[1]);
    let from = format!("\"int8\":{expected:?}");
    let mut wrong = expected.clone();
    wrong[2] += 0.02;
    let to = format!("\"int8\":{wrong:?}");
    let spoil = |recipe: &mut Recipe| recipe.golden = recipe.golden.replace(&from, &to);

    let (backend, skipped) = loaded_backend(spoil, Choice::Any);
    assert_eq!(backend, "tract float32");
    let text = format!(
        "golden vector 1, output 2: expected {}, found {}, tolerance 0.01",
        wrong[2], expected[2]
    );
    assert!(skipped.contains(&text), "{skipped:?} has no {text:?}");
}

#[test]
fn a_bundle_without_a_working_variant_gives_every_reason() {
    let mut recipe = Recipe::sound();
    recipe.int8 = vec![0xff; 64];
    recipe.float32 = recipe.float32[..200].to_vec();
    let folder = recipe.write();
    let bundle = open(&folder).expect("it opens");
    let Err(error) = bundle.load(&Runtimes::default(), Choice::Any) else {
        panic!("loaded");
    };
    check_error(
        error,
        &[
            "no variant of tiny 1.0.0 works here",
            "tract int8 (model.int8.onnx): not a model",
            "tract float32 (model.onnx): not a model",
        ],
    );
    let Err(error) = bundle.load(&Runtimes::default(), Choice::Only(Precision::Int8)) else {
        panic!("loaded");
    };
    check_error(error, &["tract int8"]);
}

#[test]
fn a_model_of_another_shape_is_passed_over_with_both_shapes() {
    let spoil = |recipe: &mut Recipe| {
        let five = [Dim::Fixed(1), Dim::Fixed(5)];
        recipe.int8 = tiny(Precision::Float32, &five);
    };
    let (_, skipped) = loaded_backend(spoil, Choice::Any);
    let text = "input is 1,5,F32, expected 4 f32 at batch 1";
    assert!(skipped.contains(text), "{skipped:?} has no {text:?}");
}

#[test]
fn a_file_that_changes_after_opening_is_not_loaded() {
    let recipe = Recipe::sound();
    let folder = recipe.write();
    let bundle = open(&folder).expect("sound");
    fs::write(folder.path().join("model.int8.onnx"), &recipe.float32).expect("written");
    let loaded = bundle
        .load(&Runtimes::default(), Choice::Any)
        .expect("float32 works");
    assert_eq!(loaded.variant.precision, Precision::Float32);
    let expected = [sha256_hex(&recipe.float32), sha256_hex(&recipe.int8)];
    let text = loaded.skipped[0].to_string();
    assert!(
        expected.iter().all(|digest| text.contains(digest)),
        "{text}"
    );
}

#[test]
fn a_wrong_digest_is_refused_with_both() {
    let bad = "0".repeat(64);
    let good = sha256_hex(&Recipe::sound().int8);
    let expected = ["model.int8.onnx: sha256 is ", good.as_str(), bad.as_str()];
    check_manifest("INT8", &bad, &expected);
    check_manifest("GOLDEN", &bad, &["golden.json: sha256 is "]);
}

#[test]
fn file_names_that_leave_the_folder_are_refused() {
    let names = [
        "../m",
        "/etc/passwd",
        "a/b",
        "a\\\\b",
        "..",
        ".",
        "",
        ".hidden",
        "C:m",
        "ä",
    ];
    for name in names {
        let to = format!("\"{name}\"");
        check_manifest("\"model.onnx\"", &to, &["file name", "a path"]);
        check_manifest("\"golden.json\"", &to, &["file name"]);
    }
}

#[test]
fn files_that_are_missing_or_not_files_are_named() {
    let check = |name: &str, replace: fn(&Path), expected: &[&str]| {
        let folder = Recipe::sound().write();
        let path = folder.path().join(name);
        fs::remove_file(&path).expect("it was there");
        replace(&path);
        let error = open_whole(&folder).expect_err("a file is missing");
        check_error(error, &[&[name], expected].concat());
    };
    for name in [MANIFEST, "model.onnx", "golden.json"] {
        check(name, |_| {}, &["No such file"]);
        check(
            name,
            |path| fs::create_dir(path).expect("made"),
            &["not a regular file"],
        );
    }
}

#[test]
fn a_file_above_the_limit_is_refused() {
    let folder = Recipe::sound().write();
    let file = fs::File::create(folder.path().join("model.onnx")).expect("made");
    file.set_len(MODEL_BYTES_MAX as u64 + 1).expect("sparse");
    let error = open_whole(&folder).expect_err("too large");
    check_error(error, &["model.onnx: larger than 67108864 bytes"]);
    for (name, bytes_max) in [
        (MANIFEST, MANIFEST_BYTES_MAX),
        ("golden.json", GOLDEN_BYTES_MAX),
    ] {
        let folder = Recipe::sound().write();
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.path().join(name));
        let resized = file.and_then(|file| file.set_len(bytes_max as u64 + 1));
        resized.expect("sparse");
        let error = open(&folder).expect_err("too large");
        check_error(error, &[&format!("{name}: larger than {bytes_max} bytes")]);
    }
}

#[test]
fn manifest_errors_name_file_line_and_key() {
    let check = check_manifest;
    check(
        "inputs = 4",
        "inptus = 4",
        &["manifest.toml, line ", "line 8: model.inptus", "`inputs`"],
    );
    check(
        "window = 16",
        "windw = 16",
        &["line 24", "`windw`", "`window`"],
    );
    check("window = 16\n", "", &["line 23", "`window`"]);
    check(
        "outputs = 3",
        "outputs = \"3\"",
        &["line 9", "model.outputs"],
    );
    check(
        "\"int8\"",
        "\"int4\"",
        &["line 11", "int4", "`int8`", "precision"],
    );
    check("outputs = 3", "outputs = = 3", &["line 9"]);
    check("version = \"1.0.0\"\n", "", &["line 2", "`version`"]);
}

#[test]
fn every_fault_of_a_manifest_is_told_at_once_with_its_line() {
    let spoil = |recipe: &mut Recipe| {
        let manifest = &mut recipe.manifest;
        for (from, to) in [
            ("\"tiny\"", "\"Tiny!\""),
            ("version = \"1.0.0\"\n", ""),
            ("inputs = 4", "inptus = 4"),
            ("outputs = 3", "outputs = 0"),
            ("\"int8\"", "\"int4\""),
            ("\"FLOAT32\"", "\"abc\""),
            ("file = \"golden.json\"", "fiel = \"golden.json\""),
            ("window = 16", "window = \"16\""),
        ] {
            assert!(manifest.contains(from), "{from}");
            *manifest = manifest.replacen(from, to, 1);
        }
    };
    let expected = [
        "manifest.toml, line 3: model.name: \"Tiny!\" is not 1 to 64",
        "line 7: model.inptus: unknown field `inptus`",
        "line 8: model.outputs: 0 is not in 1 to 65536",
        "line 10: variants[0].precision: unknown variant `int4`",
        "line 18: variants[1].sha256: \"abc\" is not",
        "line 20: golden.fiel: unknown field `fiel`",
        "line 23: pipeline.window: invalid type",
    ];
    check_refused(spoil, &expected);
    // Syntax is read first, and to the end too.
    check_refused(
        |recipe| recipe.manifest = recipe.manifest.replace("puts = ", "puts = = "),
        &["line 8", "line 9"],
    );
}

#[test]
fn what_is_missing_for_another_fault_is_no_fault() {
    let mut recipe = Recipe::sound();
    recipe.manifest = recipe.manifest.replace("inputs = 4", "inputs = \"4\"");
    let refused = open(&recipe.write()).expect_err("it is spoilt");
    let BundleError::Manifest { faults, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].line, 8);
}

#[test]
fn a_newer_format_is_named_before_its_unknown_keys() {
    let expected = ["format 2, this binary reads format 1"];
    check_manifest("format = 1", "format = 2\nnews = true", &expected);
    check_manifest("format = 1\n", "", &["`format`"]);
}

#[test]
fn values_out_of_range_are_named_with_the_range() {
    let check = check_manifest;
    check(
        "\"tiny\"",
        "\"Tiny!\"",
        &["model.name: \"Tiny!\" is not 1 to 64", "a-z 0-9 -"],
    );
    check("\"tiny\"", "\"\"", &["model.name"]);
    check("\"1.0.0\"", "\"1/0\"", &["model.version"]);
    check(
        "inputs = 4",
        "inputs = 0",
        &["model.inputs: 0 is not in 1 to 65536"],
    );
    check(
        "outputs = 3",
        "outputs = 65537",
        &["model.outputs: 65537 is not in 1 to 65536"],
    );
    check(
        "\"INT8\"",
        "\"abc\"",
        &["variants[0].sha256", "64 lower-case hex"],
    );
}

/// `lines` of the section `[model]`, and when that model expires.
fn check_expiry(lines: &str, expected: Option<i64>) {
    let mut recipe = Recipe::sound();
    let outputs = format!("outputs = 3\n{lines}");
    recipe.manifest = recipe.manifest.replace("outputs = 3", &outputs);
    let bundle = open(&recipe.write()).expect("sound");
    assert_eq!(
        bundle.manifest().model.expires_utc_us(),
        expected,
        "{lines}"
    );
}

#[test]
fn a_model_expires_at_the_earlier_of_date_and_age() {
    const DAY: i64 = 86_400_000_000;
    let created = "created = \"1970-01-02T00:00:00Z\"";
    let until = "valid_until = \"1970-01-09T02:00:00.5+02:00\"";
    let until_us = 8 * DAY + 500_000;
    check_expiry("", None);
    check_expiry(created, None);
    check_expiry(until, Some(until_us));
    check_expiry(&format!("{created}\nmax_age_days = 3"), Some(4 * DAY));
    check_expiry(
        &format!("{created}\n{until}\nmax_age_days = 3"),
        Some(4 * DAY),
    );
    check_expiry(
        &format!("{created}\n{until}\nmax_age_days = 36525"),
        Some(until_us),
    );
}

#[test]
fn wrong_dates_and_ages_are_named() {
    let check = |lines: &str, expected: &[&str]| {
        check_manifest("outputs = 3", &format!("outputs = 3\n{lines}"), expected);
    };
    let created = "created = \"2026-01-01T00:00:00Z\"";
    for text in [
        "",
        "soon",
        "2026-01-01",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00",
    ] {
        let expected = ["line 10", "model.created", "RFC 3339"];
        check(&format!("created = \"{text}\""), &expected);
    }
    check("valid_until = 7", &["line 10", "model.valid_until"]);
    check(
        "max_age_days = 3",
        &["model.max_age_days: there is no model.created"],
    );
    for days in ["0", "36526"] {
        let expected = format!("model.max_age_days: {days} is not in 1 to 36525");
        check(&format!("{created}\nmax_age_days = {days}"), &[&expected]);
    }
    check(
        &format!("{created}\nmax_age_days = -1"),
        &["line 11", "model.max_age_days"],
    );
    let earlier = format!("{created}\nvalid_until = \"2026-01-01T00:00:00Z\"");
    check(
        &earlier,
        &["model.valid_until: it is not after model.created"],
    );
}

#[test]
fn malformed_golden_files_are_refused_with_the_place() {
    check_golden(
        "\"vectors\":[",
        "\"vectors\":[],\"x\":[",
        &["golden.json", "x"],
    );
    check_golden(
        "[0.5,",
        "[0.5, 9,",
        &["vectors[0].features: 5 values, the model has 4"],
    );
    check_golden("[0.5,", "[1e39,", &["vectors[0].features[0]: not finite"]);
    check_golden(
        "\"float32\":0.25",
        "\"float32\":1e39",
        &["readings or score"],
    );
    check_golden("1e-5", "-1", &["tolerance.features: -1 is not ≥ 0"]);
    check_golden(
        "\"int8\":0.01",
        "\"int8\":1e39",
        &["tolerance.outputs.int8: inf"],
    );
    check_golden("{\"vectors\"", "{{\"vectors\"", &["line 1 column 2"]);
    check_refused(
        |recipe| {
            let tolerance = recipe.golden.find(",\"tolerance\"").expect("there");
            recipe.golden = format!("{{\"vectors\":[]{}", &recipe.golden[tolerance..]);
        },
        &["vectors: 0 found; at least two that differ"],
    );
    let lists = format!("\"vectors\":[{}", "[],".repeat(1 << 18));
    check_golden(
        "\"vectors\":[",
        &lists,
        &["lists, at most 262144 are allowed"],
    );
}

#[test]
fn golden_vectors_that_do_not_differ_are_refused() {
    let first = format!("{:?}", FEATURES[0]);
    let second = format!("{:?}", FEATURES[1]);
    let expected = ["vectors: 2 found; at least two that differ"];
    check_refused(
        |recipe| recipe.golden = recipe.golden.replace(&second, &first),
        &expected,
    );
    // Both ask something, and expect the same answer at one precision.
    let answers = FEATURES.map(|features| format!("{:?}", answer(Precision::Int8, &features)));
    check_refused(
        |recipe| recipe.golden = recipe.golden.replace(&answers[1], &answers[0]),
        &expected,
    );
}

#[test]
fn a_precision_without_golden_outputs_is_not_loaded() {
    let spoil = |recipe: &mut Recipe| {
        let (from, to) = (r#""outputs":{"int8":0.01,"#, r#""outputs":{"#);
        recipe.golden = recipe.golden.replacen(from, to, 1);
    };
    let (backend, skipped) = loaded_backend(spoil, Choice::Any);
    assert_eq!(backend, "tract float32");
    assert!(skipped.contains("no golden outputs for int8"), "{skipped}");
}
