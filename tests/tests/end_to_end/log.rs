//! hark's own log lines: what stands in them, and how many there may be, whoever
//! is at the other end.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_hal::Pty;
use hark_tests::{Mosquitto, hark_command, wait_until};
use hark_wire::{Hello, Message};

use crate::LIMIT;
use crate::hark::{Hark, Site};
use crate::node::{self, Node, frame};

const RUN: [&str; 4] = ["run", "--config", "hark.toml", "--json"];
/// What it would take to forge a line, and to colour it.
const FORGED: &str = "1.0\n2020 ERROR no\x1b[31m";
const COMMAND_TOPIC: &str = "hark/v1/gateway/cmd/node";

/// A site with a node at its line; commands for it come over `broker` if the
/// configuration lets them.
fn commanded(broker: &Mosquitto, allowed: &str) -> Result<(tempfile::TempDir, Node, Site)> {
    let (folder, link) = node::link()?;
    let mqtt = format!("[mqtt]\nport = {}\n{allowed}", broker.port());
    let site = Site::with(&mqtt, &node::source(&link))?;
    Ok((folder, Node::plug_in(&link, "press-1")?, site))
}

#[test]
fn a_nodes_firmware_forges_no_line_and_reaches_no_terminal() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let node = Node::plug_in(&link, "press-1")?;
    let hark = site.run()?;
    node.wait_for_reader()?;
    let hello = Hello {
        firmware: FORGED.try_into().expect("short"),
        ..node::hello("press-1", "bar")
    };
    node.send_bytes(&frame(&Message::Hello(hello)))?;
    let line = hark.wait_for_stderr("with firmware")?;
    ensure!(
        line.ends_with("with firmware 1.0\\n2020 ERROR no\\u{1b}[31m"),
        "{line}"
    );
    let ended = hark.terminate()?;
    check_printable(&ended.stderr)?;
    ended.summary().map(drop)
}

#[test]
fn unknown_keys_and_topics_reach_no_terminal() -> Result<()> {
    let broker = Mosquitto::start()?;
    let source = "[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n";
    let site = Site::at(&broker, source)?;
    let hark = site.run()?;
    hark.wait_for_link("m")?;
    // mosquitto lets a change of direction through in a topic, and everything in a
    // payload.
    for payload in [
        "{\"\u{1b}[31mlevel\":1}",
        r#"{"\u001b[31mlevel":1}"#,
        r#"{"level":"\u001b[31m","flow":0}"#,
    ] {
        broker.publish("s/\u{202e}x", payload)?;
    }
    hark.wait_for_stderr("wrong_type")?;
    let ended = hark.terminate()?;
    check_printable(&ended.stderr)?;
    ended.summary()?;
    let config = site.path().join("hark.toml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, format!("\"\\u001b[31mred\" = 1\n{good}"))?;
    for command in ["check", "run"] {
        let said = site.finish(&[command, "--config", "hark.toml"])?.stderr;
        ensure!(said.contains("\\u{1b}[31mred"), "{command}: {said:?}");
        check_printable(&said).context(command)?;
    }
    Ok(())
}

/// Fails if a line holds what moves a cursor or turns the direction.
fn check_printable(text: &str) -> Result<()> {
    let is_strange = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    ensure!(!text.contains(is_strange), "{text:?}");
    Ok(())
}

