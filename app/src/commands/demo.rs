//! `hark demo`: the whole appliance on a simulated pump, nothing else needed.
//!
//! Two rigs are played, one through a pseudo terminal as a sensor node on a
//! serial line, one through the embedded broker as an MQTT sensor. hark listens
//! to both as it would on a plant, and each rig gets a fault.

mod injector;

use crate::appliance::{Appliance, Presentation};
use crate::logging::tell;
use anyhow::Context;
use clap::Args;
use hark_config::duration::parse_duration;
use hark_config::{BrokerAddress, Config, Protocol};
use hark_engine::{AlertState, Rung, VerdictSpec};
use hark_hal::Pty;
use hark_outlet::mqtt::{Broker, Delivery};
use hark_outlet::outputs::Stdout;
use hark_player::{Encoding, Node, Pace, Publication, Schedule, TextFormat, play_mqtt, play_pty};
use hark_rig::{Fault, FaultEvent, Rig, RigConfig, RigReading};
use hark_serve::bundle::Rungs;
use hark_serve::fault::ModelFault;
use hark_serve::report::{Event, Reporter, SensorVerdict};
use hark_threads::shutdown::{self, Shutdown, ShutdownSender};
use injector::Injector;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The sensor at the end of the serial line.
const SERIAL_SENSOR: &str = "pump-a";
/// The sensor behind the broker.
const MQTT_SENSOR: &str = "pump-b";
/// The healthy time before the first fault, if the demo is long enough.
const HEALTHY: Duration = Duration::from_secs(12);
/// From the first sensor's fault to the second's, likewise.
const STAGGER: Duration = Duration::from_secs(6);
/// A demo of at least this length has its faults at those times, and each its alert.
const DATED: Duration = Duration::from_secs(24);
/// How long a fault lasts in a demo without an end, and from one to the next.
const FAULT: Duration = Duration::from_secs(20);
const CYCLE: Duration = Duration::from_secs(60);
/// Faults in a demo without an end: two hours' worth.
const CYCLES: u32 = 120;
/// Time for a fault to grow: a demo is shorter than wear.
const RAMP: Duration = Duration::from_secs(2);
/// Left for the last readings to arrive before the sources stop.
const LINGER: Duration = Duration::from_millis(200);

/// Arguments of `hark demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Stop after this long, such as 30s; without it, at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Everything random comes from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave the pumps healthy
    #[arg(long)]
    healthy: bool,
    /// Leave the pumps healthy and let the model fail for a while instead
    #[arg(long, value_name = "FAULT", value_enum)]
    inject: Option<ModelFault>,
    /// Where the event log goes; an earlier demo's log there is replaced
    #[arg(long, value_name = "DIR", default_value = "hark-data/demo")]
    data_dir: PathBuf,
    /// Alerts and the summary as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the pseudo terminal, the broker or the event log cannot be opened.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let shutdown = super::shutdown_on_signals()?;
    let folder = tempdir()?;
    // Held to the end: a line that vanished before hark stops would be news.
    let pty = Pty::open_at(folder.0.join("serial")).context("opening a pseudo terminal")?;
    let pty = Arc::new(pty);
    let listen = free_address()?;
    let mut config = config(args, pty.path(), listen)?;
    let injector = Injector::new(args, &mut config, &folder.0)?;
    let log = args.data_dir.join("events.jsonl");
    let board = Scoreboard::default();
    let appliance = Appliance::start(&config, presentation(args, &board, &injector))?;
    introduce(args, pty.path(), listen, &Rungs::open(&config.models[0])?);
    let players = Players::start(args, Arc::clone(&pty), listen, appliance.reporter())?;
    let mut injector = injector.map(|injector| injector.started(appliance.reporter()));
    watch(&board, &shutdown, args.duration, |elapsed| {
        injector
            .iter_mut()
            .for_each(|injector| injector.handle_time(elapsed));
    });
    players.stop();
    let summary = appliance.stop();
    super::conclude(&summary, super::print_summary_in_time(&summary, args.json))?;
    tell(format_args!("event log: {}", log.display()));
    Ok(())
}

