//! `hark bench`: what hark adds to the bare model, side by side in one run.
//!
//! Open loop: readings are due at their times whether or not the one before is
//! done, and latency counts from there, so that a stall shows in every reading
//! that it delays. The paths of one round run one after the other, interleaved
//! over the rounds; what is printed are medians over the rounds with the least
//! and the most.

mod column;
mod load;
mod paths;
mod plot;

use super::to_stdout;
use crate::logging::tell;
use crate::summary::Summary;
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use column::{Column, Round};
use hark_config::duration::parse_duration;
use hark_config::{BundlePath, ModelConfig};
use hark_serve::bundle::{BUILTIN, Rungs};
use load::payloads;
use plot::Captions;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `hark bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hark bench                                    the built-in model, every path
  hark bench models/mine --paths bare,process --rounds 5 --plot latency.svg
  hark bench --sensors 1000 --saturate --paths process")]
pub struct BenchArgs {
    /// The bundle's folder or builtin:NAME; without it the built-in one
    bundle: Option<BundlePath>,
    /// Sensors, one reading after the other
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sensors: u32,
    /// Readings a second of each sensor
    #[arg(long, value_name = "HZ", default_value_t = 10.0)]
    rate: f64,
    /// As fast as they are served, instead of at a rate
    #[arg(long, conflicts_with = "rate")]
    saturate: bool,
    /// What to measure
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "bare,process,pty,mqtt"
    )]
    paths: Vec<Path>,
    /// How long each path is measured in each round
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// How often all paths are measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The deadline, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    deadline: f64,
    /// A broker for the path mqtt; without it the one inside hark
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_broker)]
    broker: Option<(String, u16)>,
    /// Draw the latencies of each path by percentile, to the slowest reading, as an SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// One JSON object: the summary of the last path, and `paths`
    #[arg(long)]
    json: bool,
}

/// A way for readings into the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Path {
    /// Features straight to the model: the floor
    Bare,
    /// Payloads in memory through the whole hot path
    Process,
    /// Through a pseudo terminal, as from a serial line
    Pty,
    /// Through a broker on this machine
    Mqtt,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Process => "process",
            Self::Pty => "pty",
            Self::Mqtt => "mqtt",
        }
    }
}

/// What is played.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) model: ModelConfig,
    pub(super) sensors: usize,
    /// Between two readings of all sensors; none: as fast as they are served.
    pub(super) period: Option<Duration>,
    pub(super) duration: Duration,
    pub(super) deadline_ms: f64,
}

/// Runs the command.
///
/// # Errors
/// If the bundle cannot be used, or a path cannot be opened.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    ensure!(
        args.rate > 0.0 && args.rate.is_finite(),
        "--rate must be above 0"
    );
    let load = Load {
        model: model(args.bundle.as_ref()),
        sensors: args.sensors as usize,
        period: (!args.saturate)
            .then(|| Duration::from_secs_f64(1.0 / (args.rate * f64::from(args.sensors)))),
        duration: args.duration,
        deadline_ms: args.deadline,
    };
    let rungs = Rungs::open(&load.model)?;
    rungs.check()?;
    let mut paths = args.paths.clone();
    paths.sort_unstable();
    paths.dedup();
    let mut columns: Vec<Column> = paths.iter().map(|path| Column::new(path.name())).collect();
    let mut last = None;
    for round in 0..args.rounds {
        for (path, column) in paths.iter().zip(&mut columns) {
            tell(format_args!(
                "round {} of {}: {} for {:?}",
                round + 1,
                args.rounds,
                path.name(),
                args.duration
            ));
            let (measured, summary) = paths::measure(*path, &load, args.broker.as_ref())
                .with_context(|| format!("measuring {}", path.name()))?;
            column.add(measured);
            last = summary.or(last);
        }
    }
    let absent = load.why_no_verdicts(rungs.pipeline().window.length);
    if let Some(file) = &args.plot {
        let captions = Captions {
            load: captions(args, &load, last.as_ref()),
            absent: absent.clone(),
            deadline_ms: args.deadline,
        };
        plot::write(file, &columns, &captions)?;
        tell(format_args!("latency plot: {}", file.display()));
    }
    if columns.iter().any(Column::lacks_verdicts) {
        tell(format_args!("{absent}"));
    }
    print(&load, &columns, last, args.json)
}

/// A broker without TLS, which is not what is measured here.
fn parse_broker(text: &str) -> Result<(String, u16), String> {
    let url = super::simulate::parse_broker(text)?;
    match (url.is_tls, url.port) {
        (Some(true), _) => Err("TLS is not measured: name the port without it".to_owned()),
        (_, port) => Ok((url.host, port.unwrap_or(1883))),
    }
}

/// What was measured, in a line.
fn captions(args: &BenchArgs, load: &Load, last: Option<&Summary>) -> String {
    let model = last.map_or_else(String::new, |summary| {
        let model = &summary.model;
        format!("{} {} ({}), ", model.name, model.version, model.backend)
    });
    let (rounds, duration) = (args.rounds, args.duration);
    let arch = std::env::consts::ARCH;
    format!("{model}{load}, {rounds} × {duration:?} on {arch}")
}

impl Load {
    /// Why there are no verdicts, and what would bring some; `window` is the model's,
    /// in readings.
    fn why_no_verdicts(&self, window: usize) -> String {
        let Some(period) = self.period else {
            return format!("no verdicts: a window of this model is {window} readings of a sensor");
        };
        let round_s = period.as_secs_f64() * self.sensors as f64;
        let each = (self.duration.as_secs_f64() / round_s) as u64;
        // Half of the time for the first windows, half for verdicts.
        let enough_s = (round_s * 2.0 * window as f64).ceil();
        format!(
            "no verdicts: a window of this model is {window} readings of a sensor, and each had \
             {each}; try --for {enough_s}s, or a greater --rate"
        )
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sensors = self.sensors;
        match self.period {
            Some(period) => {
                let rate = 1.0 / period.as_secs_f64();
                write!(
                    f,
                    "{sensors} sensors, {rate:.0} readings a second, open loop"
                )
            }
            None => write!(f, "{sensors} sensors, as fast as they are served"),
        }
    }
}

pub(super) fn model(bundle: Option<&BundlePath>) -> ModelConfig {
    let builtin = || BundlePath::Builtin(BUILTIN[0].to_owned());
    ModelConfig {
        name: "bench".to_owned(),
        bundle: bundle.cloned().unwrap_or_else(builtin),
        previous: None,
        is_cached: false,
    }
}

fn print(
    load: &Load,
    columns: &[Column],
    last: Option<Summary>,
    as_json: bool,
) -> anyhow::Result<()> {
    let rss = hark_hal::peak_rss_bytes().unwrap_or(0) as f64 / (1024.0 * 1024.0);
    if as_json {
        let mut object = serde_json::to_value(last.unwrap_or_default())?;
        let paths: serde_json::Map<_, _> = columns
            .iter()
            .map(|column| (column.name.to_owned(), column.to_json()))
            .collect();
        object["paths"] = paths.into();
        object["peak_rss_mib"] = serde_json::json!((rss * 10.0).round() / 10.0);
        return to_stdout(|out| writeln!(out, "{object}"));
    }
    to_stdout(|out| write_text(load, columns, last, rss, out))
}

fn write_text(
    load: &Load,
    columns: &[Column],
    last: Option<Summary>,
    rss_mib: f64,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(summary) = last {
        let model = &summary.model;
        writeln!(
            out,
            "model      {} {} ({})",
            model.name, model.version, model.backend
        )?;
    }
    writeln!(out, "load       {load}")?;
    writeln!(out)?;
    column::write_table(columns, out)?;
    writeln!(
        out,
        "\npeak memory of the whole process {rss_mib:.1} MiB, load generators included"
    )
}

/// What the hot path did in process.
pub(super) struct InProcess {
    pub(super) readings: u64,
    pub(super) seconds: f64,
    pub(super) summary: Summary,
}

/// Plays `load` in process, once.
pub(super) fn measure_in_process(load: &Load) -> anyhow::Result<InProcess> {
    let (round, summary) = paths::measure(Path::Process, load, None)?;
    Ok(InProcess {
        readings: round.arrived - round.shed,
        seconds: round.seconds(),
        summary: summary.context("in process there is a summary")?,
    })
}

impl Round {
    fn seconds(&self) -> f64 {
        self.took.as_secs_f64()
    }
}
