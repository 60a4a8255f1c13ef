//! Values that come apart, joined to readings of one sensor.
//!
//! A reading is made once each channel has a value since the last one. With a
//! hold, a part of the channels makes one too, as long as the last values of the
//! others are no older than that. Time is an argument.

use std::collections::HashMap;

use hark_engine::{CHANNELS_MAX, Reading};

use crate::Decoded;

/// Sensors whose values may wait at a time, 2 MiB of them. One more takes the
/// place of the one that was heard longest ago.
const SENSORS_MAX: usize = 4096;
/// The longest name of one, bytes: a longer one cannot be a sensor's.
const NAME_MAX: usize = 256;
/// Values of a sensor without a reading before that is said.
const INCOMPLETE_TOLD_AT: u32 = 32;

/// What a value came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Joined {
    /// A reading of all channels.
    Reading(Reading),
    /// It waits for other channels' values.
    Waits,
    /// As [`Joined::Waits`], and has for long: no value of `channel` has come. Said
    /// once for all sensors.
    WaitsInVain {
        /// Index of the channel.
        channel: usize,
    },
    /// It makes no reading: the last value of `channel` is too old, or none.
    Missing {
        /// Index of the channel.
        channel: usize,
    },
}

/// The values of one source's sensors since their last readings.
#[derive(Debug)]
pub struct Joiner {
    channels: usize,
    /// How long a value stands for its channel, microseconds; 0: until the next
    /// reading is whole.
    hold_us: u64,
    sensors: HashMap<Box<str>, Parts>,
    has_told: bool,
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Parts {
    reading: Reading,
    /// When each channel's value came, microseconds; void for those not in `known`.
    at_us: [u64; CHANNELS_MAX],
    known: u32,
    /// Channels with a value since the last reading.
    fresh: u32,
    since_us: u64,
    heard_us: u64,
    /// Values without a reading.
    waits: u32,
}

impl Joiner {
    /// For readings of `channels`, whose values stand for `hold_ms`.
    pub fn new(channels: usize, hold_ms: u64) -> Self {
        Self {
            channels,
            hold_us: hold_ms.saturating_mul(1000),
            sensors: HashMap::new(),
            has_told: false,
            dropped: 0,
        }
    }

    /// Takes in what came of `sensor` at `now_us`, on a clock that never steps.
    pub fn handle(&mut self, sensor: &str, part: &Decoded<'_>, now_us: u64) -> Joined {
        if !self.sensors.contains_key(sensor) {
            self.take_in(sensor, now_us);
        }
        let (channels, hold_us) = (self.channels, self.hold_us);
        let Some(parts) = self.sensors.get_mut(sensor) else {
            return Joined::Missing { channel: 0 };
        };
        parts.take(part, now_us);
        let joined = parts.joined(channels, hold_us, now_us);
        if joined != Joined::Waits {
            return joined;
        }
        parts.waits = parts.waits.saturating_add(1);
        if self.has_told || parts.waits < INCOMPLETE_TOLD_AT {
            return joined;
        }
        self.has_told = true;
        let channel = (!parts.fresh).trailing_zeros() as usize;
        Joined::WaitsInVain { channel }
    }

    /// Values that waited and made no reading, since their sensors were too many,
    /// since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn take_in(&mut self, sensor: &str, now_us: u64) {
        if sensor.len() > NAME_MAX {
            return;
        }
        if self.sensors.len() >= SENSORS_MAX {
            let oldest = self.sensors.iter().min_by_key(|(_, parts)| parts.heard_us);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                let gone = self.sensors.remove(&name);
                self.dropped += gone.map_or(0, |parts| u64::from(parts.fresh.count_ones()));
            }
        }
        let parts = Parts {
            reading: Reading::empty(self.channels),
            at_us: [0; CHANNELS_MAX],
            known: 0,
            fresh: 0,
            since_us: now_us,
            heard_us: now_us,
            waits: 0,
        };
        self.sensors.insert(sensor.into(), parts);
    }
}

impl Parts {
    fn take(&mut self, part: &Decoded<'_>, now_us: u64) {
        self.heard_us = now_us;
        if self.fresh == 0 {
            self.since_us = now_us;
        }
        let values = part.reading.values().iter().enumerate();
        for (channel, value) in values.filter(|(channel, _)| part.channels >> channel & 1 == 1) {
            self.reading.values_mut()[channel] = *value;
            self.at_us[channel] = now_us;
        }
        self.known |= part.channels;
        self.fresh |= part.channels;
        self.reading.sequence = part.reading.sequence.or(self.reading.sequence);
        self.reading.timestamp_us = part.reading.timestamp_us.or(self.reading.timestamp_us);
    }

