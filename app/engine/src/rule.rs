//! The statistical rule: the lowest live rung, learnt from the stream itself.
//!
//! For each channel an exponentially weighted mean `m` and variance `v` follow
//! the readings, robustly: with `r = x − m` and `z = r / √v`, the residual that
//! enters the update is Huber's, `ψ(r) = max(−c√v, min(c√v, r))` with
//! `c =` [`HUBER_C`] (Huber 1964, "Robust estimation of a location parameter"):
//!
//! `m ← m + α·ψ(r)`, `v ← (1 − α)·(v + α·ψ(r)²)` (Finch 2009, "Incremental
//! calculation of weighted mean and variance", eq. 143).
//!
//! The distance is Mahalanobis' with a diagonal covariance,
//! `d² = 1/C · Σ z_c²`, and the score is its moving average over
//! [`SMOOTHING`], so that one odd reading is no fault. The score is relative
//! to [`DISTANCE_MAX`]: above 1 is an anomaly. During the first [`LEARN`]
//! readings the rule has no opinion. The average is kept by channel, so that each
//! channel's share of the score is known.
//!
//! It costs one pass over the channels, allocates nothing, and cannot fail.

use crate::CHANNELS_MAX;
use crate::causes::{Causes, Parts};

/// Residuals beyond 2.5 standard deviations pull no harder than that.
const HUBER_C: f32 = 2.5;
/// Forgetting factor of mean and variance: a memory of about 1000 readings.
const ALPHA: f32 = 1e-3;
/// Smoothing factor of the squared distance: about 16 readings.
const SMOOTHING: f32 = 1.0 / 16.0;
/// Readings before the rule has an opinion.
const LEARN: u32 = 128;
/// Root mean square of the channels' standardised residuals that is an
/// anomaly. Of a normal stream it is 1, whatever the number of channels.
const DISTANCE_MAX: f32 = 4.0;
/// Floor of a standard deviation, relative to the mean: a channel that never
/// moved must not call its first least significant bit a fault.
const RELATIVE_STD_MIN: f32 = 1e-3;
/// The same for a channel around 0, in the channel's unit.
const STD_MIN: f32 = 1e-6;

/// The rule of one sensor.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    mean: [f32; CHANNELS_MAX],
    variance: [f32; CHANNELS_MAX],
    /// By channel, smoothed.
    distance_squared: [f32; CHANNELS_MAX],
    learnt: u32,
}

impl Rule {
    pub(crate) fn new() -> Self {
        Self {
            mean: [0.0; CHANNELS_MAX],
            variance: [0.0; CHANNELS_MAX],
            distance_squared: [0.0; CHANNELS_MAX],
            learnt: 0,
        }
    }

    /// Takes in one sample; returns the score, 0 or more, above 1 an anomaly,
    /// or `None` while it learns.
    pub(crate) fn handle_sample(&mut self, values: &[f32]) -> Option<f32> {
        if self.learnt < LEARN {
            self.learn(values);
            return None;
        }
        let mut sum = 0.0;
        for (channel, &x) in values.iter().enumerate() {
            let square = self.follow(channel, x, ALPHA);
            let smoothed = &mut self.distance_squared[channel];
            *smoothed += SMOOTHING * (square - *smoothed);
            sum += *smoothed;
        }
        Some((sum / values.len() as f32).sqrt() / DISTANCE_MAX)
    }

    /// Where `channel` has been of late, in its unit.
    pub(crate) fn mean(&self, channel: usize) -> f32 {
        self.mean[channel]
    }

    /// The channels that the score comes from; `values` are the newest.
    pub(crate) fn causes(&self, values: &[f32]) -> Causes {
        let mut parts = Parts::new();
        for (channel, &square) in self.distance_squared[..values.len()].iter().enumerate() {
            parts.add(channel, None, square);
        }
        parts.causes(|channel, _| (values[channel], self.mean[channel]))
    }

