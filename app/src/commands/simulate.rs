//! `hark simulate`: the pump of the rig, as a recording, a serial line or an
//! MQTT client.

mod progress;

use crate::logging::tell;
use anyhow::Context;
use clap::{ArgGroup, Args, ValueEnum, value_parser};
use hark_config::duration::parse_duration;
use hark_config::{BrokerUrl, Config};
use hark_hal::Pty;
use hark_outlet::mqtt::{Broker, Delivery};
use hark_player::{
    Counts, Encoding, Node, Pace, Publication, Schedule, TextFormat, play_mqtt, play_pty, write_csv,
};
use hark_rig::{FaultEvent, PERIOD_MS_MAX, PERIOD_MS_MIN, Rig, RigConfig};
use hark_threads::shutdown::Shutdown;
use progress::Progress;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Value;

/// How long the line stays plugged in after the last reading. Its reader needs
/// less than a millisecond to take what the kernel holds, unless it is busy.
const UNPLUG_AFTER: Duration = Duration::from_millis(500);

/// Arguments of `hark simulate`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["csv", "pty", "mqtt"]))]
#[command(after_help = "\
Examples:
  hark simulate --csv pump.csv --for 10m --fault outer_race@5m
      ten minutes with a bearing that fails in the middle, in a second
  hark simulate --csv - --for 1h --seed 7 | head
  hark simulate --pty /tmp/pump
      a serial line; it prints the [[sources]] entry that listens to it
  hark simulate --mqtt 127.0.0.1:1883 --sensor pump-2 --fault cavitation@30s:0.5+20s

A fault is kind@start[:severity][+duration]. Kinds: imbalance, cavitation,
closing_valve, outer_race, stuck_sensor, dropout. Severity is 0 to 1.
Times take ms, s, m or h.
A login for the broker is taken from HARK_MQTT__USERNAME and
HARK_MQTT__PASSWORD_FILE or HARK_MQTT__PASSWORD, files for TLS
(mqtts://HOST:PORT) from HARK_MQTT__CA_FILE and so on, as everywhere.")]
pub struct SimulateArgs {
    /// Write a CSV recording with the columns `label` and `severity` to this
    /// file, or to standard output if it is `-`; needs --for
    #[arg(long, value_name = "FILE", requires = "duration")]
    csv: Option<PathBuf>,
    /// Be a sensor node on a new pseudo terminal, under this path
    #[arg(long, value_name = "LINK")]
    pty: Option<PathBuf>,
    /// Publish to this broker
    #[arg(long, value_name = "HOST:PORT|URL", value_parser = parse_broker)]
    mqtt: Option<BrokerUrl>,
    /// The topic to publish to [default: sensors/NAME]
    #[arg(long, conflicts_with_all = ["csv", "pty"], value_parser = parse_topic)]
    topic: Option<String>,
    /// Guarantee of each publish: 0 at most once, 1 at least once [default: 1]
    #[arg(long, conflicts_with_all = ["csv", "pty"])]
    #[arg(value_parser = value_parser!(u8).range(0..=1))]
    qos: Option<u8>,
    /// The sensor's name
    #[arg(long, value_name = "NAME", default_value = "pump-1")]
    sensor: String,
    /// How readings are written [default: wire for --pty, json for --mqtt]
    #[arg(long, conflicts_with = "csv")]
    format: Option<Format>,
    /// Everything random comes from it: the same seed gives the same readings
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Time from one reading to the next, 10 to 10000
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = value_parser!(u32).range(PERIOD_MS_MIN as i64..=PERIOD_MS_MAX as i64))]
    period_ms: u32,
    /// Stop after this much simulated time, such as 30s, 10m or 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// 1: real time; N: N times as fast; 0: as fast as possible
    /// [default: 0 for --csv, else 1]
    #[arg(long, value_name = "X")]
    speed: Option<Pace>,
    /// A fault, such as outer_race@12s:0.8; may be given several times
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<FaultEvent>,
    /// At the end, the counts as JSON on standard output (standard error after
    /// `--csv -`)
    #[arg(long)]
    json: bool,
}

/// How readings are written to a line or a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Frames of hark's own protocol
    Wire,
    /// Lines of CSV, with a header now and then
    Csv,
    /// One JSON object a reading
    Json,
}

/// Runs the command until its end or the shutdown.
///
/// # Errors
/// If the target cannot be opened or written. If the reader of a CSV recording
/// has gone, the error's cause is [`io::ErrorKind::BrokenPipe`].
pub fn run(args: &SimulateArgs, shutdown: Shutdown) -> anyhow::Result<()> {
    let counts = if let Some(path) = &args.csv {
        simulate_csv(args, path, &shutdown)?
    } else if let Some(link) = &args.pty {
        simulate_pty(args, link, &shutdown)?
    } else if let Some(address) = &args.mqtt {
        simulate_mqtt(args, address, shutdown)?
    } else {
        anyhow::bail!("say where the readings go: --csv, --pty or --mqtt");
    };
    report(args, &counts)
}

