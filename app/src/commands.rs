//! The commands of `hark`, one file each.

pub mod bench;
pub mod capacity;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod features;
pub mod generate;
pub mod model;
pub mod replay;
pub mod run;
pub mod simulate;
pub mod try_bundle;

use crate::cli::{Cli, Command};
use crate::logging::tell_error;
use crate::summary::Summary;
use anyhow::{Context, ensure};
use hark_threads::shutdown::{self, Shutdown};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Runs the command; the exit code is the process's.
pub fn dispatch(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Capacity(args) => capacity::run(&args),
        Command::Check(args) => match check::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Doctor(args) => match shutdown_on_signals().and_then(|s| doctor::run(&args, &s)) {
            Ok(doctor::Health::Sound) => Ok(()),
            Ok(doctor::Health::Ailing) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Replay(args) => replay::run(&args),
        Command::Simulate(args) => shutdown_on_signals().and_then(|s| simulate::run(&args, s)),
        Command::Features(args) => features::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
        Command::TryBundle(args) => return try_bundle::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell_error(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Makes a write beyond the system's limit on the size of files an error of that
/// write (EFBIG), in place of the end of the process (SIGXFSZ).
pub fn outlive_file_limits() {
    // Whether it came does not matter: the write says so, too.
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::default()) {
        tracing::warn!("a file that reaches RLIMIT_FSIZE ends hark: {error}");
    }
}

/// The reader of our output has gone, as in `hark features … | head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    causes.any(|io: &std::io::Error| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A shutdown that Ctrl-C or a TERM requests; a second one ends at once.
fn shutdown_on_signals() -> anyhow::Result<Shutdown> {
    let (sender, shutdown) = shutdown::channel();
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("catching signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    std::process::exit(128 + signal);
                }
                sender.request();
                end_in_time();
            }
        })
        .context("starting the signal thread")?;
    Ok(shutdown)
}

/// After a signal a command has this long: the two seconds of an orderly stop,
/// and what a machine that is busy with others takes longer.
const END_TIMEOUT: Duration = Duration::from_secs(4);

/// Ends the process if its main thread does not, which may hang itself, as in a
/// disk where a configuration lies. Without a thread for it only a second signal
/// does.
fn end_in_time() {
    let end = || {
        std::thread::sleep(END_TIMEOUT);
        tracing::error!("the stop does not end: ended without it");
        // For the line above, which a thread of its own writes.
        std::thread::sleep(READER_TIMEOUT);
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("end".into());
    thread.spawn(end).map(drop).unwrap_or_else(|error| {
        tracing::warn!("no thread that ends hark if it hangs: {error}");
    });
}

/// How long an appliance that stops waits for whoever reads its standard output.
const READER_TIMEOUT: Duration = Duration::from_millis(300);

/// Ends a command that has `printed` its summary: an error if a thread panicked,
/// so that the service manager starts hark again.
fn conclude(summary: &Summary, printed: anyhow::Result<()>) -> anyhow::Result<()> {
    // Before what a closed pipe says, which is no failure.
    ensure!(
        summary.threads_panicked.is_empty(),
        "{} panicked: a bug in hark, please report what it printed above",
        summary.threads_panicked.join(" and ")
    );
    printed
}

/// Prints the summary as the last thing on standard output.
fn print_summary(summary: &Summary, as_json: bool) -> anyhow::Result<()> {
    to_stdout(|out| {
        if as_json {
            serde_json::to_writer(&mut *out, summary)?;
            writeln!(out)
        } else {
            writeln!(out, "{summary}")
        }
    })
}

/// As [`print_summary`], for an appliance, which somebody who does not read must
/// not keep from its end.
fn print_summary_in_time(summary: &Summary, as_json: bool) -> anyhow::Result<()> {
    let (printed, outcome) = sync_channel(1);
    let summary = summary.clone();
    // Not joined: it may be in a write that never returns.
    std::thread::Builder::new()
        .name("summary".into())
        .spawn(move || printed.send(print_summary(&summary, as_json)))
        .context("starting the thread that prints the summary")?;
    outcome.recv_timeout(READER_TIMEOUT).unwrap_or_else(|_| {
        tracing::warn!("nobody reads standard output: the summary is not printed");
        Ok(())
    })
}

/// Lets `write` write to standard output, to the end. A reader that has gone is no
/// error: the command ends as it would have.
///
/// # Errors
/// If standard output fails otherwise.
fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    write_to(&mut io::stdout().lock(), write)
}

fn write_to(
    out: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    match write(out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panicked_fails_the_command_by_its_name() {
        let mut summary = Summary::default();
        assert!(conclude(&summary, Ok(())).is_ok());
        summary.threads_panicked = vec!["source line".to_owned()];
        let said = conclude(&summary, Ok(())).unwrap_err().to_string();
        assert!(said.starts_with("source line panicked"), "{said}");
    }

    /// Refuses every byte.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        let write = |kind, as_json: bool| {
            write_to(&mut Failing(kind), |out| {
                if as_json {
                    serde_json::to_writer(&mut *out, &1)?;
                }
                writeln!(out)
            })
        };
        for as_json in [false, true] {
            assert!(write(io::ErrorKind::BrokenPipe, as_json).is_ok());
            let error = write(io::ErrorKind::StorageFull, as_json).unwrap_err();
            let said = format!("{error:#}");
            assert!(said.starts_with("writing to standard output: "), "{said}");
        }
    }
}
