//! The instruments: what each channel measures, how noisily, how finely, and in which range.
//!
//! Every channel adds white noise and rounds to its resolution, both typical of 4–20 mA
//! transmitters behind a 12- to 16-bit converter. An instrument saturates at the ends of its
//! range; the rig, healthy or faulty, stays inside.

use crate::noise::{Noise, Stream};

/// One measured quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// Name in payloads.
    pub name: &'static str,
    /// Unit of all the numbers below.
    pub unit: &'static str,
    /// Least valid value.
    pub min: f32,
    /// Greatest valid value.
    pub max: f32,
    /// Standard deviation of the instrument's own noise.
    pub noise: f64,
    /// The last digit: readings are multiples of it.
    pub resolution: f64,
}

/// The channels, in the order of [`crate::RigReading::values`].
pub const CHANNELS: [Channel; 7] = [
    channel("accel_motor_rms", "g", 0.0, 4.0, 0.001, 0.001),
    channel("accel_pump_rms", "g", 0.0, 4.0, 0.001, 0.001),
    channel("current", "A", 0.0, 12.0, 0.01, 0.01),
    channel("pressure", "bar", 0.0, 6.0, 0.008, 0.005),
    channel("temperature", "degC", -20.0, 120.0, 0.05, 0.1),
    channel("voltage", "V", 300.0, 480.0, 0.2, 0.1),
    channel("flow", "l/min", 0.0, 300.0, 0.5, 0.1),
];

const fn channel(
    name: &'static str,
    unit: &'static str,
    min: f32,
    max: f32,
    noise: f64,
    resolution: f64,
) -> Channel {
    Channel {
        name,
        unit,
        min,
        max,
        noise,
        resolution,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Instruments(Noise);

impl Instruments {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Noise::new(seed, Stream::Instruments))
    }

    /// What the channels show of `truth`, in the order and units of [`CHANNELS`].
    pub(crate) fn read(&mut self, truth: [f64; CHANNELS.len()]) -> [f64; CHANNELS.len()] {
        core::array::from_fn(|i| {
            let noisy = truth[i] + CHANNELS[i].noise * self.0.bell();
            noisy.clamp(CHANNELS[i].min.into(), CHANNELS[i].max.into())
        })
    }
}

/// `values` as the instruments would print them.
pub(crate) fn quantise(values: [f64; CHANNELS.len()]) -> [f32; CHANNELS.len()] {
    core::array::from_fn(|i| {
        (libm::round(values[i] / CHANNELS[i].resolution) * CHANNELS[i].resolution) as f32
    })
}
