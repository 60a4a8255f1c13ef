//! What is installed on a board that keeps its vendor's system: a Debian package,
//! and the same files as a tarball for systems without dpkg.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::rootfs::{add_common, copy, site_settings, write};
use super::{Build, source};
use crate::cross_build::GLIBC_MAX;
use crate::folder::recreate;
use crate::process::{command, run, target_dir, workspace_root};

/// Builds the package and the tarball into `build.out`.
pub(super) fn build(build: &Build) -> Result<()> {
    let tree = target_dir()
        .join("images/work")
        .join(&build.board.name)
        .join("tree");
    recreate(&tree)?;
    add_files(build, &tree)?;
    let package = format!("hark-{}.deb", build.board.name);
    let tarball = format!("hark-{}.tar.gz", build.board.name);
    write_tarball(&tree, &build.out.join(&tarball))?;
    write_package(build, &tree, &build.out.join(&package))?;
    build.seal(&[&package, &tarball])
}

fn add_files(build: &Build, tree: &Path) -> Result<()> {
    build.copy_board_configs(&tree.join("usr/share/hark/board-configs"))?;
    copy(&build.hark, &tree.join("usr/bin/hark"), 0o755)?;
    add_common(tree)?;
    write(
        &tree.join("etc/hark/hark.toml"),
        site_settings(build),
        0o644,
    )?;
    let build_name = format!("{}\n", build.version);
    write(&tree.join("usr/share/hark/build"), build_name, 0o644)?;
    for name in ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT"] {
        let to = tree.join("usr/share/doc/hark").join(name);
        copy(&workspace_root().join(name), &to, 0o644)?;
    }
    Ok(())
}

fn write_tarball(tree: &Path, tarball: &Path) -> Result<()> {
    let mut tar = command("tar");
    tar.args([
        "--create",
        "--gzip",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ])
    .args(["--sort=name", "--file"])
    .arg(tarball)
    .arg("--directory")
    .arg(source("deb"))
    .arg("install.sh")
    .arg("--directory")
    .arg(tree)
    .args(["etc", "usr"]);
    run(tar)
}

fn write_package(build: &Build, tree: &Path, package: &Path) -> Result<()> {
    let control = tree.join("DEBIAN");
    write(&control.join("control"), control_text(build), 0o644)?;
    write(&control.join("conffiles"), "/etc/hark/hark.toml\n", 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        copy(&source("deb").join(script), &control.join(script), 0o755)?;
    }
    let mut dpkg_deb = command("dpkg-deb");
    dpkg_deb
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(tree)
        .arg(package);
    run(dpkg_deb)?;
    fs::remove_dir_all(control).context("taking DEBIAN out of the tree")
}

fn control_text(build: &Build) -> String {
    let libraries = format!("libc6 (>= {GLIBC_MAX}), libgcc-s1 | libgcc1, systemd");
    format!(
        "Package: hark\nVersion: {}\nArchitecture: {}\nMaintainer: hark <hark@localhost>\n\
         Depends: {libraries}\nSection: misc\nPriority: optional\n\
         Description: inference appliance for ARM gateways\n \
         Sensor readings in, verdicts and alerts out, each by its deadline.\n \
         This package is configured for the board {}.\n",
        build.version,
        build.board.architecture.debian(),
        build.board.name
    )
}
