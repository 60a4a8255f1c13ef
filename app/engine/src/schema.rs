//! What a bundle declares about the readings that it was trained on.

use serde::Deserialize;

/// The channels of a sensor, in the order in which values travel.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Nominal time between two readings, milliseconds, above 0. Rates of
    /// change use it where readings carry no timestamp.
    pub period_ms: f64,
    /// Readings older than this, or this far in the future, are refused.
    /// Absent: age is not checked.
    #[serde(default)]
    pub age_max_ms: Option<f64>,
    /// 1 to [`crate::CHANNELS_MAX`] channels.
    pub channels: Vec<Channel>,
}

/// One measured quantity.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The name in payloads, unique in its schema.
    pub name: String,
    /// The unit, compared letter by letter with what a node declares.
    pub unit: String,
    /// Least valid value, in `unit`.
    pub min: f32,
    /// Greatest valid value, in `unit`.
    pub max: f32,
    /// Fastest valid change, `unit` per second. Absent: not checked.
    #[serde(default)]
    pub rate_max: Option<f32>,
}

impl Schema {
    /// The index of the channel called `name`.
    pub fn channel(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|c| c.name == name)
    }
}
