//! Packages of Debian's backports, without installing them.
//!
//! A released Debian lacks the newest compiler's source and emulator. They are
//! fetched from the mirror that this system uses, through an apt configuration
//! of our own below the target folder; the system's is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{command, find_program, output, target_dir};

/// The suite that packages new compilers and emulators for a released Debian.
const SUITE: &str = "trixie-backports";

/// Fetches `package` into `folder`, unless it lies there; `version` is how its
/// version begins, and without it the newest is taken.
///
/// # Errors
/// If this system has no Debian mirror, or that has no such package.
pub(crate) fn fetch(package: &str, version: Option<&str>, folder: &Path) -> Result<PathBuf> {
    let prefix = format!("{package}_{}", version.unwrap_or_default());
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    if let Some(path) = find(folder, &prefix)? {
        return Ok(path);
    }
    ensure!(
        find_program("apt-get").is_some(),
        "this system has no apt-get"
    );
    let apt = Apt::set_up(&target_dir().join("toolchain/apt"))?;
    println!("fetching {package} from {SUITE}: some 50 MB");
    output(apt.get(&["update"]))?;
    let wanted = match version {
        Some(version) => format!("{package}={version}*"),
        None => package.to_owned(),
    };
    let mut download = apt.get(&["download", &wanted]);
    download.current_dir(folder);
    output(download)?;
    match find(folder, &prefix)? {
        Some(path) => Ok(path),
        None => bail!("apt-get left no {package} in {}", folder.display()),
    }
}

fn find(folder: &Path, prefix: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().expect("an entry has a name");
        if name.to_string_lossy().starts_with(prefix) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// An apt that knows one suite and keeps its state to itself.
struct Apt {
    root: PathBuf,
}

impl Apt {
    fn set_up(root: &Path) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        let line = format!("deb {} {SUITE} main\n", debian_mirror()?);
        let list = root.join("sources.list");
        fs::write(&list, line).with_context(|| format!("writing {}", list.display()))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn get(&self, args: &[&str]) -> Command {
        let mut apt_get = command("apt-get");
        let option = |name: &str, path: &str| format!("{name}={}", self.root.join(path).display());
        apt_get
            .args(["-qq", "-o", "Dir::Etc::sourceparts=-"])
            .args(["-o", &option("Dir::Etc::sourcelist", "sources.list")])
            .args(["-o", &option("Dir::State::lists", "lists")])
            .args(["-o", &option("Dir::Cache", "cache")])
            // Downloading as the user who asks, who owns the folders.
            .args(["-o", "APT::Sandbox::User=root"])
            .args(args);
        apt_get
    }
}

/// The archive that the system's own sources name, less its security suites.
fn debian_mirror() -> Result<String> {
    let mut targets = command("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)"]);
    targets.args(["Created-By: Packages", "Origin: Debian"]);
    let lines = output(targets)?;
    lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, suite)| !suite.contains("security"))
        .map(|(uri, _)| uri.to_owned())
        .context("this system's apt has no Debian archive")
}
