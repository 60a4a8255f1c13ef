//! The disk of a board that is ours as a whole: partitions, boot loader, slots,
//! and the RAUC bundle that replaces a slot.
//!
//! | partition | size | what |
//! |---|---|---|
//! | `hark-esp` | 16 MiB | FAT: GRUB, `grub.cfg`, and `site/` for first settings |
//! | `hark-env` | 1 MiB | FAT: GRUB's environment block, written in place |
//! | `hark-root-a`, `hark-root-b` | 160 MiB each | squashfs with kernel and initramfs |
//! | `hark-data` | the rest | ext4: what outlives updates |

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Build, rootfs, source, tools};
use crate::debian::{Archive, Dependencies};
use crate::folder::recreate;
use crate::packages;
use crate::process::{command, run, target_dir};

const SECTOR: u64 = 512;
const MIB: u64 = 1024 * 1024;

/// GRUB's own format: a header line, `name=value` lines, filled with `#`.
const ENVIRONMENT_BYTES: usize = 1024;

const ESP: Partition = partition(1, "hark-esp", "EF00", MIB, 16 * MIB);
const ENVIRONMENT: Partition = partition(2, "hark-env", "8300", ESP.end(), MIB);
// A root slot has room for twice today's system; it cannot grow in the field.
const ROOT_A: Partition = partition(3, "hark-root-a", "8300", ENVIRONMENT.end(), 160 * MIB);
const ROOT_B: Partition = partition(4, "hark-root-b", "8300", ROOT_A.end(), 160 * MIB);
// Room for one bundle and the telemetry of some days. On a larger disk the data
// partition is grown at the first boot.
const DATA: Partition = partition(5, "hark-data", "8310", ROOT_B.end(), 192 * MIB);
// The backup of the partition table takes 33 sectors at the end.
const DISK_BYTES: u64 = DATA.end() + MIB;

struct Partition {
    number: u32,
    label: &'static str,
    kind: &'static str,
    start: u64,
    bytes: u64,
}

const fn partition(
    number: u32,
    label: &'static str,
    kind: &'static str,
    start: u64,
    bytes: u64,
) -> Partition {
    assert!(start.is_multiple_of(MIB));
    assert!(bytes.is_multiple_of(MIB));
    Partition {
        number,
        label,
        kind,
        start,
        bytes,
    }
}

impl Partition {
    const fn end(&self) -> u64 {
        self.start + self.bytes
    }
}

/// The console is that of QEMU's machine, and a panic reboots so that the boot
/// loader can count it.
const CMDLINE: &str = "console=ttyAMA0 quiet loglevel=4 panic=5 fsck.repair=yes \
                       systemd.getty_auto=no systemd.gpt_auto=no";

/// Builds the disk image and the bundle into `build.out`.
pub(super) fn build(build: &Build) -> Result<()> {
    packages::install_missing(tools::DISK)?;
    let archive = Archive::open()?;
    let work = target_dir().join("images/work").join(&build.board.name);
    fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;

    let root = rootfs::build(build, &archive, &work)?;
    let slot_bytes = fs::metadata(&root)?.len();
    ensure!(
        slot_bytes <= ROOT_A.bytes,
        "the root file system takes {slot_bytes} bytes; a slot holds {}",
        ROOT_A.bytes
    );
    let disk = format!("hark-{}.img", build.board.name);
    let bundle = format!("hark-{}.raucb", build.board.name);
    write_disk(&build.out.join(&disk), &archive, &work, &root)?;
    write_bundle(build, &work, &root, &build.out.join(&bundle))?;
    build.seal(&[&disk, &bundle])
}

fn write_disk(disk: &Path, archive: &Archive, work: &Path, root: &Path) -> Result<()> {
    let file = File::create(disk).with_context(|| format!("creating {}", disk.display()))?;
    file.set_len(DISK_BYTES)?;
    partition_disk(disk)?;
    let esp = write_esp(archive, work)?;
    let environment = write_environment(work)?;
    let data = write_data(work)?;
    for (partition, content) in [
        (&ESP, esp.as_path()),
        (&ENVIRONMENT, &environment),
        (&ROOT_A, root),
        (&ROOT_B, root),
        (&DATA, &data),
    ] {
        place(content, disk, partition)
            .with_context(|| format!("writing partition {}", partition.label))?;
    }
    Ok(())
}

fn partition_disk(disk: &Path) -> Result<()> {
    let mut sgdisk = command("sgdisk");
    for partition in [&ESP, &ENVIRONMENT, &ROOT_A, &ROOT_B, &DATA] {
        let Partition {
            number,
            label,
            kind,
            ..
        } = partition;
        let first = partition.start / SECTOR;
        let last = partition.end() / SECTOR - 1;
        sgdisk.arg(format!("--new={number}:{first}:{last}"));
        sgdisk.arg(format!("--typecode={number}:{kind}"));
        sgdisk.arg(format!("--change-name={number}:{label}"));
    }
    sgdisk.arg(disk);
    run(sgdisk)
}

fn write_esp(archive: &Archive, work: &Path) -> Result<PathBuf> {
    let esp = work.join("esp.img");
    let loader = make_loader(archive, work)?;
    let config = work.join("grub.cfg");
    let text = fs::read_to_string(source("grub.cfg"))?.replace("@CMDLINE@", CMDLINE);
    fs::write(&config, text)?;

    format_fat(&esp, "HARK-ESP", ESP.bytes)?;
    let mut folders = command("mmd");
    folders
        .arg("-i")
        .arg(&esp)
        .args(["::/EFI", "::/EFI/BOOT", "::/EFI/hark", "::/site"]);
    run(folders)?;
    for (from, to) in [
        (&loader, "::/EFI/BOOT/BOOTAA64.EFI"),
        (&config, "::/EFI/hark/grub.cfg"),
        (&source("site/README.txt"), "::/site/README.txt"),
    ] {
        copy_to_fat(&esp, from, to)?;
    }
    Ok(esp)
}

