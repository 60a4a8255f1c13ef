//! The structure that ARCHITECTURE.md promises, held over cargo's own metadata
//! and over the source text.
//!
//! Three questions, a file each: who may know whom, what the pure core asks of
//! the world, and whether each stated invariant has the test that it names.

mod dependencies;
mod invariants;
mod sources;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// What these tests ask of `cargo metadata`. Read by hand, because the crate
/// for it turns on features that have the model runtime compiled twice.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// None of an ordinary one, else `dev` or `build`.
    kind: Option<String>,
}

/// The members of the workspace.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .expect("cargo can be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {stderr}");
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).expect("cargo describes the workspace");
    metadata.packages
}

/// The root of the workspace that is tested.
///
/// Cargo says so at run time. What it said at compile time would be wrong where
/// two checkouts share a target folder.
fn root() -> PathBuf {
    let tests = env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    Path::new(&tests)
        .parent()
        .expect("this crate lies one folder below the root")
        .to_owned()
}

/// Every Rust file below `folder`, less those of packages nested in it.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = folder
        .read_dir()
        .unwrap_or_else(|error| panic!("listing {}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            let is_elsewhere = path.join("Cargo.toml").exists() || path.ends_with("target");
            if !is_elsewhere {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
