//! The root file system of a slot: Debian's packages unpacked, less what an
//! appliance never uses, and hark.
//!
//! No maintainer script runs. What they would do is done by the image's own
//! systemd under qemu-user (users, enabled units) or by files of
//! `cross/image/rootfs`. The result is read-only and has no package database:
//! it is replaced as a whole.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::contents::{MODULES, PACKAGES, PRUNED, PRUNED_PREFIXES, UDEV_RULES, UNWANTED_UNITS};
use super::{Build, initramfs, source};
use crate::debian::{Archive, Dependencies};
use crate::folder::recreate;
use crate::process::{command, run};

/// Makes the root file system of `build` and returns its squashfs.
pub(super) fn build(build: &Build, archive: &Archive, work: &Path) -> Result<PathBuf> {
    let root = work.join("rootfs");
    recreate(&root)?;
    archive.unpack(&PACKAGES, Dependencies::Included, &root)?;
    prune(&root)?;
    add_boot_tools(archive, work, &root)?;
    add_base_files(&root)?;
    copy_tree(&source("rootfs"), &root)?;
    add_hark(build, &root)?;
    quiet_boot(&root)?;
    add_kernel(archive, work, &root)?;
    set_up(&root)?;
    squash(&root, &work.join("rootfs.img"))
}

