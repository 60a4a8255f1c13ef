//! Readings of each format in a second of one core, on Linux.
//!
//! `cargo run --release -p hark-codec --example throughput [rounds]` prints the
//! median and the spread of the rounds. Payloads differ in every number, so
//! that neither cache nor branch predictor knows them by heart. Time counts
//! only while the thread runs, so that a busy machine does not hide the cost.

use std::{fmt::Write, fs, hint::black_box};

use hark_codec::{Decoder, Format, MappingConfig};
use hark_engine::{Channel, Schema};

const CHANNELS: usize = 8;
/// Together about 1 MB: more than a small core's cache holds.
const PAYLOADS: usize = 8192;
const READINGS_PER_ROUND: usize = 500_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = std::env::args().nth(1).map_or(Ok(11), |n| n.parse())?;
    let positional = MappingConfig {
        header: Some(false),
        ..MappingConfig::default()
    };
    for (name, format, payload) in [
        (
            "json array",
            Format::Json,
            json_array as fn(usize) -> Vec<u8>,
        ),
        ("json flat", Format::Json, json_flat),
        ("cbor array", Format::Cbor, cbor_array),
        ("csv", Format::Csv, csv),
    ] {
        let payloads: Vec<_> = (0..PAYLOADS).map(payload).collect();
        let mut decoder = Decoder::new(format, &schema(), &positional)?;
        let mut rates: Vec<f64> = (0..rounds)
            .map(|_| measure(&mut decoder, &payloads))
            .collect::<Result<_, _>>()?;
        rates.sort_by(f64::total_cmp);
        println!(
            "{name:10} {:3} bytes: median {:.2} M readings/s ({:.2} to {:.2} in {rounds} rounds)",
            payloads[PAYLOADS / 2].len(),
            rates[rates.len() / 2] / 1e6,
            rates[0] / 1e6,
            rates[rates.len() - 1] / 1e6,
        );
    }
    Ok(())
}

fn measure(decoder: &mut Decoder, payloads: &[Vec<u8>]) -> Result<f64, Box<dyn std::error::Error>> {
    let start = running_ns()?;
    for payload in payloads.iter().cycle().take(READINGS_PER_ROUND) {
        let count = decoder.decode(black_box(payload), 0, &mut |decoded| {
            assert!(black_box(decoded).is_ok());
        });
        assert_eq!(count, 1);
    }
    Ok(READINGS_PER_ROUND as f64 * 1e9 / (running_ns()? - start))
}

/// How long this thread has run on a core, ns: proc(5), `schedstat`, first field.
fn running_ns() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let running = stat.split(' ').next().ok_or("schedstat is empty")?;
    Ok(running.parse()?)
}

fn schema() -> Schema {
    let channel = |index| Channel {
        name: format!("channel{index}"),
        unit: "bar".into(),
        min: 0.0,
        max: 100.0,
        rate_max: None,
    };
    Schema {
        period_ms: 1.0,
        age_max_ms: None,
        channels: (0..CHANNELS).map(channel).collect(),
    }
}

/// A value with the digits of a usual sensor.
fn value(seed: usize, channel: usize) -> f32 {
    ((seed * 7919 + channel * 104_729) % 1_000_003) as f32 / 1e4
}

fn json_array(seed: usize) -> Vec<u8> {
    let values: [f32; CHANNELS] = std::array::from_fn(|channel| value(seed, channel));
    format!(
        r#"{{"seq":{seed},"ts":{},"values":{values:?}}}"#,
        seed * 1000
    )
    .into_bytes()
}

fn json_flat(seed: usize) -> Vec<u8> {
    let mut text = format!(r#"{{"seq":{seed}"#);
    for channel in 0..CHANNELS {
        write!(text, r#","channel{channel}":{:?}"#, value(seed, channel))
            .expect("a String takes everything");
    }
    text.push('}');
    text.into_bytes()
}

fn cbor_array(seed: usize) -> Vec<u8> {
    let values: [f32; CHANNELS] = std::array::from_fn(|channel| value(seed, channel));
    minicbor::to_vec(values).expect("a Vec takes everything")
}

fn csv(seed: usize) -> Vec<u8> {
    let cells: Vec<String> = (0..CHANNELS)
        .map(|channel| value(seed, channel).to_string())
        .collect();
    cells.join(",").into_bytes()
}
