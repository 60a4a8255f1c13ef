//! `install-on-board.sh` on a board that is played by two programs: a `dpkg` that
//! notes what is installed, and a `systemctl` whose hark runs if that is good.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::source;

const HEALTHY: Option<i32> = Some(0);
const NOT_INSTALLED: Option<i32> = Some(3);
const NOT_HEALTHY: Option<i32> = Some(4);

struct Board {
    folder: PathBuf,
}

impl Board {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hark-install-test-{}-{number}", std::process::id());
        let board = Self {
            folder: env::temp_dir().join(name),
        };
        fs::create_dir_all(board.folder.join("bin")).expect("a folder for a test");
        let installed = board.folder.join("installed");
        let installed = installed.display();
        board.add_program(
            "dpkg",
            &format!("for last; do :; done; ! grep torn \"$last\" && cat \"$last\" >{installed}"),
        );
        board.add_program(
            "systemctl",
            &format!(
                "case $* in\n*ActiveState*) grep -q good {installed} && echo active || echo failed ;;\n\
                 *MainPID*) echo 7 ;;\nesac"
            ),
        );
        board.add_program("sleep", ":");
        board
    }

    fn add_program(&self, name: &str, script: &str) {
        let path = self.folder.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it may run");
    }

    /// Installs a package that holds `content`; the script's exit code.
    fn install(&self, name: &str, content: &str) -> Option<i32> {
        let package = self.folder.join(name);
        fs::write(&package, content).expect("a package");
        let path = env::var("PATH").expect("there is a PATH");
        Command::new("sh")
            .arg(source("install-on-board.sh"))
            .arg(package)
            .env(
                "PATH",
                format!("{}:{path}", self.folder.join("bin").display()),
            )
            .env("HARK_KEPT", self.folder.join("kept"))
            .env("HARK_PATIENCE_S", "5")
            .env("HARK_STAYS_S", "2")
            .output()
            .expect("sh starts")
            .status
            .code()
    }

    fn installed(&self) -> String {
        fs::read_to_string(self.folder.join("installed")).expect("something is installed")
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn names(folder: &Path) -> Vec<String> {
    super::sorted_files(folder).expect("the folder of kept packages")
}

#[test]
fn a_healthy_package_stays_and_is_the_one_that_is_kept() {
    let board = Board::new();
    assert_eq!(board.install("one.deb", "good one"), HEALTHY);
    assert_eq!(board.install("two.deb", "good two"), HEALTHY);
    assert_eq!(board.installed(), "good two");
    assert_eq!(names(&board.folder.join("kept")), ["two.deb"]);
}

#[test]
fn a_package_that_is_not_healthy_gives_way_to_the_one_before() {
    let board = Board::new();
    assert_eq!(board.install("one.deb", "good one"), HEALTHY);
    assert_eq!(board.install("two.deb", "bad two"), NOT_HEALTHY);
    assert_eq!(board.installed(), "good one");
    assert_eq!(names(&board.folder.join("kept")), ["one.deb"]);
}

#[test]
fn a_first_package_that_is_not_healthy_is_reported() {
    let board = Board::new();
    assert_eq!(board.install("one.deb", "bad one"), NOT_HEALTHY);
    assert_eq!(board.installed(), "bad one");
    assert!(names(&board.folder.join("kept")).is_empty());
}

#[test]
fn a_tarball_that_does_not_install_is_no_healthy_one() {
    let board = Board::new();
    assert_eq!(board.install("one.deb", "good one"), HEALTHY);
    assert_eq!(board.install("two.tar.gz", "no tarball"), NOT_INSTALLED);
    assert_eq!(names(&board.folder.join("kept")), ["one.deb"]);
}

#[test]
fn a_package_that_does_not_install_is_told_from_one_that_is_not_healthy() {
    let board = Board::new();
    assert_eq!(board.install("one.deb", "good one"), HEALTHY);
    assert_eq!(board.install("two.deb", "torn two"), NOT_INSTALLED);
    assert_eq!(board.installed(), "good one");
}
