//! What a bundle declares about the readings that it was trained on.

use crate::{CHANNELS_MAX, SpecError};
use serde::Deserialize;

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
    /// Fastest valid change, `unit` per second, above 0. Absent: not checked.
    #[serde(default)]
    pub rate_max: Option<f32>,
}

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

impl Schema {
    /// The index of the channel called `name`.
    pub fn channel(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|c| c.name == name)
    }

    /// Refuses a schema that no reading could satisfy, whatever its channels are.
    ///
    /// # Errors
    /// [`SpecError`] naming the field, what it holds and what would be right.
    pub fn check(&self) -> Result<(), SpecError> {
        let count = self.channels.len();
        require(
            (1..=CHANNELS_MAX).contains(&count),
            "schema.channels",
            || format!("{count} channels; expected 1 to {CHANNELS_MAX}"),
        )?;
        require(is_positive(self.period_ms), "schema.period_ms", || {
            format!("{} is not a time above 0", self.period_ms)
        })?;
        let age_is_valid = self.age_max_ms.is_none_or(is_positive);
        require(age_is_valid, "schema.age_max_ms", || {
            "expected a time above 0".into()
        })
    }

    /// Refuses a channel that no reading could satisfy.
    ///
    /// # Errors
    /// As [`Schema::check`].
    pub(crate) fn check_channel(&self, channel: &Channel) -> Result<(), SpecError> {
        let name = &channel.name;
        require(!name.is_empty(), "schema.channels.name", || {
            "a channel needs a name".into()
        })?;
        let namesakes = self.channels.iter().filter(|other| other.name == *name);
        require(namesakes.count() == 1, "schema.channels.name", || {
            format!("`{name}` is used twice")
        })?;
        let range_is_valid =
            channel.min.is_finite() && channel.max.is_finite() && channel.min < channel.max;
        require(range_is_valid, "schema.channels.min", || {
            format!("`{name}`: min must lie below max")
        })?;
        let rate_is_valid = channel.rate_max.is_none_or(|r| is_positive(r.into()));
        require(rate_is_valid, "schema.channels.rate_max", || {
            format!("`{name}`: expected a rate above 0")
        })
    }
}

pub(crate) fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

pub(crate) fn require(
    holds: bool,
    field: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<(), SpecError> {
    if holds {
        return Ok(());
    }
    Err(SpecError {
        field,
        index: None,
        problem: problem(),
    })
}
