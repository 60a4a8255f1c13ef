//! Acceleration of the motor's and the pump's housing, synthesised in the time domain, and its
//! RMS over a reading's period.
//!
//! Sampled at [`SAMPLE_HZ`], a usable band of 2.5 kHz by the 2.56 rule of vibration analysers.
//! Both accelerometers see the same sources, each through its own path, a plain gain:
//! - 1×, residual unbalance: e·ω², e from a balance grade G = e·ω_rated (ISO 21940-11);
//! - 2×, residual misalignment, ∝ ω²;
//! - blade pass, blades × shaft speed, least at the best efficiency point (Gülich, "Centrifugal
//!   Pumps", 3rd ed., ch. 10);
//! - 2× line: the magnetic pull between stator and rotor, ∝ V² (Finley, Hodowanec, Holter, "An
//!   analytical approach to solving motor vibration problems", IEEE Trans. Ind. Appl. 36 (2000)
//!   1467–1480);
//! - white noise from flow turbulence and rolling contact, and from collapsing bubbles when the
//!   pump cavitates;
//! - outer-race impacts at BPFO with 1 % random slip, each exciting a decaying resonance (P. D.
//!   McFadden, J. D. Smith, J. Sound Vib. 96 (1984) 69–82; slip: Randall & Antoni 2011, cited in
//!   [`crate::bearing`]).

use crate::bearing::SKF_6205;
use crate::mains::VOLTAGE_V;
use crate::motor::SHAFT_HZ;
use crate::noise::{Noise, Stream};
use crate::pump::FLOW_BEST_LPM;
use core::f64::consts::TAU;

/// Acceleration samples a second.
pub const SAMPLE_HZ: u32 = 6_400;
/// Blades of the impeller.
pub const BLADES: f64 = 6.0;
/// Where the bearing housing resonates: a third of the sample rate, 2133 Hz, whose recurrence has
/// exact coefficients.
pub const RESONANCE_HZ: f64 = SAMPLE_HZ as f64 / 3.0;
/// Decay of the resonance from sample to sample: damping ratio 0.04.
const DECAY: f64 = 0.92;
/// Share of an impact's amplitude that reaches the motor's and the pump's accelerometer.
const IMPACT_PATH: [f64; 2] = [1.0, 0.3];
const STANDARD_GRAVITY: f64 = 9.806_65;
const TONES: usize = 4;

/// What shakes the machine during one reading period.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Shaft speed, Hz.
    pub shaft_hz: f64,
    /// Line frequency, Hz.
    pub line_hz: f64,
    /// Line voltage at the motor, V.
    pub voltage_v: f64,
    /// Flow, l/min.
    pub flow_lpm: f64,
    /// Extent of cavitation, 0..=1.
    pub cavitation: f64,
    /// Severity of the imbalance, 0..=1: balance grade G 2.5 to G 62.5.
    pub imbalance: f64,
    /// Severity of the outer-race defect, 0..=1.
    pub outer_race: f64,
}

impl Condition {
    /// Frequencies of 1×, 2×, blade pass and 2× line, Hz.
    fn frequencies_hz(&self) -> [f64; TONES] {
        [
            self.shaft_hz,
            2.0 * self.shaft_hz,
            BLADES * self.shaft_hz,
            2.0 * self.line_hz,
        ]
    }

    /// Amplitudes in g of the same tones at the motor and at the pump.
    fn amplitudes_g(&self) -> [[f64; TONES]; 2] {
        let speed = self.shaft_hz / SHAFT_HZ;
        let eccentricity_m = (2.5e-3 + 60.0e-3 * self.imbalance) / (TAU * SHAFT_HZ);
        let omega = TAU * self.shaft_hz;
        let unbalance = eccentricity_m * omega * omega / STANDARD_GRAVITY;
        let blade_pass = 0.05 * speed * speed * (1.0 + 3.0 * self.off_design());
        let magnetic = 0.04 * (self.voltage_v / VOLTAGE_V) * (self.voltage_v / VOLTAGE_V);
        let misalignment = 0.012 * speed * speed;
        // The rotor's share of the vibrating mass is smaller at the heavy motor than at the pump,
        // whose impeller overhangs.
        [
            [0.15 * unbalance, misalignment, 0.2 * blade_pass, magnetic],
            [0.30 * unbalance, misalignment, blade_pass, 0.2 * magnetic],
        ]
    }

    /// RMS of the white noise in g at the motor and at the pump.
    fn broadband_g(&self) -> [f64; 2] {
        let turbulence = 0.045 * (1.0 + 1.5 * self.off_design());
        let bubbles = 0.40 * self.cavitation;
        let sum = |a: f64, b: f64| libm::sqrt(a * a + b * b);
        [sum(0.035, 0.25 * bubbles), sum(turbulence, bubbles)]
    }

