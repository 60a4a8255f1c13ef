//! The sensor node's own firmware, on a Cortex-M4 in QEMU, at the end of a line.
//!
//! The firmware is built by `cargo xtask firmware`; where it was not, these tests
//! say so and prove nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_hal::{Received, SerialLine, SerialSettings};
use hark_tests::{Mosquitto, wait_until};

use crate::LIMIT;
use crate::hark::{Hark, Site, count};

/// The machine with the node; killed when dropped.
struct Machine {
    qemu: Child,
    /// The pseudo terminal at the other end of its UART.
    port: String,
}

/// Where `cargo xtask firmware` leaves the firmware; None, said aloud, if it
/// was not built.
fn firmware() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let elf = PathBuf::from(root).join(target).join("firmware/hark-node");
    if elf.is_file() {
        return Some(elf);
    }
    eprintln!(
        "SKIPPED: {} is missing; build it with `cargo xtask firmware`",
        elf.display()
    );
    None
}

impl Machine {
    /// Sets the machine up and holds it before its first instruction.
    fn new(site: &Site, elf: &std::path::Path, settings: &str) -> Result<Self> {
        let said = site.path().join("qemu");
        let output = File::create(&said)?;
        let qemu = Command::new("qemu-system-arm")
            .args(["-M", "mps2-an386", "-display", "none", "-S"])
            .args(["-serial", "pty", "-monitor", "stdio"])
            .args(["-semihosting", "-append", settings, "-kernel"])
            .arg(elf)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting qemu-system-arm, of the package of that name")?;
        let mut machine = Self {
            qemu,
            port: String::new(),
        };
        machine.port = wait_until(LIMIT, "QEMU's pseudo terminal", || {
            let said = fs::read_to_string(&said).ok()?;
            let (_, rest) = said.split_once("char device redirected to ")?;
            rest.split_once(" (").map(|(port, _)| port.to_owned())
        })?;
        Ok(machine)
    }

    fn run(&mut self) -> Result<()> {
        self.command("cont")
    }

