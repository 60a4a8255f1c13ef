//! `hark run`: listen until stopped, in the board's place: its outputs and its
//! watchdog are driven, and the service manager is told.
//!
//! SIGHUP reloads, unless hark was started in a terminal: the new configuration
//! is read, and if it is sound the sources are stopped and started anew with it,
//! their windows and rules with them where they still mean the same. One that is not
//! leaves everything as it is.

mod injector;

use super::check::check_named;
use super::simulate::parse_broker;
use crate::appliance::{Appliance, Before, Presentation};
use anyhow::{Context, ensure};
use clap::Args;
use hark_config::duration::parse_duration;
use hark_config::{BrokerUrl, Config};
use hark_hal::ServiceManager;
use hark_outlet::outputs::Stdout;
use hark_serve::fault::Fault;
use hark_serve::report::{Event, Reporter};
use hark_threads::shutdown::Shutdown;
use injector::Injector;
use signal_hook::consts::SIGHUP;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How often the main thread looks for the end.
const POLL: Duration = Duration::from_millis(50);
/// How long a reload waits for what the new configuration names: longer than a
/// start waits for a model, for nothing is missed meanwhile.
const CHECK_MAX: Duration = Duration::from_secs(60);
/// How long an embedded broker is waited for that is to be another.
const BROKER_STOP: Duration = Duration::from_secs(1);

/// Arguments of `hark run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration; without it the built-in defaults, which listen to
    /// `sensors/+` on the broker at 127.0.0.1:1883
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The broker, in place of the configured one
    #[arg(long, value_name = "HOST:PORT|URL", value_parser = parse_broker)]
    broker: Option<BrokerUrl>,
    /// Publish every verdict, not only alerts
    #[arg(long)]
    verdicts: bool,
    /// Stop after this long, such as 90s or 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Alerts and the summary as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// For tests: the model hangs, is slow, panics, answers NaN or is missing, or
    /// the serving thread stalls
    #[arg(long, value_name = "KIND", hide = true)]
    inject: Option<Fault>,
    /// When the fault begins; a missing model is missing from the start
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s", hide = true)]
    inject_after: Duration,
    /// How long the fault lasts; a stall is for good
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5s", hide = true)]
    inject_for: Duration,
}

/// Runs the command.
///
/// # Errors
/// If the configuration is wrong, something it names cannot be opened, or a
/// thread panicked.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let shutdown = super::shutdown_on_signals()?;
    let hung_up = catch_hangup();
    let service = ServiceManager::from_environment();
    let mut config = load(args)?;
    let mut injector = Injector::new(args, &config);
    let mut appliance = start(args, &config, injector.as_ref(), None, &shutdown)?;
    tell(service.ready());
    let started = Instant::now();
    let is_over = || {
        let is_late = |duration| started.elapsed() >= duration;
        shutdown.is_requested() || args.duration.is_some_and(is_late)
    };
    while !is_over() && !appliance.has_ended() {
        if let Some(injector) = &mut injector {
            injector.handle_time(started.elapsed(), appliance.reporter());
        }
        if hung_up.swap(false, Ordering::Relaxed) {
            tell(service.reloading());
            if let Some(new) = load_anew(args, appliance.reporter(), &shutdown) {
                let (summary, before) = appliance.stop_for_next();
                // Nobody who reads it is no reason to end.
                if let Err(error) = super::print_summary_in_time(&summary, args.json) {
                    tracing::warn!("printing the summary: {error:#}");
                }
                // It may hold its line for good; a fresh process does not.
                ensure!(
                    summary.sources_stuck == 0,
                    "not reloaded: {} sources do not end; hark has to be started again",
                    summary.sources_stuck
                );
                injector = None;
                (appliance, config) = restart(args, new, config, before, &shutdown)?;
            }
            tell(service.ready());
        }
        shutdown.wait(POLL);
    }
    tell(service.stopping());
    let summary = appliance.stop();
    super::conclude(&summary, super::print_summary_in_time(&summary, args.json))
}

/// Whether SIGHUP has come since it was last looked at. Called first of all: one
/// that comes earlier ends hark, as it ends every program.
pub fn catch_hangup() -> &'static AtomicBool {
    static HUNG_UP: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    HUNG_UP.get_or_init(|| {
        let hung_up = Arc::default();
        // From a terminal it says that the terminal is gone.
        if !std::io::stdin().is_terminal()
            && let Err(error) = signal_hook::flag::register(SIGHUP, Arc::clone(&hung_up))
        {
            tracing::warn!("SIGHUP is not caught, and ends hark: {error}");
        }
        hung_up
    })
}

