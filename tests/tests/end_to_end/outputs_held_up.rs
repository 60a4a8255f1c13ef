//! Outputs that take nothing: a pipe nobody reads, a full or closed standard
//! error, a disk that hangs. Each costs itself and nothing else: verdicts go
//! on, alerts reach MQTT, and TERM ends hark.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hark_tests::{Mosquitto, Subscription, hark_command, wait_until};
use hark_wire::{Health, Message};
use serde_json::Value;

use crate::LIMIT;
use crate::alerts::payload;
use crate::disk::Disk;
use crate::hark::{Site, count};
use crate::node::{self, Node};

const RUN: [&str; 4] = ["run", "--config", "hark.toml", "--json"];
/// `O_NONBLOCK` on every architecture that the tests run on.
const NONBLOCK: i32 = 0o4000;
/// More than a pipe and hark's own queue take together of what is logged of
/// each, some 90 bytes.
const HEALTHS: u32 = 4000;

/// A pipe that is full, and that nobody reads until [`Unread::read`].
struct Unread {
    path: PathBuf,
    end: File,
}

impl Unread {
    fn new(path: &Path) -> Result<Self> {
        let made = Command::new("mkfifo").arg(path).status();
        ensure!(made.context("running mkfifo")?.success(), "mkfifo failed");
        let mut end = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(NONBLOCK)
            .open(path)?;
        // The kernel takes less than a page at a time where little is left.
        for bytes in [&[b'\n'; 4096][..], b"\n"] {
            while end.write(bytes).is_ok() {}
        }
        Ok(Self {
            path: path.to_owned(),
            end,
        })
    }

    fn writer(&self) -> Result<Stdio> {
        Ok(OpenOptions::new().write(true).open(&self.path)?.into())
    }

    /// What has been written and not been read yet, without empty lines.
    fn read(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        match self.end.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error)?,
            _ => {}
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_start_matches('\n').to_owned())
    }

    /// Reads until `text` has come; returns all that has.
    fn read_until(&mut self, text: &str) -> Result<String> {
        let mut read = String::new();
        wait_until(LIMIT, &format!("{text:?}"), || {
            read += &self.read().ok()?;
            read.contains(text).then_some(())
        })
        .with_context(|| read.clone())?;
        Ok(read)
    }
}

/// A gateway with a node at its line and a broker where its alerts are heard.
struct Scene {
    heard: Subscription,
    node: Node,
    site: Site,
    _line: tempfile::TempDir,
    _broker: Mosquitto,
}

impl Scene {
    fn new() -> Result<Self> {
        let broker = Mosquitto::start()?;
        let heard = broker.subscribe("hark/v1/gateway/alert/press-1")?;
        let (line, link) = node::link()?;
        let site = Site::at(&broker, &node::source(&link))?;
        Ok(Self {
            heard,
            node: Node::plug_in(&link, "press-1")?,
            site,
            _line: line,
            _broker: broker,
        })
    }

    /// Raises and clears an alert so many times, each seen on MQTT before the
    /// next.
    fn swing(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            for (level, state) in [(9.0, "raised"), (1.0, "cleared")] {
                self.node.settle(level)?;
                let alert = payload(&self.heard.next(LIMIT)?)?;
                assert_eq!(alert["state"], state, "{alert}");
            }
        }
        Ok(())
    }

    /// As many words of the node's health, which are logged by those who ask for
    /// all of it.
    fn tell_health(&mut self, times: u32) -> Result<()> {
        let health = node::frame(&Message::Health(Health::default()));
        (0..times).try_for_each(|_| self.node.send_bytes(&health))
    }

    /// As many restarts of the node, each of which is logged.
    fn restart_node(&mut self, times: u32) -> Result<()> {
        let mut hello = node::hello("press-1", "bar");
        for n in 0..times {
            hello.boot_id = u32::MAX - n;
            let bytes = node::frame(&Message::Hello(hello.clone()));
            self.node.send_bytes(&bytes)?;
        }
        self.node.meet()
    }
}

