//! The standard library of one target, built from its source.
//!
//! Cargo builds it beside an empty crate. `-Zbuild-std` is not stable, so this
//! one step sets `RUSTC_BOOTSTRAP`; all that is built afterwards is stable Rust.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::private_cargo;
use crate::folder::recreate;
use crate::process;

/// The crate that cargo is asked to build; only its dependencies are kept.
const CRATE: &str = "hark-std";

/// One unit each, as in the library that rustup brings: it is linked into
/// everything that is shipped.
const MANIFEST: &str = "\
[package]
name = \"hark-std\"
edition = \"2024\"

[workspace]

[profile.release]
codegen-units = 1
";

/// With an operating system: all of it, for either panic strategy.
const HOSTED: [&str; 1] = ["-Zbuild-std=std,panic_unwind,panic_abort,proc_macro,test"];

/// Bare metal: no operating system, and nobody else brings `memcpy`.
const BARE: [&str; 2] = [
    "-Zbuild-std=core,alloc,compiler_builtins",
    "-Zbuild-std-features=compiler-builtins-mem",
];

/// Where the toolchain in `rust` keeps the library of `target`.
pub(super) fn libraries(rust: &Path, target: &str) -> PathBuf {
    rust.join("lib/rustlib").join(target).join("lib")
}

/// Builds the library with `work` as the scratch folder, and puts it in `rust`.
pub(super) fn build(rust: &Path, work: &Path, target: &str) -> Result<()> {
    println!("building the standard library for {target}: once, about a minute");
    fs::create_dir_all(work.join("src")).with_context(|| format!("creating {}", work.display()))?;
    write(&work.join("Cargo.toml"), MANIFEST)?;
    write(&work.join("src/lib.rs"), "#![no_std]\n")?;

    let mut build = private_cargo(rust);
    build
        .args(["build", "--release", "--target", target])
        .args(if is_bare(target) { &BARE[..] } else { &HOSTED })
        .arg("--manifest-path")
        .arg(work.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(work.join("target"))
        .env("RUSTC_BOOTSTRAP", "1")
        // Link-time optimisation reads bitcode, which cargo leaves out of
        // libraries whose own profile does not ask for it.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::run(build)?;
    install(
        &work.join("target").join(target).join("release/deps"),
        &libraries(rust, target),
    )
}

fn is_bare(target: &str) -> bool {
    target.contains("-none-")
}

/// Copies what was built to `to`, which comes into being complete or not at all.
fn install(built: &Path, to: &Path) -> Result<()> {
    let unfinished = to.with_extension("unfinished");
    recreate(&unfinished)?;
    let own = format!("lib{}-", CRATE.replace('-', "_"));
    let mut copied = 0;
    for entry in fs::read_dir(built).with_context(|| format!("listing {}", built.display()))? {
        let path = entry?.path();
        let name = path.file_name().expect("an entry has a name");
        let is_library = path.extension().is_some_and(|ext| ext == "rlib");
        if is_library && !name.to_string_lossy().starts_with(&own) {
            fs::copy(&path, unfinished.join(name))
                .with_context(|| format!("copying {}", path.display()))?;
            copied += 1;
        }
    }
    ensure!(copied > 0, "cargo left no library in {}", built.display());
    fs::rename(&unfinished, to).with_context(|| format!("naming {}", to.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_target_without_an_operating_system_is_bare() {
        let check = |target, expected| assert_eq!(is_bare(target), expected, "{target}");
        check("thumbv7em-none-eabihf", true);
        check("aarch64-unknown-linux-gnu", false);
        check("armv7-unknown-linux-gnueabihf", false);
        check("aarch64-unknown-linux-musl", false);
    }

    #[test]
    fn the_empty_crate_is_the_one_that_is_left_out() {
        assert!(MANIFEST.contains(&format!("name = \"{CRATE}\"")));
    }
}
