//! Bundles that cannot be trusted: damaged ones are refused at the start, and
//! a model that is damaged or answers wrongly leaves the readings to the rule.

use std::fs;

use anyhow::{Context, Result, ensure};
use hark_tests::Mosquitto;

use crate::alerts::payload;
use crate::hark::{Ended, Site, count};
use crate::node::{self, Node};
use crate::{LIMIT, bundle};

/// Readings that the rule has to answer.
const READINGS: u64 = 50;

#[test]
fn a_model_that_does_not_load_leaves_the_rule() -> Result<()> {
    let mut broken = bundle::model();
    let operator = broken.windows(3).position(|bytes| bytes == b"Abs");
    broken[operator.context("the model's operator")?] = b'X';
    check_rule(&broken, &bundle::golden(3.0), "Xbs")?;
    // A model that loads, and does not answer as the trained one did.
    check_rule(
        &bundle::model(),
        &bundle::golden(2.5),
        "expected 2.5, found 3",
    )?;
    check_rule(&bundle::model()[..20], &bundle::golden(3.0), "model.onnx")
}

/// A bundle with matching digests whose model is no good.
fn check_rule(model: &[u8], golden: &str, reason: &str) -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/verdict/press-1")?;
    let (_folder, link) = node::link()?;
    let mqtt = format!("[mqtt]\nverdicts = true\nport = {}\n", broker.port());
    let site = Site::with(&mqtt, &node::source(&link))?;
    bundle::write_with(site.path(), model, golden)?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    let refused = hark.wait_for_event("the refused model", |event| {
        event["event"] == "model_refused" && event["source"] == "line"
    })?;
    let told = refused["reason"].as_str().unwrap_or_default();
    ensure!(told.contains(reason), "{told:?} does not hold {reason:?}");
    node.meet()?;
    (0..READINGS).try_for_each(|_| node.send(1.0))?;
    // The first reading fills the window; each other one has its verdict.
    for sequence in 1..READINGS {
        let verdict = payload(&heard.next(LIMIT)?)?;
        assert_eq!(verdict["seq"], sequence, "{verdict}");
        assert_eq!(verdict["rung"], "rule", "{verdict}");
    }
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "scored"), 0, "{summary}");
    assert_eq!(count(&summary, "fallback"), READINGS - 1, "{summary}");
    assert_eq!(count(&summary, "model_faults"), 0, "nobody was asked");
    assert_eq!(summary["sources"]["line"]["rung"], "rule", "{summary}");
    assert_eq!(count(&summary, "deadline_misses"), 0, "{summary}");
    assert_eq!(summary["model"]["backend"], "", "{summary}");
    assert_eq!(summary["model"]["name"], bundle::NAME);
    Ok(())
}

#[test]
fn a_damaged_bundle_is_refused_at_the_start() -> Result<()> {
    let flip = |bytes: &mut Vec<u8>| bytes[10] ^= 0x40;
    let (model, golden) = (bundle::MODEL_FILE, "golden.json");
    let both = &["run", "check"][..];
    check_refused(golden, flip, "sha256", both)?;
    check_refused(
        "manifest.toml",
        |bytes| bytes.extend(b"\nfoo = 1"),
        "foo",
        both,
    )?;
    check_refused("manifest.toml", Vec::clear, "format", both)?;
    // Without its model the pipeline can still be served, by the rule.
    let check = &["check"][..];
    check_refused(model, flip, "sha256", check)?;
    check_refused(
        model,
        |bytes| bytes.truncate(bytes.len() - 1),
        "sha256",
        check,
    )
}

#[test]
fn every_error_of_a_manifest_is_told_at_once_with_its_line() -> Result<()> {
    let site = Site::new("")?;
    let path = site.path().join(bundle::NAME).join("manifest.toml");
    let mut manifest = fs::read_to_string(&path)?;
    let mut expected = Vec::new();
    for (from, to, key) in [
        (
            "rate_max = 10.0",
            "rate_max = -1.0",
            "schema.channels[1].rate_max",
        ),
        ("threshold = 5.0", "threshold = 0.0", "verdict.threshold"),
    ] {
        let at = manifest.find(from).context(from)?;
        let line = 1 + manifest[..at].matches('\n').count();
        expected.push(format!("line {line}: pipeline.{key}: "));
        manifest = manifest.replacen(from, to, 1);
    }
    fs::write(&path, manifest)?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    for place in &expected {
        check_failure(&ended, "manifest.toml, line ", place)?;
    }
    Ok(())
}

