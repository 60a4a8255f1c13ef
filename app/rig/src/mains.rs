//! The three-phase supply: line-to-line voltage and frequency.
//!
//! Both wander slowly about their nominal values (EN 50160: 400 V ± 10 %, 50 Hz ± 1 %; an
//! interconnected grid moves far less). The voltage transmitter rectifies, so a ripple at twice
//! the line frequency remains in its output. Read once per period, that ripple appears at the
//! difference to the nearest multiple of the reading rate: a slow beat that follows the
//! frequency's wandering.

use crate::noise::{Noise, Stream, Wander};

/// Nominal line-to-line voltage, V RMS.
pub const VOLTAGE_V: f64 = 400.0;
/// Nominal frequency, Hz.
pub const LINE_HZ: f64 = 50.0;
/// Impedance of the supply as seen by the motor, Ω per phase: 100 m of 2.5 mm² copper is 0.7 Ω,
/// the rig's cable is shorter.
pub const IMPEDANCE_OHM: f64 = 0.3;
/// Amplitude of the rectifier's ripple in the transmitter's output, V.
const RIPPLE_V: f64 = 0.5;

/// The supply during one reading period.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    /// Line-to-line voltage before the motor's cable, V RMS.
    pub voltage_v: f64,
    /// Line frequency, Hz.
    pub line_hz: f64,
    /// What the transmitter's rectifier adds to its reading, V.
    pub ripple_v: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Mains {
    noise: Noise,
    voltage: Wander,
    frequency: Wander,
    ripple_turns: f64,
    step_s: f64,
}

impl Mains {
    pub(crate) fn new(seed: u64, step_s: f64) -> Self {
        let mut noise = Noise::new(seed, Stream::Mains);
        Self {
            voltage: Wander::new(1.5, 60.0, step_s, &mut noise),
            frequency: Wander::new(0.015, 100.0, step_s, &mut noise),
            ripple_turns: noise.unit(),
            noise,
            step_s,
        }
    }

    pub(crate) fn step(&mut self) -> Supply {
        let line_hz = LINE_HZ + self.frequency.step(&mut self.noise);
        let turns = self.ripple_turns + 2.0 * line_hz * self.step_s;
        self.ripple_turns = turns - libm::trunc(turns);
        // A triangle wave: the shape of a rectifier's capacitor voltage, and no libm.
        let ripple_v = RIPPLE_V * (1.0 - 4.0 * (self.ripple_turns - 0.5).abs());
        Supply {
            voltage_v: VOLTAGE_V + self.voltage.step(&mut self.noise),
            line_hz,
            ripple_v,
        }
    }
}
