//! Proof that `hark-wire` needs no standard library, without a second target.
//!
//! The host's `core` alone is linked into an empty sysroot, and the crate is
//! checked against that: whatever in its tree asks for `std` or `alloc` fails
//! to compile. Build scripts and derive macros keep the real sysroot, because
//! cargo applies RUSTFLAGS only to the target when one is named.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::folder::recreate;
use crate::process::{cargo, host, run, rustc, target_dir};

/// What a `#![no_std]` crate without an allocator may link.
const CRATES: [&str; 2] = ["libcore-", "libcompiler_builtins-"];

/// Compiles `hark-wire` where nothing but `core` exists.
pub(crate) fn check_wire() -> Result<()> {
    let host = host()?;
    let libraries = PathBuf::from(rustc(&["--print", "target-libdir"])?);
    let sysroot = target_dir().join("no-std/sysroot");
    link_core(
        &libraries,
        &sysroot.join("lib/rustlib").join(&host).join("lib"),
    )?;

    let target = target_dir().join("no-std");
    let mut check = cargo(&["check", "--package", "hark-wire", "--target", &host]);
    check.arg("--target-dir").arg(target).env(
        "CARGO_ENCODED_RUSTFLAGS",
        format!("--sysroot={}", sysroot.display()),
    );
    run(check)
}

/// Makes `to` a folder of links to the crates of `from` that [`CRATES`] names.
fn link_core(from: &Path, to: &Path) -> Result<()> {
    recreate(to)?;
    let mut linked = 0;
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let name = entry?.file_name();
        let is_core = CRATES
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_core {
            symlink(from.join(&name), to.join(&name))
                .with_context(|| format!("linking {}", name.display()))?;
            linked += 1;
        }
    }
    ensure!(
        linked >= CRATES.len(),
        "{} lacks one of {CRATES:?}",
        from.display()
    );
    Ok(())
}
