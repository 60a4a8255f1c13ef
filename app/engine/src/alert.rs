//! What an operator is told: alerts of every kind, each raised and cleared.
//!
//! An [`AlertKind::Anomaly`] follows from scores and comes with its verdict. The
//! other kinds need no model: a value that cannot be, a sensor from which nothing
//! comes, a link that is away. For each sensor and kind, raised and cleared take
//! turns; a link has no sensor, and one alert of its own.

use crate::engine::SensorId;
use crate::verdict::{AlertState, Verdict};
use crate::{Reading, Rejection, Schema};

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertKind {
    /// Scores above their threshold.
    Anomaly,
    /// Values beyond the schema, not finite, or changing faster than it allows.
    Range,
    /// A sensor from which nothing comes.
    Silent,
    /// A source's link that is away.
    Link,
    /// A model that cannot be trusted with the board.
    Model,
}

/// How many kinds there are, the length of an array by [`AlertKind::index`].
pub const ALERT_KINDS: usize = AlertKind::ALL.len();

impl AlertKind {
    /// Every kind, in the order of [`AlertKind::index`].
    pub const ALL: [Self; 5] = [
        Self::Anomaly,
        Self::Range,
        Self::Silent,
        Self::Link,
        Self::Model,
    ];

    /// The kind's name in JSON, in topics and in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::Range => "range",
            Self::Silent => "silent",
            Self::Link => "link",
            Self::Model => "model",
        }
    }

    /// The kind called `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind's place in an array of counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Which alerts there are beside those of scores. All off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertPolicy {
    /// Whether readings out of range raise one, by the k-of-n and the hold-off of
    /// the pipeline's [`VerdictSpec`](crate::VerdictSpec), a reading counting as a
    /// verdict.
    pub watches_range: bool,
    /// A sensor from which nothing came for so long is silent, microseconds; 0:
    /// none ever is.
    pub silent_after_us: u64,
    /// A link that was away for so long is told, microseconds; 0: none ever is.
    pub link_down_us: u64,
}

/// A change of state, with what brought it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alert {
    /// The verdict; its `state` is the new one.
    Anomaly(Verdict),
    /// Values of a sensor.
    Range(RangeAlert),
    /// A sensor from which nothing came, or something again.
    Silent {
        /// Which sensor.
        sensor: SensorId,
        /// The new state.
        state: AlertState,
        /// For how long nothing came, microseconds; none if nobody knows.
        silent_us: Option<u64>,
    },
    /// A link that was away, or is back.
    Link {
        /// The new state.
        state: AlertState,
        /// For how long it was away, microseconds; none if nobody knows.
        down_us: Option<u64>,
    },
}

/// A sensor's values left their range, or are back in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeAlert {
    /// Which sensor.
    pub sensor: SensorId,
    /// The new state.
    pub state: AlertState,
    /// The reading's sequence number, if there is a reading and it had one.
    pub sequence: Option<u64>,
    /// The reading's timestamp, likewise, microseconds.
    pub timestamp_us: Option<i64>,
    /// What was wrong last; none if that was before hark started.
    pub excess: Option<Excess>,
    /// What the channel of `excess` has now, in its unit, or per second where
    /// it changed too fast; none without a reading.
    pub value: Option<f32>,
}

/// What about a value cannot be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// [`Rejection::NotFinite`], [`Rejection::Range`] or
    /// [`Rejection::RateOfChange`], which names the channel.
    pub reason: Rejection,
    /// The value, or the rate of change.
    pub value: f32,
    /// What it lies beyond; none where a value is no number.
    pub limit: Option<f32>,
}

impl Alert {
    /// What it is about.
    pub fn kind(&self) -> AlertKind {
        match self {
            Self::Anomaly(_) => AlertKind::Anomaly,
            Self::Range(_) => AlertKind::Range,
            Self::Silent { .. } => AlertKind::Silent,
            Self::Link { .. } => AlertKind::Link,
        }
    }

    /// The new state.
    pub fn state(&self) -> AlertState {
        match self {
            Self::Anomaly(verdict) => verdict.state,
            Self::Range(range) => range.state,
            Self::Silent { state, .. } | Self::Link { state, .. } => *state,
        }
    }

    /// Whose alert it is; none of a link's.
    pub fn sensor(&self) -> Option<SensorId> {
        match self {
            Self::Anomaly(verdict) => Some(verdict.sensor),
            Self::Range(range) => Some(range.sensor),
            Self::Silent { sensor, .. } => Some(*sensor),
            Self::Link { .. } => None,
        }
    }
}

impl Excess {
    /// What `reason` says of the values of `reading`; none if it is about something
    /// else. `rate` is that of a [`Rejection::RateOfChange`], per second.
    pub(crate) fn of(
        reason: Rejection,
        schema: &Schema,
        reading: &Reading,
        rate: f32,
    ) -> Option<Self> {
        let channel = reason.channel()?;
        let (declared, value) = (&schema.channels[channel], *reading.values().get(channel)?);
        let (value, limit) = match reason {
            Rejection::NotFinite { .. } => (value, None),
            Rejection::Range { .. } if value < declared.min => (value, Some(declared.min)),
            Rejection::Range { .. } => (value, Some(declared.max)),
            Rejection::RateOfChange { .. } => (rate, declared.rate_max),
            _ => return None,
        };
        Some(Self {
            reason,
            value,
            limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_place_and_name() {
        assert!(
            AlertKind::ALL
                .into_iter()
                .map(AlertKind::index)
                .eq(0..ALERT_KINDS)
        );
        for kind in AlertKind::ALL {
            assert_eq!(AlertKind::of_name(kind.name()), Some(kind));
        }
    }
}
