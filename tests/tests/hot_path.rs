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
use hark_engine::Reading;
use hark_links::MemoryFeed;
use hark_outlet::verdicts::OnVerdict;
use hark_serve::bundle::Rungs;
use hark_serve::hot_path::HotPath;
use hark_serve::{Fed, Feed};
use hark_threads::shutdown::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: hark_threads::allocations::Counting = hark_threads::allocations::Counting;

const SENSORS: usize = 50;

/// Plays `count` readings of the built-in model's schema in process.
fn play(
    count: u64,
    period: Option<Duration>,
    on_verdict: Option<Arc<AtomicU64>>,
) -> Result<Summary> {
    let on_verdict = on_verdict.as_ref().map(count_in);
    play_payloads(&[&reading()?], count, period, on_verdict)
}

fn count_in(count: &Arc<AtomicU64>) -> OnVerdict {
    let count = Arc::clone(count);
    Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    })
}

fn reading() -> Result<String> {
    let rows = Rungs::open(&config(1)?.models[0])?.golden_readings();
    Ok(format!("{{\"seq\":1000000000,\"values\":{:?}}}", rows[0]))
}

/// The sources are called `memory`, `memory1` and so on.
fn config(sources: usize) -> Result<Config> {
    let mut text =
        "device = { name = \"gateway\" }\nmqtt.enabled = false\nevents = { file = \"\", alerts_file = \"\", standing_file = \"\" }\n".to_owned();
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
    let total = allocations * 100_000.0;
    ensure!(total == 0.0, "{total} allocations in 100,000 readings");
    Ok(())
}

/// Allocates once for each payload of another feed.
struct WastefulFeed(MemoryFeed);

impl Feed for WastefulFeed {
    fn has_more(&self) -> bool {
        self.0.has_more()
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        drop(std::hint::black_box(Box::new(0)));
        self.0.advance(hot_path, shutdown)
    }
}

#[test]
fn an_allocation_of_every_reading_is_seen() -> Result<()> {
    const COUNT: u64 = 10_000;
    let config = config(1)?;
    let mut make_feed = |_: usize, hot_path: &mut _, _: Option<&_>| {
        let payloads = vec![reading()?.into_bytes().into()];
        let feed = MemoryFeed::new(&config, hot_path, payloads, SENSORS, None, COUNT)?;
        Ok(Box::new(WastefulFeed(feed)) as Box<dyn Feed>)
    };
    let mut appliance = Appliance::start_with(&config, Presentation::default(), &mut make_feed)?;
    while !appliance.has_ended() {
        std::thread::yield_now();
    }
    let summary = appliance.stop();
    let allocations = summary.sources["memory"].allocations_per_reading;
    let allocations = allocations.context("there were readings")?;
    ensure!(
        (1.0..1.01).contains(&allocations),
        "{allocations} a reading"
    );
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

/// Hands in one window of readings, each after its deadline has passed.
struct LateFeed {
    made: Instant,
    readings: Vec<Vec<f32>>,
    next: usize,
}

const LATE: Duration = Duration::from_millis(2);

impl Feed for LateFeed {
    fn has_more(&self) -> bool {
        false
    }

    fn advance(&mut self, hot_path: &mut HotPath, _shutdown: &Shutdown) -> Fed {
        if self.next == self.readings.len() {
            return Fed::Ended;
        }
        // No clock of hark's started later.
        if self.made.elapsed() < LATE {
            return Fed::Open;
        }
        let values = &self.readings[self.next];
        let mut reading = Reading::empty(values.len());
        reading.values_mut().copy_from_slice(values);
        reading.sequence = Some(self.next as u64);
        self.next += 1;
        let sensor = hot_path.sensor("a").expect("it is a good name");
        let receipt = hot_path.receive_at(Instant::now() - LATE);
        hot_path.handle_reading(sensor, &reading, receipt);
        Fed::Open
    }
}

#[test]
fn a_verdict_that_no_model_can_give_in_time_waits_for_no_other_reading() -> Result<()> {
    let mut config = config(1)?;
    let deadline_ms = LATE.as_secs_f64() * 1e3 / 2.0;
    let part = deadline_ms / std::mem::replace(&mut config.device.deadline_ms, deadline_ms);
    config.budget.stages_ms = config.budget.stages_ms.map(|ms| ms * part);
    let rungs = Rungs::open(&config.models[0])?;
    let window = rungs.pipeline().window.length;
    // The last one completes the window, and nothing comes after it.
    let readings: Vec<_> = rungs.golden_readings().into_iter().take(window).collect();
    ensure!(readings.len() == window, "a golden window is a whole one");
    let mut make_feed = |_: usize, _: &mut HotPath, _: Option<&_>| {
        Ok(Box::new(LateFeed {
            made: Instant::now(),
            readings: readings.clone(),
            next: 0,
        }) as Box<dyn Feed>)
    };
    let heard = Arc::new(AtomicU64::new(0));
    let presentation = Presentation {
        on_verdict: Some(count_in(&heard)),
        ..Presentation::default()
    };
    let mut appliance = Appliance::start_with(&config, presentation, &mut make_feed)?;
    while !appliance.has_ended() {
        std::thread::yield_now();
    }
    let summary = appliance.stop();
    ensure!(summary.fallback == 1, "{summary}");
    ensure!(heard.load(Ordering::Relaxed) == 1, "no verdict was heard");
    ensure!(
        summary.verdict_latency_us.max >= LATE.as_secs_f64() * 1e6,
        "told as if it had been quick: {summary}"
    );
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
    assert_eq!(summary.threads_panicked, ["verdicts"]);
    ensure!(summary.readings < MANY, "{summary}");
    Ok(())
}