#[test]
fn a_flood_of_commands_costs_the_log_a_few_lines_and_says_how_many_more() -> Result<()> {
    const COMMANDS: usize = 5_000;
    let broker = Mosquitto::start()?;
    let (_folder, node, site) = commanded(&broker, "commands = [\"node\"]\n")?;
    let hark = site.run()?;
    node.meet()?;
    wait_for_commands(&broker, &hark)?;
    let mut flood = Command::new("mosquitto_pub")
        .args([
            "-p",
            &broker.port().to_string(),
            "-q",
            "1",
            "-l",
            "-t",
            COMMAND_TOPIC,
        ])
        .stdin(Stdio::piped())
        .spawn()
        .context("starting mosquitto_pub")?;
    let mut lines = flood.stdin.take().context("its input")?;
    let replies = broker.subscribe("hark/v1/gateway/reply/last")?;
    for n in 0..COMMANDS {
        writeln!(lines, "{{\"id\":\"{n}\",\"source\":\"line\"}}")?;
    }
    drop(lines);
    ensure!(flood.wait()?.success(), "mosquitto_pub failed");
    // Behind the flood, on the same topic; its answer may find no room, once.
    wait_until(LIMIT, "the last answer", || {
        broker
            .publish(COMMAND_TOPIC, r#"{"id":"last","source":"line"}"#)
            .ok()?;
        replies.next(Duration::from_secs(1)).ok()
    })?;
    let said = hark.terminate()?.stderr;
    let (told, whole): (Vec<&str>, Vec<&str>) = said
        .lines()
        .filter(|line| line.contains(": command "))
        .partition(|line| line.contains("left out"));
    // On a slow machine it may last for two windows.
    ensure!(whole.len() <= 50, "{} lines of the flood", whole.len());
    let count_of = |line: &&str| {
        line.split_whitespace()
            .find_map(|word| word.parse::<usize>().ok())
    };
    let told: usize = told.iter().filter_map(count_of).sum();
    // Not all: on a busy machine a command may find no room in the queue before.
    ensure!(told > COMMANDS / 10, "{told} are told: {said}");
    ensure!(said.len() < 20_000, "{} bytes", said.len());
    Ok(())
}

/// Waits until hark answers a command.
fn wait_for_commands(broker: &Mosquitto, hark: &Hark) -> Result<()> {
    wait_until(LIMIT, "an answer", || {
        broker
            .publish(COMMAND_TOPIC, r#"{"id":"first","source":"line"}"#)
            .ok()?;
        hark.stderr().contains("command first").then_some(())
    })
}

#[test]
fn no_client_of_the_broker_stops_a_node_unless_the_configuration_lets_it() -> Result<()> {
    let broker = Mosquitto::start()?;
    let replies = broker.subscribe("hark/v1/gateway/reply/+")?;
    let alerts = broker.subscribe("hark/v1/gateway/alert/press-1")?;
    let (_folder, mut node, site) = commanded(&broker, "")?;
    let mut hark = site.run()?;
    node.meet()?;
    hark.wait_for_stderr("connected to broker")?;
    let stop = r#"{"id":"7","source":"line","running":false}"#;
    broker.publish(COMMAND_TOPIC, stop)?;
    // What was sent before has been seen, and is obeyed or not, by then.
    node.settle(9.0)?;
    alerts.next(LIMIT)?;
    replies.expect_silence(Duration::from_millis(500))?;
    let config = site.path().join("hark.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(
        &config,
        text.replace("[mqtt]\n", "[mqtt]\ncommands = [\"node\"]\n"),
    )?;
    hark.signal("HUP")?;
    hark.wait_for_stderr("serving by the new configuration")?;
    wait_until(LIMIT, "an answer", || {
        broker.publish(COMMAND_TOPIC, stop).ok()?;
        replies.next(Duration::from_millis(200)).ok()
    })?;
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_journal_gets_levels_and_no_time() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let node = Node::plug_in(&link, "press-1")?;
    for is_ours in [true, false] {
        let stderr = site.keep("stderr")?;
        let file = fs::metadata(site.path().join("stderr"))?;
        let mut command = hark_command()?;
        let device = file.dev() + u64::from(!is_ours);
        command
            .args(RUN)
            .env("JOURNAL_STREAM", format!("{device}:{}", file.ino()));
        let hark = site.spawn(command, site.keep("stdout")?, stderr)?;
        node.meet()?;
        let line = hark.wait_for_stderr("line: connected")?;
        assert_eq!(line == "<6>line: connected", is_ours, "{line}");
        let ended = hark.terminate()?;
        let is_level = |line: &str| line.starts_with('<') && line.get(2..3) == Some(">");
        let lines = ended.stderr.lines().collect::<Vec<_>>();
        ensure!(
            lines.iter().all(|line| is_level(line) == is_ours),
            "{lines:?}"
        );
        ended.summary()?;
    }
    Ok(())
}

#[test]
fn colours_are_for_terminals_and_never_against_no_color() -> Result<()> {
    for (no_color, is_coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let site =
            Site::new("[[sources]]\nname = \"absent\"\nkind = \"serial\"\nport = \"absent\"\n")?;
        let terminal = Pty::open()?;
        let stderr = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(terminal.path())?;
        let mut command = hark_command()?;
        command.args(RUN).env_remove("NO_COLOR");
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let hark = site.spawn(command, site.keep("stdout")?, stderr.into())?;
        let mut said = Vec::new();
        wait_until(LIMIT, "a line", || {
            let mut buffer = [0; 1024];
            let len = terminal.read(&mut buffer, Duration::from_millis(50)).ok()?;
            said.extend_from_slice(&buffer[..len]);
            let text = String::from_utf8_lossy(&said);
            text.contains("absent: ").then_some(())
        })?;
        assert_eq!(
            said.contains(&b'\x1b'),
            is_coloured,
            "NO_COLOR={no_color:?}"
        );
        hark.kill()?;
    }
    Ok(())
}

#[test]
fn debug_says_more_than_info_and_a_mistaken_wish_is_told() -> Result<()> {
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut say = |wish: &str| -> Result<String> {
        let hark = site.start_with(&RUN, &[("HARK_LOG", wish)])?;
        node.meet()?;
        node.settle(9.0)?;
        node.settle(1.0)?;
        hark.wait_for_alerts(2)?;
        fs::remove_file(site.path().join("data/events.jsonl"))?;
        Ok(hark.terminate()?.stderr)
    };
    let (info, debug) = (say("hark=info")?, say("hark=debug")?);
    ensure!(!info.contains("press-1 raised"), "{info}");
    ensure!(debug.contains("DEBUG line: press-1 raised"), "{debug}");
    let mistaken = say("hark=verbose=1")?;
    ensure!(
        mistaken.contains("HARK_LOG is not understood"),
        "{mistaken}"
    );
    Ok(())
}

#[test]
fn an_environment_that_is_not_utf8_ends_no_command() -> Result<()> {
    let site = Site::new("[[sources]]\nname = \"f\"\nkind = \"file\"\npath = \"rec.csv\"\n")?;
    fs::write(site.path().join("rec.csv"), "1,0\n".repeat(20))?;
    let commands: [&[&str]; 5] = [
        &["check", "--config", "hark.toml"],
        &["run", "--config", "hark.toml"],
        &["replay", "--config", "hark.toml"],
        &["capacity", "--config", "hark.toml", "--for", "100ms"],
        &["doctor", "--config", "hark.toml", "--json"],
    ];
    for args in commands {
        let mut command = hark_command()?;
        command
            .args(args)
            .env("LC_NAME", OsStr::from_bytes(b"caf\xe9"));
        let ended = site
            .spawn(command, site.keep("stdout")?, site.keep("stderr")?)?
            .wait()?;
        ensure!(
            ended.status.code() != Some(101),
            "{args:?}: {}",
            ended.stderr
        );
        ensure!(
            !ended.stderr.contains("panicked"),
            "{args:?}: {}",
            ended.stderr
        );
    }
    Ok(())
}

#[test]
fn a_password_or_an_elf_without_end_is_refused() -> Result<()> {
    let (_folder, link) = node::link()?;
    let elf = format!("{}elf = \"/dev/zero\"\n", node::source(&link));
    let password = "[mqtt]\nusername = \"u\"\npassword_file = \"/dev/zero\"\n";
    for (mqtt, source, said) in [
        (password, "", "65535 bytes"),
        ("[mqtt]\nenabled = false\n", elf.as_str(), "no firmware is"),
    ] {
        let site = Site::with(mqtt, source)?;
        let mut limited = Command::new("prlimit");
        limited
            .arg("--as=1000000000")
            .arg(hark_command()?.get_program());
        limited.args(["check", "--config", "hark.toml"]);
        let ended = site
            .spawn(limited, site.keep("stdout")?, site.keep("stderr")?)?
            .wait()?;
        ensure!(
            ended.stderr.contains(said),
            "{}: {}",
            ended.status,
            ended.stderr
        );
        assert_eq!(ended.status.code(), Some(1));
    }
    Ok(())
}
