//! `flash.sh` against a running board, which is played by a folder: `ssh` runs what
//! it is told there, and loses its connection when a test wants it to.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::flash_tests::Desk;

/// Runs a command with the board's own files and programs.
///
/// `lose` holds a pattern: the command that it matches is carried out, but neither
/// that nor the next two connections bring an answer.
const SSH: &str = r#"
while [ $# -gt 0 ]; do
    case $1 in -o | -p) shift 2 ;; --) shift 2; break ;; *) exit 2 ;; esac
done
told=$(printf '%s' "$*" | sed -E "s#(^|[ '\"<>=;(])/(etc|proc|run|var|usr)/#\1BOARD/\2/#g")
if [ -s BOARD/down ]; then
    sed -i 1d BOARD/down
    exit 255
fi
status=0
PATH=BOARD/bin:$PATH bash -c "$told" || status=$?
if [ -e BOARD/lose ] && [[ $told = $(cat BOARD/lose) ]]; then
    rm BOARD/lose
    printf '1\n2\n' >BOARD/down
    exit 255
fi
exit $status"#;

struct Board {
    desk: Desk,
    kind: &'static str,
    name: &'static str,
}

impl Board {
    /// With an image of ours: slot A runs `old` and slot B is updated.
    fn with_slots() -> Self {
        let board = Self::new("qemu-virt", "raucb");
        board.write("etc/rauc/system.conf", "compatible=hark-qemu-virt\n");
        board.write("proc/cmdline", "quiet rauc.slot=A\n");
        board.write("proc/sys/kernel/random/boot_id", "first\n");
        board.write("run/hark-health", "healthy old\n");
        board.add_program("rauc", "echo installing; exit 0");
        board.reboots_to("B", "healthy 1.2.3");
        board
    }

    /// With a vendor's system, where `dpkg` installs what is not torn, and hark
    /// runs if what is installed is not the new package.
    fn with_package() -> Self {
        let board = Self::new("rock-5b", "deb");
        board.write("proc/device-tree/model", "Radxa ROCK 5B");
        board.write("kept/before.deb", "before");
        board.add_program(
            "dpkg",
            "for last; do :; done; cat \"$last\" >BOARD/installed",
        );
        board.add_program(
            "systemctl",
            "case $* in\n*is-active*) exit 3 ;;\n\
             *ActiveState*) grep -qsx before BOARD/installed && echo active || echo failed ;;\n\
             *MainPID*) echo 7 ;;\nesac",
        );
        board
    }

    fn new(name: &'static str, kind: &'static str) -> Self {
        let board = Self {
            desk: Desk::of(name),
            kind,
            name,
        };
        for folder in ["bin", "var/lib", "var/tmp"] {
            fs::create_dir_all(board.folder().join(folder)).expect("a folder of the board");
        }
        board.add_program("ssh", SSH);
        board.add_program("uname", "echo aarch64");
        board.add_program("id", "echo 0");
        board.add_program("sync", ":");
        // Time passes on both sides.
        board.add_program(
            "sleep",
            "if [ -e BOARD/meanwhile ]; then . BOARD/meanwhile; fi; exit 0",
        );
        board.add_program(
            "systemd-run",
            "while [ \"$1\" != sh ]; do shift; done; \"$@\"",
        );
        board.add_program("grub-editenv", "cat BOARD/environment");
        board
    }

    fn folder(&self) -> PathBuf {
        self.desk.folder.join("board")
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.folder().join(name);
        let folder = path.parent().expect("it lies in a folder");
        fs::create_dir_all(folder).expect("a folder of the board");
        let content = content.replace("BOARD", &self.folder().display().to_string());
        fs::write(path, content).expect("a file of the board");
    }

    fn add_program(&self, name: &str, script: &str) {
        let name = format!("bin/{name}");
        self.write(&name, &format!("#!/bin/bash\n{script}\n"));
        let path = self.folder().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it may run");
    }

    fn reboots_to(&self, slot: &str, health: &str) {
        self.reboots_by(&format!(
            "echo second >BOARD/proc/sys/kernel/random/boot_id\n\
             echo rauc.slot={slot} >BOARD/proc/cmdline\necho '{health}' >BOARD/run/hark-health"
        ));
    }

    fn reboots_by(&self, script: &str) {
        self.add_program(
            "systemctl",
            &format!("case $* in\n*is-active*) exit 3 ;;\nreboot) {script} ;;\nesac"),
        );
    }

    fn flash(&self) -> Output {
        let image = self.desk.image_of_kind(self.kind);
        let image = image.to_str().expect("a path in UTF-8");
        let programs = self.folder().join("bin");
        // Of the board's programs flash.sh itself gets only the quick sleep.
        let desk = self.desk.folder.join("bin");
        fs::create_dir_all(&desk).expect("a folder for programs");
        fs::copy(programs.join("sleep"), desk.join("sleep")).expect("a quick sleep");
        let path = env::var("PATH").expect("there is a PATH");
        let more = ["--yes", "--image", image];
        let mut flash = self.desk.command(self.name, Path::new("root@board"), &more);
        flash
            .env("PATH", format!("{}:{path}", desk.display()))
            .env("HARK_SSH_COMMAND", programs.join("ssh"))
            .env("HARK_BOARD_WAIT_S", "20")
            .env("HARK_KEPT", self.folder().join("kept"))
            .env("HARK_PATIENCE_S", "5")
            .env("HARK_STAYS_S", "2");
        flash.output().expect("flash.sh starts")
    }

