//! A sensor node: its clock, its counters and the signal that it measures.
//!
//! A node knows nothing of simulated time but what its own crystal says of it.
//! The signal has healthy and faulty phases in every run; only in the storm is
//! it also wild: out of range, missing, or jumping.

use hark_wire::{Channel, Health, Hello, Message, NO_VALUE, Reading};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A poor crystal; the engine allows for 100.
const DRIFT_PPM_MAX: i64 = 80;
/// Readings between two `Health` messages.
const HEALTH_EVERY: u32 = 64;
/// Readings on average between two changes of the signal's phase.
const PHASE_READINGS: u32 = 150;
/// The same, between two changes of a stuck instrument.
const STUCK_READINGS: u32 = 100;
/// Vibration of a healthy and of a faulty machine, in g.
const HEALTHY_G: f32 = 1.0;
const FAULTY_G: f32 = 4.0;
const VIBRATION_SCALE: f32 = 0.001;
const TEMPERATURE_SCALE: f32 = 0.01;

/// What a seed draws for one node.
pub(crate) struct NodePlan {
    name: String,
    /// Between two readings by the node's own clock.
    pub(crate) period_us: u64,
    drift_ppm: i64,
    /// The node runs already when the gateway starts, so its `Hello` is over.
    pub(crate) is_running: bool,
    is_wild: bool,
    /// Mean time between two starts; 0: it starts once.
    pub(crate) reboot_mean_us: u64,
    /// Where the channels stand in the node's readings.
    is_reversed: bool,
}

impl NodePlan {
    pub(crate) fn draw(rng: &mut ChaCha8Rng, index: usize, is_wild: bool) -> Self {
        Self {
            name: format!("node-{index}"),
            period_us: rng.random_range(10_000..=100_000),
            drift_ppm: rng.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX),
            is_running: is_wild && rng.random_ratio(1, 3),
            is_wild,
            reboot_mean_us: if is_wild && rng.random() {
                rng.random_range(500_000..10_000_000)
            } else {
                0
            },
            is_reversed: rng.random(),
        }
    }
}

/// A node between two starts.
pub(crate) struct Node<'a> {
    plan: &'a NodePlan,
    boot_id: u32,
    sequence: u32,
    booted_us: u64,
    messages: u32,
    is_faulty: bool,
    temperature: f32,
    /// A stuck instrument says the same for a while.
    stuck: Option<[i32; 2]>,
}

impl<'a> Node<'a> {
    /// A node that starts now, or that has been running for a while.
    pub(crate) fn new(plan: &'a NodePlan, rng: &mut ChaCha8Rng) -> Self {
        Self {
            plan,
            boot_id: rng.random(),
            // A week of readings at 100 Hz.
            sequence: if plan.is_running {
                rng.random_range(0..60_000_000)
            } else {
                0
            },
            booted_us: 0,
            messages: 0,
            is_faulty: false,
            temperature: rng.random_range(15.0..60.0),
            stuck: None,
        }
    }

    /// The node starts again: another boot id, sequence and clock from 0.
    pub(crate) fn reboot(&mut self, now_us: u64) {
        self.boot_id = self.boot_id.wrapping_add(1);
        self.sequence = 0;
        self.booted_us = now_us;
    }

    /// Simulated time between two readings: the period by a clock that drifts.
    pub(crate) fn period_us(&self) -> u64 {
        let drift = self.plan.period_us as i64 * self.plan.drift_ppm / 1_000_000;
        self.plan.period_us.saturating_add_signed(-drift)
    }

    /// Who the node is.
    pub(crate) fn hello(&mut self) -> Message {
        self.messages += 1;
        let channel = |name: &str, unit: &str, scale| Channel {
            name: name.try_into().expect("short enough"),
            unit: unit.try_into().expect("short enough"),
            scale,
        };
        let mut channels = [
            channel("vibration", "g", VIBRATION_SCALE),
            channel("temperature", "°C", TEMPERATURE_SCALE),
        ];
        if self.plan.is_reversed {
            channels.reverse();
        }
        Message::Hello(Hello {
            node: self.plan.name.as_str().try_into().expect("short enough"),
            // A number, so that two hellos of one start can be told apart.
            firmware: self
                .messages
                .to_string()
                .as_str()
                .try_into()
                .expect("short enough"),
            boot_id: self.boot_id,
            channels: channels.into_iter().collect(),
        })
    }

    /// Now and then, how the node is; asked for before each reading.
    pub(crate) fn poll_health(&mut self, now_us: u64) -> Option<Message> {
        self.messages += 1;
        self.sequence.is_multiple_of(HEALTH_EVERY).then(|| {
            Message::Health(Health {
                boot_id: self.boot_id,
                uptime_s: (self.clock_us(now_us) / 1_000_000) as u32,
                frames_dropped: self.messages,
                ..Health::default()
            })
        })
    }

    /// The next reading. `is_storm`: the signal may be wild.
    pub(crate) fn read(&mut self, now_us: u64, is_storm: bool, rng: &mut ChaCha8Rng) -> Message {
        if rng.random_ratio(1, PHASE_READINGS) {
            self.is_faulty = !self.is_faulty;
        }
        let mut values = self.measure(rng);
        if !is_storm {
            self.stuck = None;
        } else if self.plan.is_wild && rng.random_ratio(1, STUCK_READINGS) {
            self.stuck = self.stuck.is_none().then_some(values);
        }
        values = self.stuck.unwrap_or(values);
        if is_storm && self.plan.is_wild && rng.random_ratio(1, 50) {
            let wild = [NO_VALUE, i32::MAX, -9_000, 12_000];
            values[rng.random_range(0..2)] = wild[rng.random_range(0..4)];
        }
        if self.plan.is_reversed {
            values.reverse();
        }
        let reading = Reading {
            sequence: self.sequence,
            timestamp_us: self.clock_us(now_us),
            values: values.into_iter().collect(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        Message::Reading(reading)
    }

    fn measure(&mut self, rng: &mut ChaCha8Rng) -> [i32; 2] {
        let level = if self.is_faulty { FAULTY_G } else { HEALTHY_G };
        let vibration = level + rng.random_range(-0.2..0.2);
        self.temperature = (self.temperature + rng.random_range(-0.05..0.05)).clamp(10.0, 80.0);
        [
            (vibration / VIBRATION_SCALE) as i32,
            (self.temperature / TEMPERATURE_SCALE) as i32,
        ]
    }

    fn clock_us(&self, now_us: u64) -> u64 {
        let elapsed = now_us - self.booted_us;
        let drift = elapsed as i64 * self.plan.drift_ppm / 1_000_000;
        elapsed.saturating_add_signed(drift)
    }
}
