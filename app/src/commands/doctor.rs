//! `hark doctor`: what this machine has, what is wrong with it, and what would
//! be right; with `--line`, what a serial line says and how it is set.
//!
//! It looks and listens only: no watchdog is opened, no GPIO line asked for,
//! nothing sent on a line. Exit code 1 says that there is a problem, so that a
//! script can ask.

mod entry;
mod findings;
mod line;
mod missing;
mod report;

pub(crate) use missing::missing;

use crate::logging::tell;
use anyhow::Context;
use clap::Args;
use entry::{misfit, source_entry};
use findings::{State, findings};
use hark_config::duration::parse_duration;
use hark_config::{Config, Link};
use hark_hal::{Board, SerialPort};
use hark_links::serial_settings;
use hark_serve::bundle::Rungs;
use hark_threads::shutdown::Shutdown;
use line::{PATIENCE, listen, setting_text, settings_to_try};
use missing::is_same_file;
use report::{Report, judge, print};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `hark doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hark doctor
      what this machine has, each with ok, note or problem
  hark doctor --config /etc/hark/hark.toml
      the same, held against what the configuration names
  hark doctor --line /dev/ttyUSB0
      listen at one setting after the other; print the [[sources]] entry to paste")]
pub struct DoctorArgs {
    /// Listen to this serial port instead, and say what speaks and how the line is set
    #[arg(long, value_name = "PORT")]
    line: Option<String>,
    /// How long a silent line is waited for, and one that says little is
    /// listened to [default: 10s]
    #[arg(long = "for", value_name = "DURATION", requires = "line", value_parser = parse_duration)]
    patience: Option<Duration>,
    /// The configuration; without it the built-in defaults
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Whether a problem was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// None was.
    Sound,
    /// At least one was.
    Ailing,
}

/// Runs the command until its end or the shutdown, which a line's report survives.
///
/// # Errors
/// If the configuration is wrong or the line cannot be opened.
pub fn run(args: &DoctorArgs, shutdown: &Shutdown) -> anyhow::Result<Health> {
    let config = Config::load(args.config.as_deref(), std::env::vars_os())?;
    let board = Board::this();
    let report = match &args.line {
        Some(port) => {
            let patience = args.patience.unwrap_or(PATIENCE);
            examine_line(&config, &board, port, patience, shutdown)?
        }
        None => Report {
            findings: findings(&config, &board),
            line: None,
            source: None,
        },
    };
    print(&report, args.json)?;
    let is_ailing = report.findings.iter().any(|f| f.state == State::Problem);
    Ok(if is_ailing {
        Health::Ailing
    } else {
        Health::Sound
    })
}

fn examine_line(
    config: &Config,
    board: &Board,
    port: &str,
    patience: Duration,
    shutdown: &Shutdown,
) -> anyhow::Result<Report> {
    let configured = config.sources.iter().find_map(|source| match &source.link {
        Link::Serial(link) if is_same_file(&link.port, port) => Some(serial_settings(link)),
        _ => None,
    });
    let settings = settings_to_try(port, configured.as_ref());
    let count = settings.len();
    let heard = listen(&settings, patience, shutdown, &mut |index, settings| {
        // One line each: it is seldom more than a few, and a log keeps them.
        tell(format_args!(
            "listening at {} ({} of {count})",
            setting_text(settings),
            index + 1
        ));
    })
    .with_context(|| format!("listening to {port}"))?;
    let known = known_port(board, port);
    let best = heard.heard.first();
    let wanted = wanted_channels(config);
    let finding = match best.and_then(|best| misfit(&best.heard, &wanted)) {
        Some(misfit) => judge(&heard).note(misfit),
        None => judge(&heard),
    };
    Ok(Report {
        findings: vec![findings::serial_port(&known, &board.consoles()), finding],
        source: best.and_then(|best| source_entry(best, &known.path, &wanted)),
        line: Some(heard),
    })
}

/// The channels of the model that a source has unless it names another; none if it
/// cannot be opened, which `hark check` says.
fn wanted_channels(config: &Config) -> Vec<String> {
    let rungs = config.models.first().map(Rungs::open);
    let rungs = rungs.and_then(Result::ok);
    rungs.map_or_else(Vec::new, |rungs| {
        let channels = rungs.pipeline().schema.channels.iter();
        channels.map(|channel| channel.name.clone()).collect()
    })
}

/// The port, under its stable name if the operator has not named it by a link already.
fn known_port(board: &Board, port: &str) -> SerialPort {
    let named = board.serial_port(port);
    let same = |other: &SerialPort| named.path == named.device && other.device == named.device;
    board.serial_ports().into_iter().find(same).unwrap_or(named)
}