/// The partition that GRUB and RAUC write. GRUB saves to files only.
fn write_environment(work: &Path) -> Result<PathBuf> {
    let image = work.join("environment.img");
    let block = work.join("grubenv");
    fs::write(&block, environment_block())?;
    format_fat(&image, "HARK-ENV", ENVIRONMENT.bytes)?;
    copy_to_fat(&image, &block, "::/grubenv")?;
    Ok(image)
}

fn format_fat(image: &Path, label: &str, bytes: u64) -> Result<()> {
    let _ = fs::remove_file(image);
    let mut format = command("mkfs.fat");
    format
        .args(["-n", label, "-C"])
        .arg(image)
        .arg((bytes / 1024).to_string());
    run(format)
}

fn copy_to_fat(image: &Path, from: &Path, to: &str) -> Result<()> {
    let mut copy = command("mcopy");
    copy.arg("-i").arg(image).arg(from).arg(to);
    run(copy)
}

fn make_loader(archive: &Archive, work: &Path) -> Result<PathBuf> {
    let grub = work.join("grub");
    recreate(&grub)?;
    archive.unpack(&["grub-efi-arm64-bin"], Dependencies::LeftOut, &grub)?;
    let loader = work.join("BOOTAA64.EFI");
    let mut make = command("grub-mkimage");
    make.args(["-O", "arm64-efi", "-p", "/EFI/hark", "-d"])
        .arg(grub.join("usr/lib/grub/arm64-efi"))
        .arg("-o")
        .arg(&loader)
        .args(["part_gpt", "fat", "squash4", "gzio", "normal", "configfile"])
        .args([
            "linux", "loadenv", "regexp", "test", "echo", "sleep", "reboot", "boot",
        ]);
    run(make)?;
    Ok(loader)
}

/// The environment block of a new disk: both slots hold the same system.
fn environment_block() -> Vec<u8> {
    let mut block =
        b"# GRUB Environment Block\nORDER=A B\nA_OK=1\nB_OK=1\nA_TRY=0\nB_TRY=0\n".to_vec();
    block.resize(ENVIRONMENT_BYTES, b'#');
    block
}

fn write_data(work: &Path) -> Result<PathBuf> {
    let data = work.join("data.img");
    let _ = fs::remove_file(&data);
    File::create(&data)?.set_len(DATA.bytes)?;
    let mut format = command("mke2fs");
    format
        .args([
            "-q",
            "-t",
            "ext4",
            "-L",
            "hark-data",
            "-E",
            "root_owner=0:0",
        ])
        .arg(&data);
    run(format)?;
    Ok(data)
}

/// Copies `content` to its place on `disk`. Runs of zeros stay holes.
fn place(content: &Path, disk: &Path, partition: &Partition) -> Result<()> {
    let mut from = File::open(content)?;
    let bytes = from.metadata()?.len();
    ensure!(
        bytes <= partition.bytes,
        "{bytes} bytes do not fit into {}",
        partition.bytes
    );
    let mut to = fs::OpenOptions::new().write(true).open(disk)?;
    to.seek(SeekFrom::Start(partition.start))?;
    let mut chunk = vec![0; MIB as usize];
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        if chunk[..read].iter().all(|&byte| byte == 0) {
            to.seek(SeekFrom::Current(read as i64))?;
        } else {
            to.write_all(&chunk[..read])?;
        }
    }
}

fn write_bundle(build: &Build, work: &Path, root: &Path, bundle: &Path) -> Result<()> {
    let content = work.join("bundle");
    recreate(&content)?;
    fs::hard_link(root, content.join("rootfs.img")).context("linking rootfs.img")?;
    let manifest = format!(
        "[update]\ncompatible=hark-{}\nversion={}\n\n[bundle]\nformat=verity\n\n\
         [image.rootfs]\nfilename=rootfs.img\n",
        build.board.name, build.version
    );
    fs::write(content.join("manifest.raucm"), manifest)?;
    // rauc overwrites nothing, and this one may be of an earlier image.
    match fs::remove_file(bundle) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", bundle.display()));
        }
        _ => {}
    }
    let mut rauc = command("rauc");
    rauc.arg("bundle")
        .arg("--cert")
        .arg(&build.signer.cert)
        .arg("--key")
        .arg(&build.signer.key)
        // What boards will ask of it is asked here first.
        .arg("--keyring")
        .arg(&build.signer.ca)
        .arg(&content)
        .arg(bundle);
    run(rauc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_counts_in_the_environment_block_lies_in_its_first_sector() {
        let block = environment_block();
        assert_eq!(block.len(), ENVIRONMENT_BYTES);
        let longest = "ORDER=B A\nA_OK=0\nB_OK=0\nA_TRY=3\nB_TRY=3\n".len();
        assert!("# GRUB Environment Block\n".len() + longest < SECTOR as usize);
        assert!(block[SECTOR as usize..].iter().all(|&byte| byte == b'#'));
    }

    #[test]
    fn partitions_follow_each_other_without_overlap() {
        let all = [&ESP, &ENVIRONMENT, &ROOT_A, &ROOT_B, &DATA];
        for pair in all.windows(2) {
            assert!(pair[0].end() <= pair[1].start, "{}", pair[1].label);
        }
        assert!(DATA.end() + 33 * SECTOR <= DISK_BYTES);
    }
}
