//! The paths: how each is set up, loaded and measured.

use super::column::Round;
use super::{Load, Path, payloads};
use crate::appliance::{Appliance, Presentation};
use crate::logging::tell;
use crate::summary::Summary;
use anyhow::{Context, anyhow, ensure};
use hark_config::{Config, ConfigErrors};
use hark_hal::Pty;
use hark_links::{MemoryFeed, SEQUENCE_FIRST, wait_until};
use hark_mqtt::{Address, Client, ClientEvent, ClientSettings, Endpoint, Protocol, Settings};
use hark_serve::Feed;
use hark_serve::bundle::Rungs;
use hark_serve::hot_path::histogram;
use hark_serve::report::SensorVerdict;
use hark_threads::allocations;
use hdrhistogram::Histogram;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the last verdicts may take to come.
const LINGER: Duration = Duration::from_millis(500);
/// Readings of the bare model between two looks at the clock when saturated.
const COUNT_MAX: u64 = u64::MAX / 2;
/// The socket of the load's own MQTT client, bytes.
const BUFFER_BYTES: usize = 256 * 1024;

type Measured = (Round, Option<Summary>);

/// Measures one path once.
pub(super) fn measure(
    path: Path,
    load: &Load,
    broker: Option<&(String, u16)>,
) -> anyhow::Result<Measured> {
    match path {
        Path::Bare => Ok((measure_bare(load)?, None)),
        Path::Process => measure_process(load),
        Path::Pty => measure_pty(load),
        Path::Mqtt => measure_mqtt(load, broker),
    }
}

/// Readings that are due within the duration.
fn count(load: &Load) -> u64 {
    load.period.map_or(COUNT_MAX, |period| {
        (load.duration.as_secs_f64() / period.as_secs_f64()) as u64
    })
}

/// The model alone, a row at a time.
fn measure_bare(load: &Load) -> anyhow::Result<Round> {
    let rungs = Rungs::open(&load.model)?;
    let rows = rungs.golden_features();
    let mut infer = rungs.load_bare()?;
    let mut outputs = vec![0.0; infer.outputs()];
    for row in rows.iter().cycle().take(100) {
        infer.infer(row, &mut outputs)?;
    }
    let (mut latency_ns, mut busy) = (histogram(), Duration::ZERO);
    let before = allocations::of_thread();
    let started = Instant::now();
    let mut arrived = 0;
    while arrived < count(load) && started.elapsed() < load.duration {
        let due = load
            .period
            .map(|period| started + period.mul_f64(arrived as f64));
        due.into_iter().for_each(wait_until);
        let begun = Instant::now();
        infer.infer(&rows[arrived as usize % rows.len()], &mut outputs)?;
        let ended = Instant::now();
        busy += ended - begun;
        latency_ns.saturating_record((ended - due.unwrap_or(begun)).as_nanos() as u64);
        arrived += 1;
    }
    let per_reading = |x: f64| x / arrived.max(1) as f64;
    Ok(Round {
        arrived,
        shed: 0,
        misses: 0,
        allocations: Some(per_reading((allocations::of_thread() - before) as f64)),
        cpu_us: per_reading(busy.as_secs_f64() * 1e6),
        took: started.elapsed(),
        latency_ns,
    })
}

/// The configuration of a benchmark, with one source.
pub(in crate::commands) fn config(load: &Load, source: &str) -> Result<Config, ConfigErrors> {
    // One place stays free: when all are taken it is told.
    let (deadline_ms, sensors_max) = (load.deadline_ms, load.sensors + 1);
    let mut config = Config::of_text(&format!(
        "device = {{ name = \"bench\", deadline_ms = {deadline_ms:?}, sensors_max = {sensors_max} }}\n\
         mqtt.enabled = false\nevents = {{ file = \"\", alerts_file = \"\", standing_file = \"\" }}\n[[sources]]\nname = \"bench\"\n{source}"
    ))?;
    let name = load.model.name.clone();
    config.models = vec![load.model.clone()];
    config
        .sources
        .iter_mut()
        .for_each(|source| source.model.clone_from(&name));
    Ok(config)
}

