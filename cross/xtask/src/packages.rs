//! System packages that the tests need: found, or installed with a reason.
//!
//! Debian's mosquitto also starts a broker of its own where systemd runs; the
//! tests neither use nor stop it.
//!
//! Only Debian's apt-get is driven, and only as root or through sudo. Anywhere
//! else the command to run is printed and the caller fails, because a test that
//! silently skips for want of a broker proves nothing.
//!
//! No recommendation is followed, so a list names all that is called or opened,
//! a ROM too. Whether it is there is looked at again after installing: apt
//! removes what stands in the way of what it was asked for, and that may be
//! another version of something that was found before.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{command, find_program, output, run};

/// One round installs what is missing, one more what the first one removed.
const ROUNDS_MAX: usize = 2;

/// A program that the tests call, and the package that brings it.
#[derive(Clone, Copy)]
pub(crate) struct Package {
    /// Its name in Debian, Ubuntu and Raspberry Pi OS.
    pub(crate) name: &'static str,
    /// A program, or the path of any other file that tells whether it is there.
    pub(crate) program: &'static str,
    pub(crate) why: &'static str,
}

impl Package {
    fn found(&self) -> Option<PathBuf> {
        find_program(self.program)
    }
}

/// Installs each of `packages` whose program is missing, and says so.
///
/// # Errors
/// If it cannot be installed, or something is missing after all; what, and the
/// command that brings it.
pub(crate) fn install_missing(packages: &[&Package]) -> Result<()> {
    for package in packages {
        if let Some(path) = package.found() {
            println!("{}: already there ({})", package.name, path.display());
        }
    }
    install_until_there(packages, install)
}

fn install_until_there(
    packages: &[&Package],
    mut install: impl FnMut(&[&str]) -> Result<()>,
) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        let missing = missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        for package in &missing {
            println!("{}: installing, because {}", package.name, package.why);
        }
        install(&names(&missing))?;
    }
    let missing = missing(packages);
    let programs: Vec<_> = missing.iter().map(|package| package.program).collect();
    ensure!(
        missing.is_empty(),
        "after installing there is still no {}; {}",
        programs.join(", "),
        advice(&names(&missing))
    );
    Ok(())
}

fn missing<'a>(packages: &[&'a Package]) -> Vec<&'a Package> {
    let is_missing = |package: &&&Package| package.found().is_none();
    packages.iter().filter(is_missing).copied().collect()
}

fn names(packages: &[&Package]) -> Vec<&'static str> {
    packages.iter().map(|package| package.name).collect()
}

/// Fails if the program of any of `packages` is missing.
pub(crate) fn require(packages: &[&Package]) -> Result<()> {
    let missing = missing(packages);
    if !missing.is_empty() {
        bail!("{}", advice(&names(&missing)));
    }
    Ok(())
}

/// Installs the Debian packages `names`.
///
/// # Errors
/// With the command that would bring them, where this may not or cannot.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    if find_program("apt-get").is_none() {
        bail!("{}", advice(names));
    }
    let is_root = output(id_of_user())? == "0";
    if !is_root && find_program("sudo").is_none() {
        bail!("{}", advice(names));
    }
    // A mirror with one stale index must not stop the tests: apt-get install
    // decides whether what is known suffices.
    if let Err(error) = run(apt_get(is_root, &["update"])) {
        println!("going on with the package lists at hand: {error:#}");
    }
    let mut install = apt_get(is_root, &["install", "--yes", "--no-install-recommends"]);
    install.args(names);
    run(install).with_context(|| advice(names))
}

fn id_of_user() -> Command {
    let mut id = command("id");
    id.arg("-u");
    id
}

fn apt_get(is_root: bool, args: &[&str]) -> Command {
    let mut apt_get = command(if is_root { "env" } else { "sudo" });
    apt_get
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"])
        // Another one may be at work, such as the system's own upgrades.
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(args);
    apt_get
}

fn advice(names: &[&str]) -> String {
    let names = names.join(" ");
    format!(
        "missing: {names}; install with `sudo apt-get install {names}`, or under the \
         names of your system (macOS: `brew install mosquitto shellcheck`)"
    )
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    const SHELL: Package = Package {
        name: "dash",
        program: "sh",
        why: "every system has one",
    };

    const ABSENT: Package = Package {
        name: "no-such-package",
        program: "no-such-program-anywhere",
        why: "it is not there",
    };

    #[test]
    fn what_is_there_is_not_installed_again() {
        assert!(install_missing(&[&SHELL]).is_ok());
        assert!(require(&[&SHELL]).is_ok());
    }

    #[test]
    fn a_missing_program_is_named_by_its_package_with_the_command_that_brings_it() {
        let error = require(&[&SHELL, &ABSENT]).expect_err("it is not there");
        let text = error.to_string();
        assert!(
            text.contains("`sudo apt-get install no-such-package`"),
            "{text}"
        );
        assert!(!text.contains("dash"), "{text}");
    }

    /// A package whose file is `name` in a folder of the test `test`.
    fn file_of(test: &str, name: &'static str) -> Package {
        let folder = env::temp_dir().join(format!("hark-packages-{}-{test}", process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let file = folder.join(name).to_string_lossy().into_owned();
        Package {
            name,
            program: file.leak(),
            why: "a test wants it",
        }
    }

    fn remove_folder_of(package: &Package) {
        let file = PathBuf::from(package.program);
        fs::remove_dir_all(file.parent().expect("it has a folder")).expect("it is there");
    }

    #[test]
    fn what_an_installation_removed_is_installed_again() {
        let there = file_of("removed", "utils");
        let wanted = file_of("removed", "system");
        fs::write(there.program, "of another version").expect("writable");
        let mut rounds = Vec::new();
        let result = install_until_there(&[&there, &wanted], |names| {
            if names.contains(&"system") {
                fs::remove_file(there.program)?;
            }
            for package in [&there, &wanted] {
                if names.contains(&package.name) {
                    fs::write(package.program, "installed")?;
                }
            }
            rounds.push(names.join(" "));
            Ok(())
        });
        remove_folder_of(&there);
        result.expect("both are there in the end");
        assert_eq!(rounds, ["system", "utils"]);
    }

    #[test]
    fn what_is_missing_after_installing_is_named() {
        let wanted = file_of("missing", "rom");
        let mut rounds = 0;
        let error = install_until_there(&[&wanted], |_| {
            rounds += 1;
            Ok(())
        });
        remove_folder_of(&wanted);
        let text = error.expect_err("nothing was installed").to_string();
        assert_eq!(rounds, ROUNDS_MAX);
        assert!(text.contains("there is still no /"), "{text}");
        assert!(text.contains("`sudo apt-get install rom`"), "{text}");
    }
}
