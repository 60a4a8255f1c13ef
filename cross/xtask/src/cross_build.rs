//! `cargo xtask cross-build`: hark for a board, without a container.
//!
//! Builds with the toolchain of [`crate::toolchain`] and with zig as the linker,
//! splits the debug information off, and then reads the binary itself: what it
//! needs of the board's system, how large it is, and what makes it so. A binary
//! that no board of ours could load, or that is too large, is an error.

mod elf;
mod report;
mod size;
mod split;
mod zig;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::process::{self, target_dir};
use crate::toolchain::Toolchain;
use report::Report;

/// The oldest glibc of a gateway that we build for: Debian 10, RHEL 8, and what
/// vendors' board support packages of 2019 carry.
pub(crate) const GLIBC_MAX: Version = Version(2, 28);

/// The most that a shipped aarch64 binary may take on the flash, bytes.
pub(crate) const AARCH64_BYTES_MAX: u64 = 16_000_000;

/// A version of glibc: major, minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What hark is built for.
const TARGETS: [&str; 3] = [
    "aarch64-unknown-linux-gnu",
    "armv7-unknown-linux-gnueabihf",
    "aarch64-unknown-linux-musl",
];

/// Build hark for a board, and say what the binary is made of and needs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// aarch64-unknown-linux-gnu, armv7-unknown-linux-gnueabihf, or
    /// aarch64-unknown-linux-musl, which is static
    #[arg(long, value_name = "TRIPLE")]
    target: String,
    /// `shipped` is small and takes long; `release` is quicker to build
    #[arg(long, default_value = "shipped", value_parser = ["shipped", "release"])]
    profile: String,
    /// The package whose binary, of the same name, is built
    #[arg(long, default_value = "hark")]
    package: String,
    /// The report as JSON, on the last line
    #[arg(long)]
    json: bool,
}

/// Builds, reports and checks the binary that `args` names.
///
/// # Errors
/// If it does not build, needs what boards lack, or is too large.
pub(crate) fn handle(args: &Args) -> Result<()> {
    check_target(&args.target)?;
    let binary = build(&args.target, &args.profile, &args.package)?;
    let report = Report::of(args, &binary)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    report.check()
}

/// Where the binary of such a build lies.
pub(crate) fn binary_path(target: &str, profile: &str, package: &str) -> PathBuf {
    target_dir().join(target).join(profile).join(package)
}

/// What a build leaves.
pub(crate) struct Binary {
    /// Stripped, with a link to the next.
    pub(crate) path: PathBuf,
    /// The debug information.
    pub(crate) debug: PathBuf,
}

/// Builds `package` for `target`, and strips it.
pub(crate) fn build(target: &str, profile: &str, package: &str) -> Result<Binary> {
    let toolchain = Toolchain::of(target)?;
    let mut cargo = zig::cargo(&toolchain, target)?;
    cargo
        .args(["--profile", profile, "--package", package])
        .env("RUSTFLAGS", rustflags(&toolchain, target).join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(cargo)?;
    split::split(&binary_path(target, profile, package))
}

fn rustflags(toolchain: &Toolchain, target: &str) -> Vec<&'static str> {
    // The build id ties a core dump, the binary and its debug file together.
    let mut flags = vec!["-Clink-arg=-Wl,--build-id=sha1"];
    if target.ends_with("-musl") && toolchain.is_private() {
        // A library of our own build brings no C start files; zig has them.
        flags.push("-Clink-self-contained=no");
    }
    flags
}

fn check_target(target: &str) -> Result<()> {
    if !TARGETS.contains(&target) {
        bail!("no target `{target}`; there are: {}", TARGETS.join(", "));
    }
    Ok(())
}

/// The most bytes that a binary may have, where that is promised.
fn bytes_max(target: &str, profile: &str) -> Option<u64> {
    let is_promised = target.starts_with("aarch64-") && profile == "shipped";
    is_promised.then_some(AARCH64_BYTES_MAX)
}

fn shown(path: &Path) -> String {
    let root = process::workspace_root();
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests;