    /// What lies in the board's folders that outlive this.
    fn left_behind(&self) -> usize {
        let count = |folder| fs::read_dir(self.folder().join(folder)).map_or(0, Iterator::count);
        count("var/lib") + count("var/tmp")
    }
}

fn check_done(board: &Board, told: &str) {
    let output = board.flash();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains(told), "{stdout}");
    assert!(stdout.contains("done: "), "{stdout}");
    assert_eq!(board.left_behind(), 0, "something is left on the board");
}

fn check_failed(board: &Board, reason: &str) {
    let output = board.flash();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr.contains(reason), "{stderr}");
    assert_eq!(board.left_behind(), 0, "something is left on the board");
}

#[test]
fn an_update_is_done_when_its_build_is_healthy_in_the_other_slot() {
    check_done(&Board::with_slots(), "runs build 1.2.3 in slot B, healthy");
    let board = Board::with_slots();
    board.reboots_to("B", "healthy other");
    check_failed(&board, "says: healthy other");
    let board = Board::with_slots();
    board.reboots_to("B", "unhealthy 1.2.3");
    check_failed(&board, "says: unhealthy 1.2.3");
}

#[test]
fn a_connection_lost_during_an_update_is_no_refusal() {
    let board = Board::with_slots();
    board.write("lose", "*systemd-run*");
    check_done(&board, "the connection is lost");
    let board = Board::with_slots();
    board.write("lose", "*systemd-run*");
    board.add_program("rauc", "echo 'signature is wrong'; exit 1");
    check_failed(&board, "refused the update");
}

#[test]
fn what_a_board_refuses_is_not_left_there() {
    let board = Board::with_slots();
    board.write("var/lib/update.raucb.new", "of an interrupted update");
    board.write("var/tmp/hark-flash.abcdef/run", "of an interrupted update");
    board.add_program("rauc", "exit 1");
    check_failed(&board, "goes on in slot A as before");
}

#[test]
fn a_reboot_that_the_board_did_not_hear_of_is_asked_for_again() {
    let board = Board::with_slots();
    board.reboots_by(
        "if [ ! -e BOARD/asked ]; then touch BOARD/asked; exit; fi\n\
         echo second >BOARD/proc/sys/kernel/random/boot_id\n\
         echo rauc.slot=B >BOARD/proc/cmdline\necho healthy 1.2.3 >BOARD/run/hark-health",
    );
    check_done(&board, "slot B");
}

#[test]
fn only_a_slot_that_was_tried_was_gone_back_from() {
    let check = |other_slot: &str, reason| {
        let board = Board::with_slots();
        board.reboots_to("A", "healthy old");
        let block = format!("ORDER=B A\nA_OK=1\nA_TRY=0\n{other_slot}\nB_TRY=0\n");
        board.write("environment", &block);
        check_failed(&board, reason);
    };
    check("B_OK=0", "went back to slot A");
    check("B_OK=1", "booted slot A again");
}

#[test]
fn the_other_slot_is_not_overwritten_while_the_running_one_is_on_trial() {
    let board = Board::with_slots();
    board.write("run/hark-health", "pending old\n");
    board.write(
        "meanwhile",
        "grep -q pending BOARD/run/hark-health && echo healthy old >BOARD/run/hark-health",
    );
    check_done(&board, "whether it keeps slot A");
    let board = Board::with_slots();
    board.write("run/hark-health", "leaving old\n");
    board.add_program("rauc", "touch BOARD/overwritten");
    check_failed(&board, "going back to the other one");
    assert!(!board.folder().join("overwritten").exists());
}

#[test]
fn a_package_goes_back_through_a_lost_connection() {
    let board = Board::with_package();
    board.write("lose", "*systemd-run*");
    check_failed(&board, "is not healthy with build 1.2.3");
    let installed = fs::read_to_string(board.folder().join("installed"));
    assert_eq!(installed.expect("something is installed"), "before");
}

#[test]
fn a_user_who_cannot_become_root_is_told_before_anything_is_copied() {
    let board = Board::with_package();
    board.add_program("id", "echo 1000");
    board.add_program("sudo", "exit 1");
    check_failed(&board, "may not become root");
    assert!(!board.folder().join("installed").exists());
}

#[test]
fn an_image_exchanged_while_a_board_answers_is_not_what_it_gets() {
    let board = Board::with_slots();
    let image = board.desk.image_of_kind("raucb");
    let signed = fs::read(&image).expect("the image");
    let image = image.display();
    // The board is asked for it once the image is verified.
    board.add_program(
        "uname",
        &format!("echo unsigned >{image}.new; mv {image}.new {image}; echo aarch64"),
    );
    board.add_program("rauc", "cat BOARD/var/lib/update.raucb >BOARD/installed");
    check_done(&board, "runs build 1.2.3 in slot B, healthy");
    let installed = fs::read(board.folder().join("installed")).expect("it was installed");
    assert!(installed == signed, "the board got what nobody signed");
}
