//! One alert as the outside sees it: on MQTT, in the event log, on standard output.

use super::{CausesReport, ModelIdentity, PipelineNames};
use hark_engine::{Alert, AlertKind, AlertState, Excess, NodeClock, Rejection, Rung, Verdict};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// A timestamp that says nothing of its epoch is a date if it lies after this one,
/// 2001-09-09: a node that counts from its start gets there in 31 years.
/// Microseconds.
const DATES_FROM_US: i64 = 1_000_000_000_000_000;

/// One alert. Of a reading, `seq` and `ts` are what they are in a
/// [`VerdictReport`](super::VerdictReport): the names that a reading has them under
/// unless its source maps others.
#[derive(Clone, Debug, Serialize)]
pub struct AlertReport {
    /// By which it is found again.
    pub id: AlertId,
    /// [`AlertKind::name`].
    pub kind: &'static str,
    /// `raised` or `cleared`.
    pub state: &'static str,
    /// Of the reading if that says, else of its receipt, or of the change.
    #[serde(flatten)]
    pub time: AlertTime,
    /// The sensor's name; of a link or a model the source's.
    pub sensor: Arc<str>,
    /// The source it came through.
    pub source: Arc<str>,
    /// The reading's sequence number.
    pub seq: Option<u64>,
    /// The reading's timestamp, microseconds, on the source's declared clock.
    pub ts: Option<i64>,
    /// Of a recording, which reading of it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// What only alerts of its kind have.
    #[serde(flatten)]
    pub about: AlertAbout,
}

/// What an alert is called by whoever asks for it later: a digest of what tells it
/// from others, so that a replay gives its alerts the same identifiers each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertId([u8; ALERT_ID_BYTES]);

/// Of ten thousand alerts two share an identifier once in twenty thousand logs.
const ALERT_ID_BYTES: usize = 5;

/// When it was.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AlertTime {
    /// Microseconds since the Unix epoch, written as RFC 3339.
    #[serde(rename = "time", serialize_with = "write_rfc3339")]
    pub utc_us: i64,
    /// `reading` or `receipt`: whose time it is.
    #[serde(rename = "time_of")]
    pub whose: &'static str,
}

/// What only alerts of one kind have.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum AlertAbout {
    /// Of [`AlertKind::Anomaly`].
    Anomaly {
        /// The score that changed the state.
        score: f32,
        /// The score above which a window is an anomaly.
        threshold: f32,
        /// The rung of the ladder that gave the verdict.
        rung: &'static str,
        /// The active model.
        model: Arc<ModelIdentity>,
        /// `met` or `missed`.
        deadline: &'static str,
        /// From the return of the read that completed the reading, microseconds.
        latency_us: u64,
        /// Of a verdict that is repeated, how old it is, microseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        age_us: Option<u64>,
        /// What the score comes from, the greatest share first.
        causes: CausesReport,
    },
    /// Of [`AlertKind::Range`].
    Range {
        /// The channel's name; none if the value that was wrong came before hark
        /// started.
        channel: Option<Arc<str>>,
        /// [`Rejection::name`]: `range`, `not_finite` or `rate_of_change`.
        reason: Option<&'static str>,
        /// In the channel's unit, or per second where it changes too fast; null in
        /// JSON if it is no number.
        value: Option<f32>,
        /// What it lay beyond.
        limit: Option<f32>,
    },
    /// Of [`AlertKind::Silent`].
    Silent {
        /// For how long nothing came, milliseconds.
        silent_ms: Option<u64>,
        /// After how long it is told.
        silent_after_ms: u64,
    },
    /// Of [`AlertKind::Link`].
    Link {
        /// For how long it was away, milliseconds.
        down_ms: Option<u64>,
        /// After how long it is told.
        link_down_ms: u64,
        /// Why it is away, as far as that is known.
        reason: Option<Arc<str>>,
    },
    /// Of [`AlertKind::Model`].
    Model {
        /// The rung whose model is withheld, the best of them; none once none is.
        rung: Option<&'static str>,
        /// The model.
        model: Arc<ModelIdentity>,
        /// What it did, and what ends that.
        reason: Option<Arc<str>>,
    },
    /// Of any kind, whose sensor or source no configuration names any more.
    Gone {
        /// In words.
        reason: &'static str,
    },
}

/// An alert that stood when hark was last seen: whose, and which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The source's name.
    pub source: String,
    /// The sensor's name; of a link or a model the source's.
    pub sensor: String,
    /// Which kind.
    pub kind: AlertKind,
}

/// What the reports of one source need beside its alerts.
pub(crate) struct Reporting {
    pub(crate) source: Arc<str>,
    pub(crate) names: Arc<PipelineNames>,
    pub(crate) clock: NodeClock,
    pub(crate) silent_after_ms: u64,
    pub(crate) link_down_ms: u64,
    /// Of a recording, the reading that is being handled.
    pub(crate) row: Option<u64>,
    /// Why the link is away.
    pub(crate) link_reason: Option<Arc<str>>,
}

impl AlertReport {
    /// What its score comes from is known now.
    pub(crate) fn explain(&mut self, found: CausesReport) {
        if let AlertAbout::Anomaly { causes, .. } = &mut self.about {
            *causes = found;
        }
    }

