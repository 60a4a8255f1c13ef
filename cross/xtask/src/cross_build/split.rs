//! Debug information in a file of its own, found by name and build id.
//!
//! By `objcopy`, not by rustc's split debug information: that keeps a skeleton in
//! the binary, and reading it needs the objects' paths. The `objcopy` is the one
//! that comes with rustc, which knows every target.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Binary;
use crate::process::{command, host, output, rustc};

/// Moves the debug information of `path` to a file beside it.
pub(super) fn split(path: &Path) -> Result<Binary> {
    let debug = path.with_extension("debug");
    let stripped = path.with_extension("stripped");
    objcopy(&[
        OsStr::new("--only-keep-debug"),
        path.as_os_str(),
        debug.as_os_str(),
    ])?;
    let mut link = OsStr::new("--add-gnu-debuglink=").to_owned();
    link.push(&debug);
    objcopy(&[
        OsStr::new("--strip-all"),
        &link,
        path.as_os_str(),
        stripped.as_os_str(),
    ])?;
    // In place of cargo's file, which is a link to another that stays whole.
    std::fs::rename(&stripped, path).with_context(|| format!("naming {}", path.display()))?;
    Ok(Binary {
        path: path.to_owned(),
        debug,
    })
}

fn objcopy(args: &[&OsStr]) -> Result<()> {
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    let bundled = sysroot
        .join("lib/rustlib")
        .join(host()?)
        .join("bin/rust-objcopy");
    let mut objcopy = if bundled.is_file() {
        let mut objcopy = command(bundled);
        // It shares LLVM with rustc and does not say where that lies.
        objcopy.env("LD_LIBRARY_PATH", sysroot.join("lib"));
        objcopy
    } else {
        command("llvm-objcopy")
    };
    objcopy.args(args);
    run_quietly(objcopy)
}

fn run_quietly(objcopy: Command) -> Result<()> {
    output(objcopy).map(drop)
}
