//! The local log on a disk that dies, under the hands of others, at its limits:
//! it goes on as soon as it can, and what it lost is counted and told.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hark_tests::{hark_command, wait_until};
use serde_json::Value;

use crate::LIMIT;
use crate::disk::{Disk, Tmpfs};
use crate::hark::{Hark, Site, count};
use crate::node::{self, Node};

/// A gateway with a node at its line, and nothing else.
struct Scene {
    site: Site,
    node: Node,
    _line: tempfile::TempDir,
}

impl Scene {
    /// With these `[tables]` before its one source.
    fn new(tables: &str) -> Result<Self> {
        let (line, link) = node::link()?;
        let mqtt = format!("[mqtt]\nenabled = false\n{tables}");
        Ok(Self {
            site: Site::with(&mqtt, &node::source(&link))?,
            node: Node::plug_in(&link, "press-1")?,
            _line: line,
        })
    }

    fn run(&mut self) -> Result<Hark> {
        let hark = self.site.run()?;
        self.node.meet()?;
        Ok(hark)
    }

    /// Raises an alert and clears it, and waits until hark has said so on standard
    /// output, whatever becomes of the log; `before` were said before.
    fn swing(&mut self, before: usize) -> Result<()> {
        self.node.settle(9.0)?;
        self.node.settle(1.0)?;
        let stdout = self.site.path().join("stdout");
        wait_until(LIMIT, "two alerts on standard output", || {
            let said = fs::read_to_string(&stdout).ok()?;
            let alerts = said.matches("\"event\":\"alert\"").count();
            (alerts >= before + 2).then_some(())
        })
    }

    fn log(&self) -> std::path::PathBuf {
        self.site.path().join("data/events.jsonl")
    }
}

/// Whole lines of the file called `name` in the log's folder.
fn lines(site: &Site, name: &str) -> Result<Vec<Value>> {
    let log = fs::read_to_string(site.path().join("data").join(name))?;
    log.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{name}: {line:?}")))
        .collect()
}

fn is_left_out(event: &Value) -> bool {
    event["event"] == "left_out"
}

#[test]
fn the_log_goes_on_on_the_disk_that_takes_a_dead_ones_place() -> Result<()> {
    let mut scene = Scene::new("")?;
    let Some(mut disk) = Disk::mounted_at(&scene.site.path().join("data"))? else {
        return Ok(());
    };
    let hark = scene.run()?;
    scene.swing(0)?;
    hark.wait_for_alerts(2)?;
    // Every write fails with EIO from here on, for whoever had the file open.
    disk.die()?;
    scene.swing(2)?;
    hark.wait_for_stderr("event log")?;
    disk.replace()?;
    scene.swing(4)?;
    let alerts = hark.wait_for_alerts(2)?;
    let first = hark.events().into_iter().next();
    let first = first.context("an event")?;
    ensure!(
        is_left_out(&first) && count(&first, "count") == 2,
        "{first}"
    );
    assert_eq!(alerts.len(), 2, "{alerts:?}");
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.events_lost"), 2, "{summary}");
    assert_eq!(count(&summary, "outputs.alert_log_lost"), 2, "{summary}");
    Ok(())
}

#[test]
fn a_log_that_somebody_removed_is_begun_anew() -> Result<()> {
    for is_whole_folder in [false, true] {
        let mut scene = Scene::new("")?;
        let hark = scene.run()?;
        scene.swing(0)?;
        hark.wait_for_alerts(2)?;
        if is_whole_folder {
            fs::remove_dir_all(scene.site.path().join("data"))?;
        } else {
            fs::remove_file(scene.log())?;
        }
        scene.swing(2)?;
        // By their readings: the one before may have been under way, and is there
        // again then.
        for seq in [8, 11] {
            hark.wait_for_event("an alert since", |event| event["seq"] == seq)?;
        }
        hark.wait_for_stderr("is not where it was")?;
        let summary = hark.terminate()?.summary()?;
        assert_eq!(count(&summary, "outputs.events_lost"), 0, "{summary}");
    }
    Ok(())
}