    /// As a power cut of the node would.
    fn reset(&mut self) -> Result<()> {
        self.command("system_reset")
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let monitor = self.qemu.stdin.as_mut().context("the monitor's input")?;
        writeln!(monitor, "{command}").context("telling QEMU")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself, which is no concern here.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// hark with the built-in model, listening to `machine`.
fn listen(site: &Site, machine: &Machine, keys: &str) -> Result<Hark> {
    listen_with(site, machine, "mqtt.enabled = false", keys)
}

fn listen_with(site: &Site, machine: &Machine, mqtt: &str, keys: &str) -> Result<Hark> {
    let config = format!(
        "inherit = \"base.toml\"\ndevice = {{ name = \"gateway\", data_dir = \"data\" }}\n\
         {mqtt}\n\
         [[sources]]\nname = \"line\"\nkind = \"serial\"\nport = \"{}\"\n{keys}\n",
        machine.port
    );
    fs::write(site.path().join("node.toml"), config)?;
    let hark = site.start(&["run", "--config", "node.toml", "--json"])?;
    hark.wait_for_link("line")?;
    Ok(hark)
}

#[test]
fn a_node_in_qemu_raises_an_alert_and_its_log_is_read() -> Result<()> {
    let Some(elf) = firmware() else { return Ok(()) };
    let site = Site::new("")?;
    let mut machine = Machine::new(&site, &elf, "seed=7 fault=imbalance@6s")?;
    let hark = listen(&site, &machine, &format!("elf = {elf:?}"))?;
    machine.run()?;
    hark.wait_for_stderr("node pump-1: started as pump-1, seed 7")?;
    let line = hark.wait_for_stderr("node pump-1: the machine has a fault: imbalance")?;
    ensure!(line.contains("ERROR"), "{line}");
    let alerts = hark.wait_for_alerts(1)?;
    ensure!(alerts[0]["sensor"] == "pump-1", "{alerts:?}");
    ensure!(alerts[0]["state"] == "raised", "{alerts:?}");
    ensure!(alerts[0]["seq"].as_u64() > Some(60), "{alerts:?}");

    machine.reset()?;
    wait_until(LIMIT, "the node's second start", || {
        (starts(&hark) == 2).then_some(())
    })?;
    let ended = hark.terminate()?;
    let summary = ended.summary()?;
    assert!(count(&summary, "scored") > 0, "{summary}");
    // A reset may cut one frame.
    assert!(count(&summary, "rejected") <= 1, "{summary}");
    let hellos = ended.stderr.matches("node pump-1 with firmware").count();
    assert_eq!(hellos, 2, "{}", ended.stderr);
    assert!(!ended.stderr.contains("cannot be read"), "{}", ended.stderr);
    Ok(())
}

/// How often the node has said that it started, each time as another one.
fn starts(hark: &Hark) -> usize {
    let boots: std::collections::BTreeSet<_> = hark
        .stderr()
        .lines()
        .filter(|line| line.contains("started as"))
        .filter_map(|line| Some(line.split_once("boot ")?.1.to_owned()))
        .collect();
    boots.len()
}

#[test]
fn a_start_first_ends_the_frame_that_the_last_one_left() -> Result<()> {
    let Some(elf) = firmware() else { return Ok(()) };
    let site = Site::new("")?;
    let mut machine = Machine::new(&site, &elf, "fault=none")?;
    let mut line = SerialLine::open(&SerialSettings::new(&machine.port, 115_200))?;
    machine.run()?;
    let mut first = [0xff];
    ensure!(line.read(&mut first, LIMIT)? == Received::Bytes(1));
    ensure!(first == [0], "{first:?}");
    Ok(())
}

#[test]
fn a_node_takes_the_period_that_is_configured() -> Result<()> {
    let Some(elf) = firmware() else { return Ok(()) };
    let site = Site::new("")?;
    let mut machine = Machine::new(&site, &elf, "name=press-1 fault=none")?;
    let keys = format!("elf = {elf:?}\nperiod_ms = 50");
    let hark = listen(&site, &machine, &keys)?;
    machine.run()?;
    hark.wait_for_stderr("node press-1: taken: a reading every 50 ms, running true")?;
    Ok(())
}

#[test]
fn a_node_that_shall_not_run_sends_no_readings_until_it_shall() -> Result<()> {
    let Some(elf) = firmware() else { return Ok(()) };
    let site = Site::new("")?;
    let mut machine = Machine::new(&site, &elf, "fault=imbalance@0s")?;
    let elf = format!("elf = {elf:?}");
    let hark = listen(&site, &machine, &format!("{elf}\nrunning = false"))?;
    machine.run()?;
    hark.wait_for_stderr("running false")?;
    // Its readings before the request are over; its health comes every 5 s.
    let before = hark.terminate()?.summary()?;
    assert!(count(&before, "readings") < 20, "{before}");

    let hark = listen(&site, &machine, &format!("{elf}\nrunning = false"))?;
    hark.wait_for_stderr("node pump-1 with firmware")?;
    hark.wait_for_stderr("running false")?;
    let stopped = hark.terminate()?.summary()?;
    assert_eq!(count(&stopped, "readings"), 0, "{stopped}");

    let hark = listen(&site, &machine, &elf)?;
    hark.wait_for_stderr("running true")?;
    hark.wait_for_alerts(1)?;
    let running = hark.terminate()?.summary()?;
    assert!(count(&running, "readings") > 0, "{running}");
    Ok(())
}

#[test]
fn a_command_over_mqtt_reaches_the_node_and_is_answered() -> Result<()> {
    let Some(elf) = firmware() else { return Ok(()) };
    let broker = Mosquitto::start()?;
    let replies = broker.subscribe("hark/v1/gateway/reply/+")?;
    let site = Site::new("")?;
    let mut machine = Machine::new(&site, &elf, "fault=none")?;
    let mqtt = format!("mqtt.port = {}\nmqtt.commands = [\"node\"]", broker.port());
    let hark = listen_with(&site, &machine, &mqtt, &format!("elf = {elf:?}"))?;
    machine.run()?;
    hark.wait_for_stderr("node pump-1: taken")?;
    let ask = |command: &str| {
        // Until hark has subscribed, nobody hears the command.
        wait_until(LIMIT, "an answer", || {
            broker.publish("hark/v1/gateway/cmd/node", command).ok()?;
            replies.next(Duration::from_millis(500)).ok()
        })
    };
    let answer = ask(r#"{"id":"a","source":"line","period_ms":40,"running":true}"#)?;
    ensure!(answer.topic == "hark/v1/gateway/reply/a", "{answer:?}");
    ensure!(answer.text()? == r#"{"id":"a","ok":true}"#, "{answer:?}");
    hark.wait_for_stderr("a reading every 40 ms")?;
    hark.terminate()?.summary()?;
    Ok(())
}

#[test]
fn the_log_of_another_firmware_is_counted_and_explained_once() -> Result<()> {
    let Some(elf) = firmware() else { return Ok(()) };
    let site = Site::new("")?;
    let mut machine = Machine::new(&site, &elf, "fault=none")?;
    let other = site.path().join("other.elf");
    fs::write(&other, without_strings(&fs::read(&elf)?))?;
    let hark = listen(&site, &machine, &format!("elf = {other:?}"))?;
    machine.run()?;
    let line = hark.wait_for_stderr("cannot be read by")?;
    ensure!(line.contains("other.elf"), "{line}");
    let ended = hark.terminate()?;
    ensure!(
        ended.stderr.matches("cannot be read by").count() == 1,
        "{}",
        ended.stderr
    );
    ended.summary()?;
    Ok(())
}

/// The same ELF, in which no log string takes what the node sends: each
/// becomes a string of another kind.
fn without_strings(elf: &[u8]) -> Vec<u8> {
    let (from, to) = (b"\"tag\":\"defmt_info\"", b"\"tag\":\"defmt_prim\"");
    let mut other = elf.to_vec();
    let mut at = 0;
    while let Some(found) = other[at..].windows(from.len()).position(|w| w == from) {
        at += found;
        other[at..at + to.len()].copy_from_slice(to);
    }
    other
}
