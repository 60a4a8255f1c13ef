//! The structure that ARCHITECTURE.md promises, held over cargo's own metadata
//! and over the source text.
//!
//! Three questions, a file each: who may know whom, what the pure core asks of
//! the world, and whether each stated invariant has the test that it names.

mod dependencies;
mod invariants;
mod sources;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies one folder below the root")
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