#[test]
fn a_folder_in_the_logs_place_costs_what_it_was_to_hold_and_is_told() -> Result<()> {
    let mut scene = Scene::new("")?;
    let hark = scene.run()?;
    scene.swing(0)?;
    hark.wait_for_alerts(2)?;
    fs::remove_file(scene.log())?;
    fs::create_dir(scene.log())?;
    scene.swing(2)?;
    hark.wait_for_stderr("Is a directory")?;
    fs::remove_dir(scene.log())?;
    scene.swing(4)?;
    hark.wait_for_alerts(2)?;
    let events = hark.events();
    ensure!(is_left_out(&events[0]), "{events:?}");
    assert_eq!(count(&events[0], "count"), 2);
    assert_eq!(events[0]["output"], "event log");
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.events_lost"), 2, "{summary}");
    Ok(())
}

#[test]
fn a_limit_on_the_size_of_files_rotates_the_log_and_kills_nobody() -> Result<()> {
    let mut scene = Scene::new("[output]\nalerts_stdout = false\n")?;
    let mut limited = Command::new("prlimit");
    limited
        .arg("--fsize=9000")
        .arg(hark_command()?.get_program());
    limited.args(["run", "--config", "hark.toml", "--json"]);
    let (stdout, stderr) = (scene.site.keep("stdout")?, scene.site.keep("stderr")?);
    let hark = scene.site.spawn(limited, stdout, stderr)?;
    scene.node.meet()?;
    for _ in 0..20 {
        scene.node.settle(9.0)?;
        scene.node.settle(1.0)?;
    }
    let count_of = |name: &str| lines(&scene.site, name).map_or(0, |lines| lines.len());
    wait_until(LIMIT, "a rotated log", || {
        (count_of("events.jsonl.1") > 0 && count_of("alerts.jsonl.1") > 0).then_some(())
    })?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.events_lost"), 0, "{summary}");
    assert_eq!(count(&summary, "outputs.alert_log_lost"), 0, "{summary}");
    // The start, the link, forty alerts, the stop; each line is whole.
    let names = [
        "events.jsonl",
        "events.jsonl.1",
        "events.jsonl.2",
        "events.jsonl.3",
    ];
    let written: usize = names.into_iter().map(count_of).sum();
    assert_eq!(written, 43);
    Ok(())
}

#[test]
fn what_a_full_disk_cost_is_told_without_another_event() -> Result<()> {
    let mut scene = Scene::new("")?;
    let data = scene.site.path().join("data");
    let Some(_disk) = Tmpfs::mounted_at(&data, "64k")? else {
        return Ok(());
    };
    let hark = scene.run()?;
    scene.swing(0)?;
    hark.wait_for_alerts(2)?;
    let ballast = data.join("ballast");
    ensure!(fs::write(&ballast, vec![0; 1 << 20]).is_err(), "not full");
    // The last page of the log has room for some more.
    for round in 1..=20 {
        scene.swing(2 * round)?;
    }
    hark.wait_for_stderr("No space left")?;
    fs::remove_file(&ballast)?;
    hark.wait_for_event("what is missing", is_left_out)?;
    let told = || -> Option<u64> {
        let alerts = lines(&scene.site, "alerts.jsonl").ok()?;
        let told = alerts.iter().filter(|event| is_left_out(event));
        Some(told.map(|event| count(event, "count")).sum())
    };
    // Each alert was written or is missing by now, and what is missing is told.
    wait_until(LIMIT, "the missing alerts", || {
        let written = lines(&scene.site, "alerts.jsonl").ok()?;
        let alerts = written.iter().filter(|line| !is_left_out(line)).count() as u64;
        (alerts + told()? >= 42).then_some(())
    })?;
    let summary = hark.terminate()?.summary()?;
    let lost = count(&summary, "outputs.alert_log_lost");
    ensure!(lost > 0, "nothing was lost: {summary}");
    assert_eq!(told(), Some(lost), "{summary}");
    Ok(())
}

#[test]
fn no_event_crowds_an_alert_out_of_its_log() -> Result<()> {
    // Each is away, which is an event of some hundred bytes at each start.
    let absent = |n| {
        format!(
            "[[sources]]\nname = \"absent-{n}\"\nkind = \"serial\"\n\
             port = \"/nowhere/at/all/and/with/a/long/name/{n}\"\nlink_down_ms = 0\n"
        )
    };
    let absent: String = (0..40).map(absent).collect();
    let tables = format!("[events]\nbytes_max = 4096\nfiles_max = 1\n{absent}");
    let mut scene = Scene::new(&tables)?;
    let hark = scene.run()?;
    scene.swing(0)?;
    hark.wait_for_alerts(2)?;
    hark.terminate()?.summary()?;
    let is_alert = |event: &Value| event["kind"] == "anomaly";
    for _ in 0..3 {
        let hark = scene.site.run()?;
        // Its own word, not what the log kept of the run before.
        hark.wait_for_stderr("absent-39")?;
        hark.terminate()?.summary()?;
    }
    for name in ["events.jsonl", "events.jsonl.1"] {
        ensure!(
            !lines(&scene.site, name)?.iter().any(is_alert),
            "{name} still has it"
        );
    }
    let alerts = lines(&scene.site, "alerts.jsonl")?;
    let alerts = alerts.iter().filter(|alert| is_alert(alert));
    let states: Vec<_> = alerts.map(|alert| &alert["state"]).collect();
    assert_eq!(states, ["raised", "cleared"]);
    Ok(())
}

