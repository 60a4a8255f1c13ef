//! Modbus units by the dozen: reports how well hark keeps their periods.
//!
//! `cargo run --release -p hark-tests --example modbus [seconds]`, by default 60.
//!
//! First a line of 19 200 baud with 32 units, 24 of them a libmodbus each, 8 dead,
//! that are to be polled every second; the line carries each byte no faster than its
//! baud rate. Then 100 units behind one host, ten times a second.

use anyhow::{Context, Result, ensure};
use hark_tests::{ModbusBus, ModbusServer, hark_command, terminate};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const UNITS: u8 = 32;
const BAUD: u32 = 19_200;
/// In which all units are found, and the dead ones given up for a while.
const WARM_UP: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(60.0), |text| text.parse());
    let time = Duration::from_secs_f64(seconds.context("the first argument: seconds")?);
    line(time)?;
    host(time)
}

fn is_dead(unit: u8) -> bool {
    unit.is_multiple_of(4)
}

fn line(time: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let link = folder.path().join("line");
    let living: Vec<u8> = (1..=UNITS).filter(|unit| !is_dead(*unit)).collect();
    let bus = ModbusBus::start(&link, BAUD, &living)?;
    let reach = format!("port = \"{}\"\nbaud = {BAUD}", link.display());
    let keys = format!("{reach}\nunit = \"1-{UNITS}\"\npoll_ms = 1000");
    let started = Instant::now();
    let summary = run(folder.path(), &keys, WARM_UP + time)?;
    let asked = bus.asked();
    let from = started + WARM_UP;
    let mut periods: Vec<f64> = Vec::new();
    for unit in &living {
        let times = asked.iter().filter(|(own, at)| own == unit && *at >= from);
        let times: Vec<Instant> = times.map(|(_, at)| *at).collect();
        let pairs = times.windows(2);
        periods.extend(pairs.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3));
    }
    periods.sort_by(f64::total_cmp);
    ensure!(!periods.is_empty(), "no unit was polled: {summary}");
    let at = |part: f64| periods[((periods.len() - 1) as f64 * part) as usize];
    let beyond = periods.iter().filter(|ms| (**ms - 1000.0).abs() > 100.0);
    println!(
        "line       {BAUD} baud, {} units of {UNITS} dead, {} periods of 1000 ms: \
         min {:.1}, p1 {:.1}, p50 {:.1}, p99 {:.1}, max {:.1} ms; {} beyond 10 %",
        usize::from(UNITS) - living.len(),
        periods.len(),
        at(0.0),
        at(0.01),
        at(0.5),
        at(0.99),
        at(1.0),
        beyond.count(),
    );
    let dead = asked.iter().filter(|(unit, _)| is_dead(*unit)).count();
    println!("           the dead were asked {dead} times");
    tell("line", &summary);
    Ok(())
}

fn host(time: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, port) = ModbusServer::tcp()?;
    let keys = format!("host = \"127.0.0.1\"\nport = {port}\nunit = \"1-100\"\npoll_ms = 100");
    let summary = run(folder.path(), &keys, time)?;
    let expected = 1000.0 * time.as_secs_f64();
    println!("host       100 units, every 100 ms: at most {expected:.0} readings");
    tell("host", &summary);
    Ok(())
}

fn tell(name: &str, summary: &Value) {
    let source = &summary["sources"]["units"];
    println!(
        "{name:<10} {} readings, {} missed, faults {}, {} allocations and {} µs of CPU a reading, \
         verdict p50 {} µs, p99 {} µs",
        source["readings"],
        summary["missed"],
        source["link_faults"],
        source["allocations_per_reading"],
        source["cpu_us_per_reading"],
        summary["verdict_latency_us"]["p50"],
        summary["verdict_latency_us"]["p99"],
    );
}

/// Runs hark on units with the registers of the built-in model for so long.
fn run(folder: &Path, keys: &str, time: Duration) -> Result<Value> {
    // Values within the model's ranges, of registers that are 100 to 106.
    let channels = [
        ("accel_motor_rms", 0.047),
        ("accel_pump_rms", 0.064),
        ("current", 3.6),
        ("pressure", 3.4),
        ("temperature", 54.0),
        ("voltage", 398.0),
        ("flow", 181.0),
    ];
    let registers = channels
        .iter()
        .enumerate()
        .map(|(address, (channel, level))| {
            format!(
                "[[sources.registers]]\nchannel = \"{channel}\"\naddress = {address}\n\
             table = \"input\"\nscale = 1e-6\noffset = {level}\n"
            )
        });
    let registers: String = registers.collect();
    let config = format!(
        "inherit = \"base.toml\"\n[device]\nname = \"units\"\ndata_dir = \"data\"\n\
         [mqtt]\nenabled = false\n\
         [[sources]]\nname = \"units\"\nkind = \"modbus\"\n{keys}\n{registers}"
    );
    std::fs::write(folder.join("hark.toml"), config)?;
    let mut hark = hark_command()?
        .args(["run", "--config", "hark.toml", "--json"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting hark")?;
    let mut stdout = hark.stdout.take().context("its output")?;
    std::thread::sleep(time);
    terminate(&mut hark)?;
    let mut said = String::new();
    stdout.read_to_string(&mut said)?;
    ensure!(hark.wait()?.success(), "hark failed: {said}");
    let last = said.lines().last().context("no summary")?;
    serde_json::from_str(last).with_context(|| format!("the summary {last:?}"))
}
