//! Features of one channel from its running sums, or from a pass over its rows.

use crate::window::{Sums, Window, WindowShape};

pub(super) fn mean(sums: &Sums, length: usize) -> f64 {
    sums.shift + sums.first / length as f64
}

/// Population variance; never below 0, whatever the rounding.
fn variance(sums: &Sums, length: usize) -> f64 {
    let mean_d = sums.first / length as f64;
    (sums.second / length as f64 - mean_d * mean_d).max(0.0)
}

pub(super) fn std(sums: &Sums, length: usize) -> f64 {
    variance(sums, length).sqrt()
}

pub(super) fn rms(sums: &Sums, length: usize) -> f64 {
    let mean = mean(sums, length);
    (variance(sums, length) + mean * mean).sqrt()
}

/// Least-squares slope per second. With `i` from 0 to L − 1, `Σ (i − ī)²` is
/// `L·(L² − 1) / 12`. A window of one reading has no slope: 0.
pub(super) fn slope(sums: &Sums, length: usize, period_s: f64) -> f64 {
    if length < 2 {
        return 0.0;
    }
    let n = length as f64;
    let covariance = sums.indexed - (n - 1.0) / 2.0 * sums.first;
    covariance / (n * (n * n - 1.0) / 12.0) / period_s
}

/// The values of one channel, oldest first.
pub(super) fn column<'a>(
    window: &'a Window,
    shape: &'a WindowShape,
    channel: usize,
) -> impl Iterator<Item = f32> + 'a {
    let (older, newer) = window.blocks(shape);
    let pick = move |block: &'a [f32]| block.iter().skip(channel).step_by(shape.channels);
    pick(older).chain(pick(newer)).copied()
}

pub(super) fn peak(values: impl Iterator<Item = f32>) -> f64 {
    f64::from(values.fold(0.0_f32, |peak, x| peak.max(x.abs())))
}

pub(super) fn crest(peak: f64, rms: f64) -> f64 {
    if rms > 0.0 { peak / rms } else { 0.0 }
}

/// Two passes, because fourth powers of raw values lose every digit.
#[inline(always)]
pub(super) fn kurtosis<I: Iterator<Item = f32>>(column: impl Fn() -> I, length: usize) -> f64 {
    let n = length as f64;
    let mean = column().map(f64::from).sum::<f64>() / n;
    let (second, fourth) = column().fold((0.0, 0.0), |(second, fourth), x| {
        let square = (f64::from(x) - mean).powi(2);
        (second + square, fourth + square * square)
    });
    if second > 0.0 {
        n * fourth / (second * second)
    } else {
        0.0
    }
}