#[test]
fn an_empty_recording_that_repeats_floods_nothing() -> Result<()> {
    let repeat =
        "[[sources]]\nname = \"rec\"\nkind = \"file\"\npath = \"rec.csv\"\nrepeat = true\n";
    let mut scene = Scene::new(repeat)?;
    fs::write(scene.site.path().join("rec.csv"), "")?;
    let hark = scene.run()?;
    scene.swing(0)?;
    hark.wait_for_alerts(2)?;
    let ups = hark.events().into_iter();
    let ups = ups.filter(|event| event["event"] == "link_up" && event["source"] == "rec");
    assert_eq!(ups.count(), 1);
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.events_unreported"), 0, "{summary}");
    Ok(())
}

#[test]
fn a_second_hark_on_one_data_dir_is_refused() -> Result<()> {
    let mut scene = Scene::new("")?;
    let mut hark = scene.run()?;
    hark.wait_for_link("line")?;
    let other =
        Site::new("[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n")?;
    let data = scene.site.path().join("data");
    let variable = [("HARK_DEVICE__DATA_DIR", data.to_str().context("UTF-8")?)];
    let run = ["run", "--config", "hark.toml", "--json"];
    let refused = other.start_with(&run, &variable)?.wait()?;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    let said = &refused.stderr;
    ensure!(
        said.contains("another hark") && said.contains("data_dir"),
        "{said}"
    );
    // It keeps its own through a reload, and leaves it at its end.
    hark.signal("HUP")?;
    hark.wait_for_stderr("serving by the new configuration")?;
    hark.terminate()?.summary()?;
    let after = other.start_with(&run, &variable)?;
    after.wait_for_stderr("broker")?;
    drop(after);
    check_demo(&other)
}

/// A demo replaces the log of the one before, and not of one that runs.
fn check_demo(site: &Site) -> Result<()> {
    let demo = ["demo", "--data-dir", "data", "--json"];
    let first = site.start(&demo)?;
    first.wait_for_event("the start", |event| event["event"] == "started")?;
    let second = site
        .start(&["demo", "--data-dir", "data", "--for", "1s"])?
        .wait()?;
    assert_eq!(second.status.code(), Some(1), "{}", second.stderr);
    ensure!(!first.events().is_empty(), "its log is gone");
    Ok(())
}

#[test]
fn the_folders_of_new_files_are_synced() -> Result<()> {
    let mut scene = Scene::new("[events]\nbytes_max = 4096\n")?;
    let trace = scene.site.path().join("trace");
    let mut traced = Command::new("strace");
    traced
        .args(["-D", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace);
    traced.arg(hark_command()?.get_program());
    traced.args(["run", "--config", "hark.toml", "--json"]);
    let (stdout, stderr) = (scene.site.keep("stdout")?, scene.site.keep("stderr")?);
    let Ok(hark) = scene.site.spawn(traced, stdout, stderr) else {
        eprintln!("NOT TESTED: which folders are synced, since strace is missing here");
        return Ok(());
    };
    scene.node.meet()?;
    for round in 0..8 {
        scene.swing(2 * round)?;
    }
    hark.terminate()?.summary()?;
    let trace = fs::read_to_string(&trace)?;
    let synced = |folder: &Path| trace.matches(&format!("<{}>", folder.display())).count();
    let site = scene.site.path().canonicalize()?;
    ensure!(synced(&site) >= 1, "the folder of the new folder: {trace}");
    // Each file's first line, and again after each rotation.
    let rotations = ["events.jsonl.1", "alerts.jsonl.1"];
    let is_rotated = |name: &&str| site.join("data").join(name).exists();
    assert_eq!(rotations.iter().filter(|name| is_rotated(name)).count(), 2);
    ensure!(synced(&site.join("data")) >= 4, "{trace}");
    Ok(())
}