    /// The first readings weigh alike (`α = 1/n`), unclipped: there is no
    /// spread yet to clip by (Welford 1962).
    fn learn(&mut self, values: &[f32]) {
        self.learnt += 1;
        let alpha = 1.0 / self.learnt as f32;
        for (channel, &x) in values.iter().enumerate() {
            let r = x - self.mean[channel];
            self.mean[channel] += alpha * r;
            self.variance[channel] = (1.0 - alpha) * (self.variance[channel] + alpha * r * r);
        }
        self.distance_squared = [1.0; CHANNELS_MAX];
    }

    /// Updates one channel and returns its squared standardised residual.
    fn follow(&mut self, channel: usize, x: f32, alpha: f32) -> f32 {
        let (m, v) = (self.mean[channel], self.variance[channel]);
        let std = v.sqrt().max(m.abs() * RELATIVE_STD_MIN).max(STD_MIN);
        let z = (x - m) / std;
        let pull = z.clamp(-HUBER_C, HUBER_C) * std;
        self.mean[channel] = m + alpha * pull;
        self.variance[channel] = (1.0 - alpha) * (v + alpha * pull * pull);
        z * z
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Scores of `n` readings of two noisy channels, offset by `shift` standard
    /// deviations from reading `from`.
    fn scores(n: usize, from: usize, shift: f32) -> Vec<Option<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut rule = Rule::new();
        // Twelve uniform numbers have variance 1: near enough to normal.
        let mut normal = move || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        (0..n)
            .map(|i| {
                let shift = if i < from { 0.0 } else { shift };
                rule.handle_sample(&[5.0 + normal() + shift, 100.0 + 10.0 * (normal() + shift)])
            })
            .collect()
    }

    fn worst(scores: &[Option<f32>]) -> f32 {
        scores.iter().flatten().copied().fold(0.0, f32::max)
    }

    #[test]
    fn a_healthy_stream_stays_well_below_one() {
        let scores = scores(20_000, usize::MAX, 0.0);
        assert!(worst(&scores) < 0.6, "{}", worst(&scores));
    }

    #[test]
    fn a_large_shift_is_an_anomaly_and_stays_one() {
        let scores = scores(2_000, 1_000, 8.0);
        assert!(worst(&scores[..1_000]) < 0.6);
        assert!(scores[1_050..1_200].iter().all(|&s| s > Some(1.0)));
    }

    #[test]
    fn the_channel_that_left_its_place_is_the_cause() {
        let mut rule = Rule::new();
        let at = |i: u32| [5.0 + (i % 7) as f32, 100.0 + (i % 5) as f32, -3.0];
        for i in 0..1_000 {
            rule.handle_sample(&at(i));
        }
        let mut values = at(0);
        values[1] = 160.0;
        let score = rule.handle_sample(&values).unwrap();
        assert!(score > 1.0, "{score}");
        let causes = rule.causes(&values);
        let first = causes.as_slice()[0];
        assert_eq!(
            (first.channel, first.feature, first.value),
            (1, None, 160.0)
        );
        assert!((first.normal - 102.0).abs() < 0.5, "{first:?}");
        assert!(first.share > 0.9, "{first:?}");
    }

    #[test]
    fn it_has_no_opinion_while_it_learns() {
        let scores = scores(LEARN as usize + 1, 10, 50.0);
        let (learning, learnt) = scores.split_at(LEARN as usize);
        assert!(learning.iter().all(Option::is_none));
        assert!(learnt[0].is_some());
    }

    #[test]
    fn a_constant_stream_scores_nothing_and_divides_by_nothing() {
        let mut rule = Rule::new();
        let scores: Vec<f32> = (0..500)
            .filter_map(|_| rule.handle_sample(&[0.0, 230.0]))
            .collect();
        assert!(!scores.is_empty());
        assert!(scores.iter().all(|s| s.is_finite() && *s < 0.5));
    }
}
