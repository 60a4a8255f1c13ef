//! Child processes: cargo and the tools that the commands drive.
//!
//! Output is inherited unless a command asks for it, and each child is started
//! in the workspace root, so that a command works from any folder of it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The root of the workspace whose xtask was asked for.
///
/// Cargo says so at run time. What it said at compile time would be wrong where
/// two checkouts share a target folder, and then also this executable.
pub(crate) fn workspace_root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR");
    let xtask = manifest.unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    Path::new(&xtask)
        .ancestors()
        .nth(2)
        .expect("this crate lies at cross/xtask")
        .to_owned()
}

/// The target folder that cargo uses for this workspace, absolute.
pub(crate) fn target_dir() -> PathBuf {
    let configured = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    workspace_root().join(configured)
}

/// A command in the workspace root, with everything inherited. A bare name is
/// looked up as [`find_program`] does it.
pub(crate) fn command(program: impl Into<OsString>) -> Command {
    let program = program.into();
    let mut command = Command::new(find_program(&program).unwrap_or_else(|| program.into()));
    command.current_dir(workspace_root());
    command
}

/// The cargo that runs this xtask, so that both use one toolchain.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = command(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args);
    command
}

/// Runs `command` to its end; any exit status but 0 is an error that names it.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let line = shown(&command);
    println!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("starting `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs `command` and returns what it wrote to stdout, trimmed.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let line = shown(&command);
    let output = command
        .output()
        .with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}: {}", output.status, stderr.trim());
    }
    let stdout = String::from_utf8(output.stdout).with_context(|| format!("reading `{line}`"))?;
    Ok(stdout.trim().to_owned())
}

/// The target triple of this machine.
pub(crate) fn host() -> Result<String> {
    rustc(&["--print", "host-tuple"])
}

/// What `rustc` of the running toolchain answers.
pub(crate) fn rustc(args: &[&str]) -> Result<String> {
    let mut rustc = command("rustc");
    rustc.args(args);
    output(rustc)
}

/// Where `program` lies: the folders of PATH, then those of system programs,
/// which Debian leaves out of an ordinary user's PATH.
pub(crate) fn find_program(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(&program))
        .find(|candidate| candidate.is_file())
}

/// `command` as a reader would type it, without the folder of its program.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().map_or_else(
        || program.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