fn presentation(args: &DemoArgs, board: &Scoreboard, injector: &Option<Injector>) -> Presentation {
    let board = board.clone();
    Presentation {
        stdout: if args.json {
            Stdout::Json
        } else {
            Stdout::Text
        },
        on_verdict: Some(Box::new(move |report| board.note(report))),
        waits_for_reader: false,
        replaces_logs: true,
        fault: injector.as_ref().map(|injector| injector.injection.clone()),
        ..Presentation::default()
    }
}

fn config(args: &DemoArgs, serial: &Path, listen: SocketAddr) -> anyhow::Result<Config> {
    let text = |path: &Path| toml::Value::String(path.display().to_string());
    let (data_dir, port) = (text(&args.data_dir), text(serial));
    let config = Config::of_text(&format!(
        r#"
        device = {{ name = "demo", data_dir = {data_dir} }}
        mqtt = {{ host = "{host}", port = {mqtt_port} }}
        broker = {{ embedded = true, listen = "{listen}" }}
        events = {{ standing_file = "" }}
        [[sources]]
        name = "serial"
        kind = "serial"
        port = {port}
        clock = "node"
        [[sources]]
        name = "mqtt"
        kind = "mqtt"
        topics = ["sensors/{{sensor}}"]
        "#,
        host = listen.ip(),
        mqtt_port = listen.port(),
    ))?;
    Ok(config)
}

fn introduce(args: &DemoArgs, serial: &Path, listen: SocketAddr, rungs: &Rungs) {
    tell(format_args!(
        "listening to {SERIAL_SENSOR} on {} and to {MQTT_SENSOR} on sensors/{MQTT_SENSOR}\n\
         subscribe:  mosquitto_sub -h {} -p {} -v -t 'hark/v1/demo/#'",
        serial.display(),
        listen.ip(),
        listen.port()
    ));
    if has_faults(args) {
        let [first, second] = [0, 1].map(|index| first_fault(args.duration, index));
        tell(format_args!(
            "{SERIAL_SENSOR} has a fault after {first:?}, {MQTT_SENSOR} after {second:?}"
        ));
    }
    let VerdictSpec { k, n, .. } = &rungs.pipeline().verdict;
    tell(format_args!(
        "score as a share of the alert threshold, a line a second; {k} of {n} windows above it raise \
         an alert:"
    ));
}

/// Whether the pumps fail, and not the model or nothing.
fn has_faults(args: &DemoArgs) -> bool {
    !args.healthy && args.inject.is_none()
}

/// The usual port if it is free, so that the usual tools find it.
fn free_address() -> anyhow::Result<SocketAddr> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 1883))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = bound.context("finding a free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// A folder of this process, removed at its end.
struct TempDir(PathBuf);

fn tempdir() -> anyhow::Result<TempDir> {
    let path = std::env::temp_dir().join(format!("hark-demo-{}", std::process::id()));
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(TempDir(path))
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The threads that play the rigs.
struct Players {
    stop: ShutdownSender,
    threads: Vec<JoinHandle<()>>,
}

impl Players {
    fn start(
        args: &DemoArgs,
        pty: Arc<Pty>,
        listen: SocketAddr,
        reporter: &Reporter,
    ) -> anyhow::Result<Self> {
        let (stop, shutdown) = shutdown::channel();
        let serial = schedule(args, 0, Fault::OuterRace)?;
        let mqtt = schedule(args, 1, Fault::Cavitation)?;
        let publication = publication(listen)?;
        let node = Node::new(SERIAL_SENSOR, std::process::id())?;
        let (announce_a, announce_b) = (
            Announcer::new(SERIAL_SENSOR, reporter),
            Announcer::new(MQTT_SENSOR, reporter),
        );
        let stops = shutdown.clone();
        let threads = vec![
            spawn("player-serial", move || {
                let encoding = Encoding::Frames(node);
                play_pty(
                    &pty,
                    &encoding,
                    serial,
                    &stops,
                    &mut announce_a.on_reading(),
                )?;
                Ok(())
            })?,
            spawn("player-mqtt", move || {
                let encoding = Encoding::Lines(TextFormat::Json);
                let mut on_reading = announce_b.on_reading();
                play_mqtt(&publication, &encoding, mqtt, &shutdown, &mut on_reading)?;
                Ok(())
            })?,
        ];
        Ok(Self { stop, threads })
    }

    fn stop(self) {
        std::thread::sleep(LINGER);
        self.stop.request();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a player panicked");
            }
        }
    }
}