#[test]
fn golden_readings_wider_than_any_sensor_are_refused() -> Result<()> {
    let site = Site::new("")?;
    let wide = format!("\"readings\": [[{}0], ", "0, ".repeat(33));
    let golden = bundle::golden(3.0).replacen("\"readings\": [[2, 0], ", &wide, 1);
    ensure!(golden.contains(&wide), "nothing was replaced in {golden}");
    bundle::write_with(site.path(), &bundle::model(), &golden)?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    check_failure(&ended, "vectors[0].readings[0]", "34 values")
}

/// Which rung answers if a file of a bundle is damaged: of the active one, or of the
/// previous. Both are there; the check of the configuration tells of either.
fn check_previous(bundle: &str, file: &str, damage: &[u8], rung: &str) -> Result<()> {
    let rows = "level,flow\n".to_owned() + &"1,1\n".repeat(READINGS as usize);
    let source = "[[sources]]\nname = \"rows\"\nkind = \"file\"\npath = \"rows.csv\"\n";
    let site = Site::new(source)?;
    fs::write(site.path().join("rows.csv"), rows)?;
    bundle::write(&site.path().join("before"))?;
    let config = fs::read_to_string(site.path().join("hark.toml"))?;
    let both = "path = \"level\", previous = \"before/level\"";
    let config = config.replace("path = \"level\"", both);
    fs::write(site.path().join("hark.toml"), config)?;
    fs::write(site.path().join(bundle).join(file), damage)?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    check_failure(&ended, file, "level")?;
    let (events, ended) = site.run()?.wait_with_events()?;
    let summary = ended.summary()?;
    assert_eq!(summary["sources"]["rows"]["rung"], rung, "{summary}");
    let (answered, other) = match rung {
        "model" => ("scored", "fallback"),
        _ => ("fallback", "scored"),
    };
    assert_eq!(count(&summary, answered), READINGS - 1, "{summary}");
    assert_eq!(count(&summary, other), 0, "{summary}");
    let refused: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "model_refused")
        .collect();
    ensure!(refused.len() == 1, "told once: {refused:?}");
    let reason = refused[0]["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains(file), "{reason:?} does not name {file}");
    Ok(())
}

#[test]
fn the_previous_model_answers_whatever_is_wrong_with_the_active_bundle() -> Result<()> {
    let damaged = [("manifest.toml", &b"format = "[..]), ("golden.json", b"{}")];
    for (file, damage) in damaged {
        check_previous("level", file, damage, "previous")?;
    }
    check_previous("level", bundle::MODEL_FILE, b"", "previous")
}

#[test]
fn a_previous_bundle_that_is_no_good_does_not_stop_the_active_one() -> Result<()> {
    check_previous("before/level", "manifest.toml", b"", "model")?;
    check_previous("before/level", "golden.json", b"[", "model")
}

/// One file is damaged and its digest is not mended. The commands say so.
fn check_refused(
    file: &str,
    damage: impl Fn(&mut Vec<u8>),
    told: &str,
    commands: &[&str],
) -> Result<()> {
    let site =
        Site::new("[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n")?;
    let path = site.path().join(bundle::NAME).join(file);
    let mut bytes = fs::read(&path)?;
    damage(&mut bytes);
    fs::write(&path, bytes)?;
    for command in commands {
        let ended = site.finish(&[command, "--config", "hark.toml"])?;
        check_failure(&ended, file, told).with_context(|| format!("hark {command}"))?;
    }
    Ok(())
}

fn check_failure(ended: &Ended, file: &str, told: &str) -> Result<()> {
    let stderr = &ended.stderr;
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    ensure!(stderr.contains(file), "the file is not named: {stderr}");
    ensure!(
        stderr.to_lowercase().contains(told),
        "no {told:?} in {stderr}"
    );
    ensure!(!stderr.contains("panicked"), "{stderr}");
    Ok(())
}