    /// With the identifier that follows from the rest.
    #[must_use]
    pub fn identified(mut self) -> Self {
        let mut digest = Sha256::new();
        for name in [&*self.source, &*self.sensor, self.kind, self.state] {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
        }
        // The row of a recording is enough, and the same each time.
        let time_us = self.row.map_or(self.time.utc_us, |_| 0);
        digest.update(time_us.to_le_bytes());
        for number in [self.seq, self.row] {
            digest.update(number.unwrap_or(u64::MAX).to_le_bytes());
        }
        let digest: [u8; 32] = digest.finalize().into();
        self.id.0.copy_from_slice(&digest[..ALERT_ID_BYTES]);
        self
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for AlertId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl AlertTime {
    /// The time of a reading that says it, else that of its receipt.
    pub fn of(timestamp_us: Option<i64>, clock: NodeClock, receipt_utc_us: i64) -> Self {
        let is_date = |us: &i64| match clock {
            NodeClock::Utc => true,
            NodeClock::None => *us >= DATES_FROM_US,
            // It counts from the node's start, however long ago.
            NodeClock::Node => false,
        };
        match timestamp_us.filter(is_date) {
            Some(utc_us) => Self {
                utc_us,
                whose: "reading",
            },
            None => Self::of_receipt(receipt_utc_us),
        }
    }

    /// The time at which hark learnt of it.
    pub fn of_receipt(utc_us: i64) -> Self {
        Self {
            utc_us,
            whose: "receipt",
        }
    }

    /// As it is written.
    pub fn to_rfc3339(self) -> String {
        // What no calendar has is as good as no time.
        let time = Timestamp::from_microsecond(self.utc_us);
        time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
    }
}

fn write_rfc3339<S: Serializer>(utc_us: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let time = AlertTime::of_receipt(*utc_us);
    serializer.serialize_str(&time.to_rfc3339())
}

impl Reporting {
    /// The report of `alert`, of `sensor`, or of the link; `now_utc_us` is when it
    /// is told.
    pub(crate) fn report(
        &self,
        alert: &Alert,
        sensor: &Arc<str>,
        model: impl FnOnce(Rung) -> Arc<ModelIdentity>,
        now_utc_us: i64,
    ) -> AlertReport {
        let (seq, ts, latency_us) = match alert {
            Alert::Anomaly(verdict) => (verdict.sequence, verdict.timestamp_us, verdict.latency_us),
            Alert::Range(range) => (range.sequence, range.timestamp_us, 0),
            Alert::Silent { .. } | Alert::Link { .. } => (None, None, 0),
        };
        let receipt_us = now_utc_us.saturating_sub_unsigned(latency_us);
        AlertReport {
            id: AlertId::default(),
            kind: alert.kind().name(),
            state: alert.state().name(),
            time: AlertTime::of(ts, self.clock, receipt_us),
            sensor: Arc::clone(sensor),
            source: Arc::clone(&self.source),
            seq,
            ts,
            row: self.row,
            about: self.about(alert, model),
        }
        .identified()
    }

    fn about(&self, alert: &Alert, model: impl FnOnce(Rung) -> Arc<ModelIdentity>) -> AlertAbout {
        match alert {
            Alert::Anomaly(verdict) => self.anomaly(verdict, model(verdict.rung)),
            Alert::Range(range) => {
                let channel = |excess: Excess| {
                    let channel = excess.reason.channel()?;
                    self.names.channel(channel).cloned()
                };
                AlertAbout::Range {
                    channel: range.excess.and_then(channel),
                    reason: range.excess.map(|excess| Rejection::name(excess.reason)),
                    value: range.value,
                    limit: range.excess.and_then(|excess| excess.limit),
                }
            }
            Alert::Silent { silent_us, .. } => AlertAbout::Silent {
                silent_ms: silent_us.map(|us| us / 1000),
                silent_after_ms: self.silent_after_ms,
            },
            Alert::Link { down_us, state } => AlertAbout::Link {
                down_ms: down_us.map(|us| us / 1000),
                link_down_ms: self.link_down_ms,
                reason: match state {
                    AlertState::Raised => self.link_reason.clone(),
                    AlertState::Cleared => None,
                },
            },
        }
    }

    fn anomaly(&self, verdict: &Verdict, model: Arc<ModelIdentity>) -> AlertAbout {
        AlertAbout::Anomaly {
            score: verdict.score,
            threshold: verdict.threshold,
            rung: verdict.rung.name(),
            model,
            deadline: if verdict.is_in_time { "met" } else { "missed" },
            latency_us: verdict.latency_us,
            age_us: verdict.age_us,
            causes: CausesReport::new(&self.names, &verdict.causes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ts: Option<i64>, clock: NodeClock, expected: (&str, &str)) {
        let time = AlertTime::of(ts, clock, 1_700_000_000_000_000);
        assert_eq!((time.to_rfc3339().as_str(), time.whose), expected);
    }

    #[test]
    fn the_time_is_the_readings_if_it_says_one_else_of_receipt() {
        let receipt = ("2023-11-14T22:13:20Z", "receipt");
        let of_reading = ("2024-02-29T12:00:00.25Z", "reading");
        let dated = Some(1_709_208_000_250_000);
        check(None, NodeClock::Utc, receipt);
        check(dated, NodeClock::Utc, of_reading);
        check(dated, NodeClock::None, of_reading);
        check(Some(12_000_000), NodeClock::None, receipt);
        check(dated, NodeClock::Node, receipt);
        let absurd = ("1970-01-01T00:00:00Z", "reading");
        check(Some(i64::MAX), NodeClock::None, absurd);
    }
}