    /// Peak in g of the resonance that one impact excites, near the bearing.
    fn impact_g(&self) -> f64 {
        1.2 * self.outer_race
    }

    /// Samples between two impacts, without slip.
    fn impact_spacing(&self) -> f64 {
        f64::from(SAMPLE_HZ) / (SKF_6205.bpfo() * self.shaft_hz)
    }

    /// Square of the relative distance from the best efficiency point.
    fn off_design(&self) -> f64 {
        let distance = self.flow_lpm / FLOW_BEST_LPM - 1.0;
        distance * distance
    }
}

/// A sine wave by rotation of a unit vector: `[cosine, sine]` of its phase.
#[derive(Clone, Copy, Debug)]
struct Tone([f64; 2]);

impl Tone {
    fn rotate(&mut self, [cosine, sine]: [f64; 2]) -> f64 {
        let [x, y] = self.0;
        self.0 = [x * cosine - y * sine, x * sine + y * cosine];
        self.0[1]
    }

    /// Undoes the rounding that a period of rotations has added to the length.
    fn renormalise(&mut self) {
        let [x, y] = self.0;
        let length = libm::sqrt(x * x + y * y);
        self.0 = [x / length, y / length];
    }
}

/// `[cosine, sine]` of the angle that a tone of `hz` turns in a sample, by their Taylor series.
/// Below 0.35 rad, where all tones lie, the terms left out are below 1e-11.
fn turn(hz: f64) -> [f64; 2] {
    let angle = TAU * hz / f64::from(SAMPLE_HZ);
    let square = angle * angle;
    let cosine =
        1.0 - square / 2.0 * (1.0 - square / 12.0 * (1.0 - square / 30.0 * (1.0 - square / 56.0)));
    let sine =
        1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0)));
    [cosine, angle * sine]
}

#[derive(Clone, Debug)]
pub(crate) struct Synthesizer {
    tones: [Tone; TONES],
    /// The resonance's last two samples.
    ringing: [f64; 2],
    until_impact: f64,
    broadband: Noise,
    impacts: Noise,
}

impl Synthesizer {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            tones: [Tone([1.0, 0.0]); TONES],
            ringing: [0.0; 2],
            until_impact: 0.0,
            broadband: Noise::new(seed, Stream::Broadband),
            impacts: Noise::new(seed, Stream::Impacts),
        }
    }

    /// RMS in g at the motor and at the pump over the next `samples` (> 0) samples.
    pub(crate) fn rms_g(&mut self, condition: &Condition, samples: u32) -> [f64; 2] {
        let source = Source {
            turns: condition.frequencies_hz().map(turn),
            tones_g: condition.amplitudes_g(),
            broadband_g: condition.broadband_g(),
        };
        let mut squares = [0.0; 2];
        let mut left = samples;
        while left > 0 {
            let free = self.samples_until_impact(condition, left);
            self.run(&source, free, &mut squares);
            left -= free;
        }
        self.tones.iter_mut().for_each(Tone::renormalise);
        self.let_silence_be_silent();
        squares.map(|sum: f64| libm::sqrt(sum / f64::from(samples)))
    }

    /// How many of the next `limit` samples pass until an impact; strikes first if one is due.
    fn samples_until_impact(&mut self, condition: &Condition, limit: u32) -> u32 {
        if condition.outer_race <= 0.0 {
            return limit;
        }
        if self.until_impact < 1.0 {
            // The recurrence answers a kick of K with K/sin(2π/3)·DECAYⁿ·sin(…), so this makes
            // the envelope start at the impact's peak. Its strength varies by 10 %: no two passes
            // load the spall alike.
            const SINE: f64 = 0.866_025_403_784_438_6;
            self.ringing[0] += condition.impact_g() * SINE * (1.0 + 0.1 * self.impacts.bell());
            let slip = 1.0 + 0.01 * self.impacts.bell();
            self.until_impact += condition.impact_spacing() * slip;
        }
        let free = (self.until_impact as u32).clamp(1, limit);
        self.until_impact -= f64::from(free);
        free
    }

    /// The innermost loop: `samples` samples without an impact, their squares added to `squares`.
    fn run(&mut self, source: &Source, samples: u32, squares: &mut [f64; 2]) {
        let mut tones = self.tones;
        let [mut last, mut before] = self.ringing;
        for _ in 0..samples {
            let mut waves = [0.0; TONES];
            for i in 0..TONES {
                waves[i] = tones[i].rotate(source.turns[i]);
            }
            let white = self.broadband.white_pair();
            for sensor in 0..2 {
                let gains = &source.tones_g[sensor];
                let tonal = (gains[0] * waves[0] + gains[1] * waves[1])
                    + (gains[2] * waves[2] + gains[3] * waves[3]);
                let random =
                    source.broadband_g[sensor] * white[sensor] + IMPACT_PATH[sensor] * last;
                squares[sensor] += (tonal + random) * (tonal + random);
            }
            // y[n] = 2·r·cos θ·y[n−1] − r²·y[n−2], and cos θ is exactly −½ at a third of the
            // sample rate.
            (last, before) = (-DECAY * last - DECAY * DECAY * before, last);
        }
        self.tones = tones;
        self.ringing = [last, before];
    }

    /// Ends a ringing that nobody can see any more, before it decays into subnormal numbers,
    /// which cost a hundred times more to compute with on some processors.
    fn let_silence_be_silent(&mut self) {
        if self.ringing.iter().all(|sample| sample.abs() < 1e-12) {
            self.ringing = [0.0; 2];
        }
    }
}

