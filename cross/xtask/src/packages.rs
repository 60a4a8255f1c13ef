//! System packages that the tests need: found, or installed with a reason.
//!
//! Debian's mosquitto also starts a broker of its own where systemd runs; the
//! tests neither use nor stop it.
//!
//! Only Debian's apt-get is driven, and only as root or through sudo. Anywhere
//! else the command to run is printed and the caller fails, because a test that
//! silently skips for want of a broker proves nothing.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{command, find_program, output, run};

/// A program that the tests call, and the package that brings it.
pub(crate) struct Package {
    /// Its name in Debian, Ubuntu and Raspberry Pi OS.
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    pub(crate) why: &'static str,
}

/// Installs each of `packages` whose program is missing, and says so.
pub(crate) fn install_missing(packages: &[&Package]) -> Result<()> {
    let mut missing = Vec::new();
    for &package in packages {
        match find_program(package.program) {
            Some(path) => println!("{}: already there ({})", package.name, path.display()),
            None => missing.push(package),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("{}: installing, because {}", package.name, package.why);
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    install(&names)?;
    for package in missing {
        find_program(package.program)
            .with_context(|| format!("{} brought no `{}`", package.name, package.program))?;
    }
    Ok(())
}

/// Fails if the program of any of `packages` is missing.
pub(crate) fn require(packages: &[&Package]) -> Result<()> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| find_program(package.program).is_none())
        .map(|package| package.name)
        .collect();
    if !missing.is_empty() {
        bail!("{}", advice(&missing));
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
}