/// Payloads in memory, through decoder, engine, model and verdict.
fn measure_process(load: &Load) -> anyhow::Result<Measured> {
    let rungs = Rungs::open(&load.model)?;
    let config = config(load, "kind = \"file\"\npath = \"-\"\nformat = \"json\"\n")?;
    let mut make_feed = |_: usize, hot_path: &mut _, _: Option<&_>| {
        let feed = MemoryFeed::new(
            &config,
            hot_path,
            payloads(&rungs),
            load.sensors,
            load.period,
            count(load),
        )?;
        Ok(Box::new(feed) as Box<dyn Feed>)
    };
    let mut appliance = Appliance::start_with(&config, Presentation::default(), &mut make_feed)?;
    let started = Instant::now();
    // Served to the end if there is a rate, else for the time.
    while !appliance.has_ended() && (load.period.is_some() || started.elapsed() < load.duration) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = started.elapsed();
    let (summary, latency_ns) = appliance.stop_with_latency();
    let served = &summary.sources["bench"];
    let round = Round {
        arrived: summary.readings,
        shed: summary.shed,
        misses: summary.deadline_misses,
        allocations: served.allocations_per_reading,
        cpu_us: 1e6 / served.load.capacity_per_s,
        latency_ns,
        took,
    };
    Ok((round, Some(summary)))
}

/// Latencies of verdicts whose readings had a schedule.
struct Stopwatch {
    latency_ns: Histogram<u64>,
    started: Instant,
    period: Option<Duration>,
    sensors: u64,
    /// When each reading was written, if there is no schedule.
    written: Vec<Instant>,
}

impl Stopwatch {
    fn new(load: &Load) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            latency_ns: histogram(),
            started: Instant::now(),
            period: load.period,
            sensors: load.sensors as u64,
            written: Vec::new(),
        }))
    }

    fn note(&mut self, report: &SensorVerdict) {
        let now = Instant::now();
        let index: Option<u64> = report.sensor.strip_prefix('s').and_then(|s| s.parse().ok());
        let round = report
            .verdict
            .sequence
            .and_then(|s| s.checked_sub(SEQUENCE_FIRST));
        let (Some(index), Some(round)) = (index, round) else {
            return;
        };
        let n = round * self.sensors + index;
        let due = match self.period {
            Some(period) => Some(self.started + period.mul_f64(n as f64)),
            None => self.written.get(n as usize).copied(),
        };
        if let Some(due) = due {
            let latency = now.saturating_duration_since(due);
            self.latency_ns.saturating_record(latency.as_nanos() as u64);
        }
    }
}

