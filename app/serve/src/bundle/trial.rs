//! A bundle is loaded by another process before this one does it.
//!
//! A file of a few bytes can ask a runtime for any amount of memory or time, and
//! an allocation that fails ends the process: nothing around it can catch that.
//! So the same program tries the whole load first, golden vectors and all, under
//! limits and without anything to lose ([`try_bundle`]). What it has seen good by its
//! digest is loaded here, and is not tried a second time.
//!
//! Bundles that are compiled in are not tried. A program that has not said how it
//! is to be called ([`try_bundles_by`]), as a test, loads without a trial; so does
//! one that the system does not let run itself, which says so.

use super::ModelBundle;
use anyhow::{Context, bail, ensure};
use hark_hal::{Confinement, memory_left_bytes};
use hark_threads::Shutdown;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a load may take beyond the process as it is: some ten times the weights of
/// the largest model that a gateway's CPU could run within a deadline.
const LOAD_BYTES_MAX: u64 = 256 << 20;
/// The CPU time of a load. The heaviest models of this field take a second on a slow
/// core.
const LOAD_CPU_MAX: Duration = Duration::from_secs(20);
/// How long a trial is waited for, on a machine that is busy with others: less than
/// a load is.
const TRIAL_MAX: Duration = Duration::from_secs(45);
/// The stack of the thread that loads: less than threads have by default, so that
/// what fits it fits whoever loads afterwards.
const STACK_BYTES: usize = 3 << 19;
/// How often a trial is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// What a trial says of a bundle, at most; a pipe takes it at once.
const REPORT_BYTES_MAX: usize = 4_096;
/// Digests that are remembered. There are as many models as operators configure.
const SEEN_MAX: usize = 64;

/// The exit code of a trial that found a file missing.
const MISSING: u8 = 3;

/// How a process ends whose program could not be run (posix_spawn(3)), as in an
/// emulator that the system does not know of.
const NOT_RUN: i32 = 127;

/// How this program is called to try a bundle: its file and the first argument.
static PROGRAM: OnceLock<(&'static OsStr, &'static str)> = OnceLock::new();
/// What trials have shown, by the manifest's digest, which names a bundle's whole
/// content.
static SEEN: Mutex<BTreeMap<String, Seen>> = Mutex::new(BTreeMap::new());

/// What need not be tried again.
#[derive(Clone)]
enum Seen {
    Good,
    /// It cost the other process its life, for this reason: it would again.
    Fatal(String),
}

/// Why a bundle failed its trial.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failed {
    text: String,
    /// Whether for a file that is not there.
    pub(super) is_missing: bool,
}

impl Failed {
    fn of(text: String) -> Self {
        Self {
            text,
            is_missing: false,
        }
    }
}

/// Has every bundle of this process tried by this very program, called with
/// `command` and the arguments of [`try_bundle`]: memory, digest, folder.
pub fn try_bundles_by(command: &'static str) {
    // What is running, even if an update has put another in its place.
    PROGRAM.set((OsStr::new("/proc/self/exe"), command)).ok();
}

/// Tries the bundle in `folder` whose manifest has `digest`, unless it has been seen
/// good; the variants that were passed over on the way, or none if nothing is tried
/// in this process. Waits, at most until `stop`.
///
/// # Errors
/// [`Failed`], with what the bundle did; or that it could not be tried.
pub(super) fn pass(
    folder: &Path,
    digest: &str,
    stop: Option<&Shutdown>,
) -> anyhow::Result<Option<Vec<String>>> {
    let Some((program, command)) = PROGRAM.get() else {
        return Ok(None);
    };
    match seen().get(digest).cloned() {
        Some(Seen::Good) => return Ok(Some(Vec::new())),
        Some(Seen::Fatal(text)) => bail!(Failed::of(text)),
        None => {}
    }
    // Some of what is left stays with those that serve meanwhile.
    let memory_bytes = LOAD_BYTES_MAX.min(memory_left_bytes() / 8 * 7);
    let mut child = Command::new(program)
        .arg(command)
        .arg(memory_bytes.to_string())
        .arg(digest)
        .arg(folder)
        .env_clear()
        // Its one thread takes its memory from where the limit counts it.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the process that tries it")?;
    let status = wait(&mut child, stop)?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut said_at_most = stdout.take(REPORT_BYTES_MAX as u64);
        said_at_most
            .read_to_end(&mut said)
            .context("hearing what it did")?;
    }
    let said = String::from_utf8_lossy(&said);
    if status.code() == Some(NOT_RUN) {
        // That says nothing of the bundle, and no bundle would ever pass.
        tracing::warn!("this machine does not let hark run itself: bundles are loaded untried");
        return Ok(None);
    }
    if status.success() {
        remember(digest, Seen::Good);
        return Ok(Some(said.lines().map(str::to_owned).collect()));
    }
    let text = judge(status, said.trim_end(), memory_bytes);
    // With less memory than a load may take, the same bundle may do better later.
    let is_fatal = matches!(
        status.signal(),
        Some(signal::SIGABRT | signal::SIGSEGV | signal::SIGXCPU)
    );
    if is_fatal && memory_bytes == LOAD_BYTES_MAX {
        remember(digest, Seen::Fatal(text.clone()));
    }
    bail!(Failed {
        text,
        is_missing: status.code() == Some(MISSING.into()),
    })
}

