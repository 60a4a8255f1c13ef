//! A stop ends, whatever is stuck: TERM is obeyed in two seconds.
//!
//! Each test makes one thing hang that a thread of hark waits for, and waits
//! five times as long as hark may take, since the machine is busy with others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_tests::hark_command;

use crate::bundle::{self, HIGH, LOW};
use crate::hark::{Site, count};
use crate::systemd::Manager;

/// How long a stop may take here; it takes two seconds where nobody else works.
const STOP: Duration = Duration::from_secs(10);
/// The capacity of a pipe (pipe(7)).
const PIPE_BYTES: usize = 65_536;
/// More alerts than the channel of reports takes.
const ALERTS: usize = 4_400;

const HEADER: &str = "level,flow\n";

/// Raises an alert, and clears it, `pairs` times, as fast as it is read.
fn alerting(site: &Site, pairs: usize) -> Result<()> {
    let row = |level: f32| format!("{level},0\n").repeat(3);
    let rows = [row(HIGH), row(LOW)].concat().repeat(pairs);
    fs::write(site.path().join("alerting.csv"), HEADER.to_owned() + &rows)?;
    Ok(())
}

const ALERTING: &str =
    "[[sources]]\nname = \"alerting\"\nkind = \"file\"\npath = \"alerting.csv\"\n";

/// A source that goes on for long, a reading every 100 ms.
fn lasting(site: &Site) -> Result<()> {
    let rows = "1,1\n".repeat(3_000);
    fs::write(site.path().join("lasting.csv"), HEADER.to_owned() + &rows)?;
    Ok(())
}

const LASTING: &str = "[[sources]]\nname = \"lasting\"\nkind = \"file\"\npath = \"lasting.csv\"\n\
                       speed = 1\nperiod_ms = 100\n";

/// A named pipe in the event log's place, full; nobody reads it unless by this.
fn fill_log(site: &Site) -> Result<File> {
    let folder = site.path().join("data");
    fs::create_dir_all(&folder)?;
    let path = folder.join("events.jsonl");
    make_fifo(&path)?;
    // Open for both, it waits for nobody.
    let mut fifo = OpenOptions::new().read(true).write(true).open(path)?;
    fifo.write_all(&[b'\n'; PIPE_BYTES])?;
    Ok(fifo)
}

fn make_fifo(path: &Path) -> Result<()> {
    let made = Command::new("mkfifo").arg(path).status();
    ensure!(made.context("starting mkfifo")?.success(), "no fifo");
    Ok(())
}

/// A pipe that is full, and stays so while its reader is held.
fn full_pipe() -> Result<(PipeReader, Stdio)> {
    let (reader, writer) = io::pipe()?;
    let mut filler = writer.try_clone()?;
    thread::spawn(move || while filler.write_all(&[b'\n'; 4_096]).is_ok() {});
    Ok((reader, writer.into()))
}

#[test]
fn an_event_log_that_nobody_reads_does_not_hold_a_stop_up() -> Result<()> {
    let site = Site::new(LASTING)?;
    lasting(&site)?;
    let _log = fill_log(&site)?;
    let mut manager = Manager::new()?;
    let hark = manager.run(&site, &[])?;
    manager.wait_for("READY=1")?;
    hark.terminate_within(STOP)?;
    Ok(())
}

#[test]
fn a_standard_output_that_nobody_reads_does_not_hold_a_stop_up() -> Result<()> {
    let site = Site::new(&format!("{ALERTING}{LASTING}"))?;
    alerting(&site, 1)?;
    lasting(&site)?;
    let (_unread, stdout) = full_pipe()?;
    let mut command = hark_command()?;
    command.args(["run", "--config", "hark.toml", "--json"]);
    let hark = site.spawn(command, stdout, site.keep("stderr")?)?;
    hark.wait_for_alerts(1)?;
    hark.terminate_within(STOP)?;
    Ok(())
}

#[test]
fn a_model_that_takes_minutes_to_load_does_not_hold_a_stop_up() -> Result<()> {
    let site = Site::new(LASTING)?;
    lasting(&site)?;
    bundle::write_slow(site.path())?;
    let mut manager = Manager::new()?;
    let hark = manager.run(&site, &[])?;
    // The first is for opening the bundle, the second for loading it.
    manager.wait_for("EXTEND_TIMEOUT_USEC")?;
    manager.wait_for("EXTEND_TIMEOUT_USEC")?;
    // The load is under way, or about to be.
    thread::sleep(Duration::from_millis(500));
    hark.terminate_within(STOP)?;
    Ok(())
}