fn simulate_csv(args: &SimulateArgs, path: &Path, shutdown: &Shutdown) -> anyhow::Result<Counts> {
    let schedule = args.schedule(Pace::UNLIMITED)?;
    let mut out: Box<dyn Write> = if is_stdout(path) {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(path).with_context(|| format!("creating {}", path.display()))?)
    };
    let mut progress = Progress::new(args.duration);
    write_csv(
        &mut BufWriter::new(&mut out),
        schedule,
        shutdown,
        &mut |reading| progress.show(reading),
    )
    .with_context(|| match is_stdout(path) {
        true => "writing to standard output".to_owned(),
        false => format!("writing {}", path.display()),
    })
}

fn simulate_pty(args: &SimulateArgs, link: &Path, shutdown: &Shutdown) -> anyhow::Result<Counts> {
    let format = args.format.unwrap_or(Format::Wire);
    let (encoding, schedule) = (args.encoding(format)?, args.schedule(Pace::REAL_TIME)?);
    let pty = Pty::open_at(link)
        .with_context(|| format!("making a pseudo terminal at {}", link.display()))?;
    let port = std::path::absolute(link)?;
    tell(format_args!(
        "{} speaks on {}. To listen, put into hark's configuration:\n\n{}",
        args.sensor,
        port.display(),
        serial_source(&args.sensor, &port, format)
    ));
    let mut progress = Progress::new(args.duration);
    let counts = play_pty(&pty, &encoding, schedule, shutdown, &mut |reading| {
        progress.show(reading);
    })
    .with_context(|| format!("writing to {}", link.display()))?;
    if !shutdown.is_requested() && pty.has_reader()? {
        std::thread::sleep(UNPLUG_AFTER);
    }
    Ok(counts)
}

fn simulate_mqtt(
    args: &SimulateArgs,
    url: &BrokerUrl,
    shutdown: Shutdown,
) -> anyhow::Result<Counts> {
    let format = args.format.unwrap_or(Format::Json);
    let (encoding, schedule) = (args.encoding(format)?, args.schedule(Pace::REAL_TIME)?);
    let mut login = Config::load(None, std::env::vars_os())?.mqtt;
    login.point_at(url);
    let client_id = format!("hark-simulate-{}-{}", args.sensor, std::process::id());
    let publication = Publication {
        broker: Broker::new(&login, login.address(), client_id)?,
        topic: match &args.topic {
            Some(topic) => topic.clone(),
            None => parse_topic(&format!("sensors/{}", args.sensor)).map_err(anyhow::Error::msg)?,
        },
        delivery: match args.qos {
            Some(0) => Delivery::AtMostOnce,
            _ => Delivery::AtLeastOnce,
        },
    };
    tell(format_args!(
        "{} publishes to {} on {}",
        args.sensor,
        publication.topic,
        publication.broker.name()
    ));
    let mut progress = Progress::new(args.duration);
    play_mqtt(
        &publication,
        &encoding,
        schedule,
        &shutdown,
        &mut |reading| {
            progress.show(reading);
        },
    )
    .context("publishing")
}

impl SimulateArgs {
    fn schedule(&self, default: Pace) -> anyhow::Result<Schedule> {
        let rig = Rig::new(RigConfig {
            seed: self.seed,
            period_ms: self.period_ms,
            faults: self.faults.clone(),
        })?;
        let pace = self.speed.unwrap_or(default);
        Ok(Schedule::new(rig, pace, self.duration))
    }

    fn encoding(&self, format: Format) -> anyhow::Result<Encoding> {
        Ok(match format {
            // The clock in µs differs from the last start's, which is all
            // that a boot id has to do.
            Format::Wire => Encoding::Frames(Node::new(&self.sensor, hark_hal::wall_us() as u32)?),
            Format::Csv => Encoding::Lines(TextFormat::Csv),
            Format::Json => Encoding::Lines(TextFormat::Json),
        })
    }
}

/// The entry of a configuration that listens to the simulated line.
fn serial_source(sensor: &str, port: &Path, format: Format) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let format = match format {
        Format::Wire => "wire",
        Format::Csv => "csv",
        Format::Json => "json",
    };
    format!(
        "[[sources]]\nname = {}\nkind = \"serial\"\nport = {}\nformat = {}\n",
        text(sensor),
        text(&port.to_string_lossy()),
        text(format)
    )
}

fn report(args: &SimulateArgs, counts: &Counts) -> anyhow::Result<()> {
    if !args.json {
        tell(counts);
        return Ok(());
    }
    let json = serde_json::to_string(counts)?;
    if args.csv.as_deref().is_some_and(is_stdout) {
        tell(&json);
    } else {
        super::to_stdout(|out| writeln!(out, "{json}"))?;
    }
    Ok(())
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// `HOST:PORT` or a URL, as a person types it.
pub(super) fn parse_broker(text: &str) -> Result<BrokerUrl, String> {
    let url: BrokerUrl = text.parse()?;
    if url.port.is_none() && url.is_tls.is_none() {
        return Err("expected HOST:PORT, such as 127.0.0.1:1883, or a URL".to_owned());
    }
    Ok(url)
}

/// MQTT 5.0, section 4.7: a topic of a message holds no wildcard.
fn parse_topic(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        return Err(format!(
            "{text:?} is no topic: it must not be empty or hold + or #"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
