//! `hark doctor`: what it says of this machine, and of lines that are played to it.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use hark_tests::{hark_command, terminate, wait_until};
use serde_json::Value;

use crate::LIMIT;
use crate::hark::{Ended, Site};
use crate::node;

/// A pump on a line, until it is dropped.
struct Pump(Child);

impl Pump {
    /// Plays it at `link`, written as `format`, and waits until the line is there.
    fn play(link: &std::path::Path, format: &str) -> Result<Self> {
        let child = hark_command()?
            .args([
                "simulate", "--format", format, "--sensor", "pump-9", "--pty",
            ])
            .arg(link)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the simulation")?;
        let pump = Self(child);
        wait_until(LIMIT, "the line", || link.exists().then_some(()))?;
        Ok(pump)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // It may have ended by itself, which is no concern here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the doctor says of a line, and its verdict.
fn examine(format: &str) -> Result<(Value, Ended)> {
    let (_folder, link) = node::link()?;
    let _pump = Pump::play(&link, format)?;
    let port = link.to_str().context("a path in UTF-8")?;
    let ended = Site::new("")?.finish(&["doctor", "--json", "--line", port])?;
    let report: Value = serde_json::from_str(&ended.stdout)
        .with_context(|| format!("{}{}", ended.stdout, ended.stderr))?;
    Ok((report, ended))
}

#[test]
fn a_node_on_a_line_is_recognised_and_its_source_can_be_pasted() -> Result<()> {
    let (report, ended) = examine("wire")?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let best = &report["line"]["heard"][0];
    assert_eq!(best["kind"], "frames", "{report}");
    assert_eq!(best["settings"], "115200 8N1");
    assert_eq!(best["node"]["name"], "pump-9");
    assert!(best["accepted"].as_u64() > Some(1), "{report}");
    let channels = best["node"]["channels"].as_array().context("channels")?;
    assert!(channels.iter().any(|name| name == "pressure"), "{report}");

    let source = report["source"].as_str().context("source")?;
    let config = hark_config::Config::of_text(source)?;
    assert_eq!(config.sources[0].name, "pump-9");
    assert_eq!(config.sources[0].format, hark_config::Format::Wire);
    Ok(())
}

#[test]
fn lines_of_json_and_csv_are_told_apart() -> Result<()> {
    for format in ["json", "csv"] {
        let (report, ended) = examine(format)?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        assert_eq!(report["line"]["heard"][0]["kind"], format, "{report}");
        let source = report["source"].as_str().context("source")?;
        assert!(
            source.contains(&format!("format = \"{format}\"")),
            "{source}"
        );
    }
    Ok(())
}

#[test]
fn silence_is_a_problem_with_advice() -> Result<()> {
    let (_folder, link) = node::link()?;
    let _node = node::Node::plug_in(&link, "mute")?;
    let port = link.to_str().context("a path in UTF-8")?;
    let ended = Site::new("")?.finish(&["doctor", "--line", port, "--for", "300ms"])?;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stdout.contains("silence"), "{}", ended.stdout);
    assert!(ended.stdout.contains("powered"), "{}", ended.stdout);
    Ok(())
}

/// Ctrl-C stops the wait, and what is known is printed.
#[test]
fn a_doctor_that_is_stopped_says_what_it_knows() -> Result<()> {
    let (_folder, link) = node::link()?;
    let _node = node::Node::plug_in(&link, "mute")?;
    let mut doctor: Command = hark_command()?;
    let mut doctor = doctor
        .args(["doctor", "--for", "1h", "--line"])
        .arg(&link)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = std::io::BufReader::new(doctor.stderr.take().context("stderr")?);
    let mut first = String::new();
    std::io::BufRead::read_line(&mut said, &mut first)?;
    assert!(first.starts_with("listening at 115200 8N1"), "{first}");
    terminate(&mut doctor)?;
    let output = doctor.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("stopped before every setting"), "{stdout}");
    Ok(())
}

#[test]
fn the_machine_is_listed_and_a_missing_device_is_a_problem() -> Result<()> {
    let site = Site::new("")?;
    let topics = |report: &Value| -> Vec<String> {
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        let topic = |finding: &Value| finding["topic"].as_str().unwrap_or_default().to_owned();
        findings.iter().map(topic).collect()
    };
    let ended = site.finish(&["doctor", "--json"])?;
    let report: Value = serde_json::from_str(&ended.stdout)?;
    for topic in [
        "board", "kernel", "cores", "memory", "serial", "gpio", "watchdog", "storage", "clock",
    ] {
        assert!(
            topics(&report).iter().any(|t| t == topic),
            "{topic} in {report}"
        );
    }
    assert!(!topics(&report).iter().any(|t| t == "config"), "{report}");

    let site = Site::new("[watchdog]\ndevice = \"/dev/watchdog77\"\n")?;
    let ended = site.finish(&["doctor", "--config", "hark.toml", "--json"])?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    let report: Value = serde_json::from_str(&ended.stdout)?;
    let findings = report["findings"].as_array().context("findings")?;
    let config = findings.iter().find(|finding| finding["topic"] == "config");
    let says = config.context("the missing watchdog")?["says"].to_string();
    assert!(
        says.contains("watchdog.device: no watchdog /dev/watchdog77"),
        "{says}"
    );
    Ok(())
}
