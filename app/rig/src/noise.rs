//! Random numbers from the seed: independent streams, uniform and bell-shaped draws, and slow
//! wandering.
//!
//! Every part of the rig draws from its own [`Stream`], the same number of times whether a fault
//! is active or not. So two runs of one seed, one healthy and one faulty, differ by the fault
//! alone.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Who draws. The number is the ChaCha stream, so reordering changes every run.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Valve = 1,
    Mains = 2,
    Turbulence = 3,
    Ambient = 4,
    Broadband = 5,
    Impacts = 6,
    Instruments = 7,
    Stuck = 8,
    Link = 9,
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Noise(ChaCha8Rng);

impl Noise {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, standard deviation 1, never beyond ±4.9.
    ///
    /// The sum of eight uniform draws (Irwin–Hall distribution): close to normal, and free of the
    /// logarithm and cosine of Box–Muller, whose last bits differ between systems.
    pub(crate) fn bell(&mut self) -> f64 {
        let mut sum = 0_u32;
        for _ in 0..2 {
            let bits = self.0.next_u64();
            sum += (0..4)
                .map(|lane| (bits >> (16 * lane)) as u32 & 0xffff)
                .sum::<u32>();
        }
        // Eight lanes, each of mean 32767.5 and variance (2^32 − 1) / 12.
        (f64::from(sum) - 8.0 * 32_767.5) / libm::sqrt(8.0 * 4_294_967_295.0 / 12.0)
    }

    /// Two independent draws, uniform with mean 0 and standard deviation 1, for white noise at
    /// the sample rate: one generator word for both, because this is the rig's innermost loop.
    #[inline]
    pub(crate) fn white_pair(&mut self) -> [f64; 2] {
        // √3 / 32768: a uniform draw on ±√3 has standard deviation 1.
        const SCALE: f64 = 1.732_050_807_568_877_2 / 32_768.0;
        let bits = self.0.next_u32();
        [
            f64::from(bits as i16) * SCALE,
            f64::from((bits >> 16) as i16) * SCALE,
        ]
    }
}

/// A first-order Gauss–Markov process (Ornstein–Uhlenbeck): wanders about 0 with standard
/// deviation `sigma` and forgets in `tau_s`. Discretised by implicit Euler for the pole and an
/// exact stationary variance, so any step is stable.
#[derive(Clone, Debug)]
pub(crate) struct Wander {
    value: f64,
    pole: f64,
    kick: f64,
}

impl Wander {
    /// Starts in the stationary distribution: no settling at the start of a run.
    pub(crate) fn new(sigma: f64, tau_s: f64, step_s: f64, noise: &mut Noise) -> Self {
        let pole = 1.0 / (1.0 + step_s / tau_s);
        Self {
            value: sigma * noise.bell(),
            pole,
            kick: sigma * libm::sqrt(1.0 - pole * pole),
        }
    }

    pub(crate) fn step(&mut self, noise: &mut Noise) -> f64 {
        self.value = self.pole * self.value + self.kick * noise.bell();
        self.value
    }
}

/// A first-order lag by implicit Euler: `value` follows a target with time constant `tau_s`,
/// stable for any step.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    value: f64,
    share: f64,
}

impl Lag {
    pub(crate) fn new(value: f64, tau_s: f64, step_s: f64) -> Self {
        Self {
            value,
            share: step_s / (tau_s + step_s),
        }
    }

    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    pub(crate) fn follow(&mut self, target: f64) -> f64 {
        self.value += self.share * (target - self.value);
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(draws: impl Iterator<Item = f64>) -> (f64, f64) {
        let draws: Vec<f64> = draws.collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, variance.sqrt())
    }

    fn check_standard(name: &str, draws: impl Iterator<Item = f64>) {
        let (mean, std) = moments(draws.take(100_000));
        assert!(mean.abs() < 0.02, "{name}: mean {mean}");
        assert!((std - 1.0).abs() < 0.02, "{name}: std {std}");
    }

    #[test]
    fn draws_have_mean_zero_and_deviation_one() {
        let mut noise = Noise::new(7, Stream::Broadband);
        check_standard("bell", std::iter::repeat_with(|| noise.bell()));
        check_standard("white 0", std::iter::repeat_with(|| noise.white_pair()[0]));
        check_standard("white 1", std::iter::repeat_with(|| noise.white_pair()[1]));
        let mut wander = Wander::new(1.0, 0.3, 0.1, &mut noise);
        check_standard("wander", std::iter::repeat_with(|| wander.step(&mut noise)));
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let mut one = Noise::new(7, Stream::Valve);
        let mut other = Noise::new(7, Stream::Mains);
        assert!((0..100).all(|_| one.unit() != other.unit()));
    }

    #[test]
    fn a_lag_covers_most_of_the_way_in_one_time_constant() {
        let mut lag = Lag::new(0.0, 10.0, 0.01);
        for _ in 0..1000 {
            lag.follow(1.0);
        }
        assert!((lag.value() - 0.632).abs() < 0.001, "{}", lag.value());
    }
}
