//! RMS within frequency bands, from the discrete Fourier transform.
//!
//! The mean is removed, the window is weighted with a periodic Hann window
//! `w_i = ½·(1 − cos(2π·i/L))`, and the one-sided power of bin `k`, at
//! `k / (L·T)` hertz, is `P_k = c_k·│X_k│² / (L·Σ w_i²)`, with `c_k = 1` for
//! k = 0 and the Nyquist bin and 2 for all others (Heinzel, Rüdiger, Schilling
//! 2002, "Spectrum and spectral density estimation by the DFT", eqs. 19 to 24).
//! The feature is `√Σ P_k` over the bins with `low_hz ≤ f_k < high_hz`; the
//! last band also takes the bin at the Nyquist frequency.

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};
use std::ops::Range;
use std::sync::Arc;

pub(super) struct Spectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    weights: Box<[f32]>,
    input: Box<[f32]>,
    bins: Box<[Complex<f32>]>,
    scratch: Box<[Complex<f32>]>,
    /// `1 / (L·Σ w²)`
    power_scale: f32,
}

impl Spectrum {
    pub(super) fn new(length: usize) -> Self {
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(length);
        let weights: Box<[f32]> = (0..length).map(|i| hann(i, length)).collect();
        let energy: f32 = weights.iter().map(|w| w * w).sum();
        Self {
            input: fft.make_input_vec().into(),
            bins: fft.make_output_vec().into(),
            scratch: fft.make_scratch_vec().into(),
            power_scale: 1.0 / (length as f32 * energy),
            weights,
            fft,
        }
    }

    /// Transforms one channel; [`Spectrum::band`] reads the result.
    pub(super) fn transform(&mut self, values: impl Iterator<Item = f32>, mean: f32) {
        for ((slot, x), w) in self.input.iter_mut().zip(values).zip(&self.weights) {
            *slot = (x - mean) * w;
        }
        self.fft
            .process_with_scratch(&mut self.input, &mut self.bins, &mut self.scratch)
            .expect("the buffers were made by this transform for its own length");
    }

    /// RMS over some [`bins`].
    pub(super) fn band(&self, bins: &Range<usize>) -> f64 {
        let length = self.input.len();
        let power = |(k, bin): (usize, &Complex<f32>)| {
            let sides = if k == 0 || 2 * k == length { 1.0 } else { 2.0 };
            sides * bin.norm_sqr() * self.power_scale
        };
        let band = bins.clone().zip(&self.bins[bins.clone()]);
        f64::from(band.map(power).sum::<f32>()).sqrt()
    }
}

/// The bins between two frequencies, hertz, of a window of `length`.
pub(super) fn bins(length: usize, period_s: f64, low_hz: f64, high_hz: f64) -> Range<usize> {
    let nyquist_hz = 0.5 / period_s;
    let bin_hz = 2.0 * nyquist_hz / length as f64;
    // Bins are compared with half a millionth of slack, so that an edge written
    // in decimal falls on the bin that it names.
    let slack = bin_hz * 0.5e-6;
    let is_below = |edge_hz: f64| move |k: &usize| (*k as f64 * bin_hz) < edge_hz - slack;
    let count = length / 2 + 1;
    let start = (0..count).take_while(is_below(low_hz)).count();
    let end = (0..count).take_while(is_below(high_hz)).count();
    let takes_last = length.is_multiple_of(2) && high_hz >= nyquist_hz - slack;
    start..if takes_last { count } else { end }
}

/// A window of one reading has weight 1: Hann's would be 0.
fn hann(i: usize, length: usize) -> f32 {
    if length == 1 {
        return 1.0;
    }
    let phase = std::f64::consts::TAU * i as f64 / length as f64;
    (0.5 * (1.0 - phase.cos())) as f32
}
