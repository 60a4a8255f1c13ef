//! The hot path allocates nothing in the steady state, and sheds what it
//! cannot serve.
//!
//! The readings lie in memory, and everything after them is hark: decoder,
//! engine, model, verdict, the channel to the outputs. The model runtime's own
//! allocations are left out by counting around it.

use anyhow::{Context, Result, bail, ensure};
use hark::appliance::{Appliance, Presentation};
use hark::summary::Summary;
use hark_config::Config;
use hark_links::MemoryFeed;
use hark_outlet::verdicts::OnVerdict;
use hark_serve::Feed;
use hark_serve::bundle::Rungs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: hark_threads::allocations::Counting = hark_threads::allocations::Counting;

const SENSORS: usize = 50;

/// Plays `count` readings of the built-in model's schema in process.
fn play(
    count: u64,
    period: Option<Duration>,
    on_verdict: Option<Arc<AtomicU64>>,
) -> Result<Summary> {
    let on_verdict = on_verdict.map(|count| -> OnVerdict {
        Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
    });
    play_payloads(&[&reading()?], count, period, on_verdict)
}

fn reading() -> Result<String> {
    let rows = Rungs::open(&config(1)?.models[0])?.golden_readings();
    Ok(format!("{{\"seq\":1000000000,\"values\":{:?}}}", rows[0]))
}

/// The sources are called `memory`, `memory1` and so on.
fn config(sources: usize) -> Result<Config> {
    let mut text =
        "device = { name = \"gateway\" }\nmqtt.enabled = false\nevents.file = \"\"\n".to_owned();
    for index in 0..sources {
        let number = if index == 0 {
            String::new()
        } else {
            index.to_string()
        };
        text += &format!(
            "[[sources]]\nname = \"memory{number}\"\nkind = \"file\"\npath = \"-\"\nformat = \"json\"\n"
        );
    }
    Ok(Config::of_text(&text)?)
}

/// Plays `count` times the payload of each source.
fn play_payloads(
    payloads: &[&str],
    count: u64,
    period: Option<Duration>,
    on_verdict: Option<OnVerdict>,
) -> Result<Summary> {
    let config = config(payloads.len())?;
    let mut make_feed = |index: usize, hot_path: &mut _, _: Option<&_>| {
        let payloads = vec![payloads[index].as_bytes().into()];
        let feed = MemoryFeed::new(&config, hot_path, payloads, SENSORS, period, count)?;
        Ok(Box::new(feed) as Box<dyn Feed>)
    };
    let presentation = Presentation {
        on_verdict,
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

/// Plays until the model has scored most readings: on a machine that stalls, its
/// deadlines are missed and the rule answers for a while.
fn play_scored(count: u64, verdicts: &Arc<AtomicU64>) -> Result<Summary> {
    const TRIES: u32 = 10;
    for _ in 0..TRIES {
        let summary = play(count, None, Some(Arc::clone(verdicts)))?;
        check_sum(&summary)?;
        if summary.scored * 10 > count * 9 {
            return Ok(summary);
        }
        eprintln!("a machine that stalls? again: {summary}");
    }
    bail!("the model scored too few readings in each of {TRIES} tries")
}

#[test]
fn a_reading_allocates_nothing_outside_the_model_runtime() -> Result<()> {
    let verdicts = Arc::new(AtomicU64::new(0));
    let summary = play_scored(100_000, &verdicts)?;
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

/// What the feed does not take: its duty is a payload that starts with a number
/// of ten digits.
const PANICS: &str = "{}";
/// Readings that take longer than anything here waits for.
const MANY: u64 = 20_000;
const PERIOD: Duration = Duration::from_millis(1);

#[test]
fn a_source_whose_serving_panics_has_ended() -> Result<()> {
    let summary = play_payloads(&[PANICS], 1, None, None)?;
    ensure!(summary.readings == 0, "{summary}");
    assert_eq!(summary.threads_panicked, ["source memory"]);
    Ok(())
}

#[test]
fn one_source_that_panics_ends_the_others_in_order() -> Result<()> {
    let summary = play_payloads(&[PANICS, &reading()?], MANY, Some(PERIOD), None)?;
    assert_eq!(summary.threads_panicked, ["source memory"]);
    ensure!(summary.sources_stuck == 0, "{summary}");
    ensure!(summary.readings < MANY, "{summary}");
    ensure!(summary.sources.contains_key("memory1"), "{summary}");
    Ok(())
}

#[test]
fn a_thread_that_takes_what_leaves_ends_everything_by_its_panic() -> Result<()> {
    let panics: OnVerdict = Box::new(|_| panic!("a verdict that nobody can take"));
    let summary = play_payloads(&[&reading()?], MANY, Some(PERIOD), Some(panics))?;
    assert_eq!(summary.threads_panicked, ["the verdict thread"]);
    ensure!(summary.readings < MANY, "{summary}");
    Ok(())
}
