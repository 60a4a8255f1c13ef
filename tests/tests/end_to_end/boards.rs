//! The boards' files: each is sound, says what its board is, and is held
//! against the machine that it is checked on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hark_config::{Config, Link};
use serde_json::Value;

use crate::hark::{Ended, Site};

/// What hark is cross-built for.
const TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];
/// What brings hark to a board.
const INSTALLS: [&str; 3] = ["image", "deb", "tar.gz"];
/// The least version of the C library that the cross-built binaries run on.
const GLIBC_MIN: (u16, u16) = (2, 28);
/// The shortest limit of all the boards' watchdogs, that of the Raspberry Pis.
const WATCHDOG_S_MAX: u64 = 15;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../board-configs")
}

fn file_of(board: &str) -> PathBuf {
    folder().join(board).with_extension("toml")
}

fn load(board: &str) -> Result<Config> {
    Config::load(Some(&file_of(board)), std::iter::empty()).with_context(|| board.to_owned())
}

/// Every file of the folder but the one that all inherit from.
fn boards() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let stem = path.file_stem().context("a name")?.to_string_lossy();
        ensure!(path.extension() == Some("toml".as_ref()), "{path:?}");
        found.push(stem.into_owned());
    }
    found.retain(|name| name != "base");
    ensure!(!found.is_empty(), "no board in {:?}", folder());
    Ok(found)
}

#[test]
fn each_board_is_there_without_its_file() -> Result<()> {
    for name in boards()? {
        let name = name.as_str();
        let inherited = Config::of_text(&format!("inherit = \"{name}.toml\""))?;
        assert_eq!(inherited.board, load(name)?.board);
    }
    Ok(())
}

#[test]
fn each_board_says_what_it_is_and_how_it_is_built_and_flashed() -> Result<()> {
    for name in boards()? {
        let name = name.as_str();
        let board = load(name)?.board;
        assert_eq!(board.name.as_deref(), Some(name));
        assert!(!board.compatible.is_empty(), "{name}");
        let target = board.target.context(name.to_owned())?;
        assert!(TARGETS.contains(&target.as_str()), "{name}: {target}");
        let install = board.install.context(name.to_owned())?;
        assert!(INSTALLS.contains(&install.as_str()), "{name}: {install}");
        // Whose system the vendor made is known by its model.
        assert_eq!(board.model.is_some(), install != "image", "{name}");
        let storage = board.storage.context(name.to_owned())?;
        assert!(storage.starts_with("/dev/"), "{name}: {storage}");
        let glibc = board.glibc.context(name.to_owned())?;
        let (major, minor) = glibc.split_once('.').context(name.to_owned())?;
        assert!(
            (major.parse()?, minor.parse()?) >= GLIBC_MIN,
            "{name}: {glibc}"
        );
        let is_there = |path: &PathBuf| path.is_absolute();
        assert!(board.delegate.as_ref().is_none_or(is_there), "{name}");
    }
    Ok(())
}

#[test]
fn each_board_listens_to_a_node_and_is_watched() -> Result<()> {
    for name in boards()? {
        let name = name.as_str();
        let config = load(name)?;
        let [source] = &config.sources[..] else {
            panic!("{name}: one source, found {:?}", config.sources)
        };
        assert!(matches!(source.link, Link::Serial(_)), "{name}");
        assert!(config.gpio.chip.is_some(), "{name}");
        assert!(config.gpio.alarm_line.is_some(), "{name}");
        assert!(config.gpio.heartbeat_line.is_some(), "{name}");
        assert!(config.watchdog.device.is_some(), "{name}");
        assert!(
            config.watchdog.timeout.as_secs() <= WATCHDOG_S_MAX,
            "{name}"
        );
        assert!(
            !config.threads.cores.contains(&0),
            "{name}: interrupts are there"
        );
    }
    Ok(())
}

fn check(board: &str, more: &[&str]) -> Result<Ended> {
    let file = file_of(board);
    let file = file.to_str().context("a path in UTF-8")?;
    Site::new("")?.finish(&[&["check", "--config", file], more].concat())
}

/// Nobody runs this on all of the boards at once, and a board that it does run
/// on is the right one.
#[test]
fn check_names_what_this_machine_lacks_and_fails_only_if_asked() -> Result<()> {
    let mut lacking = 0;
    for name in boards()? {
        let name = name.as_str();
        let ended = check(name, &["--json"])?;
        ensure!(ended.status.success(), "{name}: {}", ended.stderr);
        let report: Value = serde_json::from_str(&ended.stdout)?;
        assert_eq!(report["errors"], serde_json::json!([]), "{name}");
        let missing = report["missing"].as_array().context("missing")?;
        if missing.is_empty() {
            continue;
        }
        lacking += 1;
        for device in missing {
            let file = device["file"].as_str().context("file")?;
            assert!(file.ends_with(&format!("{name}.toml")), "{device}");
            assert!(device["line"].is_u64(), "{device}");
            assert!(device["message"].is_string(), "{device}");
        }
        let strict = check(name, &["--strict"])?;
        assert_eq!(strict.status.code(), Some(1), "{name}");
        let key = missing[0]["key"].as_str().context("key")?;
        assert!(strict.stderr.contains(key), "{name}: {}", strict.stderr);
    }
    assert!(
        lacking >= boards()?.len() - 1,
        "{lacking} boards lack something"
    );
    Ok(())
}

#[test]
fn a_missing_port_is_named_with_its_place() -> Result<()> {
    let site =
        Site::new("[[sources]]\nname = \"a\"\nkind = \"serial\"\nport = \"/dev/ttyNOT7\"\n")?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    assert!(ended.status.success(), "{}", ended.stderr);
    let told = "sources[0].port: no serial port /dev/ttyNOT7; ";
    assert!(
        ended.stderr.contains("missing here: hark.toml:"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(ended.stdout, "no errors; 1 device is missing here\n");
    Ok(())
}
