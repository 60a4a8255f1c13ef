//! The control valve, and the load that the process asks of it.
//!
//! The position follows a seeded profile of ramps and plateaus: hold for some 4 to 45 s, then
//! move in 2 to 15 s to another position between [`POSITION_MIN`] and fully open, with a small
//! dither of the positioner throughout. So windows of half a minute see changes, and ten minutes
//! cover the whole range.
//!
//! Opening from position: a globe valve with parabolic trim passes f(x) = x² of its full flow
//! coefficient (flow equation: IEC 60534-2-1, ΔP ∝ (Q/Kv)²). Even a shut valve leaks:
//! [`LEAKAGE`], within class II of IEC 60534-4.

use crate::noise::{Noise, Stream, Wander};

/// The healthy profile never closes the valve further than this share of its travel.
pub const POSITION_MIN: f64 = 0.55;
/// The middle of the healthy profile: where the machine is in thermal equilibrium at the start.
pub const POSITION_MEAN: f64 = (POSITION_MIN + 1.0) / 2.0;
/// Flow coefficient of the shut valve, as a share of that of the open one.
pub const LEAKAGE: f64 = 0.005;

/// Share of the full flow coefficient, [`LEAKAGE`]..=1, at `position` 0..=1 of the travel.
pub fn opening(position: f64) -> f64 {
    (position * position).max(LEAKAGE)
}

#[derive(Clone, Debug)]
pub(crate) struct LoadProfile {
    noise: Noise,
    dither: Wander,
    position: f64,
    target: f64,
    rate_per_s: f64,
    hold_s: f64,
    step_s: f64,
}

impl LoadProfile {
    pub(crate) fn new(seed: u64, step_s: f64) -> Self {
        let mut noise = Noise::new(seed, Stream::Valve);
        let position = noise.between(POSITION_MIN, 1.0);
        let dither = Wander::new(0.006, 3.0, step_s, &mut noise);
        let hold_s = noise.between(4.0, 45.0);
        Self {
            noise,
            dither,
            position,
            target: position,
            rate_per_s: 0.0,
            hold_s,
            step_s,
        }
    }

    /// The position after one more reading period, 0..=1.
    pub(crate) fn step(&mut self) -> f64 {
        let way = self.target - self.position;
        let stride = self.rate_per_s * self.step_s;
        if way.abs() > stride {
            self.position += stride.copysign(way);
        } else {
            self.position = self.target;
            self.hold();
        }
        (self.position + self.dither.step(&mut self.noise)).clamp(0.0, 1.0)
    }

    fn hold(&mut self) {
        self.hold_s -= self.step_s;
        if self.hold_s <= 0.0 {
            self.target = self.noise.between(POSITION_MIN, 1.0);
            self.rate_per_s = (self.target - self.position).abs() / self.noise.between(2.0, 15.0);
            self.hold_s = self.noise.between(4.0, 45.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_minute_sees_the_load_change_and_ten_minutes_its_whole_range() {
        let mut profile = LoadProfile::new(3, 0.1);
        let positions: Vec<f64> = (0..36_000).map(|_| profile.step()).collect();
        let span = |window: &[f64]| {
            let (low, high) = window
                .iter()
                .fold((1.0_f64, 0.0_f64), |(l, h), x| (l.min(*x), h.max(*x)));
            high - low
        };
        let moving = positions
            .chunks(300)
            .filter(|window| span(window) > 0.05)
            .count();
        assert!(moving > 90, "only {moving} of 120 half minutes move");
        assert!(positions.chunks(6_000).all(|window| span(window) > 0.3));
    }

    #[test]
    fn a_shut_valve_leaks_and_an_open_one_passes_all() {
        assert_eq!(opening(0.0), LEAKAGE);
        assert_eq!(opening(1.0), 1.0);
    }
}