fn spawn(
    name: &str,
    play: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.into());
    let play = move || {
        if let Err(error) = play() {
            tracing::error!("playing the rig: {error:#}");
        }
    };
    thread.spawn(play).context("starting a player's thread")
}

fn publication(listen: SocketAddr) -> anyhow::Result<Publication> {
    let address = BrokerAddress {
        host: listen.ip().to_string(),
        port: listen.port(),
        protocol: Protocol::V311,
        tls: None,
    };
    let login = Config::of_text("")?.mqtt;
    Ok(Publication {
        broker: Broker::new(&login, address, "hark-demo-rig".to_owned())?,
        topic: format!("sensors/{MQTT_SENSOR}"),
        delivery: Delivery::AtLeastOnce,
    })
}

/// The rig of one sensor; the second's fault comes after the first's.
fn schedule(args: &DemoArgs, index: u32, fault: Fault) -> anyhow::Result<Schedule> {
    let faults = if has_faults(args) {
        faults(args.duration, index, fault)
    } else {
        Vec::new()
    };
    let rig = Rig::new(RigConfig {
        seed: args.seed + u64::from(index),
        faults,
        ..RigConfig::default()
    })?;
    Ok(Schedule::new(rig, Pace::REAL_TIME, None))
}

fn faults(duration: Option<Duration>, index: u32, fault: Fault) -> Vec<FaultEvent> {
    let event = |start: Duration| FaultEvent {
        ramp_ms: RAMP.as_millis() as u64,
        ..FaultEvent::new(fault, start.as_millis() as u64)
    };
    let first = first_fault(duration, index);
    if duration.is_some() {
        return vec![event(first)];
    }
    let cycle = |n| FaultEvent {
        duration_ms: Some(FAULT.as_millis() as u64),
        ..event(first + CYCLE * n)
    };
    (0..CYCLES).map(cycle).collect()
}

/// When a sensor's fault begins: always at the same time, unless the demo is too
/// short for that and for the alert.
fn first_fault(duration: Option<Duration>, index: u32) -> Duration {
    let usual = HEALTHY + STAGGER * index;
    match duration {
        Some(duration) if duration < DATED => {
            let (start, stagger) = (duration.mul_f64(0.4), duration.mul_f64(0.2));
            start + stagger * index
        }
        _ => usual,
    }
}

/// Says when a rig's fault comes, in the event log and to the person.
struct Announcer {
    sensor: &'static str,
    reporter: Reporter,
}

impl Announcer {
    fn new(sensor: &'static str, reporter: &Reporter) -> Self {
        Self {
            sensor,
            reporter: reporter.clone(),
        }
    }

    fn on_reading(self) -> impl FnMut(&RigReading) {
        let mut last = None;
        move |reading| {
            if let Some(fault) = reading.label.filter(|_| reading.label != last) {
                tell(format_args!(
                    "        a fault begins in {}: {fault}",
                    self.sensor
                ));
                self.reporter.report(Event::FaultInjected {
                    sensor: self.sensor.to_owned(),
                    fault: fault.to_string(),
                });
            }
            last = reading.label;
        }
    }
}

