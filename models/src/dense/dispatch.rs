//! The kernels, compiled once more for AVX2 and FMA, and the choice at run time.
//!
//! The source is the same safe Rust; only calling it needs `unsafe`. On x86-64 it is
//! worth it twice: wider registers, and no SSE code after a runtime that leaves the
//! upper halves of the AVX registers in use, which slows SSE code down more than
//! twofold (seen after tract on a Zen CPU). ARM has NEON in its baseline.

#![allow(unsafe_code)]

use super::{float32, int8};

/// Runs the chain on the best instructions that this CPU has.
pub(super) fn run_float32(
    chain: &mut float32::Chain,
    rows: usize,
    features: &[f32],
    outputs: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: this CPU has the features that the function is compiled for.
        return unsafe { float32_on_avx2(chain, rows, features, outputs) };
    }
    chain.run::<{ float32::HAS_FUSED }>(rows, features, outputs);
}

/// Runs the chain on the best instructions that this CPU has.
pub(super) fn run_int8(
    chain: &mut int8::Chain,
    rows: usize,
    features: &[f32],
    outputs: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: this CPU has the feature that the function is compiled for.
        return unsafe { int8_on_avx2(chain, rows, features, outputs) };
    }
    chain.run(rows, features, outputs);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn float32_on_avx2(chain: &mut float32::Chain, rows: usize, features: &[f32], outputs: &mut [f32]) {
    chain.run::<true>(rows, features, outputs);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn int8_on_avx2(chain: &mut int8::Chain, rows: usize, features: &[f32], outputs: &mut [f32]) {
    chain.run(rows, features, outputs);
}
