//! `hark run`: listen until stopped.

use super::simulate::parse_broker;
use crate::appliance::{Appliance, Presentation};
use crate::config::Config;
use crate::duration::parse_duration;
use crate::report::Stdout;
use crate::shutdown::Shutdown;
use anyhow::ensure;
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the main thread looks for the end.
const POLL: Duration = Duration::from_millis(50);

/// Arguments of `hark run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration; without it the built-in defaults, which listen to
    /// `sensors/+` on the broker at 127.0.0.1:1883
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The broker, in place of the configured one
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_broker)]
    broker: Option<(String, u16)>,
    /// Publish every verdict, not only alerts
    #[arg(long)]
    verdicts: bool,
    /// Stop after this long, such as 90s or 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Alerts and the summary as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the configuration is wrong, or something it names cannot be opened.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let mut config = Config::load(args.config.as_deref(), std::env::vars())?;
    if let Some((host, port)) = &args.broker {
        config.mqtt.host.clone_from(host);
        config.mqtt.port = *port;
    }
    config.mqtt.verdicts |= args.verdicts;
    ensure!(
        !config.sources.is_empty() || config.broker.embedded,
        "there are no [[sources]]: nothing to listen to"
    );
    let shutdown = super::shutdown_on_signals()?;
    let presentation = Presentation {
        stdout: match (config.output.alerts_stdout, args.json) {
            (false, _) => Stdout::Silent,
            (true, false) => Stdout::Text,
            (true, true) => Stdout::Json,
        },
        ..Presentation::default()
    };
    let mut appliance = Appliance::start(&config, presentation)?;
    wait(&mut appliance, &shutdown, args.duration);
    super::print_summary(&appliance.stop(), args.json)
}

/// Waits for the shutdown, the end of the time, or the end of every source.
pub(super) fn wait(appliance: &mut Appliance, shutdown: &Shutdown, duration: Option<Duration>) {
    let started = Instant::now();
    let is_over = || duration.is_some_and(|duration| started.elapsed() >= duration);
    while !shutdown.is_requested() && !is_over() && !appliance.has_ended() {
        std::thread::sleep(POLL);
    }
}
