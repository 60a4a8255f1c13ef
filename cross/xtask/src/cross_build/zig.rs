//! zig as the linker: a binary for an old glibc, linked on a new system.
//!
//! Debian's cross gcc links against its own glibc, which boards in the field do
//! not have. cargo-zigbuild and zig come from PyPI, at the versions and digests
//! of `cross/requirements.txt`, into a Python environment below the target
//! folder; nothing is installed outside of it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::GLIBC_MAX;
use crate::packages;
use crate::process::{command, output, run, target_dir, workspace_root};
use crate::toolchain::Toolchain;

const REQUIREMENTS: &str = "cross/requirements.txt";

/// `cargo zigbuild --target …`; the caller adds what to build.
pub(super) fn cargo(toolchain: &Toolchain, target: &str) -> Result<Command> {
    let programs = install()?;
    let mut cargo = toolchain.cargo();
    cargo
        .args(["zigbuild", "--target", &with_floor(target)])
        .env("PATH", before_path(&programs)?);
    Ok(cargo)
}

/// `target` as zigbuild takes it: with the newest glibc that may be asked for.
fn with_floor(target: &str) -> String {
    if target.contains("-gnu") {
        format!("{target}.{GLIBC_MAX}")
    } else {
        target.to_owned()
    }
}

/// Makes the Python environment unless it is there; returns its programs.
fn install() -> Result<PathBuf> {
    let wanted = workspace_root().join(REQUIREMENTS);
    let wanted = fs::read_to_string(&wanted).with_context(|| format!("reading {REQUIREMENTS}"))?;
    let environment = target_dir().join("toolchain/zig");
    let programs = environment.join("bin");
    // Written last, so that an interrupted installation is begun again.
    let installed = environment.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(programs);
    }
    println!("installing zig from PyPI: 100 MB, once");
    make_environment(&environment)?;
    let mut pip = command(programs.join("pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--requirement", REQUIREMENTS]);
    run(pip)?;
    fs::write(&installed, wanted).with_context(|| format!("writing {}", installed.display()))?;
    Ok(programs)
}

fn make_environment(at: &Path) -> Result<()> {
    let mut has_venv = command("python3");
    has_venv.args(["-c", "import venv, ensurepip"]);
    if output(has_venv).is_err() {
        // Debian splits both off python3, which alone has a program to look for.
        packages::install(&["python3", "python3-venv"])?;
    }
    let mut venv = command("python3");
    venv.args(["-m", "venv", "--clear"]).arg(at);
    run(venv)
}

/// The search path with `programs` first: zigbuild finds zig by it.
fn before_path(programs: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(
        [programs.to_owned()]
            .into_iter()
            .chain(env::split_paths(&path)),
    )
    .context("the target folder's path holds a colon")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_with_glibc_have_a_floor() {
        let check = |target, expected| assert_eq!(with_floor(target), expected);
        check(
            "aarch64-unknown-linux-gnu",
            "aarch64-unknown-linux-gnu.2.28",
        );
        check(
            "armv7-unknown-linux-gnueabihf",
            "armv7-unknown-linux-gnueabihf.2.28",
        );
        check("aarch64-unknown-linux-musl", "aarch64-unknown-linux-musl");
    }

    #[test]
    fn every_requirement_is_pinned_by_version_and_digest() {
        let text = fs::read_to_string(workspace_root().join(REQUIREMENTS)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let packages: Vec<_> = lines.filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(packages.len(), 2, "{text}");
        assert!(packages.iter().all(|line| line.contains("==")), "{text}");
        assert_eq!(text.matches("--hash=sha256:").count(), 4, "{text}");
    }
}
