//! A simulation of the whole path, from a node's bytes to the broker's retained
//! alert, over thousands of seeds.
//!
//! Lines drop, flip, truncate, repeat and hold back bytes; nodes start again;
//! models are slow, hang, fail, panic and babble, their threads come back late
//! or never, their files are gone; the driver is late; the broker comes and
//! goes. A seed decides everything, time is simulated, and after
//! every step the invariants are checked: in [`ledger`] those of the engine, in
//! [`line`] those of the decoder, in [`broker`] those of the outbox.
//!
//! `HARK_SEEDS=n` runs so many seeds instead of [`SEEDS`]. `HARK_SEED=n` runs
//! that one alone; with `HARK_TRACE=1` every event is printed.

mod broker;
mod gateway;
mod ledger;
mod line;
mod model;
mod node;
mod scenario;
mod world;

use hark_engine::{AlertKind, Counters, Rejection, StepReason};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scenario::Scenario;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use world::{RunSummary, World};

/// Seeds in a CI run: within a minute on two cores.
const SEEDS: u64 = 10_000;
/// From so many seeds on, every fault must have been seen.
const COVERING_SEEDS: u64 = 1_000;

/// The first invariant that did not hold.
struct Failure {
    seed: u64,
    step: u64,
    now_us: u64,
    message: String,
}

#[test]
fn invariants_hold_over_every_seed() {
    if let Some(seed) = number("HARK_SEED") {
        let summary = run(seed, number("HARK_TRACE").is_some()).unwrap_or_else(|f| f.panic());
        return say(&format!("simulation: seed {seed}: {summary:#?}"));
    }
    let seeds = number("HARK_SEEDS").unwrap_or(SEEDS);
    let started = Instant::now();
    let total = run_all(seeds);
    say(&describe(&total, seeds, started.elapsed()));
    if seeds >= COVERING_SEEDS {
        check_coverage(&total);
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..8 {
        let [first, second] = [(), ()].map(|()| run(seed, false).unwrap_or_else(|f| f.panic()));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Runs all seeds on all cores and adds up their summaries.
fn run_all(seeds: u64) -> RunSummary {
    let next = AtomicU64::new(0);
    let has_failed = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new(RunSummary::default());
    let work = || {
        let mut sum = RunSummary::default();
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            match run(seed, false) {
                Ok(summary) => sum.add(&summary),
                Err(failure) => {
                    has_failed.store(true, Ordering::Relaxed);
                    failures.lock().expect("no holder panics").push(failure);
                }
            }
        }
        total.lock().expect("no holder panics").add(&sum);
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().expect("no holder panics");
    if let Some(failure) = failures.into_iter().min_by_key(|failure| failure.seed) {
        failure.panic();
    }
    total.into_inner().expect("no holder panics")
}

fn run(seed: u64, is_traced: bool) -> Result<RunSummary, Failure> {
    let scenario = Scenario::draw(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut world = World::new(&scenario, seed, is_traced);
    catch_unwind(AssertUnwindSafe(|| world.run())).map_err(|panic| Failure {
        seed,
        step: world.step,
        now_us: world.now_us,
        message: panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap_or_default(),
    })
}

impl Failure {
    fn panic(&self) -> ! {
        panic!(
            "seed {} failed at step {}, {:.6} s: {}\nreplay it with: HARK_SEED={} HARK_TRACE=1 \
             cargo test --release -p hark-simulation invariants_hold",
            self.seed,
            self.step,
            self.now_us as f64 / 1e6,
            self.message,
            self.seed
        );
    }
}

impl RunSummary {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.simulated_us += other.simulated_us;
        self.counters.add(&other.counters);
        self.alerts_posted += other.alerts_posted;
        self.alerts_dropped += other.alerts_dropped;
        self.connects += other.connects;
        let steps = self.ladder_steps.iter_mut().zip(other.ladder_steps);
        steps.for_each(|(sum, count)| *sum += count);
    }
}

fn describe(total: &RunSummary, seeds: u64, wall: Duration) -> String {
    let Counters {
        readings,
        scored,
        fallback,
        filling,
        rejected,
        ladder_steps,
        probes,
        hangs,
        ..
    } = total.counters;
    format!(
        "simulation: {seeds} seeds, {} steps, {:.1} simulated hours in {:.1} s, {:.0} seeds/s: \
         {readings} readings = {scored} scored + {fallback} fallback + {filling} filling \
         + {rejected} rejected, {} alerts, {ladder_steps} ladder steps, {probes} trials, \
         {hangs} instances given up",
        total.steps,
        total.simulated_us as f64 / 3.6e9,
        wall.as_secs_f64(),
        seeds as f64 / wall.as_secs_f64(),
        total.alerts_posted
    )
}

/// A storm that does not reach a path would prove nothing about it.
fn check_coverage(total: &RunSummary) {
    let counters = &total.counters;
    let of_kind = |kind: AlertKind| counters.alerts_by_kind[kind.index()];
    let seen = [
        ("late results", counters.late_results),
        ("model faults", counters.model_faults),
        ("deadline misses", counters.deadline_misses),
        ("window resets", counters.window_resets),
        ("missed readings", counters.missed),
        ("fallbacks", counters.fallback),
        ("cached scores", counters.cache_hits),
        ("without a window", counters.windowless),
        ("trials", counters.probes),
        ("failed trials", counters.probes_failed),
        ("instances given up", counters.hangs),
        ("values out of range", of_kind(AlertKind::Range)),
        ("silent sensors", of_kind(AlertKind::Silent)),
        ("links away", of_kind(AlertKind::Link)),
        ("dropped alerts", total.alerts_dropped),
        ("connections", total.connects),
    ];
    let unseen = seen.into_iter().find(|&(_, count)| count == 0);
    assert_eq!(unseen, None, "never happened");
    for reason in StepReason::ALL {
        let count = total.ladder_steps[reason.index()];
        assert!(count > 0, "no step for {reason:?}");
    }
    let reasons = [
        Rejection::Corrupt,
        Rejection::Oversize,
        Rejection::NoHello,
        Rejection::UnknownSensor,
        Rejection::MissingChannel { channel: 0 },
        Rejection::Range { channel: 0 },
        Rejection::RateOfChange { channel: 1 },
        Rejection::Duplicate,
        Rejection::Reordered,
        Rejection::Stale,
        Rejection::SourceRate,
    ];
    for reason in reasons {
        let count = counters.rejected_by_reason[reason.index()];
        assert!(count > 0, "never rejected: {reason:?}");
    }
}

/// The number in an environment variable, if it is set.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

/// Says it even where the test harness holds back what tests print.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}
