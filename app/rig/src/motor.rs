//! A three-phase squirrel-cage induction motor near its rated point.
//!
//! - Slip: on the linear part of the torque curve s = s_r · (T/T_r) · (V_r/V)², and the shaft
//!   turns at (1−s)·f/p (S. J. Chapman, "Electric Machinery Fundamentals", 5th ed., ch. 6; p = 1
//!   pole pair here).
//! - Losses: a constant share (iron, windage) and a share that grows with the square of the load
//!   (copper).
//! - Current: an active part from the input power, P₁ = √3·V·I·cos φ, and a magnetising part in
//!   quadrature that follows the voltage (the circle diagram without leakage).
//!
//! Rated values: 2.2 kW, two poles, 50 Hz, frame size 90 L. Efficiency 85.9 % is class IE3 of IEC
//! 60034-30-1; slip and power factor are typical of makers' catalogues for that size.

use crate::mains::{LINE_HZ, VOLTAGE_V};
use core::f64::consts::TAU;

/// Rated shaft power, W.
pub const POWER_W: f64 = 2_200.0;
/// Rated slip: 2895 of 3000 revolutions a minute.
pub const SLIP: f64 = 0.035;
/// Rated speed of the shaft, Hz.
pub const SHAFT_HZ: f64 = (1.0 - SLIP) * LINE_HZ;
const EFFICIENCY: f64 = 0.859;
const POWER_FACTOR: f64 = 0.85;
/// √(1 − POWER_FACTOR²).
const QUADRATURE_FACTOR: f64 = 0.526_783;
pub(crate) const SQRT_3: f64 = 1.732_050_807_568_877_2;
/// Rated line current, A: 4.35.
pub const CURRENT_A: f64 = POWER_W / EFFICIENCY / (SQRT_3 * VOLTAGE_V * POWER_FACTOR);
const LOSSES_W: f64 = POWER_W / EFFICIENCY - POWER_W;
/// Iron and windage share of the rated losses, typical of small two-pole machines.
const CONSTANT_LOSSES: f64 = 0.35;

/// Speed in Hz that the shaft tends to, when it turns at `shaft_hz` and delivers `shaft_power_w`.
pub fn speed_hz(shaft_power_w: f64, shaft_hz: f64, voltage_v: f64, line_hz: f64) -> f64 {
    let torque = shaft_power_w / (TAU * shaft_hz);
    let torque_rated = POWER_W / (TAU * SHAFT_HZ);
    let sag = VOLTAGE_V / voltage_v;
    (1.0 - SLIP * torque / torque_rated * sag * sag) * line_hz
}

/// Heat in W set free while delivering `shaft_power_w`.
pub fn losses_w(shaft_power_w: f64) -> f64 {
    let load = shaft_power_w / POWER_W;
    LOSSES_W * (CONSTANT_LOSSES + (1.0 - CONSTANT_LOSSES) * load * load)
}

/// Line current in A RMS while delivering `shaft_power_w`.
pub fn current_a(shaft_power_w: f64, voltage_v: f64) -> f64 {
    let active = (shaft_power_w + losses_w(shaft_power_w)) / (SQRT_3 * voltage_v);
    let magnetising = CURRENT_A * QUADRATURE_FACTOR * voltage_v / VOLTAGE_V;
    libm::sqrt(active * active + magnetising * magnetising)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rated_point_is_met() {
        assert!((current_a(POWER_W, VOLTAGE_V) - CURRENT_A).abs() < 1e-3);
        assert!((CURRENT_A - 4.35).abs() < 0.01);
        assert!((speed_hz(POWER_W, SHAFT_HZ, VOLTAGE_V, LINE_HZ) - SHAFT_HZ).abs() < 1e-9);
    }

    #[test]
    fn slip_grows_with_load_and_falling_voltage() {
        let speed = |power_w, voltage_v| speed_hz(power_w, SHAFT_HZ, voltage_v, LINE_HZ);
        assert!(speed(2_000.0, 400.0) < speed(1_000.0, 400.0));
        assert!(speed(2_000.0, 380.0) < speed(2_000.0, 400.0));
        assert_eq!(speed(0.0, 400.0), LINE_HZ);
    }
}
