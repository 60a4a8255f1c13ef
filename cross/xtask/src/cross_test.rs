//! `cargo xtask cross-test`: a cross-built hark runs, and judges as one for this
//! machine does.
//!
//! Under qemu's user-mode emulation, with the target's system libraries: the
//! demo, whose summary must add up, and recordings replayed on both, whose
//! verdicts must be the same. Replays get a deadline that emulation keeps,
//! because a late model is answered by the rule, as it should be.

mod compare;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cross_build;
use crate::packages::{self, Package};
use crate::process::{self, cargo, command, output, target_dir, workspace_root};
use crate::toolchain::backports;

/// Run a cross-built hark under emulation and compare its verdicts
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A target of cross-build
    #[arg(long, value_name = "TRIPLE")]
    target: String,
    /// The profile that was, or will be, built
    #[arg(long, default_value = "shipped", value_parser = ["shipped", "release"])]
    profile: String,
    /// The binary to test, in place of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// This machine's hark to compare with, in place of building one
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
}

/// How programs of a target are run here.
struct Emulator {
    target: &'static str,
    program: &'static str,
    /// Where its loader and libraries lie; a static program needs none.
    libraries: Option<&'static str>,
    needs: &'static [Package],
}

const AARCH64_LIBRARIES: &str = "/usr/aarch64-linux-gnu";
const ARMV7_LIBRARIES: &str = "/usr/arm-linux-gnueabihf";

const EMULATORS: [Emulator; 3] = [
    Emulator {
        target: "aarch64-unknown-linux-gnu",
        program: "qemu-aarch64",
        libraries: Some(AARCH64_LIBRARIES),
        needs: &[Package {
            name: "libc6-arm64-cross",
            program: "/usr/aarch64-linux-gnu/lib/libc.so.6",
            why: "hark for aarch64 is linked to it",
        }],
    },
    Emulator {
        target: "armv7-unknown-linux-gnueabihf",
        program: "qemu-arm",
        libraries: Some(ARMV7_LIBRARIES),
        needs: &[Package {
            name: "libc6-armhf-cross",
            program: "/usr/arm-linux-gnueabihf/lib/libc.so.6",
            why: "hark for armv7 is linked to it",
        }],
    },
    Emulator {
        target: "aarch64-unknown-linux-musl",
        program: "qemu-aarch64",
        libraries: None,
        needs: &[],
    },
];

/// Longer than emulation ever takes for one verdict: the configuration's bound.
const DEADLINE_MS: &str = "60000";

/// What is replayed.
struct Recording {
    name: &'static str,
    config: PathBuf,
    file: PathBuf,
}

/// Runs everything, and reports each comparison on a line.
///
/// # Errors
/// Names the first thing that fails, or differs.
pub(crate) fn handle(args: &Args) -> Result<()> {
    let emulator = EMULATORS.iter().find(|known| known.target == args.target);
    let emulator = emulator.with_context(|| format!("nothing here runs {}", args.target))?;
    packages::install_missing(&emulator.needs.iter().collect::<Vec<_>>())?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => cross_build::build(&args.target, &args.profile, "hark")?.path,
    };
    let reference = match &args.reference {
        Some(reference) => reference.clone(),
        None => build_reference()?,
    };
    let folder = target_dir().join("cross-test");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let programs = install_qemu()?;
    let emulated = || emulator.command(&programs, &binary);

    println!("version: {}", run(emulated(), &["--version"])?);
    run(
        emulated(),
        &["check", "--config", "board-configs/base.toml"],
    )?;
    println!("check: the built-in configuration is fine");
    demo(emulated(), &folder)?;
    for recording in recordings(&reference, &folder)? {
        let expected = replay(command(&reference), &recording)?;
        let actual = replay(emulated(), &recording)?;
        let agreement = compare::verdicts(&expected, &actual)
            .with_context(|| format!("replay of {}", recording.name))?;
        println!("replay of {}: {agreement}", recording.name);
    }
    Ok(())
}

impl Emulator {
    fn command(&self, programs: &Path, binary: &Path) -> Command {
        let mut qemu = command(programs.join(self.program));
        if let Some(libraries) = self.libraries {
            qemu.args(["-L", libraries]);
        }
        qemu.arg(binary);
        qemu
    }
}

/// Unpacks a QEMU that sets serial lines by TCGETS2, as the serialport crate and
/// rustix do: QEMU 7.2, which Debian 12 has, does not know it.
fn install_qemu() -> Result<PathBuf> {
    let folder = target_dir().join("toolchain/qemu-user");
    let programs = folder.join("usr/bin");
    if !programs.join("qemu-aarch64").is_file() {
        let package = backports::fetch("qemu-user", None, &folder)?;
        let mut dpkg = command("dpkg-deb");
        dpkg.arg("--extract").args([&package, &folder]);
        output(dpkg)?;
    }
    Ok(programs)
}

fn build_reference() -> Result<PathBuf> {
    process::run(cargo(&["build", "--release", "--package", "hark"]))?;
    Ok(target_dir().join("release/hark"))
}

/// Ten seconds of everything: serial line, MQTT, model, alerts.
fn demo(mut hark: Command, folder: &Path) -> Result<()> {
    hark.args(["demo", "--for", "10s", "--json", "--data-dir"]);
    hark.arg(folder.join("demo"));
    let text = run(hark, &[])?;
    let summary = compare::summary(&text)?;
    compare::check_sum(summary.as_object().context("the summary is no object")?)?;
    println!("demo: {} readings add up", summary["readings"]);
    Ok(())
}

/// A pump whose bearing fails, and a recording of a real rig if there is one.
fn recordings(hark: &Path, folder: &Path) -> Result<Vec<Recording>> {
    let pump = folder.join("pump.csv");
    let mut simulate = command(hark);
    simulate.arg("simulate").arg("--csv").arg(&pump);
    run(
        simulate,
        &["--for", "10m", "--seed", "7", "--fault", "outer_race@5m"],
    )?;
    let config = folder.join("pump.toml");
    let text = "[[sources]]\nname = \"recording\"\nkind = \"file\"\npath = \"-\"\n";
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let mut recordings = vec![Recording {
        name: "a simulated pump",
        config,
        file: pump,
    }];
    let skab = workspace_root().join("../shared/data/skab_dev/data/valve1/0.csv");
    if skab.is_file() {
        recordings.push(Recording {
            name: "SKAB valve1/0",
            config: PathBuf::from("tests/configs/skab.toml"),
            file: skab,
        });
    } else {
        println!("SKIPPED: SKAB, for {} is not there", skab.display());
    }
    Ok(recordings)
}

/// Every verdict of a replay, and its summary as the last value.
fn replay(mut hark: Command, recording: &Recording) -> Result<Vec<Value>> {
    hark.env("HARK_DEVICE__DEADLINE_MS", DEADLINE_MS)
        .args(["replay", "--json", "--verdicts", "--config"])
        .arg(&recording.config)
        .arg(&recording.file);
    let text = run(hark, &[])?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<_> = lines
        .collect::<Result<_, _>>()
        .context("reading the replay's lines")?;
    let verdicts = lines.iter().filter(|line| line["event"] == "verdict");
    ensure!(verdicts.count() > 0, "the replay gave no verdict");
    Ok(lines)
}

fn run(mut hark: Command, args: &[&str]) -> Result<String> {
    hark.args(args).env("HARK_LOG", "error");
    let text = output(hark)?;
    if text.is_empty() && args.first() == Some(&"--version") {
        bail!("it said nothing");
    }
    Ok(text)
}
