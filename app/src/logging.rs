//! Where hark's own words go: its log lines and what it tells a person, on
//! standard error.
//!
//! An appliance's standard error may be a pipe that nobody reads, or be full or
//! closed, and the threads that log are those that serve. So an appliance
//! queues its lines for a thread of their own ([`Logging::queued`]); what does
//! not fit is counted, and told once standard error takes lines again. Other
//! commands write at once ([`Logging::direct`]). Neither ever panics for a line
//! that cannot be written, and a panic of any thread is told the same way.
//! What stands in a line, and how many there may be, is [`hark_outlet::log`]'s.

use hark_outlet::line_writer::{Entry, LineCounts, LineSender, LineWriter, Rank, Room};
use hark_outlet::log::{Log, Printable, Style};
use hark_threads::{Shutdown, Stage, Threads};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless HARK_LOG says otherwise.
const LOG: &str = "warn,hark=info";
/// A burst of a thousand lines, as when every node of a site starts at once. The
/// other half is for errors and panics.
const ROOM: Room = Room {
    lines: 2048,
    bytes: 1024 * 1024,
};
/// How often is looked whether something is to be told of lines that were left out.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long the last lines may take at the end.
const GOODBYE: Duration = Duration::from_millis(300);

/// The queue of this process, if its lines are queued.
static QUEUE: OnceLock<LineSender> = OnceLock::new();
/// How the lines of this process begin.
static STYLE: OnceLock<Style> = OnceLock::new();

/// The log of this process.
pub struct Logging {
    log: Log,
    threads: Threads,
    writer: Option<LineWriter>,
}

impl Logging {
    /// Starts the log of an appliance, whose lines are written by a thread of
    /// their own; at once if the system gives none. Called once.
    pub fn queued() -> Self {
        let threads = Threads::new();
        let writer = LineWriter::start(&threads, "standard error", ROOM, write);
        if let Ok(writer) = &writer {
            QUEUE.set(writer.sender().clone()).ok();
        }
        let logging = Self::start(threads, writer.ok());
        let log = logging.log.clone();
        let tell = move |shutdown: &Shutdown| {
            while !shutdown.wait(TELL_EVERY) {
                log.tell_left_out(Instant::now(), false);
            }
        };
        if let Err(error) = logging.threads.spawn("log", Stage::Write, tell) {
            tracing::warn!("what is left out of the log is told late: {error}");
        }
        logging
    }

    /// Starts the log of a command whose lines are written at once. Called once.
    pub fn direct() -> Self {
        Self::start(Threads::new(), None)
    }

    fn start(threads: Threads, writer: Option<LineWriter>) -> Self {
        let log = Log::new(style(), post);
        let asked = env::var("HARK_LOG");
        let wanted = asked
            .as_ref()
            .map_or(Ok(None), |asked| asked.parse().map(Some));
        let filter = match &wanted {
            Ok(Some(filter)) => Targets::clone(filter),
            _ => LOG.parse().expect("the default is well-formed"),
        };
        tracing_subscriber::registry()
            .with(log.clone().with_filter(filter))
            .init();
        let is_used = matches!(
            (&asked, &wanted),
            (Ok(_), Ok(_)) | (Err(env::VarError::NotPresent), _)
        );
        if !is_used {
            tracing::warn!(
                "HARK_LOG is not understood, such as \"hark=debug\" would be: \"{LOG}\" counts"
            );
        }
        Self {
            log,
            threads,
            writer,
        }
    }

    /// Has what is queued written, for a bounded time.
    pub fn finish(self) {
        self.log.tell_left_out(Instant::now(), true);
        if let Some(writer) = self.writer {
            writer.finish(Some(GOODBYE));
        }
        self.threads.stop(Stage::Write, Instant::now() + GOODBYE);
    }
}

/// How lines begin on this standard error.
fn style() -> Style {
    *STYLE.get_or_init(|| {
        if is_journal() {
            return Style::Journal;
        }
        // As no-color.org has it.
        let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match io::stderr().is_terminal() && !is_refused {
            true => Style::Coloured,
            false => Style::Plain,
        }
    })
}

/// Whether standard error is the journal's own (systemd.exec(5), JOURNAL_STREAM):
/// a service may have redirected it, and its children inherit the variable.
fn is_journal() -> bool {
    let named = env::var("JOURNAL_STREAM").unwrap_or_default();
    let ours = || {
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
        let metadata = stderr.metadata().ok()?;
        Some(format!("{}:{}", metadata.dev(), metadata.ino()))
    };
    !named.is_empty() && ours() == Some(named)
}

/// What became of the lines of this process, as far as they are queued.
pub fn counts() -> LineCounts {
    QUEUE.get().map(LineSender::counts).unwrap_or_default()
}

/// Tells a person something on standard error, in order with the log. In place
/// of `eprintln!`, which panics where nothing can be written.
pub fn tell(text: impl Display) {
    let lines = text.to_string();
    let lines = lines
        .split('\n')
        .map(|line| format!("{}\n", Printable(line)));
    post(lines.collect::<String>().into_bytes(), Rank::Other);
}

/// As [`tell`], of what ends the command.
pub fn tell_error(text: impl Display) {
    let text = text.to_string();
    for line in text.split('\n') {
        match style() {
            style @ Style::Journal => {
                let line = style.line(Level::ERROR, &Printable(line).to_string());
                post(line.into_bytes(), Rank::Alert);
            }
            Style::Plain | Style::Coloured => tell(line),
        }
    }
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
        Entry::LeftOut(count) => {
            let text =
                format!("{count} lines were left out here: standard error did not take them");
            stderr.write_all(style().line(Level::WARN, &text).as_bytes())?;
        }
    }
    Ok(())
}
