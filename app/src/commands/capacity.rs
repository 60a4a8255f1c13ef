//! `hark capacity`: how many sensors of a configuration this box can serve,
//! measured here.
//!
//! Each source's model is first saturated in process, which gives μ, the
//! readings that its thread can take a second; then the load that leaves the
//! margin is played, open loop, to see that it is served in time.

use super::bench::{Load, measure_in_process};
use super::to_stdout;
use crate::logging::tell;
use anyhow::{Context, ensure};
use clap::Args;
use hark_config::Config;
use hark_config::duration::parse_duration;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Sensors that are simulated: enough that their states do not all stay in the
/// nearest cache.
const SENSORS: usize = 1000;

/// Arguments of `hark capacity`.
#[derive(Debug, Args)]
pub struct CapacityArgs {
    /// The configuration; without it the built-in defaults
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The part of the capacity that is left free, 0 to 0.9
    #[arg(long, value_name = "PART", default_value_t = 0.2)]
    margin: f64,
    /// How long each of the two measurements of a source takes
    #[arg(long = "for", value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    duration: Duration,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What one source can take.
#[derive(Debug, Serialize)]
struct SourceCapacity {
    source: String,
    model: String,
    backend: String,
    /// μ of its thread, without a link.
    readings_per_second: f64,
    /// Of one sensor, by the model's schema.
    sensor_hz: f64,
    /// Sensors at that rate, the margin left free, as far as `device.sensors_max`
    /// lets them in; a link takes its part of that, and has its own limit.
    sensors: u64,
    /// What `device.sensors_max` leaves out of that.
    is_limited_by_sensors_max: bool,
    /// At that load, from when a reading was due to its verdict.
    p99_us: f64,
    max_us: f64,
    deadline_misses: u64,
    shed: u64,
}

/// Runs the command.
///
/// # Errors
/// If the configuration is wrong or a bundle cannot be used.
pub fn run(args: &CapacityArgs) -> anyhow::Result<()> {
    ensure!(
        (0.0..=0.9).contains(&args.margin),
        "--margin must be 0 to 0.9"
    );
    let config = Config::load(args.config.as_deref(), std::env::vars_os())?;
    let sources = config.sources.iter().map(|source| {
        tell(format_args!(
            "source {}: twice {:?}",
            source.name, args.duration
        ));
        let model = config
            .models
            .iter()
            .find(|model| model.name == source.model);
        let load = Load {
            model: model.context("a source names a model")?.clone(),
            sensors: SENSORS,
            period: None,
            duration: args.duration,
            deadline_ms: config.device.deadline_ms,
        };
        measure(
            &source.name,
            load,
            args.margin,
            config.device.sensors_max as u64,
        )
    });
    let sources = sources.collect::<anyhow::Result<Vec<_>>>()?;
    print(&config, args, &sources)
}

fn measure(
    source: &str,
    load: Load,
    margin: f64,
    sensors_max: u64,
) -> anyhow::Result<SourceCapacity> {
    let sensor_hz = 1e3
        / hark_serve::bundle::Rungs::open(&load.model)?
            .pipeline()
            .schema
            .period_ms;
    let saturated = measure_in_process(&load)?;
    let readings_per_second = saturated.readings as f64 / saturated.seconds;
    let admitted = readings_per_second * (1.0 - margin);
    let loaded = measure_in_process(&Load {
        period: Some(Duration::from_secs_f64(1.0 / admitted)),
        ..load
    })?;
    let served = (admitted / sensor_hz) as u64;
    Ok(SourceCapacity {
        source: source.to_owned(),
        model: loaded.summary.model.name.clone(),
        backend: loaded.summary.model.backend.clone(),
        readings_per_second: readings_per_second.round(),
        sensor_hz,
        sensors: served.min(sensors_max),
        is_limited_by_sensors_max: served > sensors_max,
        p99_us: loaded.summary.verdict_latency_us.p99,
        max_us: loaded.summary.verdict_latency_us.max,
        deadline_misses: loaded.summary.deadline_misses,
        shed: loaded.summary.shed,
    })
}

fn print(config: &Config, args: &CapacityArgs, sources: &[SourceCapacity]) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A source is served by one thread, and threads share the cores.
    let share = (cores as f64 / sources.len().max(1) as f64).min(1.0);
    let total = |of: fn(&SourceCapacity) -> f64| -> f64 {
        sources.iter().map(|source| of(source) * share).sum()
    };
    let readings_per_second = total(|source| source.readings_per_second).round();
    let sensors = total(|source| source.sensors as f64) as u64;
    let is_limited = sources
        .iter()
        .any(|source| source.is_limited_by_sensors_max);
    let limit = format!(" (device.sensors_max is {})", config.device.sensors_max);
    let limit = if is_limited { limit.as_str() } else { "" };
    if args.json {
        let object = serde_json::json!({
            "cores": cores,
            "deadline_us": config.device.deadline_ms * 1e3,
            "margin": args.margin,
            "readings_per_second": readings_per_second,
            "sensors": sensors,
            "sensors_max": config.device.sensors_max,
            "links_measured": false,
            "sources": sources,
        });
        return to_stdout(|out| writeln!(out, "{object}"));
    }
    to_stdout(|out| {
        for source in sources {
            writeln!(
                out,
                "source {}: {} with {}: {:.0} readings a second on its thread without a link;\n  \
             {} sensors at {} Hz with {:.0} % to spare: p99 {} µs, max {} µs, {} deadlines of {} ms \
             missed, {} shed",
                source.source,
                source.model,
                source.backend,
                source.readings_per_second,
                source.sensors,
                source.sensor_hz,
                args.margin * 100.0,
                source.p99_us,
                source.max_us,
                source.deadline_misses,
                config.device.deadline_ms,
                source.shed,
            )?;
        }
        writeln!(
            out,
            "this machine: {cores} cores, {readings_per_second:.0} readings a second, {sensors} sensors \
         with {:.0} % to spare{limit}; the links are not measured: each takes its part of that, and \
         carries what its line or broker can (`hark bench --paths pty,mqtt`)",
            args.margin * 100.0
        )
    })
}
