//! A Rust toolchain that can build for a target, whatever this machine has.
//!
//! Where rustup brought the target, that toolchain is used as it is. Elsewhere a
//! private one is made below `target/toolchain/<version>`: a copy of the compiler
//! and the standard library, built once for each target from its source, which
//! [`rust_src`] finds. Nothing here installs into, or changes, the toolchain
//! that runs.
//!
//! Driven by [`cargo`], whose command only lacks its arguments. A second xtask
//! that wants the same waits for the first.

pub(crate) mod backports;
mod rust_src;
mod std_build;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::folder::recreate;
use crate::process::{self, command, output, rustc, target_dir};

/// Prepare the toolchain for a target, and say where it is
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to build for, such as aarch64-unknown-linux-gnu
    #[arg(long, value_name = "TRIPLE")]
    target: String,
}

/// Makes what is missing for `args.target`.
///
/// # Errors
/// If there is no source of the standard library to build, with what to do.
pub(crate) fn handle(args: &Args) -> Result<()> {
    let toolchain = Toolchain::of(&args.target)?;
    println!("{}", toolchain.describe());
    Ok(())
}

/// A cargo that builds for `target`; its arguments are the caller's to add.
///
/// # Errors
/// As of [`handle`].
pub(crate) fn cargo(target: &str) -> Result<Command> {
    Ok(Toolchain::of(target)?.cargo())
}

/// A cargo and a rustc with the standard library of one target.
pub(crate) enum Toolchain {
    /// The one that runs this xtask.
    Running,
    /// The copy in this folder.
    Private(PathBuf),
}

impl Toolchain {
    /// The toolchain for `target`, made if need be.
    pub(crate) fn of(target: &str) -> Result<Self> {
        let libraries = PathBuf::from(rustc(&["--print", "target-libdir", "--target", target])?);
        if has_core(&libraries) {
            return Ok(Self::Running);
        }
        let version = rustc_version()?;
        let root = target_dir().join("toolchain").join(&version);
        let rust = root.join("rust");
        let is_built = || has_core(&std_build::libraries(&rust, target));
        if is_built() {
            return Ok(Self::Private(rust));
        }
        fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        let _lock = lock(&root.join("lock"))?;
        // Another xtask may have built it meanwhile.
        if !is_built() {
            let source = rust_src::find(&root, &version, target)?;
            copy_compiler(&rust)?;
            link_source(&rust, &source)?;
            std_build::build(&rust, &root.join("std"), target)?;
        }
        Ok(Self::Private(rust))
    }

    /// Whether the standard library is of our own build.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }

    /// This toolchain's cargo.
    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Running => process::cargo(&[]),
            Self::Private(rust) => private_cargo(rust),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Running => "the running toolchain has this target".to_owned(),
            Self::Private(rust) => rust.display().to_string(),
        }
    }
}

fn private_cargo(rust: &Path) -> Command {
    let cargo = rust.join("bin/cargo");
    let mut command = command(&cargo);
    // rustup's cargo sets LD_LIBRARY_PATH to its own libraries; with that the
    // copied rustc loads the other one's driver, and takes its sysroot.
    command
        .env("RUSTC", rust.join("bin/rustc"))
        .env("CARGO", cargo)
        .env_remove("LD_LIBRARY_PATH");
    command
}

/// The release that runs, such as `1.95.0`.
fn rustc_version() -> Result<String> {
    let verbose = rustc(&["--version", "--verbose"])?;
    let release = verbose
        .lines()
        .find_map(|line| line.strip_prefix("release: "));
    release
        .map(ToOwned::to_owned)
        .context("`rustc --version --verbose` names no release")
}

fn has_core(libraries: &Path) -> bool {
    fs::read_dir(libraries).is_ok_and(|entries| {
        let is_core = |name: &OsStr| name.to_string_lossy().starts_with("libcore-");
        entries.flatten().any(|entry| is_core(&entry.file_name()))
    })
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("waiting for another xtask to finish {}", path.display());
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

/// Copies compiler, cargo and the host's libraries of the running toolchain.
///
/// A copy, because rustc finds its sysroot from where its own library lies.
fn copy_compiler(to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let from = PathBuf::from(rustc(&["--print", "sysroot"])?);
    ensure!(
        from.join("bin/cargo").is_file() && from.join("lib/rustlib").is_dir() && !is_system(&from),
        "the Rust in {} is no toolchain of rustup's, which alone can be copied; \
         install Rust by rustup",
        from.display()
    );
    println!("copying the compiler from {}", from.display());
    let unfinished = to.with_extension("unfinished");
    recreate(&unfinished)?;
    let mut copy = command("cp");
    copy.args(["-R", "-p"])
        .args([from.join("bin"), from.join("lib")])
        .arg(&unfinished);
    output(copy)?;
    fs::rename(&unfinished, to).with_context(|| format!("naming {}", to.display()))
}

/// Whether the sysroot is the system's `/usr`, where more lies than Rust.
fn is_system(sysroot: &Path) -> bool {
    ["/", "/usr", "/usr/local"]
        .map(Path::new)
        .contains(&sysroot)
}

/// Puts the standard library's source where `-Zbuild-std` looks for it.
fn link_source(rust: &Path, source: &Path) -> Result<()> {
    let link = rust.join("lib/rustlib/src/rust");
    if link.join("library").is_dir() {
        return Ok(());
    }
    let folder = link.parent().expect("a file of a folder");
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    if link.is_symlink() {
        fs::remove_file(&link).with_context(|| format!("removing {}", link.display()))?;
    }
    std::os::unix::fs::symlink(source, &link).with_context(|| format!("linking {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_toolchain_serves_its_own_target() {
        let host = process::host().expect("rustc answers");
        let toolchain = Toolchain::of(&host).expect("the host's library is there");
        assert!(!toolchain.is_private());
    }

    #[test]
    fn a_private_cargo_is_kept_apart_from_the_one_that_runs() {
        let cargo = private_cargo(Path::new("/private"));
        let env: Vec<_> = cargo.get_envs().collect();
        assert!(env.contains(&(OsStr::new("LD_LIBRARY_PATH"), None)));
        let rustc = OsStr::new("/private/bin/rustc");
        assert!(env.contains(&(OsStr::new("RUSTC"), Some(rustc))));
    }
}
