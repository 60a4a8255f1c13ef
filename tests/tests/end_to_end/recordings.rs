//! Recordings through the pipeline.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bundle::{HIGH, LOW};
use crate::hark::{Site, count};

/// One measured experiment of the Skoltech Anomaly Benchmark; its rows.
const SKAB: &str = "shared/data/skab_dev/data/valve1/0.csv";
const SKAB_ROWS: u64 = 1147;

/// Rows of a recording whose level changes every ten rows.
const ROWS: u64 = 100;

fn recording() -> String {
    let row = |n: u64| {
        let level = if n / 10 % 2 == 1 { HIGH } else { LOW };
        format!("{n},{level},0\n")
    };
    let rows: String = (0..ROWS).map(row).collect();
    format!("seq,level,flow\n{rows}")
}

#[test]
fn a_recording_gives_the_same_verdicts_twice() -> Result<()> {
    let site = Site::new("")?;
    fs::write(site.path().join("rec.csv"), recording())?;
    let args = ["replay", "rec.csv", "--model", "level", "--json"];
    let (first, again) = (site.finish(&args)?, site.finish(&args)?);
    let summary = first.summary()?;
    assert_eq!(count(&summary, "readings"), ROWS);
    assert_eq!(count(&summary, "scored"), ROWS - 1, "{summary}");
    // Five times high, and low again but for the last.
    assert_eq!(count(&summary, "alerts"), 5, "{summary}");
    assert_eq!(verdicts(&first.stdout).len(), 9);
    assert_eq!(verdicts(&first.stdout), verdicts(&again.stdout));
    assert_eq!(
        count(&again.summary()?, "scored"),
        count(&summary, "scored")
    );
    Ok(())
}

#[test]
fn a_recording_may_have_another_delimiter() -> Result<()> {
    let site = Site::new("")?;
    fs::write(site.path().join("rec.csv"), recording().replace(',', ";"))?;
    let args = [
        "replay",
        "rec.csv",
        "--model",
        "level",
        "--json",
        "--delimiter",
        ";",
    ];
    let summary = site.finish(&args)?.summary()?;
    assert_eq!(count(&summary, "scored"), ROWS - 1, "{summary}");
    Ok(())
}

/// The alerts without what a clock decides.
fn verdicts(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines().map(serde_json::from_str);
    let mut alerts: Vec<Value> = lines.collect::<Result<_, _>>().expect("JSON lines");
    alerts.retain(|line| line["event"] == "alert");
    for alert in &mut alerts {
        for name in ["time", "latency_us"] {
            alert.as_object_mut().and_then(|alert| alert.remove(name));
        }
    }
    alerts
}

