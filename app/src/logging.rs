//! Where hark's own words go: its log lines and what it tells a person, on
//! standard error.
//!
//! An appliance's standard error may be a pipe that nobody reads, or be full or
//! closed, and the threads that log are those that serve. So an appliance
//! queues its lines for a thread of their own ([`Logging::queued`]); what does
//! not fit is counted, and told once standard error takes lines again. Other
//! commands write at once ([`Logging::direct`]). Neither ever panics for a line
//! that cannot be written, and a panic of any thread is told the same way.

use hark_outlet::line_writer::{Entry, LineCounts, LineSender, LineWriter, Rank, Room};
use hark_threads::Threads;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged unless HARK_LOG says otherwise.
const LOG: &str = "warn,hark=info";
/// A burst of a thousand lines, as when every node of a site starts at once. The
/// other half is for errors and panics.
const ROOM: Room = Room {
    lines: 2048,
    bytes: 1024 * 1024,
};
/// How long the last lines may take at the end.
const GOODBYE: Duration = Duration::from_millis(300);

/// The queue of this process, if its lines are queued.
static QUEUE: OnceLock<LineSender> = OnceLock::new();

/// The log of this process.
pub struct Logging {
    writer: Option<LineWriter>,
}

impl Logging {
    /// Starts the log of an appliance, whose lines are written by a thread of
    /// their own; at once if the system gives none. Called once.
    pub fn queued() -> Self {
        let writer = LineWriter::start(&Threads::new(), "standard error", ROOM, write);
        if let Ok(writer) = &writer {
            QUEUE.set(writer.sender().clone()).ok();
        }
        Self::start(writer.ok())
    }

    /// Starts the log of a command whose lines are written at once. Called once.
    pub fn direct() -> Self {
        Self::start(None)
    }

    fn start(writer: Option<LineWriter>) -> Self {
        let filter = EnvFilter::try_from_env("HARK_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Stderr(Rank::Other))
            // It would print about it, and panic where it cannot.
            .log_internal_errors(false)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init();
        Self { writer }
    }

    /// Has what is queued written, for a bounded time.
    pub fn finish(self) {
        if let Some(writer) = self.writer {
            writer.finish(Some(GOODBYE));
        }
    }
}

/// What became of the lines of this process, as far as they are queued.
pub fn counts() -> LineCounts {
    QUEUE.get().map(LineSender::counts).unwrap_or_default()
}

/// Tells a person something on standard error, in order with the log. In place
/// of `eprintln!`, which panics where nothing can be written.
pub fn tell(text: impl Display) {
    post(format!("{text}\n").into_bytes(), Rank::Other);
}

/// Tells of a panic: what the hook of the standard library prints, but without
/// waiting for standard error.
pub fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    // Not through the log: the thread may have panicked inside it.
    let text = format!("thread '{name}' panicked at {place}:\n{message}{backtrace}\n");
    post(text.into_bytes(), Rank::Alert);
}

fn post(lines: Vec<u8>, rank: Rank) {
    match QUEUE.get() {
        Some(queue) => {
            queue.post(lines, rank);
        }
        // Nobody could be told that this fails.
        None => io::stderr().write_all(&lines).unwrap_or_default(),
    }
}

/// On the thread of standard error.
fn write(entry: Entry<'_>) -> anyhow::Result<()> {
    let mut stderr = io::stderr().lock();
    match entry {
        Entry::Line(lines) => stderr.write_all(lines)?,
        Entry::LeftOut(count) => writeln!(
            stderr,
            "{}  WARN {count} lines were left out here: standard error did not take them",
            jiff::Timestamp::now()
        )?,
    }
    Ok(())
}

/// Hands each event's text over; never fails and never waits if it is queued.
struct Stderr(Rank);

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self(self.0)
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Self {
        match *about.level() {
            Level::ERROR => Self(Rank::Alert),
            _ => self.make_writer(),
        }
    }
}

impl Write for Stderr {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        post(lines.to_vec(), self.0);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