fn locked(watch: &Mutex<Stopwatch>) -> std::sync::MutexGuard<'_, Stopwatch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes every payload when it is due; returns how many.
fn play(
    load: &Load,
    rungs: &Rungs,
    watch: &Mutex<Stopwatch>,
    mut write: impl FnMut(usize, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let payloads = payloads(rungs);
    let started = Instant::now();
    locked(watch).started = started;
    let mut n = 0;
    let mut text = Vec::new();
    while n < count(load) && started.elapsed() < load.duration {
        match load.period {
            Some(period) => wait_until(started + period.mul_f64(n as f64)),
            None => locked(watch).written.push(Instant::now()),
        }
        let (sensor, round) = (n as usize % load.sensors, n / load.sensors as u64);
        text.clear();
        text.extend_from_slice(&payloads[(round % payloads.len() as u64) as usize]);
        hark_links::write_sequence(&mut text, SEQUENCE_FIRST + round);
        write(sensor, &text)?;
        n += 1;
    }
    Ok(n)
}

/// Starts hark on `source`, plays the load and waits for the last verdicts.
fn measure_link(
    load: &Load,
    config: &Config,
    ready: impl FnOnce() -> anyhow::Result<()>,
    write: impl FnMut(usize, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Measured> {
    let rungs = Rungs::open(&load.model)?;
    let watch = Stopwatch::new(load);
    let noted = Arc::clone(&watch);
    let presentation = Presentation {
        on_verdict: Some(Box::new(move |report| locked(&noted).note(report))),
        ..Presentation::default()
    };
    let appliance = Appliance::start(config, presentation)?;
    ready()?;
    let started = Instant::now();
    let sent = play(load, &rungs, &watch, write)?;
    let took = started.elapsed();
    std::thread::sleep(LINGER);
    let summary = appliance.stop();
    ensure!(summary.readings > 0, "none of {sent} readings arrived");
    let served = &summary.sources["bench"];
    let round = Round {
        arrived: summary.readings,
        shed: summary.shed,
        misses: summary.deadline_misses,
        allocations: served.allocations_per_reading,
        cpu_us: served.cpu_us_per_reading,
        latency_ns: std::mem::replace(&mut locked(&watch).latency_ns, histogram()),
        took,
    };
    if summary.readings < sent {
        tell(format_args!(
            "{} of {sent} readings did not arrive",
            sent - summary.readings
        ));
    }
    Ok((round, Some(summary)))
}

/// Lines of JSON over a pseudo terminal.
fn measure_pty(load: &Load) -> anyhow::Result<Measured> {
    let pty = Pty::open().context("opening a pseudo terminal")?;
    let port = pty.path().display();
    let source = format!(
        "kind = \"serial\"\nport = \"{port}\"\nformat = \"json\"\nmapping.sensor = \"sensor\"\n"
    );
    let config = config(load, &source)?;
    let mut line = Vec::new();
    let ready = || {
        let is_read = pty.wait_for_reader(Duration::from_secs(5))?;
        ensure!(is_read, "hark does not open the pseudo terminal");
        Ok(())
    };
    measure_link(load, &config, ready, |sensor, payload| {
        line.clear();
        line.extend_from_slice(&payload[..payload.len() - 1]);
        line.extend_from_slice(format!(",\"sensor\":\"s{sensor}\"}}\n").as_bytes());
        let written = pty.write(&line, Duration::from_secs(1))?;
        ensure!(written == line.len(), "the pseudo terminal takes no bytes");
        Ok(())
    })
}

/// Messages through a broker.
fn measure_mqtt(load: &Load, broker: Option<&(String, u16)>) -> anyhow::Result<Measured> {
    let (host, port) = match broker {
        Some((host, port)) => (host.clone(), *port),
        None => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            (
                Ipv4Addr::LOCALHOST.to_string(),
                listener.local_addr()?.port(),
            )
        }
    };
    let source = format!(
        "kind = \"mqtt\"\ntopics = [\"bench/{{sensor}}\"]\nqos = 0\nhost = \"{host}\"\nport = {port}\nprotocol = \"3.1.1\"\n"
    );
    let mut config = config(load, &source)?;
    let address = format!("{host}:{port}");
    if broker.is_none() {
        config.broker.embedded = true;
        config.broker.listen = address.parse()?;
    }
    let mut link: Option<Endpoint> = None;
    let writer = std::cell::RefCell::new(&mut link);
    let ready = || {
        let settings = Settings {
            protocol: Protocol::V311,
            client_id: "hark-bench-load".to_owned(),
            login: None,
            keep_alive_s: 60,
            packet_bytes_max: BUFFER_BYTES,
        };
        let client = Client::new(ClientSettings {
            write_buffer_bytes: BUFFER_BYTES,
            ..ClientSettings::new(settings)
        })?;
        let host = host.clone();
        let mut made = Endpoint::new(client, Address::plain(host, port));
        let until = Instant::now() + Duration::from_secs(5);
        let mut lost = None;
        while !made.client().is_up() {
            if Instant::now() >= until {
                let lost = lost.unwrap_or_else(|| "it does not answer".to_owned());
                anyhow::bail!("no connection to {address}: {lost}");
            }
            made.wait(None, Duration::from_millis(50));
            lost = hear(&mut made).or(lost);
        }
        // The other side subscribes at the same time.
        std::thread::sleep(Duration::from_millis(300));
        **writer.borrow_mut() = Some(made);
        Ok(())
    };
    let topics: Vec<String> = (0..load.sensors)
        .map(|sensor| format!("s{sensor}"))
        .collect();
    let is_paced = load.period.is_some();
    let mut unwritten = 0;
    measure_link(load, &config, ready, |sensor, payload| {
        let mut writer = writer.borrow_mut();
        let link = writer.as_mut().ok_or_else(|| anyhow!("connected before"))?;
        while link
            .client()
            .publish(&["bench/", &topics[sensor]], payload)
            .is_err()
        {
            link.wait(None, Duration::from_secs(1));
            if let Some(why) = hear(link) {
                anyhow::bail!("{address}: {why}");
            }
        }
        unwritten += 1;
        if is_paced || unwritten == 64 {
            unwritten = 0;
            link.flush();
            // The answers to pings, without which the connection is given up.
            if let Some(why) = hear(link) {
                anyhow::bail!("{address}: {why}");
            }
        }
        Ok(())
    })
}

/// Takes in what the broker says; why the connection was lost, if it was.
fn hear(link: &mut Endpoint) -> Option<String> {
    let mut lost = None;
    link.fill();
    while let Some(event) = link.poll_event() {
        if let ClientEvent::Down { why, .. } = event {
            lost = Some(why.to_string());
        }
    }
    lost
}
