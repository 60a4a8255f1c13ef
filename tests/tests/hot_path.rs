//! The hot path allocates nothing in the steady state, and sheds what it
//! cannot serve.
//!
//! The readings lie in memory, and everything after them is hark: decoder,
//! engine, model, verdict, the channel to the outputs. The model runtime's own
//! allocations are left out by counting around it.

use anyhow::{Context, Result, ensure};
use hark::appliance::{Appliance, Presentation};
use hark::bundle::Rungs;
use hark::config::Config;
use hark::source::{Feed, MemoryFeed};
use hark::summary::Summary;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: hark::allocations::Counting = hark::allocations::Counting;

const SENSORS: usize = 50;

/// Plays `count` readings of the built-in model's schema in process.
fn play(
    count: u64,
    period: Option<Duration>,
    on_verdict: Option<Arc<AtomicU64>>,
) -> Result<Summary> {
    let rows = Rungs::open(&config()?.models[0])?.golden_readings();
    let payload = format!("{{\"seq\":1000000000,\"values\":{:?}}}", rows[0]);
    play_payload(&payload, count, period, on_verdict)
}

fn config() -> Result<Config> {
    Ok(Config::of_text(
        "device = { name = \"gateway\" }\nmqtt.enabled = false\nevents.file = \"\"\n\
         [[sources]]\nname = \"memory\"\nkind = \"file\"\npath = \"-\"\nformat = \"json\"\n",
    )?)
}

fn play_payload(
    payload: &str,
    count: u64,
    period: Option<Duration>,
    on_verdict: Option<Arc<AtomicU64>>,
) -> Result<Summary> {
    let config = config()?;
    let mut make_feed = |_: usize, hot_path: &mut _, _: Option<&_>| {
        let payloads = vec![payload.as_bytes().into()];
        let feed = MemoryFeed::new(&config, hot_path, payloads, SENSORS, period, count)?;
        Ok(Feed::Memory(Box::new(feed)))
    };
    let presentation = Presentation {
        on_verdict: on_verdict.map(|count| -> hark::report::OnVerdict {
            Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        }),
        ..Presentation::default()
    };
    let mut appliance = Appliance::start_with(&config, presentation, &mut make_feed)?;
    while !appliance.has_ended() {
        std::thread::yield_now();
    }
    Ok(appliance.stop())
}

fn check_sum(summary: &Summary) -> Result<()> {
    let Summary {
        scored,
        fallback,
        filling,
        rejected,
        shed,
        readings,
        ..
    } = summary;
    ensure!(
        scored + fallback + filling + rejected + shed == *readings,
        "{summary}"
    );
    Ok(())
}

#[test]
fn a_reading_allocates_nothing_outside_the_model_runtime() -> Result<()> {
    let verdicts = Arc::new(AtomicU64::new(0));
    let summary = play(100_000, None, Some(Arc::clone(&verdicts)))?;
    check_sum(&summary)?;
    ensure!(summary.scored > 90_000, "{summary}");
    ensure!(
        verdicts.load(Ordering::Relaxed) > 0,
        "nobody heard a verdict"
    );
    let source = &summary.sources["memory"];
    let allocations = source
        .allocations_per_reading
        .context("there were readings")?;
    // What a thread allocates once, such as at its end, is no reading's.
    let total = allocations * 100_000.0;
    ensure!(total < 50.0, "{total} allocations in 100,000 readings");
    Ok(())
}

#[test]
fn what_arrives_beyond_the_capacity_is_shed_and_counted() -> Result<()> {
    // Ten million a second is beyond what any core serves.
    let count = 500_000;
    let summary = play(count, Some(Duration::from_nanos(100)), None)?;
    check_sum(&summary)?;
    ensure!(summary.readings == count, "{summary}");
    ensure!(summary.shed > 0 && summary.scored > 0, "{summary}");
    Ok(())
}

#[test]
fn a_source_whose_serving_panics_has_ended() -> Result<()> {
    // The feed's duty is a payload that starts with a number of ten digits.
    let summary = play_payload("{}", 1, None, None)?;
    ensure!(summary.readings == 0, "{summary}");
    Ok(())
}