fn hark_run() -> Result<Command> {
    let mut command = hark_command()?;
    command.args(RUN);
    Ok(command)
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing_and_is_told_what_it_missed() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut stderr = Unread::new(&scene.site.path().join("fifo"))?;
    let stdout = scene.site.keep("stdout")?;
    let mut command = hark_run()?;
    command.env("HARK_LOG", "warn,hark=info,hark_links=debug");
    let hark = scene.site.spawn(command, stdout, stderr.writer()?)?;
    scene.node.meet()?;
    scene.tell_health(HEALTHS)?;
    scene.swing(3)?;
    stderr.read_until("lines were left out")?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 3, "{summary}");
    assert_eq!(count(&summary, "readings"), scene.node.readings());
    ensure!(count(&summary, "outputs.stderr_lost") > 0, "{summary}");
    Ok(())
}

#[test]
fn a_standard_error_that_is_never_read_does_not_outlast_term() -> Result<()> {
    let mut scene = Scene::new()?;
    let stderr = Unread::new(&scene.site.path().join("fifo"))?;
    let stdout = scene.site.keep("stdout")?;
    let hark = scene.site.spawn(hark_run()?, stdout, stderr.writer()?)?;
    scene.node.meet()?;
    scene.restart_node(10)?;
    scene.swing(1)?;
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_full_or_closed_standard_error_stops_nothing() -> Result<()> {
    for redirection in ["2>/dev/full", "2>&-"] {
        check_redirected(redirection).context(redirection)?;
    }
    Ok(())
}

fn check_redirected(redirection: &str) -> Result<()> {
    let mut scene = Scene::new()?;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]);
    command.arg(hark_command()?.get_program()).args(RUN);
    let stdout = scene.site.keep("stdout")?;
    let hark = scene.site.spawn(command, stdout, Stdio::inherit())?;
    scene.node.meet()?;
    scene.restart_node(10)?;
    scene.swing(3)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "alerts"), 3, "{summary}");
    let lost = count(&summary, "outputs.stderr_lost");
    // What is closed is `/dev/null` to hark, as to every program in Rust.
    ensure!((lost > 0) == redirection.ends_with("full"), "{summary}");
    Ok(())
}

#[test]
fn a_short_command_whose_errors_nobody_can_read_ends_as_it_would_have() -> Result<()> {
    let site = Site::new("")?;
    std::fs::write(site.path().join("bad.toml"), "nonsense = 1\n")?;
    for command in ["check", "run"] {
        let mut hark = hark_command()?;
        hark.args([command, "--config", "bad.toml"]);
        let stderr = OpenOptions::new().write(true).open("/dev/full")?;
        let ended = site.spawn(hark, site.keep("stdout")?, stderr.into())?;
        assert_eq!(ended.wait()?.status.code(), Some(1), "{command}");
    }
    Ok(())
}

#[test]
fn a_standard_output_that_nobody_reads_stops_nothing_and_keeps_its_order() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut stdout = Unread::new(&scene.site.path().join("fifo"))?;
    let stderr = scene.site.keep("stderr")?;
    let hark = scene.site.spawn(hark_run()?, stdout.writer()?, stderr)?;
    scene.node.meet()?;
    scene.swing(3)?;
    hark.wait_for_alerts(6)?;
    let mut printed = stdout.read_until("\"cleared\"")?;
    while printed.matches("\"cleared\"").count() < 3 {
        printed += &stdout.read_until("\"cleared\"")?;
    }
    let ended = hark.terminate()?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    printed += &stdout.read_until("\"threads_panicked\"")?;
    let lines: Vec<Value> = printed
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let states: Vec<_> = lines.iter().map(|line| line["state"].as_str()).collect();
    let both = [Some("raised"), Some("cleared")];
    assert_eq!(states, [&both.repeat(3)[..], &[None]].concat());
    assert_eq!(count(&lines[6], "outputs.stdout_lost"), 0, "{printed}");
    Ok(())
}