    fn joined(&mut self, channels: usize, hold_us: u64, now_us: u64) -> Joined {
        // Whatever comes without a value, as a time by itself, waits for one.
        if self.fresh == 0 {
            return Joined::Waits;
        }
        let is_whole = (!self.fresh).trailing_zeros() as usize >= channels;
        if !is_whole {
            if hold_us == 0 {
                return Joined::Waits;
            }
            let is_held = |channel: &usize| {
                let is_young = now_us.saturating_sub(self.at_us[*channel]) <= hold_us;
                self.known >> *channel & 1 == 1 && is_young
            };
            if let Some(channel) = (0..channels).find(|channel| !is_held(channel)) {
                let is_known = self.known >> channel & 1 == 1;
                let has_waited = now_us.saturating_sub(self.since_us) > hold_us;
                if is_known || has_waited {
                    return Joined::Missing { channel };
                }
                return Joined::Waits;
            }
        }
        self.fresh = 0;
        self.waits = 0;
        let reading = self.reading;
        // They are of this reading, and no other.
        self.reading.sequence = None;
        self.reading.timestamp_us = None;
        Joined::Reading(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of three channels at their times in milliseconds, and what each came to.
    fn check(hold_ms: u64, cases: &[(u64, &[Option<f32>; 3], &str)]) {
        let mut joiner = Joiner::new(3, hold_ms);
        for (at_ms, values, expected) in cases {
            let joined = handle(&mut joiner, "a", values, at_ms * 1000);
            let rendered = match joined {
                Joined::Reading(reading) => format!("{:?}", reading.values()),
                Joined::Waits => "waits".to_owned(),
                Joined::WaitsInVain { channel } => format!("in vain {channel}"),
                Joined::Missing { channel } => format!("missing {channel}"),
            };
            assert_eq!(rendered, *expected, "at {at_ms}");
        }
    }

    fn handle(joiner: &mut Joiner, sensor: &str, values: &[Option<f32>; 3], now_us: u64) -> Joined {
        let mut reading = Reading::empty(3);
        let mut channels = 0;
        for (channel, value) in values.iter().enumerate() {
            if let Some(value) = value {
                reading.values_mut()[channel] = *value;
                channels |= 1 << channel;
            }
        }
        let part = Decoded {
            reading: &reading,
            channels,
            sensor: None,
        };
        joiner.handle(sensor, &part, now_us)
    }

    #[test]
    fn a_reading_is_made_when_each_channel_has_a_value_since_the_last() {
        check(
            0,
            &[
                (0, &[Some(1.0), None, None], "waits"),
                (1, &[None, None, Some(3.0)], "waits"),
                (2, &[Some(1.5), None, None], "waits"),
                (3, &[None, Some(2.0), None], "[1.5, 2.0, 3.0]"),
                (4, &[None, Some(2.5), None], "waits"),
                (5, &[Some(1.0), None, Some(3.5)], "[1.0, 2.5, 3.5]"),
                (6, &[Some(1.0), Some(2.0), Some(3.0)], "[1.0, 2.0, 3.0]"),
            ],
        );
    }

    #[test]
    fn with_a_hold_a_part_makes_one_as_long_as_the_others_are_young() {
        check(
            1000,
            &[
                (0, &[Some(1.0), Some(2.0), None], "waits"),
                (10, &[None, None, Some(3.0)], "[1.0, 2.0, 3.0]"),
                (500, &[Some(1.5), None, None], "[1.5, 2.0, 3.0]"),
                (1000, &[None, Some(2.5), None], "[1.5, 2.5, 3.0]"),
                (1010, &[None, Some(2.5), None], "[1.5, 2.5, 3.0]"),
                (1011, &[None, Some(2.5), None], "missing 2"),
                (1012, &[None, None, Some(3.5)], "[1.5, 2.5, 3.5]"),
            ],
        );
        check(
            1000,
            &[
                (0, &[Some(1.0), None, None], "waits"),
                (1000, &[Some(1.0), None, None], "waits"),
                (1001, &[Some(1.0), None, None], "missing 1"),
            ],
        );
    }

    #[test]
    fn a_channel_that_never_comes_is_said_once() {
        let mut joiner = Joiner::new(3, 0);
        let told = (0..100_u64)
            .map(|at| handle(&mut joiner, "a", &[Some(1.0), None, None], at))
            .filter(|joined| *joined == Joined::WaitsInVain { channel: 1 });
        assert_eq!(told.count(), 1);
    }

    #[test]
    fn sensors_are_bounded_and_what_is_dropped_is_counted() {
        let mut joiner = Joiner::new(3, 0);
        for sensor in 0..SENSORS_MAX as u64 + 10 {
            let values = [Some(1.0), None, None];
            handle(&mut joiner, &sensor.to_string(), &values, sensor);
        }
        assert_eq!(joiner.sensors.len(), SENSORS_MAX);
        assert!(!joiner.sensors.contains_key("9"));
        assert_eq!(joiner.take_dropped(), 10);
        let long = handle(&mut joiner, &"x".repeat(NAME_MAX + 1), &[None; 3], 0);
        assert_eq!(long, Joined::Missing { channel: 0 });
    }
}
