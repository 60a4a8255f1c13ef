//! `cargo xtask fuzz`: coverage-guided fuzzing of every decoder of foreign bytes.
//!
//! The targets are the files of `tests/fuzz/fuzz_targets`. They are built by
//! plain cargo on the stable compiler, with LLVM's coverage instrumentation
//! asked for by hand, so that nothing needs installing, and are run one after
//! another by libFuzzer. The checked-in corpus is only read; what a run finds is
//! kept in the target folder, where the next run goes on from it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Package};
use crate::process::{self, cargo, command, host, target_dir, workspace_root};

mod report;

use report::Report;

/// What libFuzzer needs from the compiler: a counter for each edge, a table to
/// name it by, and a hook at each comparison, to learn the values asked for.
const RUSTFLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

const COMPILER: Package = Package {
    name: "g++",
    program: "c++",
    why: "libFuzzer, which comes as C++ source, is compiled with it",
};

/// A decoder that takes this long over one input of a few kilobytes hangs.
const INPUT_SECONDS_MAX: u32 = 5;

/// A decoder that makes so much of a few kilobytes is itself the finding.
const MEMORY_MIB_MAX: u32 = 512;

/// Fuzz the decoders, guided by coverage; exit 1 on a crash
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to fuzz each target, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// List the targets and leave
    #[arg(long)]
    list: bool,
    /// What to fuzz; every target when none is named
    targets: Vec<String>,
}

/// Builds and runs the targets that `args` names.
///
/// # Errors
/// Names the input and the replaying command of every crash.
pub(crate) fn handle(args: &Args) -> Result<()> {
    let known = known_targets()?;
    let targets = choose(&known, &args.targets)?;
    if args.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    packages::require(&[&COMPILER])?;
    let host = host()?;
    build(&targets, &host)?;

    println!("\n{}", Report::HEADER);
    let mut crashes = Vec::new();
    for target in targets {
        let run = Run::new(target, &host);
        let (status, report) = run.execute(args.seconds)?;
        println!("{target:<10} {report}");
        if !status.success() {
            crashes.push(run.describe_crash(status, &report));
        }
    }
    ensure!(crashes.is_empty(), "{}", crashes.join("\n"));
    Ok(())
}

fn known_targets() -> Result<Vec<String>> {
    let folder = workspace_root().join("tests/fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(stem.map(ToOwned::to_owned));
        }
    }
    targets.sort();
    ensure!(!targets.is_empty(), "no target in {}", folder.display());
    Ok(targets)
}

fn choose<'a>(known: &'a [String], wanted: &'a [String]) -> Result<Vec<&'a str>> {
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        bail!(
            "no fuzz target `{unknown}`; there are: {}",
            known.join(", ")
        );
    }
    let chosen = if wanted.is_empty() { known } else { wanted };
    Ok(chosen.iter().map(String::as_str).collect())
}

fn build(targets: &[&str], host: &str) -> Result<()> {
    // Naming the target keeps the instrumentation out of build scripts and
    // derive macros, which could not link it.
    let mut build = cargo(&["build", "--release", "--target", host]);
    build
        .args(["--manifest-path", "tests/fuzz/Cargo.toml", "--target-dir"])
        .arg(fuzz_dir())
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\u{1f}"));
    for target in targets {
        build.args(["--bin", target]);
    }
    process::run(build)
}

fn fuzz_dir() -> PathBuf {
    target_dir().join("fuzz")
}

/// The places of one target.
struct Run {
    target: String,
    binary: PathBuf,
    /// Where new inputs go that reach new code.
    found: PathBuf,
    /// The checked-in corpus.
    seeds: PathBuf,
    log: PathBuf,
    /// Prefix of the files that hold crashing inputs.
    artifacts: PathBuf,
}

impl Run {
    fn new(target: &str, host: &str) -> Self {
        let dir = fuzz_dir();
        Self {
            target: target.to_owned(),
            binary: dir.join(host).join("release").join(target),
            found: dir.join("corpus").join(target),
            seeds: workspace_root().join("tests/fuzz/corpus").join(target),
            log: dir.join(format!("{target}.log")),
            artifacts: dir.join("artifacts").join(target),
        }
    }

    fn execute(&self, seconds: u32) -> Result<(ExitStatus, Report)> {
        for folder in [&self.found, &self.artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let log =
            File::create(&self.log).with_context(|| format!("creating {}", self.log.display()))?;
        let mut fuzzer = command(&self.binary);
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .arg(&self.found);
        if self.seeds.is_dir() {
            fuzzer.arg(&self.seeds);
        }
        let status = fuzzer
            .stderr(log)
            .status()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        let log = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok((status, Report::parse(&String::from_utf8_lossy(&log))))
    }

    fn describe_crash(&self, status: ExitStatus, report: &Report) -> String {
        let (target, log) = (&self.target, self.log.display());
        match &report.crash {
            Some(input) => {
                let binary = shown(&self.binary);
                let input = shown(Path::new(input));
                format!("{target} crashed on {input}\n  log: {log}\n  replay: {binary} {input}")
            }
            None => format!("{target} failed without an input ({status})\n  log: {log}"),
        }
    }
}

/// `path` as a user in the workspace root would type it.
fn shown(path: &Path) -> String {
    let relative = path.strip_prefix(workspace_root()).unwrap_or(path);
    relative.display().to_string()
}
