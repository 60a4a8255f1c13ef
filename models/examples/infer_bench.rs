//! Latency and allocations of one inference, for a model file and its size.
//!
//! `infer_bench <model.onnx> <inputs> <outputs> [runs]` loads the file with the
//! tract backend and prints percentiles of single runs in nanoseconds, and the
//! allocations and bytes of one run, beside tract called bare (`run` on a kept
//! state, a fresh input tensor each time). The two take turns, so that a slow
//! moment of the machine hits both.

use std::alloc::System;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hark_models::tract::TractModel;
use hark_models::{Infer, Precision};
use tract_onnx::prelude::*;

/// Counts what passes through to the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to `System` unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds in which wrapped and bare runs alternate.
const ROUNDS: usize = 5;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, inputs, outputs, rest @ ..] = arguments.as_slice() else {
        return Err("usage: infer_bench <model.onnx> <inputs> <outputs> [runs]".into());
    };
    let (inputs, outputs) = (inputs.parse()?, outputs.parse()?);
    let runs = rest.first().map_or(Ok(20_000), |runs| runs.parse())?;
    let onnx = std::fs::read(path)?;
    let features: Vec<f32> = (0..inputs).map(|i| (i as f32 * 0.37).sin()).collect();

    let started = Instant::now();
    let mut model = TractModel::load(&onnx, inputs, outputs, Precision::Float32)?;
    println!("{path}: loaded in {} ms", started.elapsed().as_millis());
    let mut answer = vec![0.0; outputs];
    let mut wrapped = || model.infer(&features, &mut answer).map_err(Failure::from);

    let mut state = bare_state(&onnx)?;
    let mut bare = || -> Result<(), Failure> {
        let input = Tensor::from_shape(&[1, inputs], &features)?;
        black_box(state.run(tvec![input.into()])?);
        Ok(())
    };
    for round in 0..ROUNDS {
        measure(&format!("{round} wrapped"), runs, &mut wrapped)?;
        measure(&format!("{round} bare   "), runs, &mut bare)?;
    }
    Ok(())
}

fn bare_state(mut onnx: &[u8]) -> Result<TypedSimpleState, Failure> {
    let plan = tract_onnx::onnx()
        .model_for_read(&mut onnx)?
        .into_optimized()?
        .into_runnable()?;
    Ok(plan.spawn()?)
}

fn measure(
    label: &str,
    runs: usize,
    run: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    for _ in 0..runs / 10 {
        run()?;
    }
    let (allocations, bytes) = counters();
    run()?;
    let (allocations, bytes) = (counters().0 - allocations, counters().1 - bytes);

    let mut nanos = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        run()?;
        nanos.push(started.elapsed().as_nanos());
    }
    nanos.sort_unstable();
    let at = |permille: usize| nanos[(nanos.len() - 1) * permille / 1000];
    println!(
        "{label}: p50 {} p99 {} p999 {} max {} ns; {allocations} allocations, {bytes} bytes a run",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    Ok(())
}

fn counters() -> (u64, u64) {
    (
        ALLOCATIONS.load(Ordering::Relaxed),
        BYTES.load(Ordering::Relaxed),
    )
}