#[test]
fn a_recording_that_is_not_there_fails_and_is_named() -> Result<()> {
    let site = Site::new("")?;
    let ended = site.finish(&["replay", "absent.csv", "--model", "level"])?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("absent.csv"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn real_data_gets_one_outcome_a_row() -> Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests lie in the repository")?;
    let config = repository.join("tests/configs/skab.toml");
    let data = repository.parent().map(|parent| parent.join(SKAB));
    let Some(data) = data.filter(|data| data.is_file()) else {
        // Not eprintln!, which is captured and thrown away when a test passes.
        writeln!(
            std::io::stderr(),
            "SKIPPED: no {SKAB} beside the repository"
        )?;
        return Ok(());
    };
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of text");
    let (config, data) = (text(&config)?, text(&data)?);
    let site = Site::new("")?;
    let summary = site
        .finish(&["replay", "--config", &config, &data, "--json"])?
        .summary()?;
    assert_eq!(count(&summary, "readings"), SKAB_ROWS, "{summary}");
    assert!(count(&summary, "scored") > 1000, "{summary}");
    Ok(())
}

/// What `hark replay` makes of `recording`, read by `mapping`.
fn replay(recording: &[u8], mapping: &str) -> Result<(Value, String)> {
    let site = Site::new(&format!(
        "[[sources]]\nname = \"rec\"\nkind = \"file\"\npath = \"rec\"\n{mapping}\n"
    ))?;
    fs::write(site.path().join("rec"), recording)?;
    let ran = site.finish(&["replay", "--config", "hark.toml", "--json"])?;
    Ok((ran.summary()?, ran.stderr.clone()))
}

#[test]
fn recordings_are_read_by_each_key_of_the_mapping() -> Result<()> {
    let rows = |line: &dyn Fn(u64) -> String| (0..10).map(line).collect::<String>();
    let plain = |n: u64| format!("{n},{LOW},0\n");
    let latin: Vec<u8> = b"seq,level,flow,T [\xB0C]\n"
        .iter()
        .copied()
        .chain(rows(&|n| format!("{n},{LOW},0,20\n")).into_bytes())
        .collect();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        (
            "comment and skip_lines",
            format!("logger 7\n# hall\nseq,level,flow\n{}", rows(&plain)).into(),
            "mapping = { comment = \"#\", skip_lines = 1 }",
        ),
        ("encoding", latin, "mapping = { encoding = \"latin-1\" }"),
        (
            "CR alone, and a delimiter that nobody named",
            format!("seq;level;flow\n{}", rows(&|n| format!("{n};{LOW};0\n")))
                .replace('\n', "\r")
                .into(),
            "",
        ),
        (
            "timestamp_format in two columns, timezone",
            format!(
                "D,T,level,flow\n{}",
                rows(&|n| format!("01.05.2024,10:00:0{n},{LOW},0\n"))
            )
            .into(),
            "mapping = { timestamp = [\"D\", \"T\"], timestamp_format = \"%d.%m.%Y %H:%M:%S\", timezone = \"Europe/Berlin\" }",
        ),
        (
            "paths",
            rows(&|n| {
                format!("{{\"n\":{{\"seq\":{n}}},\"v\":[{{\"l\":\"{LOW}\"}},{{\"f\":0}}]}}\n")
            })
            .into(),
            "format = \"json\"\nmapping = { sequence = \"n.seq\", channels = { level = \"v[0].l\", flow = \"/v/1/f\" } }",
        ),
        (
            "readings",
            format!(
                "{{\"d\":{{\"i\":[{}]}}}}\n",
                rows(&|n| format!("{{\"seq\":{n},\"level\":{LOW},\"flow\":0}},"))
                    .trim_end_matches(',')
            )
            .into(),
            "format = \"json\"\nmapping = { readings = \"d.i\" }",
        ),
        (
            "a table for a channel",
            format!(
                "seq,l,flow\n{}",
                rows(&|n| format!("{n},{},0\n", LOW * 10.0))
            )
            .into(),
            "mapping = { channels = { level = { field = \"l\", scale = 0.1 } } }",
        ),
        (
            "sequence_modulo",
            format!(
                "seq,level,flow\n{}",
                rows(&|n| format!("{},{LOW},0\n", n % 4))
            )
            .into(),
            "mapping = { sequence_modulo = 4 }",
        ),
    ];
    for (what, recording, mapping) in cases {
        let (summary, stderr) = replay(&recording, mapping)?;
        assert_eq!(
            count(&summary, "readings"),
            10,
            "{what}: {summary} {stderr}"
        );
        assert_eq!(count(&summary, "rejected"), 0, "{what}: {summary} {stderr}");
    }
    Ok(())
}

#[test]
fn a_recording_of_a_header_alone_is_not_read_over_and_over_without_a_pause() -> Result<()> {
    const READS_MAX: u64 = 10_000;
    const LOOK: Duration = Duration::from_millis(20);
    let site = Site::new(
        "[[sources]]\nname = \"rec\"\nkind = \"file\"\npath = \"rec.csv\"\nrepeat = true\n",
    )?;
    fs::write(site.path().join("rec.csv"), "level,flow\n")?;
    let mut hark = site.start(&["run", "--config", "hark.toml", "--json", "--for", "2s"])?;
    let io = format!("/proc/{}/io", hark.pid()?);
    let mut reads = 0;
    while hark.is_alive()? {
        let io = fs::read_to_string(&io).unwrap_or_default();
        let calls = io.lines().find_map(|line| line.strip_prefix("syscr: "));
        reads = calls.and_then(|calls| calls.parse().ok()).unwrap_or(reads);
        thread::sleep(LOOK);
    }
    assert!((1..READS_MAX).contains(&reads), "{reads} reads");
    Ok(())
}
