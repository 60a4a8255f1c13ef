//! zig as the linker: a binary for an old glibc, linked on a new system.
//!
//! Debian's cross gcc links against its own glibc, which boards in the field do
//! not have. cargo-zigbuild and zig come from PyPI, at the versions and digests
//! of `cross/requirements.txt`, into a Python environment below the target
//! folder; nothing is installed outside of it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::GLIBC_MAX;
use crate::process::target_dir;
use crate::python;
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
    let environment = target_dir().join("toolchain/zig");
    let what = "zig from PyPI: 100 MB, once";
    python::install(&environment, REQUIREMENTS, what)
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
    use crate::process::workspace_root;
    use std::fs;

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