#[test]
fn a_reload_whose_model_takes_minutes_to_load_does_not_hold_a_stop_up() -> Result<()> {
    let site = Site::new(LASTING)?;
    lasting(&site)?;
    bundle::write(site.path())?;
    let mut manager = Manager::new()?;
    let mut hark = manager.run(&site, &[])?;
    manager.wait_for("READY=1")?;
    bundle::write_slow(site.path())?;
    hark.signal("HUP")?;
    manager.wait_for("RELOADING=1")?;
    // The load is under way, or about to be.
    thread::sleep(Duration::from_millis(500));
    hark.terminate_within(STOP)?.summary()?;
    Ok(())
}

#[test]
fn a_source_begins_with_the_rule_while_its_model_loads() -> Result<()> {
    let site = Site::new(LASTING)?;
    lasting(&site)?;
    bundle::write_slow(site.path())?;
    let hark = site.run()?;
    hark.wait_for_stderr("has been loading for")?;
    hark.wait_for_link("lasting")?;
    hark.terminate_within(STOP)?;
    Ok(())
}

#[test]
fn a_hung_model_behind_a_full_channel_does_not_hold_a_stop_up() -> Result<()> {
    let site = Site::with(
        "ladder.hang_ms = 200\n[mqtt]\nenabled = false\n",
        &format!("{ALERTING}{LASTING}"),
    )?;
    alerting(&site, ALERTS / 2)?;
    lasting(&site)?;
    let mut log = fill_log(&site)?;
    let args = [
        "--inject",
        "hang",
        "--inject-after",
        "3s",
        "--inject-for",
        "60s",
    ];
    let mut hark = Manager::new()?.run(&site, &args)?;
    hark.wait_for_stderr("its thread is given up")?;
    hark.signal("TERM")?;
    // Should it not have ended by now, the log is read: what waited for it goes on,
    // and finds no end of the channel.
    thread::spawn(move || {
        thread::sleep(STOP / 3);
        log.read_to_end(&mut Vec::new())
    });
    hark.wait_within(STOP)?;
    Ok(())
}

#[test]
fn a_model_within_a_long_deadline_is_given_up_by_a_stop() -> Result<()> {
    let site = Site::new(LASTING)?;
    lasting(&site)?;
    let args = ["run", "--config", "hark.toml", "--json", "--inject", "hang"];
    let args = [&args[..], &["--inject-after", "1s"]].concat();
    let hark = site.start_with(&args, &[("HARK_DEVICE__DEADLINE_MS", "60000")])?;
    hark.wait_for_event("the fault", |event| event["event"] == "fault_injected")?;
    // Some readings later the model runs, and hangs.
    thread::sleep(Duration::from_secs(1));
    let summary = hark.terminate_within(STOP)?.summary()?;
    assert_eq!(count(&summary, "sources_stuck"), 0, "{summary}");
    assert_eq!(count(&summary, "threads_abandoned"), 1, "{summary}");
    assert_eq!(summary["threads_left"][0], "source lasting", "{summary}");
    Ok(())
}

#[test]
fn a_hangup_while_the_configuration_is_read_does_not_kill() -> Result<()> {
    let site =
        Site::new("[[sources]]\nname = \"f\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n")?;
    let path = site.path().join("hark.toml");
    let config = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    make_fifo(&path)?;
    let mut hark = site.run()?;
    // Returns once the other end is opened, which is hark's.
    let mut fifo = OpenOptions::new().write(true).open(&path)?;
    hark.signal("HUP")?;
    // What it reads when it does as it was told.
    let next = site.path().join("next.toml");
    fs::write(&next, &config)?;
    fs::rename(&next, &path)?;
    fifo.write_all(config.as_bytes())?;
    drop(fifo);
    hark.wait_for_event("the start", |event| event["event"] == "started")?;
    ensure!(hark.is_alive()?, "{}", hark.stderr());
    hark.terminate()?.summary()?;
    Ok(())
}