/// The last verdict on each sensor.
#[derive(Clone, Default)]
struct Scoreboard(Arc<Mutex<BTreeMap<Arc<str>, SensorVerdict>>>);

impl Scoreboard {
    fn note(&self, report: &SensorVerdict) {
        self.lock()
            .insert(Arc::clone(&report.sensor), report.clone());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, SensorVerdict>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line: each sensor's score as a share of its threshold.
    fn line(&self) -> String {
        let cell = |report: &SensorVerdict| {
            let verdict = &report.verdict;
            let ratio = verdict.score / verdict.threshold;
            let state = match verdict.state {
                AlertState::Raised => "ALERT",
                // One window is not enough: the alert takes k of n.
                AlertState::Cleared if ratio > 1.0 => "above",
                AlertState::Cleared => "ok",
            };
            format!(
                "{} {:>6.2} {} {state:<5}{}",
                report.sensor,
                ratio,
                bar(ratio),
                by(verdict.rung)
            )
        };
        let cells: Vec<String> = self.lock().values().map(cell).collect();
        if cells.is_empty() {
            return "the first windows are filling".to_owned();
        }
        cells.join("   ")
    }
}

/// Who answers, if it is not the model.
fn by(rung: Rung) -> &'static str {
    match rung {
        Rung::Delegate | Rung::Model => "",
        Rung::Previous => " by the previous model",
        Rung::Rule => " by the rule",
        Rung::Last => " by the last verdict",
    }
}

/// Ten cells, full at twice the threshold.
fn bar(ratio: f32) -> String {
    let full = (ratio * 5.0).clamp(0.0, 10.0).round() as usize;
    format!("[{}{}]", "#".repeat(full), " ".repeat(10 - full))
}

/// Shows a line a second until the end, and tells `on_time` how late it is.
fn watch(
    board: &Scoreboard,
    shutdown: &Shutdown,
    duration: Option<Duration>,
    mut on_time: impl FnMut(Duration),
) {
    let started = Instant::now();
    let mut shown = 0;
    while !shutdown.is_requested() && duration.is_none_or(|d| started.elapsed() < d) {
        std::thread::sleep(Duration::from_millis(20));
        on_time(started.elapsed());
        let seconds = started.elapsed().as_secs();
        if seconds > shown {
            shown = seconds;
            tell(format_args!("{seconds:>5} s  {}", board.line()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts_ms(duration_s: Option<u64>, index: u32) -> Vec<u64> {
        let duration = duration_s.map(Duration::from_secs);
        let events = faults(duration, index, Fault::OuterRace);
        events.iter().map(|event| event.start_ms).collect()
    }

    #[test]
    fn a_short_demo_still_has_a_healthy_part_and_both_faults() {
        assert_eq!(starts_ms(Some(30), 0), [12_000]);
        assert_eq!(starts_ms(Some(30), 1), [18_000]);
        assert_eq!(starts_ms(Some(24), 0), [12_000], "as README dates it");
        assert_eq!(starts_ms(Some(24), 1), [18_000]);
        assert_eq!(starts_ms(Some(3_600), 1), [18_000]);
        assert_eq!(starts_ms(Some(10), 0), [4_000]);
        assert_eq!(starts_ms(Some(10), 1), [6_000]);
    }

    #[test]
    fn a_demo_without_an_end_goes_on_having_faults() {
        let starts = starts_ms(None, 0);
        assert_eq!(starts.len(), CYCLES as usize);
        assert_eq!(starts[..2], [12_000, 72_000]);
    }

    #[test]
    fn a_fallback_is_seen() {
        assert_eq!(by(Rung::Model), "");
        assert_eq!(by(Rung::Rule), " by the rule");
    }

    #[test]
    fn a_bar_is_full_at_twice_the_threshold() {
        assert_eq!(bar(0.0), "[          ]");
        assert_eq!(bar(1.0), "[#####     ]");
        assert_eq!(bar(99.0), "[##########]");
    }
}
