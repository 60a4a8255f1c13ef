//! A model that scikit-learn exported, from its file to an alert.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bundle::sha256;
use crate::hark::Site;

/// The classical backend's exports, and what onnxruntime says of them.
const SCIKIT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/src/classical/tests/scikit"
);
/// Below 0 scikit-learn takes a row for an outlier; these are the clear ones.
const THRESHOLD: f64 = 0.1;

/// A bundle of the isolation forest: four channels, one row a window.
fn write_bundle(folder: &Path, rows: &[Value], answers: &[Value]) -> Result<()> {
    let model = fs::read(Path::new(SCIKIT).join("isolation_forest.onnx"))?;
    let vectors: Vec<Value> = rows
        .iter()
        .zip(answers)
        .map(|(row, answer)| {
            let score = -answer[0].as_f64().unwrap_or(f64::NAN);
            json!({
                "readings": [row],
                "features": row,
                "outputs": { "float32": answer },
                "score": { "float32": score },
            })
        })
        .collect();
    let tolerance = json!({ "features": 1e-6, "outputs": { "float32": 1e-4 } });
    let golden = json!({ "vectors": vectors, "tolerance": tolerance }).to_string();
    let channels: String = (0..4)
        .map(|n| {
            format!(
                "[[pipeline.schema.channels]]\n\
                 name = 'c{n}'\nunit = '1'\nmin = -50.0\nmax = 50.0\n"
            )
        })
        .collect();
    let manifest = format!(
        "format = 1\n\
         [model]\nname = 'forest'\nversion = '1.0.0'\ndescription = 'isolation forest'\n\
         licence = 'none'\ndata = 'random'\ninputs = 4\noutputs = 1\n\
         [[variants]]\nprecision = 'float32'\nbackend = 'tract'\nfile = 'model.onnx'\nsha256 = '{}'\n\
         [golden]\nfile = 'golden.json'\nsha256 = '{}'\n\
         [pipeline.schema]\nperiod_ms = 1000\n{channels}\
         [pipeline.window]\nlength = 1\nstride = 1\ngap_max = 0\n\
         [[pipeline.features]]\nkind = 'raw'\n\
         [pipeline.score]\nkind = 'output'\nindex = 0\nnegate = true\n\
         [pipeline.verdict]\nthreshold = {THRESHOLD}\nk = 1\nn = 1\nclear_ratio = 1.0\n",
        sha256(&model),
        sha256(golden.as_bytes())
    );
    fs::create_dir_all(folder)?;
    fs::write(folder.join("manifest.toml"), manifest)?;
    fs::write(folder.join("model.onnx"), model)?;
    fs::write(folder.join("golden.json"), golden)?;
    Ok(())
}

#[test]
fn an_isolation_forest_whose_low_scores_are_odd_raises_alerts() -> Result<()> {
    let text = fs::read_to_string(Path::new(SCIKIT).join("answers.json"))?;
    let said: Value = serde_json::from_str(&text)?;
    let rows = said["rows"].as_array().context("rows")?;
    let answers = said["models"]["isolation_forest"]["answers"].as_array();
    let answers = answers.context("answers")?;
    let site = Site::new("")?;
    write_bundle(&site.path().join("forest"), rows, answers)?;
    let csv: String = rows
        .iter()
        .map(|row| {
            let cells = row.as_array().into_iter().flatten().map(Value::to_string);
            cells.collect::<Vec<_>>().join(",") + "\n"
        })
        .collect();
    fs::write(site.path().join("rec.csv"), format!("c0,c1,c2,c3\n{csv}"))?;
    let args = [
        "replay",
        "rec.csv",
        "--model",
        "forest",
        "--json",
        "--verdicts",
    ];
    let ended = site.finish(&args)?;
    assert!(ended.status.success(), "{}", ended.stderr);
    let verdicts = ended.stdout.lines().filter_map(|line| {
        let verdict: Value = serde_json::from_str(line).ok()?;
        (verdict["event"] == "verdict").then_some(())?;
        Some((verdict["rung"].clone(), verdict["score"].as_f64()?))
    });
    let verdicts: Vec<(Value, f64)> = verdicts.collect();
    assert_eq!(verdicts.len(), rows.len(), "{}", ended.stdout);
    for ((rung, score), answer) in verdicts.iter().zip(answers) {
        let expected = -answer[0].as_f64().context("a number")?;
        assert!((score - expected).abs() < 1e-4, "{score}, not {expected}");
        assert_eq!(rung, "model");
    }
    let odd = verdicts
        .iter()
        .filter(|(_, score)| *score > THRESHOLD)
        .count();
    assert!((1..rows.len()).contains(&odd), "some rows are odd, not all");
    Ok(())
}

#[test]
fn the_operators_that_run_are_listed() -> Result<()> {
    let site = Site::new("")?;
    let ended = site.finish(&["model", "operators"])?;
    for expected in [
        "classical:",
        "ai.onnx.ml.TreeEnsembleRegressor",
        "tract:",
        "Conv",
    ] {
        assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    }
    let ended = site.finish(&["model", "operators", "--json"])?;
    let listed: Value = serde_json::from_str(&ended.stdout)?;
    assert!(
        listed["dense"]
            .as_array()
            .is_some_and(|names| names.len() > 3)
    );
    Ok(())
}