fn seen() -> MutexGuard<'static, BTreeMap<String, Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(digest: &str, what: Seen) {
    let mut seen = seen();
    if seen.len() >= SEEN_MAX {
        // Whoever still serves is tried once more.
        seen.clear();
    }
    seen.insert(digest.to_owned(), what);
}

/// Waits for the process, and ends it if it takes too long.
fn wait(child: &mut Child, stop: Option<&Shutdown>) -> anyhow::Result<ExitStatus> {
    let until = Instant::now() + TRIAL_MAX;
    loop {
        if let Some(status) = child.try_wait().context("waiting for its trial")? {
            return Ok(status);
        }
        let is_stopped = match stop {
            Some(stop) => stop.wait(LOOK),
            None => {
                std::thread::sleep(LOOK);
                false
            }
        };
        if is_stopped || Instant::now() >= until {
            child.kill().context("ending its trial")?;
            child.wait().context("ending its trial")?;
            ensure!(!is_stopped, "its trial was cut short by a stop");
            bail!(Failed::of(format!(
                "loading it does not end within {TRIAL_MAX:?}"
            )));
        }
    }
}

/// What became of the process, in words.
fn judge(status: ExitStatus, said: &str, memory_bytes: u64) -> String {
    let mib = memory_bytes >> 20;
    match status.signal() {
        // A runtime that asks before it takes panics with this.
        None if said.contains("failed to allocate") => {
            format!("loading it takes more memory than it may, {mib} MiB: {said}")
        }
        None if !said.is_empty() => said.to_owned(),
        None => format!("loading it ended with {status}"),
        Some(signal::SIGABRT | signal::SIGSEGV) => {
            format!("loading it takes more memory than it may, {mib} MiB, or its graph is too deep")
        }
        Some(signal::SIGXCPU) => {
            format!("loading it takes more than {LOAD_CPU_MAX:?} of CPU time")
        }
        Some(signal::SIGKILL) => "loading it was killed, as for want of memory".to_owned(),
        Some(signal) => format!("loading it ended by signal {signal}"),
    }
}

/// Numbers of signal(7), the same on every machine that hark runs on.
mod signal {
    pub(super) const SIGABRT: i32 = 6;
    pub(super) const SIGKILL: i32 = 9;
    pub(super) const SIGSEGV: i32 = 11;
    pub(super) const SIGXCPU: i32 = 24;
}

/// The other process: confines itself, loads the bundle, and says what became of it
/// on standard output. `memory_bytes` is what it may take for that.
pub fn try_bundle(folder: &Path, digest: &str, memory_bytes: u64) -> ExitCode {
    let load = || {
        let limits = Confinement {
            memory_bytes,
            cpu: LOAD_CPU_MAX,
        };
        limits.enter().context("limiting its trial")?;
        let bundle = ModelBundle::open_folder(folder)?;
        ensure!(
            bundle.bundle.digest() == digest,
            "its manifest changed while it was tried"
        );
        anyhow::Ok(bundle.load_untried()?.1)
    };
    let loaded = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, load).context("no thread")?;
        let ended = thread.join();
        ended.unwrap_or_else(|_| Err(anyhow::anyhow!("loading it panicked")))
    });
    let (said, code) = match loaded {
        Ok(skipped) => (skipped.join("\n"), ExitCode::SUCCESS),
        Err(error) if super::is_missing(&error) => (format!("{error:#}"), MISSING.into()),
        Err(error) => (format!("{error:#}"), ExitCode::FAILURE),
    };
    let end = said.floor_char_boundary(REPORT_BYTES_MAX);
    // Whoever does not listen has killed this process.
    std::io::stdout().write_all(&said.as_bytes()[..end]).ok();
    code
}
