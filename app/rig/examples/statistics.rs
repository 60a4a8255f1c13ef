//! Prints mean and standard deviation of every channel over a minute, healthy and under each
//! fault, and the speed.
//!
//! `cargo run --release -p hark-rig --example statistics [seed]`

use hark_rig::{CHANNELS, Fault, FaultEvent, Rig, RigConfig, RigReading};
use std::time::Instant;

const MINUTE: usize = 600;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    print!("{:<18}", "mean ± std");
    CHANNELS
        .iter()
        .for_each(|channel| print!("{:>21}", format!("{} {}", channel.name, channel.unit)));
    println!("{:>7}", "sent");
    for minute in [0, 1, 2, 60, 300, 599] {
        print_row(
            &format!("healthy, min {minute}"),
            &readings(seed, None, minute * MINUTE, MINUTE)?,
        );
    }
    print_row("healthy, 10 h", &readings(seed, None, 0, 600 * MINUTE)?);
    for fault in Fault::ALL {
        // From 5 s on, a ramp is over.
        print_row(
            fault.name(),
            &readings(seed, Some(FaultEvent::new(fault, 0)), 50, MINUTE)?,
        );
    }
    print_speed(seed)
}

fn readings(
    seed: u64,
    fault: Option<FaultEvent>,
    skip: usize,
    count: usize,
) -> Result<Vec<RigReading>, Box<dyn std::error::Error>> {
    let config = RigConfig {
        seed,
        faults: fault.into_iter().collect(),
        ..RigConfig::default()
    };
    Ok(Rig::new(config)?.skip(skip).take(count).collect())
}

fn print_row(name: &str, readings: &[RigReading]) {
    print!("{name:<18}");
    for channel in 0..CHANNELS.len() {
        let values = readings
            .iter()
            .map(|reading| f64::from(reading.values[channel]));
        let mean = values.clone().sum::<f64>() / readings.len() as f64;
        let variance = values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / readings.len() as f64;
        print!("{:>21}", format!("{mean:.3} ± {:.3}", variance.sqrt()));
    }
    let sent = readings.iter().filter(|reading| reading.sent).count();
    println!("{:>6.1}%", 100.0 * sent as f64 / readings.len() as f64);
}

fn print_speed(seed: u64) -> Result<(), Box<dyn std::error::Error>> {
    let count = 360_000;
    let config = RigConfig {
        seed,
        faults: vec![FaultEvent::new(Fault::OuterRace, 60_000)],
        ..RigConfig::default()
    };
    for run in 1..=3 {
        let start = Instant::now();
        let sum: f32 = Rig::new(config.clone())?
            .take(count)
            .map(|reading| reading.values[0])
            .sum();
        let elapsed_s = start.elapsed().as_secs_f64();
        println!(
            "run {run}: {:.0} readings/s (10 h in {elapsed_s:.2} s; checksum {sum})",
            count as f64 / elapsed_s
        );
    }
    Ok(())
}
