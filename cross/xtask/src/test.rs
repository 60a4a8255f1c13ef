//! `cargo xtask test`: what must hold before a change is taken.
//!
//! Installs what the tests call, then formats, lints, builds and tests in the
//! release profile: one target folder and one profile, shared with
//! `cargo run --release`, because the model runtime takes minutes to compile.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::no_std;
use crate::packages::{self, Package};
use crate::process::{self, cargo, command, output, target_dir, workspace_root};
use crate::python;
use crate::steps::{self, Step};

const TOOLS: [Package; 9] = [
    Package {
        name: "qemu-system-arm",
        program: "qemu-system-arm",
        why: "the sensor node's firmware runs on a Cortex-M4 in it",
    },
    Package {
        name: "openssl",
        program: "openssl",
        why: "the tests of flash.sh sign and verify",
    },
    Package {
        name: "openssh-client",
        program: "ssh-keygen",
        why: "flash.sh reads the key that may log in",
    },
    Package {
        name: "mtools",
        program: "mcopy",
        why: "flash.sh writes first settings",
    },
    Package {
        name: "mosquitto",
        program: "mosquitto",
        why: "the end-to-end tests talk to a real broker",
    },
    Package {
        name: "mosquitto-clients",
        program: "mosquitto_sub",
        why: "the end-to-end tests watch topics with a client that is not ours",
    },
    Package {
        name: "libmodbus-dev",
        program: "/usr/include/modbus/modbus.h",
        why: "the end-to-end tests poll units of libmodbus",
    },
    Package {
        name: "mbpoll",
        program: "mbpoll",
        why: "the end-to-end tests write and read registers with a Modbus client that is not ours",
    },
    Package {
        name: "strace",
        program: "strace",
        why: "a test watches which folders are synced",
    },
];

const SHELLCHECK: [Package; 1] = [Package {
    name: "shellcheck",
    program: "shellcheck",
    why: "the shell scripts are linted",
}];

/// Cheap steps first, so that a slip shows before the long builds.
const STEPS: [Step; 10] = [
    Step {
        name: "fmt",
        why: "the source is formatted",
        needs: &[],
        run: || run(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "lock",
        why: "Cargo.lock says what the manifests ask for",
        needs: &[],
        run: check_lock,
    },
    Step {
        name: "shell",
        why: "the shell scripts pass shellcheck",
        needs: &SHELLCHECK,
        run: check_shell_scripts,
    },
    Step {
        name: "no-std",
        why: "hark-wire compiles where nothing but `core` exists",
        needs: &[],
        run: no_std::check_wire,
    },
    Step {
        name: "clippy",
        why: "no lint is broken, in any target",
        needs: &[],
        run: || run(&CLIPPY),
    },
    Step {
        name: "binary",
        why: "the end-to-end tests run the hark binary",
        needs: &[],
        run: || run(&["build", "--release", "--package", "hark"]),
    },
    Step {
        name: "pymodbus",
        why: "the end-to-end tests poll a Modbus simulator that is not ours",
        needs: &[],
        run: install_pymodbus,
    },
    Step {
        name: "test",
        why: "unit, simulation and end-to-end tests",
        needs: &TOOLS,
        run: || run(&["test", "--release", "--workspace", "--no-fail-fast"]),
    },
    Step {
        name: "node",
        why: "the sensor node's tests pass on this machine",
        needs: &[],
        run: test_node,
    },
    Step {
        name: "defmt",
        why: "the wire protocol's tests pass with its defmt feature",
        needs: &[],
        run: || run(&DEFMT),
    },
];

const CLIPPY: [&str; 7] = [
    "clippy",
    "--release",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

const DEFMT: [&str; 6] = [
    "test",
    "--release",
    "--package",
    "hark-wire",
    "--features",
    "defmt",
];

/// Format, lint, build and test everything, in the release profile
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing; fail if a tool that a step calls is missing
    #[arg(long)]
    no_install: bool,
    /// List the steps and leave
    #[arg(long)]
    list: bool,
    /// Run only this step; may be given more than once
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
}

/// Runs the steps that `args` chooses.
pub(crate) fn handle(args: &Args) -> Result<()> {
    let chosen = steps::choose(&STEPS, &args.only)?;
    if args.list {
        for step in chosen {
            println!("{:<10} {}", step.name, step.why);
        }
        return Ok(());
    }
    let needed: Vec<_> = chosen.iter().flat_map(|step| step.needs).collect();
    if args.no_install {
        packages::require(&needed)?;
    } else {
        packages::install_missing(&needed)?;
    }
    steps::run_all(&chosen)
}

fn run(cargo_args: &[&str]) -> Result<()> {
    process::run(cargo(cargo_args))
}

/// What of the node asks no board; its workspace is its own.
fn test_node() -> Result<()> {
    let mut test = cargo(&["test", "--release", "--locked", "--lib", "--target-dir"]);
    test.arg(target_dir().join("node"))
        .current_dir(workspace_root().join("hal/node"));
    process::run(test)
}

fn install_pymodbus() -> Result<()> {
    let at = target_dir().join("pymodbus");
    let what = "pymodbus from PyPI, once";
    python::install(&at, "tests/modbus/requirements.txt", what).map(drop)
}

fn check_lock() -> Result<()> {
    // The answer is long and of no interest here; its failure is.
    output(cargo(&["metadata", "--locked", "--format-version", "1"])).map(drop)
}

fn check_shell_scripts() -> Result<()> {
    let mut list = command("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = output(list)?;
    let scripts: Vec<_> = files
        .lines()
        .filter(|file| is_shell_script(&workspace_root().join(file)))
        .collect();
    ensure!(!scripts.is_empty(), "no shell script was found to check");
    let mut shellcheck = command("shellcheck");
    shellcheck.args(scripts);
    process::run(shellcheck)
}

/// Whether the file says so by its name or in its first line.
fn is_shell_script(file: &Path) -> bool {
    // Long enough for `#!/usr/bin/env bash`; a model need not be read for it.
    let mut start = [0; 32];
    let length = File::open(file).and_then(|mut file| file.read(&mut start));
    let Ok(length) = length else {
        // Deleted in the working tree but still in the index.
        return false;
    };
    let start = String::from_utf8_lossy(&start[..length]);
    let first = start.lines().next().unwrap_or_default();
    let has_shebang = first.starts_with("#!") && first.trim_end().ends_with("sh");
    has_shebang || file.extension().is_some_and(|extension| extension == "sh")
}
