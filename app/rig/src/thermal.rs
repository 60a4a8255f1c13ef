//! Temperature of the motor's drive-end bearing shield: one heat capacity, one thermal
//! resistance.
//!
//! C·dT/dt = P_loss − (T − T_ambient)/R, so that T tends to T_ambient + R·P_loss with the time
//! constant R·C (lumped capacitance: Incropera, "Fundamentals of Heat and Mass Transfer", 7th
//! ed., ch. 5). The rig starts in equilibrium with its mean load: a plant that has long been
//! running, without a warm-up.

use crate::noise::{Lag, Noise, Stream, Wander};

/// Shield to ambient, K/W: 45 K above ambient at the motor's rated losses.
pub const RESISTANCE_K_PER_W: f64 = 0.125;
/// R·C of the shield and bearing, s. The whole frame is slower.
pub const TIME_CONSTANT_S: f64 = 600.0;
/// Mean temperature of the pump room, °C. It wanders by 1.5 K (standard deviation) over hours.
pub const AMBIENT_C: f64 = 22.0;

#[derive(Clone, Debug)]
pub(crate) struct Thermal {
    rise: Lag,
    ambient: Wander,
    noise: Noise,
}

impl Thermal {
    /// In equilibrium with `losses_w`.
    pub(crate) fn new(seed: u64, step_s: f64, losses_w: f64) -> Self {
        let mut noise = Noise::new(seed, Stream::Ambient);
        let rise = Lag::new(RESISTANCE_K_PER_W * losses_w, TIME_CONSTANT_S, step_s);
        Self {
            rise,
            ambient: Wander::new(1.5, 4.0 * 3_600.0, step_s, &mut noise),
            noise,
        }
    }

    /// Temperature in °C after one more reading period of `losses_w`.
    pub(crate) fn step(&mut self, losses_w: f64) -> f64 {
        AMBIENT_C
            + self.ambient.step(&mut self.noise)
            + self.rise.follow(RESISTANCE_K_PER_W * losses_w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equilibrium_is_kept_and_more_loss_warms() {
        let mut steady = Thermal::new(1, 1.0, 300.0);
        let mut warming = Thermal::new(1, 1.0, 300.0);
        let drift = (0..600)
            .map(|_| warming.step(340.0) - steady.step(300.0))
            .last()
            .expect("600 steps");
        let expected = 40.0 * RESISTANCE_K_PER_W * 0.632;
        assert!(
            (drift - expected).abs() < 0.02,
            "{drift}, expected {expected}"
        );
        assert_eq!(steady.rise.value(), 300.0 * RESISTANCE_K_PER_W);
    }
}
