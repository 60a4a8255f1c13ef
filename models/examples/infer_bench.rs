//! Latency and allocations of every backend on model files: a Markdown table.
//!
//! `infer_bench [--runs N] <model.onnx>:<inputs>:<outputs> …` runs each file on each
//! backend that takes it, one thread, at batch 1, 8 and 32, and prints single calls'
//! percentiles, the median a row, and the allocations of one call. Rounds of all
//! backends and batches alternate, so that a slow moment of the machine hits all;
//! percentiles are the medians of the rounds', with the least and greatest p50.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hark_models::dense::DenseModel;
use hark_models::tract::TractModel;
use hark_models::{Infer, Precision};

/// Counts what passes through to the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to `System` unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 5;
const BATCHES: [usize; 3] = [1, 8, 32];

type Failure = Box<dyn std::error::Error>;

/// One line of the table.
struct Line {
    backend: &'static str,
    model: Box<dyn Infer>,
    batch: usize,
    rounds: Vec<Round>,
}

/// Nanoseconds of one call, and its allocations.
struct Round {
    p50: u64,
    p99: u64,
    allocations: u64,
}

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut runs = 4_000;
    if arguments.first().is_some_and(|first| first == "--runs") && arguments.len() > 1 {
        runs = arguments[1].parse::<usize>()?.max(10);
        arguments.drain(..2);
    }
    if arguments.is_empty() {
        return Err("usage: infer_bench [--runs N] <model.onnx>:<inputs>:<outputs> …".into());
    }
    println!(
        "| model | backend | batch | p50 µs (least to greatest) | p99 µs | µs a row | allocations |"
    );
    println!("|---|---|---|---|---|---|---|");
    for argument in &arguments {
        bench(argument, runs)?;
    }
    Ok(())
}

fn bench(argument: &str, runs: usize) -> Result<(), Failure> {
    let mut parts = argument.rsplitn(3, ':');
    let (Some(outputs), Some(inputs), Some(path)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("{argument}: expected <model.onnx>:<inputs>:<outputs>").into());
    };
    let (inputs, outputs) = (inputs.parse()?, outputs.parse()?);
    let onnx = std::fs::read(path)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut lines = lines(name, &onnx, inputs, outputs)?;
    for _ in 0..ROUNDS {
        for line in &mut lines {
            let round = measure(line.model.as_mut(), line.batch, runs / line.batch)?;
            line.rounds.push(round);
        }
    }
    for line in &mut lines {
        print(name, line);
    }
    Ok(())
}

/// Every backend that takes the file, at every batch that it takes.
fn lines(name: &str, onnx: &[u8], inputs: usize, outputs: usize) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for batch in BATCHES {
        let dense =
            DenseModel::load(onnx, inputs, outputs).map(|model| Box::new(model) as Box<dyn Infer>);
        let tract = TractModel::load(onnx, inputs, outputs, Precision::Float32)
            .map(|model| Box::new(model) as Box<dyn Infer>);
        for (backend, loaded) in [("dense", dense), ("tract", tract)] {
            match loaded {
                Ok(model) if batch <= model.batch_max() => lines.push(Line {
                    backend,
                    model,
                    batch,
                    rounds: Vec::new(),
                }),
                Ok(_) => {}
                Err(error) if batch == 1 => eprintln!("{name} on {backend}: {error}"),
                Err(_) => {}
            }
        }
    }
    Ok(lines)
}

fn measure(model: &mut dyn Infer, batch: usize, runs: usize) -> Result<Round, Failure> {
    let features: Vec<f32> = (0..batch * model.inputs())
        .map(|index| (index as f32 * 0.37).sin())
        .collect();
    let mut outputs = vec![0.0; batch * model.outputs()];
    for _ in 0..runs / 10 + 1 {
        model.infer(&features, &mut outputs)?;
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    model.infer(&features, &mut outputs)?;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;

    let mut nanos = Vec::with_capacity(runs + 1);
    for _ in 0..=runs {
        let started = Instant::now();
        model.infer(&features, &mut outputs)?;
        nanos.push(u64::try_from(started.elapsed().as_nanos())?);
    }
    nanos.sort_unstable();
    Ok(Round {
        p50: nanos[runs / 2],
        p99: nanos[runs * 99 / 100],
        allocations,
    })
}

fn print(name: &str, line: &Line) {
    let sorted = |of: fn(&Round) -> u64| {
        let mut values: Vec<u64> = line.rounds.iter().map(of).collect();
        values.sort_unstable();
        values
    };
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let (p50, p99) = (sorted(|round| round.p50), sorted(|round| round.p99));
    println!(
        "| {name} | {} | {} | {:.2} ({:.2} to {:.2}) | {:.2} | {:.3} | {} |",
        line.backend,
        line.batch,
        micros(p50[ROUNDS / 2]),
        micros(p50[0]),
        micros(p50[ROUNDS - 1]),
        micros(p99[ROUNDS / 2]),
        micros(p50[ROUNDS / 2]) / line.batch as f64,
        line.rounds[0].allocations,
    );
}
