//! Python environments of their own for what comes from PyPI alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages;
use crate::process::{command, output, run, workspace_root};

/// Makes the environment `at` with what the file `requirements` of the repository
/// pins, unless it is there; returns the folder of its programs. `what` is said
/// before it is fetched.
///
/// # Errors
/// If Python or PyPI is missing, or a digest is not as pinned.
pub(crate) fn install(at: &Path, requirements: &str, what: &str) -> Result<PathBuf> {
    let wanted = workspace_root().join(requirements);
    let wanted = fs::read_to_string(&wanted).with_context(|| format!("reading {requirements}"))?;
    let programs = at.join("bin");
    // Written last, so that an interrupted installation is begun again.
    let installed = at.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(programs);
    }
    println!("installing {what}");
    make_environment(at)?;
    let mut pip = command(programs.join("pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--requirement", requirements]);
    run(pip)?;
    fs::write(&installed, wanted).with_context(|| format!("writing {}", installed.display()))?;
    Ok(programs)
}

fn make_environment(at: &Path) -> Result<()> {
    let mut has_venv = command("python3");
    has_venv.args(["-c", "import venv, ensurepip"]);
    if output(has_venv).is_err() {
        // Debian splits both off python3, which alone has a program to look for.
        packages::install(&["python3", "python3-venv"])?;
    }
    let mut venv = command("python3");
    venv.args(["-m", "venv", "--clear"]).arg(at);
    run(venv)
}
