//! The source of the standard library, for exactly the compiler that runs.
//!
//! Looked for in this order: the toolchain's own `rust-src` component; the folder
//! or Debian package that `HARK_RUST_SRC` names; a package in
//! `../shared/toolchain`; Debian's backports, through a private apt
//! configuration that leaves the system's alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::backports;
use crate::process::{command, output, rustc, workspace_root};

/// Names a folder with `library/` in it, or a rust-src package of Debian's.
const VARIABLE: &str = "HARK_RUST_SRC";

/// What a package that is lying about must be: release and SHA-256.
/// Source: Debian trixie-backports, `rust-src 1.95.0+dfsg1-2~bpo13+1`.
const KNOWN: [(&str, &str); 1] = [(
    "1.95.0",
    "7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b",
)];

/// The folder that holds `library/` of release `version`.
///
/// # Errors
/// If there is none, with what to run for `target`.
pub(super) fn find(root: &Path, version: &str, target: &str) -> Result<PathBuf> {
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    let component = sysroot.join("lib/rustlib/src/rust");
    if component.join("library").is_dir() {
        return Ok(component);
    }
    let unpacked = root.join("source");
    if folder_in(&unpacked, version).is_dir() {
        return Ok(folder_in(&unpacked, version));
    }
    if let Some(named) = env::var_os(VARIABLE).map(PathBuf::from) {
        if named.join("library").is_dir() {
            return Ok(named);
        }
        return unpack(&named, &unpacked, version).with_context(|| format!("${VARIABLE}"));
    }
    let package = match shared(version)? {
        Some(package) => package,
        None => backports::fetch("rust-src", Some(version), root)
            .with_context(|| advice(version, target))?,
    };
    unpack(&package, &unpacked, version)
}

fn advice(version: &str, target: &str) -> String {
    format!(
        "no standard library for {target}; run `rustup target add {target}`, or let \
         {VARIABLE} name the rust-src {version} of Debian, as a folder or a .deb"
    )
}

/// Where Debian's package puts what this looks for.
fn folder_in(unpacked: &Path, version: &str) -> PathBuf {
    unpacked.join(format!("usr/src/rustc-{version}"))
}

fn unpack(package: &Path, to: &Path, version: &str) -> Result<PathBuf> {
    ensure!(
        package.is_file(),
        "{} is neither a folder with `library` in it nor a package",
        package.display()
    );
    println!("unpacking {}", package.display());
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("clearing {}", to.display()))?;
    }
    let mut dpkg = command("dpkg-deb");
    dpkg.arg("--extract").args([package, to]);
    output(dpkg)?;
    let folder = folder_in(to, version);
    ensure!(
        folder.join("library").is_dir(),
        "{} holds the source of another release than {version}",
        package.display()
    );
    Ok(folder)
}

/// The package in the folder that checkouts share, if it is the known one.
fn shared(version: &str) -> Result<Option<PathBuf>> {
    let folder = workspace_root().join("../shared/toolchain");
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("{}: not there", folder.display());
        return Ok(None);
    };
    let prefix = format!("rust-src_{version}");
    let known = KNOWN.iter().find(|(release, _)| *release == version);
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().expect("an entry has a name");
        if !name.to_string_lossy().starts_with(&prefix) {
            continue;
        }
        if let Some((_, expected)) = known {
            check_sha256(&path, expected)?;
            return Ok(Some(path));
        }
        println!("{}: left alone, its digest is not known", path.display());
    }
    Ok(None)
}

fn check_sha256(path: &Path, expected: &str) -> Result<()> {
    let mut sha256sum = command("sha256sum");
    sha256sum.arg(path);
    let line = output(sha256sum)?;
    let digest = line.split_whitespace().next().unwrap_or_default();
    ensure!(
        digest == expected,
        "{}: its SHA-256 is {digest}, not {expected}",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_source_is_answered_with_what_brings_it() {
        let text = advice("1.95.0", "aarch64-unknown-linux-gnu");
        assert!(
            text.contains("`rustup target add aarch64-unknown-linux-gnu`"),
            "{text}"
        );
        assert!(text.contains("rust-src 1.95.0"), "{text}");
    }

    #[test]
    fn a_package_with_another_digest_is_refused() {
        let manifest = workspace_root().join("Cargo.toml");
        let error = check_sha256(&manifest, KNOWN[0].1).expect_err("it is no package");
        assert!(error.to_string().contains("its SHA-256 is"), "{error}");
    }

    #[test]
    fn what_is_no_package_is_named() {
        let absent = Path::new("/no/such/rust-src.deb");
        let error = unpack(absent, &env::temp_dir().join("unused"), "1.95.0");
        let text = error.expect_err("it is not there").to_string();
        assert!(text.contains("/no/such/rust-src.deb"), "{text}");
    }
}
