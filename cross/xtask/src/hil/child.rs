//! A child process of a test stand: QEMU, a broker, a watcher.
//!
//! It never outlives its stand: it is killed when its handle is dropped, and
//! by the kernel when this process dies in any way (`setpriv --pdeathsig`, so
//! that no unsafe code runs between fork and exec). The kernel takes the
//! thread that started it for its parent, so a stand lives and dies on one
//! thread. What the child prints goes to a file beside its scenario's logs.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// A running child and where its output goes.
pub(crate) struct Process {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with both its outputs appended to `log`.
    pub(crate) fn start(
        program: &Path,
        args: &[impl AsRef<std::ffi::OsStr>],
        log: &Path,
    ) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("sharing a log file")?)
            .stderr(output);
        let line = shown(program, args);
        let child = command
            .spawn()
            .with_context(|| format!("starting `{line}` under setpriv"))?;
        Ok(Self {
            child,
            line,
            log: log.to_owned(),
        })
    }

    /// The command line, to be read and pasted.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait();
        status.with_context(|| format!("waiting for `{}`", self.line))
    }

    /// # Errors
    /// If it has ended; with the last lines that it printed.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        let Some(status) = self.ended()? else {
            return Ok(());
        };
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // The reason is at the end; a long log is read in its file.
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!("`{}` ended: {status}: {}", self.line, tail.join(" | "));
    }

    /// Kills it as a power cut would: nothing is flushed, nothing is said.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn shown(program: &Path, args: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let mut line = OsString::from(program.file_name().unwrap_or(program.as_os_str()));
    for arg in args {
        line.push(" ");
        line.push(arg);
    }
    line.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ended_is_told_with_what_it_said_last() {
        let log = std::env::temp_dir().join(format!("hark-xtask-child-{}", std::process::id()));
        let mut process =
            Process::start(Path::new("sh"), &["-c", "echo no such disk; exit 3"], &log)
                .expect("a shell is there");
        process.child.wait().expect("it ends by itself");
        let error = process.check_running().expect_err("it ended").to_string();
        std::fs::remove_file(&log).expect("it was written");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("no such disk"), "{error}");
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let log = Path::new("/dev/null");
        let process = Process::start(Path::new("sleep"), &["1000"], log).expect("sleep is there");
        let id = process.child.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
