//! The small system that most scenarios boot: Debian's kernel and a RAM disk.
//!
//! The RAM disk holds busybox, the kernel modules of the emulated devices in
//! the order in which they load, the C library, hark and the node's ELF. It is
//! built once for all scenarios; what differs between them (the configuration)
//! and what must outlive a power cut lies on a data disk that `emulated.rs`
//! makes. Booted and serving within ten seconds, where a disk image takes a
//! minute.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::debian::{Archive, Dependencies, Kernel};
use crate::process::{command, run};

/// Run as process 1.
const INIT: &str = include_str!("init.sh");

/// What the emulated devices need; modprobe knows what these stand on.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "virtio_blk",
    "ext4",
    "xhci_pci",
    "ftdi_sio",
    "i6300esb",
];

const PACKAGES: [&str; 3] = ["busybox-static", "libc6", "libgcc-s1"];

/// What a hark for aarch64-unknown-linux-gnu is linked to.
const LIBRARIES: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
];

/// Debian's EFI firmware for QEMU's arm64 machine, which boots disks.
const EFI_PACKAGE: &str = "qemu-efi-aarch64";
const EFI_FILE: &str = "usr/share/qemu-efi-aarch64/QEMU_EFI.fd";

/// A kernel and its RAM disk, and the firmware for disks.
#[derive(Clone)]
pub(crate) struct System {
    pub(crate) kernel: PathBuf,
    pub(crate) ram_disk: PathBuf,
    pub(crate) efi: PathBuf,
}

/// Builds the RAM disk in `folder` around `hark` and the ELF of the node.
pub(crate) fn build(folder: &Path, hark: &Path, node: &Path) -> Result<System> {
    let archive = Archive::open()?;
    let kernel = archive.kernel()?;
    let userland = folder.join("userland");
    if !userland.join("usr/bin/busybox").exists() {
        archive.unpack(&PACKAGES, Dependencies::LeftOut, &userland)?;
    }
    let root = folder.join("ram-disk");
    // What an earlier run left may belong to another kernel.
    fs::remove_dir_all(&root).ok();
    for sub in ["bin", "lib/modules", "lib/aarch64-linux-gnu"] {
        fs::create_dir_all(root.join(sub)).with_context(|| format!("creating {sub}"))?;
    }
    copy(&userland.join("usr/bin/busybox"), &root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh")).context("linking the shell")?;
    copy_libraries(&userland.join("usr/lib"), &root.join("lib"))?;
    copy_modules(&kernel, &root.join("lib/modules"))?;
    copy(hark, &root.join("bin/hark"))?;
    copy(node, &root.join("lib/hark-node"))?;
    let init = root.join("init");
    fs::write(&init, INIT).context("writing init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("init to be run")?;
    let ram_disk = folder.join("ram-disk.gz");
    pack(&root, &ram_disk)?;
    let efi = folder.join("efi");
    if !efi.join(EFI_FILE).exists() {
        archive.unpack(&[EFI_PACKAGE], Dependencies::LeftOut, &efi)?;
    }
    Ok(System {
        kernel: kernel.image,
        ram_disk,
        efi: efi.join(EFI_FILE),
    })
}

fn copy_libraries(from: &Path, to: &Path) -> Result<()> {
    let folder = "aarch64-linux-gnu";
    for library in LIBRARIES {
        copy(
            &from.join(folder).join(library),
            &to.join(folder).join(library),
        )?;
    }
    let loader = "ld-linux-aarch64.so.1";
    copy(&from.join(folder).join(loader), &to.join(loader))
}

/// Copies the modules, and writes the order in which they load.
fn copy_modules(kernel: &Kernel, to: &Path) -> Result<()> {
    let mut order: Vec<String> = Vec::new();
    for path in kernel.module_files(&MODULES)? {
        let name = path.file_name().context("a module has a file name")?;
        copy(&path, &to.join(name))?;
        order.push(name.to_string_lossy().into_owned());
    }
    fs::write(to.join("order"), order.join("\n") + "\n").context("writing the modules' order")
}

fn pack(root: &Path, to: &Path) -> Result<()> {
    let mut shell = command("sh");
    shell
        .args([
            "-ec",
            r#"cd "$1"; find . | cpio -o -H newc --quiet | gzip -1 > "$2""#,
            "sh",
        ])
        .args([root, to]);
    run(shell).context("packing the RAM disk")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}