/// A condition, worked out for the innermost loop.
struct Source {
    turns: [[f64; 2]; TONES],
    tones_g: [[f64; TONES]; 2],
    broadband_g: [f64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Condition = Condition {
        shaft_hz: SHAFT_HZ,
        line_hz: 50.0,
        voltage_v: VOLTAGE_V,
        flow_lpm: FLOW_BEST_LPM,
        cavitation: 0.0,
        imbalance: 0.0,
        outer_race: 0.0,
    };

    /// Over ten seconds, so that every tone completes whole turns but for a negligible rest.
    fn check_rms(condition: Condition, expected_squares: [f64; 2]) {
        let rms = Synthesizer::new(1).rms_g(&condition, 10 * SAMPLE_HZ);
        for sensor in 0..2 {
            let expected = expected_squares[sensor].sqrt();
            assert!(
                (rms[sensor] / expected - 1.0).abs() < 0.02,
                "sensor {sensor}: {}, expected {expected}",
                rms[sensor]
            );
        }
    }

    fn tonal_and_white_squares(condition: &Condition) -> [f64; 2] {
        let amplitudes = condition.amplitudes_g();
        let broadband = condition.broadband_g();
        std::array::from_fn(|sensor| {
            let tonal: f64 = amplitudes[sensor].iter().map(|a| a * a / 2.0).sum();
            tonal + broadband[sensor] * broadband[sensor]
        })
    }

    #[test]
    fn rms_is_that_of_the_tones_and_the_noise() {
        check_rms(SOUND, tonal_and_white_squares(&SOUND));
        let bad = Condition {
            imbalance: 1.0,
            cavitation: 0.5,
            flow_lpm: 0.0,
            ..SOUND
        };
        check_rms(bad, tonal_and_white_squares(&bad));
    }

    #[test]
    fn impacts_add_the_energy_of_their_decaying_resonance_at_bpfo() {
        let spalled = Condition {
            outer_race: 1.0,
            ..SOUND
        };
        // Sum over one decay of (A·rⁿ·sin)², times impacts per sample; 1.01 for the 10 % scatter
        // of the strengths.
        let one_decay: f64 = (0..300)
            .map(|n| (1.2 * DECAY.powi(n) * (TAU / 3.0 * f64::from(n + 1)).sin()).powi(2))
            .sum();
        let impacts = 1.01 * one_decay / spalled.impact_spacing();
        let squares = tonal_and_white_squares(&SOUND);
        check_rms(
            spalled,
            std::array::from_fn(|i| squares[i] + impacts * IMPACT_PATH[i] * IMPACT_PATH[i]),
        );
    }

    #[test]
    fn turns_agree_with_sine_and_cosine_at_every_tone() {
        for hz in [1.0, 48.25, 100.0, 290.0, 310.0] {
            let (sine, cosine) = (TAU * hz / f64::from(SAMPLE_HZ)).sin_cos();
            let [computed_cosine, computed_sine] = turn(hz);
            assert!((computed_cosine - cosine).abs() < 1e-10, "{hz} Hz");
            assert!((computed_sine - sine).abs() < 1e-10, "{hz} Hz");
        }
    }

    #[test]
    fn a_healed_bearing_rings_down_to_exact_silence() {
        let mut synthesizer = Synthesizer::new(1);
        synthesizer.rms_g(
            &Condition {
                outer_race: 1.0,
                ..SOUND
            },
            640,
        );
        assert_ne!(synthesizer.ringing, [0.0; 2]);
        synthesizer.rms_g(&SOUND, 640);
        assert_eq!(synthesizer.ringing, [0.0; 2]);
    }
}
