//! `flash.sh` against real files: an image that is signed as [`Build::seal`]
//! signs, a few hundred kilobytes long, since flash.sh never looks inside.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use super::signing::Signer;
use super::*;

/// What an image comes as.
const KINDS: [&str; 4] = ["img", "raucb", "deb", "tar.gz"];

/// A folder with a signed image of each kind, gone when dropped.
pub(super) struct Desk {
    pub(super) folder: PathBuf,
    board: &'static str,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::of("qemu-virt")
    }

    pub(super) fn of(board: &'static str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hark-flash-test-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(folder.join("out")).expect("a folder for a test");
        let desk = Self { folder, board };
        // Not all zeros: those could be there by chance.
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for kind in KINDS {
            fs::write(desk.image_of_kind(kind), &content).expect("an image for a test");
        }
        desk.seal();
        desk
    }

    /// Signs the images as they are now.
    pub(super) fn seal(&self) {
        let board = self.board;
        let build = Build {
            board: board::find(board).expect("it is a board"),
            hark: PathBuf::new(),
            version: "1.2.3".to_owned(),
            out: self.folder.join("out"),
            signer: Signer::development(&self.folder.join("keys")).expect("a key for a test"),
        };
        let images = KINDS.map(|kind| format!("hark-{board}.{kind}"));
        let images = images.each_ref().map(String::as_str);
        build.seal(&images).expect("a signature");
    }

    fn image(&self) -> PathBuf {
        self.image_of_kind("img")
    }

    pub(super) fn image_of_kind(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("out/hark-{}.{kind}", self.board))
    }

    pub(super) fn target(&self) -> PathBuf {
        self.folder.join("disk")
    }

    pub(super) fn flash(&self, board: &str, target: &Path, more: &[&str]) -> Output {
        self.command(board, target, more)
            .output()
            .expect("flash.sh starts")
    }

    pub(super) fn command(&self, board: &str, target: &Path, more: &[&str]) -> Command {
        let mut flash = Command::new("bash");
        flash
            .arg(workspace_root().join("flash.sh"))
            .args(["--board", board, "--image"])
            .arg(self.image())
            .arg("--ca")
            .arg(self.folder.join("keys/cert.pem"))
            .arg("--target")
            .arg(target)
            .args(more)
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        flash
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.join(name);
        let folder = path.parent().expect("it lies in a folder");
        fs::create_dir_all(folder).expect("a folder for a test");
        fs::write(&path, content).expect("a file for a test");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Adds what `flash.sh` takes for this computer's hark.
    pub(super) fn add_hark(&self, script: &str) {
        let hark = self.write("target/release/hark", script.as_bytes());
        fs::set_permissions(hark, fs::Permissions::from_mode(0o755)).expect("it may run");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Expects exit code 1 and `reason`, and that nothing was written.
pub(super) fn check_refused(desk: &Desk, board: &str, target: &Path, more: &[&str], reason: &str) {
    let before = fs::read(desk.target()).ok();
    let output = desk.flash(board, target, more);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
    assert_eq!(
        fs::read(desk.target()).ok(),
        before,
        "it wrote all the same"
    );
}

#[test]
fn what_is_flashed_to_a_file_is_there_byte_by_byte() {
    let desk = Desk::new();
    let output = desk.flash("qemu-virt", &desk.target(), &[]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("build 1.2.3"), "{stdout}");
    assert!(stdout.contains("hark/v1/+/alert/#"), "{stdout}");
    let written = fs::read(desk.target()).expect("it was written");
    assert!(written == fs::read(desk.image()).expect("the image"));
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let desk = Desk::new();
    let output = desk.flash("qemu-virt", &desk.target(), &["--dry-run"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("plan      write"), "{stdout}");
    assert!(!desk.target().exists());
}

#[test]
fn a_dry_run_refuses_what_a_real_one_does() {
    let check = |desk: &Desk, target: &Path, more: &[&str], reason: &str| {
        for run in ["--dry-run", "--yes"] {
            let more = [more, &[run]].concat();
            check_refused(desk, "qemu-virt", target, &more, reason);
        }
    };
    let desk = Desk::new();
    let lost = ["--image", "/no/such/hark-qemu-virt.img"];
    check(&desk, &desk.target(), &lost, "is missing");
    fs::create_dir(desk.folder.join("folder.img")).expect("a folder");
    let folder = desk.folder.join("folder.img");
    let folder = ["--image", folder.to_str().expect("a path in UTF-8")];
    check(&desk, &desk.target(), &folder, "is missing");
    check(&desk, &desk.image(), &[], "the image itself");
    let alias = desk.folder.join("alias");
    fs::hard_link(desk.image(), &alias).expect("another name");
    check(&desk, &alias, &[], "the image itself");

    let locked = desk.folder.join("locked");
    fs::create_dir(&locked).expect("a folder");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).expect("it is read-only");
    if fs::write(locked.join("any"), "").is_ok() {
        println!("SKIPPED in part: this user may write everywhere");
        return;
    }
    check(&desk, &locked.join("disk"), &[], "you may not write to");
    fs::write(desk.target(), vec![7; 2_000_000]).expect("a disk");
    let read_only = fs::Permissions::from_mode(0o444);
    fs::set_permissions(desk.target(), read_only).expect("it is read-only");
    check(&desk, &desk.target(), &[], "you may not write to");
}

#[test]
fn a_link_stands_for_what_it_leads_to() {
    let desk = Desk::new();
    let disk = desk.write("disk.img", &vec![7; 2_000_000]);
    symlink(disk, desk.target()).expect("a link to a disk");
    let image = desk.folder.join("out/hark-qemu-virt.img");
    fs::rename(&image, desk.folder.join("whole")).expect("the image moves");
    symlink(desk.folder.join("whole"), &image).expect("a link to the image");
    let output = desk.flash("qemu-virt", &desk.target(), &["--yes"]);
    assert!(output.status.success(), "{output:?}");
    let written = fs::read(desk.target()).expect("it was written");
    let image = fs::read(desk.image()).expect("the image");
    assert!(written.starts_with(&image));
}

#[test]
fn a_torn_or_changed_image_is_refused() {
    let desk = Desk::new();
    let mut image = fs::read(desk.image()).expect("the image");
    let whole = image.clone();
    image.truncate(whole.len() - 1);
    fs::write(desk.image(), &image).expect("a torn image");
    check_refused(&desk, "qemu-virt", &desk.target(), &[], "is torn");
    let mut image = whole;
    image[1000] ^= 1;
    fs::write(desk.image(), &image).expect("a changed image");
    check_refused(&desk, "qemu-virt", &desk.target(), &[], "is torn");
}

#[test]
fn a_signature_by_another_key_or_over_other_sums_is_refused() {
    let (desk, other) = (Desk::new(), Desk::new());
    let sums = desk.folder.join("out/SHA256SUMS");
    let signed = fs::read(&sums).expect("the sums");
    fs::write(&sums, [&signed[..], b"\n"].concat()).expect("other sums");
    check_refused(&desk, "qemu-virt", &desk.target(), &[], "the signature of");
    fs::write(&sums, signed).expect("the sums again");
    let ca = other.folder.join("keys/cert.pem");
    let ca = ["--ca", ca.to_str().expect("a path in UTF-8")];
    check_refused(&desk, "qemu-virt", &desk.target(), &ca, "the signature of");
    fs::remove_file(desk.folder.join("out/SHA256SUMS.sig")).expect("there is a signature");
    check_refused(&desk, "qemu-virt", &desk.target(), &[], "is missing");
}

#[test]
fn only_the_named_authority_counts_and_only_the_named_file() {
    let (desk, other) = (Desk::new(), Desk::new());
    // An image by another key, which this machine trusts for whatever else.
    let trusted = desk.folder.join("trusted");
    fs::create_dir(&trusted).expect("a folder");
    fs::copy(desk.folder.join("keys/cert.pem"), trusted.join("cert.pem")).expect("a certificate");
    let mut rehash = Command::new("openssl");
    let rehashed = rehash.arg("rehash").arg(&trusted).status();
    assert!(rehashed.expect("openssl starts").success());
    let ca = other.folder.join("keys/cert.pem");
    let more = ["--ca", ca.to_str().expect("a path in UTF-8")];
    let mut flash = desk.command("qemu-virt", &desk.target(), &more);
    let output = flash.env("SSL_CERT_DIR", &trusted).output();
    let stderr = output.expect("flash.sh starts").stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(stderr.contains("the signature of"), "{stderr}");
    // A name that the signed one matches as a pattern.
    let alike = desk.folder.join("out/hark.qemu-virt.img");
    fs::write(&alike, "not signed").expect("another image");
    let more = ["--image", alike.to_str().expect("a path in UTF-8")];
    check_refused(&desk, "qemu-virt", &desk.target(), &more, "is not named");
}

#[test]
fn an_image_of_a_kind_that_the_target_does_not_take_is_refused() {
    let check = |board: &'static str, kind: &str, target: &str, reason: &str| {
        let desk = Desk::of(board);
        let image = desk.image_of_kind(kind);
        let more = ["--image", image.to_str().expect("a path in UTF-8")];
        let target = match target {
            "FILE" => desk.target(),
            other => PathBuf::from(other),
        };
        check_refused(&desk, board, &target, &more, reason);
    };
    check("qemu-virt", "raucb", "FILE", "takes a .img");
    check("qemu-virt", "deb", "/dev/null", "takes a .img");
    check("qemu-virt", "img", "root@192.0.2.1", "takes a .raucb");
    check(
        "rock-5b",
        "img",
        "root@192.0.2.1",
        "takes a .deb or a .tar.gz",
    );
    check("imx8mp-evk", "deb", "root@192.0.2.1", "takes a .tar.gz");
}

#[test]
fn an_image_is_written_for_its_own_board_only() {
    let desk = Desk::new();
    let description = desk.folder.join("out/image.txt");
    fs::write(&description, "board=rock-5b\nversion=1\n").expect("a description");
    check_refused(&desk, "qemu-virt", &desk.target(), &[], "image.txt is torn");
    let build = Build {
        board: board::find("rock-5b").expect("it is a board"),
        hark: PathBuf::new(),
        version: "1".to_owned(),
        out: desk.folder.join("out"),
        signer: Signer::development(&desk.folder.join("keys")).expect("the key"),
    };
    build.seal(&["hark-qemu-virt.img"]).expect("a signature");
    check_refused(
        &desk,
        "qemu-virt",
        &desk.target(),
        &[],
        "for the board rock-5b",
    );
    check_refused(&desk, "rock-5b", &desk.target(), &[], "vendor's system");
    check_refused(&desk, "rock-6", &desk.target(), &[], "there are: ");
}

#[test]
fn a_target_that_is_too_small_or_no_disk_is_refused() {
    let desk = Desk::new();
    fs::write(desk.target(), [7; 1000]).expect("a small disk");
    check_refused(&desk, "qemu-virt", &desk.target(), &["--yes"], "too small");
    let null = Path::new("/dev/null");
    check_refused(&desk, "qemu-virt", null, &["--yes"], "no block device");
    let lost = desk.folder.join("no/such/folder");
    check_refused(&desk, "qemu-virt", &lost, &[], "does not exist");
}

#[test]
fn what_is_there_is_overwritten_only_with_consent() {
    let desk = Desk::new();
    fs::write(desk.target(), vec![7; 2_000_000]).expect("a disk in use");
    check_refused(&desk, "qemu-virt", &desk.target(), &[], "--yes says yes");
    let output = desk.flash("qemu-virt", &desk.target(), &["--yes"]);
    assert!(output.status.success(), "{output:?}");
    let written = fs::read(desk.target()).expect("it was written");
    let image = fs::read(desk.image()).expect("the image");
    assert_eq!(written.len(), 2_000_000, "a disk keeps its size");
    assert!(written.starts_with(&image));
}

/// A dry run, because the disk is this machine's own.
#[test]
fn a_mounted_disk_is_refused() {
    let mounts = fs::read_to_string("/proc/mounts").expect("a list of mounts");
    let Some(disk) = mounts.lines().find_map(disk_of_mount) else {
        println!("SKIPPED: no disk is mounted on this machine");
        return;
    };
    let desk = Desk::new();
    check_refused(&desk, "qemu-virt", &disk, &["--dry-run"], "is in use");
}

/// The whole disk on which what a line of `/proc/mounts` names lies.
fn disk_of_mount(line: &str) -> Option<PathBuf> {
    let device = Path::new(line.split(' ').next()?).canonicalize().ok()?;
    let mut entry = Path::new("/sys/class/block").join(device.file_name()?);
    if entry.join("partition").exists() {
        // A partition's folder lies in that of its disk.
        entry = entry.canonicalize().ok()?.parent()?.to_owned();
    }
    // What is laid over a file or over other disks is none itself.
    let is_disk = entry.join("device").exists();
    let disk = Path::new("/dev").join(entry.file_name()?);
    (is_disk && disk.exists()).then_some(disk)
}

/// The medium is played by a `dd` that writes one wrong byte.
#[test]
fn a_medium_that_does_not_keep_what_was_written_is_reported() {
    let desk = Desk::new();
    let programs = desk.folder.join("bin");
    fs::create_dir_all(&programs).expect("a folder for programs");
    let dd = programs.join("dd");
    let script = format!(
        "#!/bin/sh\n/usr/bin/env -i PATH=/usr/bin:/bin dd \"$@\" || exit 1\n\
         printf X | PATH=/usr/bin:/bin dd of={} bs=1 seek=4321 conv=notrunc status=none\n",
        desk.target().display()
    );
    fs::write(&dd, script).expect("a program");
    fs::set_permissions(&dd, fs::Permissions::from_mode(0o755)).expect("it may run");
    let path = env::var("PATH").expect("there is a PATH");
    let output = desk
        .command("qemu-virt", &desk.target(), &[])
        .env("PATH", format!("{}:{path}", programs.display()))
        .output()
        .expect("flash.sh starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("broken or fake"), "{stderr}");
}

#[test]
fn every_board_has_a_plan_without_an_image_at_hand() {
    let disk = env::temp_dir().join("hark-dry-run.img");
    for board in board::names().expect("the folder is there") {
        let check = |target: &str, expected: &str| {
            let output = Command::new("bash")
                .arg(workspace_root().join("flash.sh"))
                .args(["--board", &board, "--target", target, "--dry-run"])
                .env("CARGO_TARGET_DIR", "/nonexistent")
                .output()
                .expect("flash.sh starts");
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{board}: {output:?}");
            assert!(stdout.contains(expected), "{board}: {stdout}");
            assert!(stdout.contains("nothing was written"), "{board}: {stdout}");
        };
        check("root@gateway", "cargo xtask image");
        check("root@gateway", "plan      copy");
        check(&disk.display().to_string(), "plan      write");
        assert!(!disk.exists(), "{board}");
    }
}

#[test]
fn a_target_with_an_at_sign_is_a_host_only_if_it_can_be_no_file() {
    let desk = Desk::new();
    let there = desk.folder.join("there@b.img");
    fs::write(&there, vec![7; 2_000_000]).expect("a disk");
    let check = |target: &str, expected: &str| {
        let more = ["--dry-run", "--yes"];
        let mut flash = desk.command("qemu-virt", Path::new(target), &more);
        let output = flash.current_dir(&desk.folder).output();
        let output = output.expect("flash.sh starts");
        let told = [&output.stdout[..], &output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(expected), "{target}: {told}");
    };
    check("out/a@b.img", "a new file");
    check("./a@b.img", "a new file");
    check("there@b.img", "a file of 2 MB");
    check("/dev/disk/by-id/usb-Foo@0", "no block device");
    check("root@b.img", "takes a .raucb");
}

#[test]
fn wrong_usage_exits_with_2() {
    let to = |target| ["--target", target, "--board", "qemu-virt", "--dry-run"];
    let by = |port| [&to("root@gateway")[..], &["--port", port]].concat();
    for args in [
        &["--board", "qemu-virt"][..],
        &["--target", "x"],
        &["--colour"],
        &to("-x.img"),
        &to("-oProxyCommand=touch x@y"),
        &to("root@-oProxyCommand=x"),
        &to("root@"),
        &to("@gateway"),
        &to("folder/"),
        &["--target", "x", "--board", "--dry-run"],
        &by("0"),
        &by("65536"),
        &by("99999999999999999999"),
    ] {
        let output = Command::new("bash")
            .arg(workspace_root().join("flash.sh"))
            .args(args)
            .output()
            .expect("flash.sh starts");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}

#[test]
fn a_shell_that_is_not_bash_is_told_so() {
    let output = Command::new("dash")
        .arg(workspace_root().join("flash.sh"))
        .arg("--help")
        .output()
        .expect("dash starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("bash flash.sh"), "{stderr}");
}

#[test]
fn a_loop_device_without_a_file_is_refused_with_a_message() {
    let desk = Desk::new();
    let is_unbound = |n: &u32| {
        Path::new(&format!("/dev/loop{n}")).exists()
            && !Path::new(&format!("/sys/block/loop{n}/loop")).exists()
    };
    let Some(number) = (0..64).find(is_unbound) else {
        println!("SKIPPED: no loop device is free on this machine");
        return;
    };
    let device = format!("/dev/loop{number}");
    let more = ["--dry-run", "--allow-fixed-disk"];
    check_refused(
        &desk,
        "qemu-virt",
        Path::new(&device),
        &more,
        "holds no medium",
    );
}
