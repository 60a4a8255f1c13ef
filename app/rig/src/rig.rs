//! The rig: one reading after another, from a seed and a schedule of faults.

use crate::event::FaultEvent;
use crate::fault::Fault;
use crate::instruments::{CHANNELS, Instruments, quantise};
use crate::machine::{Damage, Machine};
use crate::mains::Mains;
use crate::schedule::Active;
use crate::transmission::{StuckSensor, Uplink};
use crate::valve::LoadProfile;
use crate::vibration::{Condition, SAMPLE_HZ, Synthesizer};
use alloc::vec::Vec;
use core::fmt;

/// Shortest reading period, ms: half a turn of the shaft, below which an RMS says nothing about
/// 1×.
pub const PERIOD_MS_MIN: u32 = 10;
/// Longest reading period, ms: beyond it the load profile is no longer resolved.
pub const PERIOD_MS_MAX: u32 = 10_000;
/// Most scheduled faults: each costs a little in every reading, and nobody plans more by hand.
pub const FAULTS_MAX: usize = 256;

/// What to simulate. The default is a healthy machine, seed 1, ten readings a second.
#[derive(Clone, Debug, PartialEq)]
pub struct RigConfig {
    /// Everything random comes from it.
    pub seed: u64,
    /// Time from one reading to the next, [`PERIOD_MS_MIN`]..=[`PERIOD_MS_MAX`] ms.
    pub period_ms: u32,
    /// At most [`FAULTS_MAX`], in any order; they may overlap.
    pub faults: Vec<FaultEvent>,
}

impl Default for RigConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            period_ms: 100,
            faults: Vec::new(),
        }
    }
}

/// Why a [`RigConfig`] cannot be simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigError {
    /// The period is outside its range.
    Period(u32),
    /// There are more faults than [`FAULTS_MAX`].
    TooManyFaults(usize),
    /// A severity is not from 0 to 1.
    Severity(f64),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Period(period_ms) => {
                write!(
                    f,
                    "period {period_ms} ms: expected {PERIOD_MS_MIN} to {PERIOD_MS_MAX}"
                )
            }
            Self::TooManyFaults(count) => {
                write!(f, "{count} faults: expected at most {FAULTS_MAX}")
            }
            Self::Severity(severity) => write!(f, "severity {severity}: expected 0 to 1"),
        }
    }
}

impl core::error::Error for ConfigError {}

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RigReading {
    /// Counts every reading from 0, sent or not.
    pub sequence: u64,
    /// End of the period that the reading covers, µs; `sequence` × the period.
    pub time_us: u64,
    /// In the order, units and ranges of [`CHANNELS`]. Always finite.
    pub values: [f32; CHANNELS.len()],
    /// The active fault; of several the one that began last. Set from the fault's first reading,
    /// when a ramp has only begun.
    pub label: Option<Fault>,
    /// How far that fault has grown, 0..=1; 0 without a fault.
    pub severity: f32,
    /// False: lost on the way, so a source must skip it. The values are what would have been
    /// sent.
    pub sent: bool,
}

/// The machine, its instruments and its link. An endless iterator.
#[derive(Clone, Debug)]
pub struct Rig {
    config: RigConfig,
    sequence: u64,
    mains: Mains,
    profile: LoadProfile,
    machine: Machine,
    vibration: Synthesizer,
    instruments: Instruments,
    stuck: StuckSensor,
    uplink: Uplink,
    last: Option<[f64; CHANNELS.len()]>,
}

impl Rig {
    /// A rig that has run for long: warm, and somewhere in its load profile.
    ///
    /// # Errors
    /// [`ConfigError`], naming the value out of range.
    pub fn new(config: RigConfig) -> Result<Self, ConfigError> {
        check(&config)?;
        let seed = config.seed;
        let step_s = f64::from(config.period_ms) / 1_000.0;
        let mut profile = LoadProfile::new(seed, step_s);
        Ok(Self {
            sequence: 0,
            mains: Mains::new(seed, step_s),
            machine: Machine::new(seed, step_s, profile.step()),
            profile,
            vibration: Synthesizer::new(seed),
            instruments: Instruments::new(seed),
            stuck: StuckSensor::new(seed),
            uplink: Uplink::new(seed),
            last: None,
            config,
        })
    }

    /// True values of the channels, before the instruments.
    fn measure(&mut self, active: &Active) -> [f64; CHANNELS.len()] {
        let supply = self.mains.step();
        let position = self.profile.step() * (1.0 - active.extent(Fault::ClosingValve));
        let damage = Damage {
            hot_liquid: active.extent(Fault::Cavitation),
            outer_race: active.extent(Fault::OuterRace),
        };
        let point = self.machine.step(supply, position, damage);
        let condition = Condition {
            shaft_hz: point.shaft_hz,
            line_hz: supply.line_hz,
            voltage_v: point.voltage_v,
            flow_lpm: point.flow_lpm,
            cavitation: point.cavitation,
            imbalance: active.extent(Fault::Imbalance),
            outer_race: damage.outer_race,
        };
        let [accel_motor_g, accel_pump_g] = self.vibration.rms_g(&condition, self.samples());
        [
            accel_motor_g,
            accel_pump_g,
            point.current_a,
            point.pressure_bar,
            point.temperature_c,
            point.voltage_v + supply.ripple_v,
            point.flow_lpm,
        ]
    }

    /// Acceleration samples in this reading's period. Fractions are carried, so that none is lost
    /// in the long run.
    fn samples(&self) -> u32 {
        let per_period = u64::from(SAMPLE_HZ) * u64::from(self.config.period_ms);
        let carried = (self.sequence % 1_000) * per_period % 1_000;
        ((carried + per_period) / 1_000) as u32
    }
}

impl Iterator for Rig {
    type Item = RigReading;

    fn next(&mut self) -> Option<RigReading> {
        let time_us = self.sequence * u64::from(self.config.period_ms) * 1_000;
        let active = Active::at(&self.config.faults, time_us);
        let truth = self.measure(&active);
        let fresh = self.instruments.read(truth);
        let last = self.last.unwrap_or(fresh);
        let values = self
            .stuck
            .apply(active.severity(Fault::StuckSensor), fresh, &last);
        self.last = Some(values);
        let reading = RigReading {
            sequence: self.sequence,
            time_us,
            values: quantise(values),
            label: active.latest.map(|(fault, _)| fault),
            severity: active.latest.map_or(0.0, |(_, severity)| severity as f32),
            sent: self.uplink.passes(active.extent(Fault::Dropout)),
        };
        self.sequence += 1;
        Some(reading)
    }
}

fn check(config: &RigConfig) -> Result<(), ConfigError> {
    if !(PERIOD_MS_MIN..=PERIOD_MS_MAX).contains(&config.period_ms) {
        return Err(ConfigError::Period(config.period_ms));
    }
    if config.faults.len() > FAULTS_MAX {
        return Err(ConfigError::TooManyFaults(config.faults.len()));
    }
    let mut severities = config.faults.iter().map(|event| event.severity);
    severities
        .find(|severity| !(0.0..=1.0).contains(severity))
        .map_or(Ok(()), |s| Err(ConfigError::Severity(s)))
}
