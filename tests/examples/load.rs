//! Many sensors through a real mosquitto and one hark on one core: reports
//! latency, processor time and memory, and fails if anything was shed or lost.
//!
//! `cargo run --release -p hark-tests --example load [sensors] [hertz] [seconds]`,
//! by default 1000 sensors at 10 Hz for 30 s, of the simulated pump.
//!
//! hark is pinned to core 0 with `taskset`; the broker and this generator have
//! the others. The load is open loop: reading `n` is published when it is due,
//! whatever became of the ones before.

use anyhow::{Context, Result, ensure};
use hark_rig::{CHANNELS, Rig, RigConfig};
use hark_tests::{Mosquitto, hark_command, wait_until};
use rumqttc::{AsyncClient, MqttOptions, QoS};
use std::fmt::Write as _;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Rigs that are simulated; the sensors share them.
const RIGS: usize = 16;
/// The steps in which due readings are published.
const TICK: Duration = Duration::from_millis(1);
/// How long hark may take to start.
const START: Duration = Duration::from_secs(20);
/// From its status to its subscription, generously.
const SUBSCRIBE: Duration = Duration::from_secs(1);
/// Time for the client to send what it holds.
const FLUSH: Duration = Duration::from_millis(200);
/// Time for hark to take in the last readings.
const LINGER: Duration = Duration::from_secs(2);

/// What is sent.
struct Load {
    sensors: usize,
    hertz: f64,
    seconds: f64,
}

fn main() -> Result<()> {
    let load = Load {
        sensors: argument(1, 1000.0)? as usize,
        hertz: argument(2, 10.0)?,
        seconds: argument(3, 30.0)?,
    };
    let mosquitto = Mosquitto::start()?;
    let folder = tempfile::tempdir()?;
    let status = mosquitto.subscribe("hark/v1/load/status")?;
    let mut hark = start_hark(&mosquitto, folder.path(), &load)?;
    status.find(START, |message| {
        message.text().is_ok_and(|text| text.contains("online"))
    })?;
    std::thread::sleep(SUBSCRIBE);
    let before = processor_seconds(hark.id())?;
    let started = Instant::now();
    let sent = publish(&mosquitto, &load)?;
    std::thread::sleep(LINGER);
    let used = processor_seconds(hark.id())? - before;
    let took = (started.elapsed() - LINGER).as_secs_f64();
    let peak_mib = peak_mib(hark.id())?;
    let summary = stop(&mut hark)?;
    report(&load, sent, took, used, peak_mib, &summary)
}

fn argument(index: usize, default: f64) -> Result<f64> {
    std::env::args().nth(index).map_or(Ok(default), |text| {
        text.parse()
            .with_context(|| format!("{text:?} is not a number"))
    })
}

fn start_hark(mosquitto: &Mosquitto, folder: &std::path::Path, load: &Load) -> Result<Child> {
    let config = folder.join("load.toml");
    let text = format!(
        "device = {{ name = \"load\", data_dir = {folder:?}, sensors_max = {} }}\n\
         mqtt = {{ port = {} }}\n",
        load.sensors,
        mosquitto.port()
    );
    std::fs::write(&config, text)?;
    let hark = hark_command()?;
    let child = Command::new("taskset")
        .args(["-c", "0"])
        .arg(hark.get_program())
        .args(["run", "--json", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn();
    child.context("starting hark under taskset")
}

/// Publishes until the time is over; returns how many readings were sent.
fn publish(mosquitto: &Mosquitto, load: &Load) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = MqttOptions::new("load", "127.0.0.1", mosquitto.port());
        let (client, mut events) = AsyncClient::new(options, 1024);
        let poll = async move { while events.poll().await.is_ok() {} };
        tokio::select! {
            sent = send(&client, load) => sent,
            () = poll => anyhow::bail!("the broker closed the connection"),
        }
    })
}

async fn send(client: &AsyncClient, load: &Load) -> Result<u64> {
    let mut rigs: Vec<Rig> = (0..RIGS as u64)
        .map(|seed| {
            Rig::new(RigConfig {
                seed,
                ..RigConfig::default()
            })
        })
        .collect::<Result<_, _>>()?;
    let mut values = vec![String::new(); RIGS];
    let rate = load.sensors as f64 * load.hertz;
    let total = (rate * load.seconds) as u64;
    let mut ticks = tokio::time::interval(TICK);
    let started = Instant::now();
    let mut sent = 0;
    while sent < total {
        ticks.tick().await;
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        while sent < due.min(total) {
            let (round, sensor) = (sent / load.sensors as u64, sent as usize % load.sensors);
            if sensor == 0 {
                rigs.iter_mut()
                    .zip(&mut values)
                    .for_each(|(rig, text)| *text = next_values(rig));
            }
            let payload = format!("{{\"seq\":{round},\"values\":[{}]}}", values[sensor % RIGS]);
            let topic = format!("sensors/s{sensor}");
            client
                .publish(topic, QoS::AtMostOnce, false, payload)
                .await?;
            sent += 1;
        }
    }
    // The client still holds the last of them.
    tokio::time::sleep(FLUSH).await;
    Ok(sent)
}

fn next_values(rig: &mut Rig) -> String {
    let reading = rig.next().expect("the rig never ends");
    let mut text = String::with_capacity(12 * CHANNELS.len());
    for (index, value) in reading.values.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}{value}").expect("a string takes everything");
    }
    text
}

fn stop(hark: &mut Child) -> Result<serde_json::Value> {
    let terminated = Command::new("kill")
        .args(["-TERM", &hark.id().to_string()])
        .status()?;
    ensure!(terminated.success(), "kill -TERM failed");
    let mut text = String::new();
    let stdout = hark.stdout.as_mut().context("standard output is piped")?;
    stdout.read_to_string(&mut text)?;
    let status = wait_until(Duration::from_secs(10), "hark to stop", || {
        hark.try_wait().ok().flatten()
    })?;
    ensure!(status.success(), "hark ended with {status}");
    let last = text.lines().last().context("hark printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

/// User and system time of a process; proc(5), fields 14 and 15 of stat, in
/// ticks of 10 ms.
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn peak_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.context("no VmHWM")?.parse::<f64>()? / 1024.0)
}

fn report(
    load: &Load,
    sent: u64,
    took: f64,
    used: f64,
    peak_mib: f64,
    summary: &serde_json::Value,
) -> Result<()> {
    let count = |key: &str| summary[key].as_u64().unwrap_or(0);
    println!(
        "{} sensors at {} Hz, {sent} readings in {took:.1} s ({:.0} a second)",
        load.sensors,
        load.hertz,
        sent as f64 / took
    );
    for key in [
        "readings",
        "scored",
        "fallback",
        "filling",
        "rejected",
        "shed",
        "deadline_misses",
    ] {
        println!("  {key:<16} {}", count(key));
    }
    println!("  verdict latency  {} µs", summary["verdict_latency_us"]);
    println!("  inference        {} µs", summary["inference_us"]);
    println!(
        "  processor        {:.2} s, {:.1} % of one core, {:.1} µs a reading",
        used,
        100.0 * used / took,
        1e6 * used / sent as f64
    );
    println!("  peak memory      {peak_mib:.1} MiB");
    ensure!(
        count("readings") == sent,
        "{} of {sent} arrived",
        count("readings")
    );
    ensure!(count("shed") == 0, "{} were shed", count("shed"));
    Ok(())
}