fn prune(root: &Path) -> Result<()> {
    for folder in PRUNED.map(|folder| root.join(folder)) {
        if folder.is_dir() {
            fs::remove_dir_all(&folder).with_context(|| format!("pruning {}", folder.display()))?;
        }
    }
    for (folder, prefix) in PRUNED_PREFIXES {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// `grub-editenv`, without the rest of GRUB's tools and their libraries.
fn add_boot_tools(archive: &Archive, work: &Path, root: &Path) -> Result<()> {
    let folder = work.join("grub-common");
    recreate(&folder)?;
    archive.unpack(&["grub-common"], Dependencies::LeftOut, &folder)?;
    copy(
        &folder.join("usr/bin/grub-editenv"),
        &root.join("usr/bin/grub-editenv"),
        0o755,
    )
}

/// The files that the scripts of base-passwd, base-files and others would make.
fn add_base_files(root: &Path) -> Result<()> {
    let etc = root.join("etc");
    for name in ["passwd", "group"] {
        let master = root.join(format!("usr/share/base-passwd/{name}.master"));
        let text = fs::read_to_string(&master)
            .with_context(|| format!("reading {}", master.display()))?
            // Keys for logging in must outlive an update, so root lives on the
            // data partition; bash is not there.
            .replace(
                "root:*:0:0:root:/root:/bin/bash",
                "root:x:0:0:root:/var/lib/root:/bin/sh",
            );
        fs::write(etc.join(name), text)?;
    }
    // No password opens anything.
    write(&etc.join("shadow"), "root:*:19000:0:99999:7:::\n", 0o600)?;
    write(&etc.join("machine-id"), "", 0o444)?;
    write(
        &etc.join("hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
        0o644,
    )?;
    write(&etc.join("shells"), "/bin/sh\n", 0o644)?;
    write(
        &etc.join("nsswitch.conf"),
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
        0o644,
    )?;
    relink(
        "/run/systemd/resolve/stub-resolv.conf",
        &etc.join("resolv.conf"),
    )?;
    relink("../proc/self/mounts", &etc.join("mtab"))?;
    relink("dash", &root.join("usr/bin/sh"))?;
    relink("/var/lib/hark-site", &etc.join("hark"))?;
    for folder in ["efi", "srv", "var/lib", "etc/modules-load.d", "etc/rauc"] {
        fs::create_dir_all(root.join(folder))?;
    }
    Ok(())
}

fn add_hark(build: &Build, root: &Path) -> Result<()> {
    let share = root.join("usr/share/hark");
    build.copy_board_configs(&share.join("board-configs"))?;
    copy(&build.hark, &root.join("usr/bin/hark"), 0o755)?;
    add_common(root)?;
    write(&share.join("hark.toml"), site_settings(build), 0o644)?;
    write(&share.join("build"), format!("{}\n", build.version), 0o644)?;
    write(&root.join("etc/hostname"), "hark\n", 0o644)?;
    copy(&build.signer.ca, &root.join("etc/rauc/keyring.pem"), 0o644)?;
    let template = root.join("etc/rauc/system.conf.in");
    let config = fs::read_to_string(&template)?.replace("@BOARD@", &build.board.name);
    fs::remove_file(template)?;
    write(&root.join("etc/rauc/system.conf"), &config, 0o644)
}

/// The unit, the users and the udev rules, which packages ship too.
pub(super) fn add_common(root: &Path) -> Result<()> {
    for (name, target) in [
        ("hark.service", "usr/lib/systemd/system/hark.service"),
        ("hark.sysusers", "usr/lib/sysusers.d/hark.conf"),
        ("60-hark.rules", "usr/lib/udev/rules.d/60-hark.rules"),
    ] {
        copy(&source("common").join(name), &root.join(target), 0o644)?;
    }
    Ok(())
}

/// The first `/etc/hark/hark.toml` of a board.
pub(super) fn site_settings(build: &Build) -> String {
    format!(
        "# The settings of this site. They survive updates; what is not said here is as\n\
         # the board's own file says. `hark check --show --config /etc/hark/hark.toml`\n\
         # prints the result, `systemctl restart hark` puts it to work.\n\
         inherit = \"/usr/share/hark/board-configs/{}.toml\"\n",
        build.board.name
    )
}

/// Takes away what only lengthens the boot.
fn quiet_boot(root: &Path) -> Result<()> {
    for rules in fs::read_dir(root.join("usr/lib/udev/rules.d"))? {
        let rules = rules?;
        if !UDEV_RULES.contains(&&*rules.file_name().to_string_lossy()) {
            fs::remove_file(rules.path())?;
        }
    }
    for folder in fs::read_dir(root.join("usr/lib/systemd/system"))? {
        let folder = folder?.path();
        if folder
            .extension()
            .is_some_and(|extension| extension == "wants")
        {
            for unit in UNWANTED_UNITS {
                let _ = fs::remove_file(folder.join(unit));
            }
        }
    }
    Ok(())
}

fn add_kernel(archive: &Archive, work: &Path, root: &Path) -> Result<()> {
    let kernel = archive.kernel()?;
    copy(&kernel.image, &root.join("boot/vmlinuz"), 0o644)?;
    for module in kernel.module_files(&MODULES)? {
        let inside = module
            .strip_prefix(&kernel.root)
            .context("a module lies outside of the kernel's folder")?;
        copy(&module, &root.join(inside), 0o644)?;
    }
    let modules = format!("usr/lib/modules/{}", kernel.release);
    for index in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        copy(
            &kernel.root.join(&modules).join(index),
            &root.join(&modules).join(index),
            0o644,
        )?;
    }
    let mut depmod = command("depmod");
    depmod.arg("-b").arg(root).arg(&kernel.release);
    run(depmod)?;
    // Nothing asks for these by a device's name.
    write(
        &root.join("etc/modules-load.d/hark.conf"),
        "loop\ndm_verity\ngpio_pl061\n",
        0o644,
    )?;
    initramfs::build(archive, &kernel, work, &root.join("boot/initrd.img"))
}

/// Makes users and enables units, by the image's own systemd.
fn set_up(root: &Path) -> Result<()> {
    run(foreign(root, "systemd-sysusers"))?;
    let mut preset = foreign(root, "systemctl");
    preset.arg("preset-all");
    run(preset)?;
    let users = fs::read_to_string(root.join("etc/passwd"))?;
    for user in ["hark", "messagebus", "systemd-network"] {
        let line = format!("{user}:");
        ensure!(
            users.lines().any(|entry| entry.starts_with(&line)),
            "systemd-sysusers made no user {user}"
        );
    }
    Ok(())
}

fn foreign(root: &Path, program: &str) -> Command {
    let mut qemu = command("qemu-aarch64-static");
    qemu.arg("-L")
        .arg(root)
        .arg(root.join("usr/bin").join(program))
        .arg("--root")
        .arg(root);
    qemu
}

fn squash(root: &Path, image: &Path) -> Result<PathBuf> {
    let _ = fs::remove_file(image);
    let mut mksquashfs = command("mksquashfs");
    mksquashfs
        .arg(root)
        .arg(image)
        // GRUB reads the kernel out of it, and knows gzip on every version.
        .args(["-comp", "gzip", "-all-root", "-noappend", "-no-progress"])
        .args(["-quiet", "-no-xattrs"]);
    run(mksquashfs)?;
    Ok(image.to_owned())
}

/// Copies the files under `from` to the same places under `to`.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            let is_program = entry.metadata()?.permissions().mode() & 0o100 != 0;
            copy(
                &entry.path(),
                &target,
                if is_program { 0o755 } else { 0o644 },
            )?;
        }
    }
    Ok(())
}

/// Copies one file, with the folders above it, whatever the umask.
pub(super) fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    write(to, bytes, mode)
}

pub(super) fn write(to: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let _ = fs::remove_file(to);
    fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn relink(target: &str, link: &Path) -> Result<()> {
    let _ = fs::remove_file(link);
    symlink(target, link).with_context(|| format!("linking {}", link.display()))
}
