//! The initramfs of the image: busybox, the modules between the kernel and a root
//! slot, and one script that mounts the slot. Small, because GRUB reads it with
//! the firmware's slow driver.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::rootfs::{copy, write};
use super::source;
use crate::debian::{Archive, Dependencies, Kernel};
use crate::folder::recreate;
use crate::process::{command, run};

const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "squashfs", "virtio_rng"];

/// Writes the initramfs for `kernel` to `target`.
pub(super) fn build(archive: &Archive, kernel: &Kernel, work: &Path, target: &Path) -> Result<()> {
    let root = work.join("initramfs");
    let busybox = work.join("busybox");
    recreate(&root)?;
    recreate(&busybox)?;
    archive.unpack(&["busybox-static"], Dependencies::LeftOut, &busybox)?;
    copy(
        &busybox.join("usr/bin/busybox"),
        &root.join("bin/busybox"),
        0o755,
    )?;
    relink_shell(&root)?;
    copy(&source("initramfs-init"), &root.join("init"), 0o755)?;
    let mut order = String::new();
    for module in kernel.module_files(&MODULES)? {
        let name = module.file_name().context("a module has a name")?;
        let inside = Path::new("/modules").join(name);
        copy(&module, &root.join(inside.strip_prefix("/")?), 0o644)?;
        order.push_str(&format!("{}\n", inside.display()));
    }
    write(&root.join("modules.order"), order, 0o644)?;
    for folder in ["dev", "proc", "sys"] {
        fs::create_dir_all(root.join(folder))?;
    }
    archive_folder(&root, target)
}

fn relink_shell(root: &Path) -> Result<()> {
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).context("linking /bin/sh")
}

/// The kernel's format: a newc archive, compressed by gzip.
fn archive_folder(root: &Path, target: &Path) -> Result<()> {
    let plain = target.with_extension("cpio");
    let mut cpio = command("cpio");
    cpio.args([
        "--create",
        "--format=newc",
        "--owner=+0:+0",
        "--reproducible",
        "--quiet",
    ])
    .current_dir(root)
    .stdin(Stdio::piped())
    .stdout(fs::File::create(&plain).with_context(|| format!("creating {}", plain.display()))?);
    let mut cpio = cpio.spawn().context("starting cpio")?;
    let mut names = String::new();
    list(root, root, &mut names)?;
    cpio.stdin
        .take()
        .expect("stdin is piped above")
        .write_all(names.as_bytes())
        .context("naming files to cpio")?;
    let status = cpio.wait()?;
    ensure!(status.success(), "cpio failed: {status}");
    let mut gzip = command("gzip");
    gzip.args(["--force", "--no-name", "-9"]).arg(&plain);
    run(gzip)?;
    fs::rename(plain.with_added_extension("gz"), target).context("putting the initramfs in place")
}

/// The names under `folder` relative to `root`, folders first.
fn list(root: &Path, folder: &Path, names: &mut String) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        names.push_str(&format!("{}\n", path.strip_prefix(root)?.display()));
        if entry.file_type()?.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