#[test]
fn a_replay_waits_for_whoever_reads_its_verdicts() -> Result<()> {
    let site = Site::new("")?;
    let simulated = site.finish(&["simulate", "--csv", "rec.csv", "--for", "300s"])?;
    ensure!(simulated.status.success(), "{}", simulated.stderr);
    // Longer than a stop waits for anybody else.
    let mut piped = Command::new("sh");
    piped.args([
        "-c",
        "\"$0\" replay rec.csv --json --verdicts | { sleep 3; cat; }",
    ]);
    piped.arg(hark_command()?.get_program());
    let (stdout, stderr) = (site.keep("stdout")?, site.keep("stderr")?);
    let ended = site.spawn(piped, stdout, stderr)?.wait()?;
    let summary = ended.summary()?;
    let verdicts = ended
        .stdout
        .lines()
        .filter(|line| line.contains("\"anomaly\""));
    let answered = count(&summary, "scored") + count(&summary, "fallback");
    assert!(answered > 2_000, "too few to fill a pipe: {summary}");
    assert_eq!(verdicts.count() as u64, answered);
    Ok(())
}

#[test]
fn a_standard_output_that_is_never_read_does_not_outlast_term() -> Result<()> {
    let mut scene = Scene::new()?;
    let stdout = Unread::new(&scene.site.path().join("fifo"))?;
    let stderr = scene.site.keep("stderr")?;
    let hark = scene.site.spawn(hark_run()?, stdout.writer()?, stderr)?;
    scene.node.meet()?;
    scene.swing(2)?;
    let ended = hark.terminate()?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    ensure!(
        ended.stderr.contains("nobody reads standard output"),
        "not said: {}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn a_full_standard_output_costs_what_it_was_to_hold() -> Result<()> {
    let mut scene = Scene::new()?;
    let stdout = OpenOptions::new().write(true).open("/dev/full")?;
    let stderr = scene.site.keep("stderr")?;
    let hark = scene.site.spawn(hark_run()?, stdout.into(), stderr)?;
    scene.node.meet()?;
    scene.swing(2)?;
    hark.wait_for_alerts(4)?;
    let ended = hark.terminate()?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let complaints = ended.stderr.matches("standard output").count();
    assert_eq!(
        complaints, 2,
        "once for the alerts, once for the summary: {}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn an_event_log_that_takes_nothing_stops_nothing() -> Result<()> {
    let mut scene = Scene::new()?;
    std::fs::create_dir(scene.site.path().join("data"))?;
    let _log = Unread::new(&scene.site.path().join("data/events.jsonl"))?;
    let hark = scene.site.run()?;
    scene.node.meet()?;
    scene.swing(3)?;
    let ended = hark.terminate()?;
    let summary = ended.summary()?;
    assert_eq!(ended.stdout.lines().count(), 6 + 1, "{}", ended.stdout);
    assert_eq!(count(&summary, "outputs.events_logged"), 0, "{summary}");
    // The start, the link, six alerts, the stop.
    assert_eq!(count(&summary, "outputs.events_lost"), 9, "{summary}");
    Ok(())
}

#[test]
fn a_disk_that_hangs_stops_nothing_and_loses_nothing() -> Result<()> {
    let mut scene = Scene::new()?;
    let Some(mut disk) = Disk::mounted_at(&scene.site.path().join("data"))? else {
        return Ok(());
    };
    // From before the start, where the log cannot even be opened.
    disk.freeze()?;
    let hark = scene.site.run()?;
    let swung = scene.node.meet().and_then(|()| scene.swing(2));
    disk.thaw()?;
    swung?;
    hark.wait_for_alerts(4)?;
    disk.freeze()?;
    let swung = scene.swing(2);
    disk.thaw()?;
    swung?;
    hark.wait_for_alerts(8)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.events_lost"), 0, "{summary}");
    assert_eq!(count(&summary, "outputs.events_logged"), 11, "{summary}");
    Ok(())
}