fn load(args: &RunArgs) -> anyhow::Result<Config> {
    let mut config = Config::load(args.config.as_deref(), std::env::vars_os())?;
    if let Some(url) = &args.broker {
        config.mqtt.point_at(url);
    }
    config.mqtt.verdicts |= args.verdicts;
    ensure!(
        !config.sources.is_empty() || config.broker.embedded,
        "there are no [[sources]]: nothing to listen to"
    );
    Ok(config)
}

fn start(
    args: &RunArgs,
    config: &Config,
    injector: Option<&Injector>,
    before: Option<Before>,
    shutdown: &Shutdown,
) -> anyhow::Result<Appliance> {
    let presentation = Presentation {
        stdout: match (config.output.alerts_stdout, args.json) {
            (false, _) => Stdout::Silent,
            (true, false) => Stdout::Text,
            (true, true) => Stdout::Json,
        },
        fault: injector.and_then(Injector::injection),
        stall: injector.and_then(Injector::stall),
        drives_board: true,
        before,
        stop: Some(shutdown.clone()),
        ..Presentation::default()
    };
    Appliance::start(config, presentation)
}

/// The configuration as it is now; none if it cannot take the old one's place.
fn load_anew(args: &RunArgs, reporter: &Reporter, shutdown: &Shutdown) -> Option<Config> {
    let refuse = |reason: String| {
        // One for each line of the file that is wrong.
        for problem in reason.lines() {
            tracing::error!("not reloaded: {problem}");
        }
        reporter.report(Event::NotReloaded { reason });
    };
    match load(args) {
        Ok(new) => {
            let problems = check_in_time(&new, shutdown)?;
            let is_sound = problems.is_empty();
            problems.into_iter().for_each(refuse);
            is_sound.then_some(new)
        }
        Err(error) => {
            refuse(format!("{error:#}"));
            None
        }
    }
}

/// What is wrong with what `config` names; none if a stop comes first. On a thread
/// of its own, which is left behind then: a model may load for minutes, or hang.
fn check_in_time(config: &Config, shutdown: &Shutdown) -> Option<Vec<String>> {
    let (done, checked) = sync_channel(1);
    let config = config.clone();
    let check = move || done.try_send(check_named(&config));
    let thread = std::thread::Builder::new().name("check".into());
    if let Err(error) = thread.spawn(check) {
        return Some(vec![format!("no thread to check it on: {error}")]);
    }
    let until = Instant::now() + CHECK_MAX;
    loop {
        match checked.try_recv() {
            Ok(problems) => return Some(problems),
            Err(TryRecvError::Disconnected) => {
                return Some(vec!["checking what it names panicked".to_owned()]);
            }
            Err(TryRecvError::Empty) if Instant::now() >= until => {
                return Some(vec![format!(
                    "what it names is not loaded within {CHECK_MAX:?}"
                )]);
            }
            Err(TryRecvError::Empty) => {}
        }
        if shutdown.wait(POLL) {
            return None;
        }
    }
}

/// Starts with `new`; with `old` again if that cannot be.
fn restart(
    args: &RunArgs,
    new: Config,
    old: Config,
    mut before: Before,
    shutdown: &Shutdown,
) -> anyhow::Result<(Appliance, Config)> {
    // One that is to be another ends here, before the other needs its address.
    before.broker = before.broker.filter(|broker| {
        let serves_on = broker.is_as(&new.broker);
        if !serves_on {
            broker.stop(Instant::now() + BROKER_STOP);
        }
        serves_on
    });
    match start(args, &new, None, Some(before.clone()), shutdown) {
        Ok(appliance) => {
            tracing::info!("serving by the new configuration");
            Ok((appliance, new))
        }
        Err(error) => {
            tracing::error!("not reloaded: {error:#}");
            let appliance =
                start(args, &old, None, Some(before), shutdown).context("starting as before")?;
            Ok((appliance, old))
        }
    }
}

/// A manager that cannot be told is no reason to stop.
fn tell(told: std::io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!("telling the service manager: {error}");
    }
}

/// Waits for the shutdown, the end of the time, or the end of every source.
pub(super) fn wait(appliance: &mut Appliance, shutdown: &Shutdown, duration: Option<Duration>) {
    let started = Instant::now();
    let is_over = || duration.is_some_and(|duration| started.elapsed() >= duration);
    while !shutdown.is_requested() && !is_over() && !appliance.has_ended() {
        shutdown.wait(POLL);
    }
}
