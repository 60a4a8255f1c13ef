//! ψ: a model's outputs to a score, and scores to verdicts and alerts, by
//! threshold, k-of-n, hysteresis and hold-off, as [`VerdictSpec`] defines them.

use crate::causes::Causes;
use crate::engine::SensorId;
use crate::spec::{ScoreSpec, VerdictSpec};
use crate::sums::{scaled_square_distance, square_distance};
use hark_ladder::Rung;

/// The state of a sensor's alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertState {
    /// Nothing is wrong.
    #[default]
    Cleared,
    /// A fault is being flagged.
    Raised,
}

/// What hark says about one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Whose reading.
    pub sensor: SensorId,
    /// The reading's sequence number, if it had one.
    pub sequence: Option<u64>,
    /// The reading's timestamp, if it had one, microseconds.
    pub timestamp_us: Option<i64>,
    /// 0 or more, finite, on the scale of the rung that gave it.
    pub score: f32,
    /// The score above which the window is an anomaly.
    pub threshold: f32,
    /// The state of the sensor's alert after this verdict.
    pub state: AlertState,
    /// Which rung gave it.
    pub rung: Rung,
    /// Whether it was given by its deadline.
    pub is_in_time: bool,
    /// From the return of the read that completed the reading, microseconds.
    pub latency_us: u64,
    /// As in the reading's [`Receipt`](crate::Receipt).
    pub read_ns: u64,
    /// Of [`Rung::Last`]: the age of the verdict that is repeated, microseconds.
    pub age_us: Option<u64>,
    /// Of an alert, and where [`Limits::explains_verdicts`](crate::Limits) asks for it:
    /// what the score comes from.
    pub causes: Causes,
}

impl Verdict {
    /// Whether the score lies above its threshold.
    pub fn is_anomaly(&self) -> bool {
        self.score > self.threshold
    }
}

impl AlertState {
    /// The state's name in JSON and on MQTT.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Raised => "raised",
        }
    }
}

/// When a reading was judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// By the monotonic clock.
    pub(crate) now_us: u64,
    /// By the clock that the source's `clock` names, if it names one.
    pub(crate) timestamp_us: Option<i64>,
}

impl Moment {
    /// How long after `then` this is, by the readings' own clock where it is known
    /// of both. None: that clock went back, so it has begun anew since.
    fn since_us(self, then: Self) -> Option<u64> {
        match (then.timestamp_us, self.timestamp_us) {
            (Some(then), Some(this)) => this.checked_sub(then)?.try_into().ok(),
            _ => Some(self.now_us.saturating_sub(then.now_us)),
        }
    }
}

impl From<u64> for Moment {
    /// By the monotonic clock alone.
    fn from(now_us: u64) -> Self {
        Self {
            now_us,
            timestamp_us: None,
        }
    }
}

/// The recent past of one sensor, as far as alerts depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AlertHistory {
    /// Bit 0 is the newest verdict: its score was above the threshold.
    above: u64,
    /// The same for the lower, clearing threshold.
    not_calm: u64,
    verdicts: u32,
    state: AlertState,
    changed: Option<Moment>,
    /// Of an alert that was raised before hark started, until it is confirmed.
    doubt: Option<Doubt>,
}

/// What ends an alert that nobody has seen rise.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// So many calm verdicts at the start are enough, however long the history.
    enough: u32,
    since_us: Option<u64>,
}

/// Calm for so long since the first verdict is enough, too: sensors may be slower
/// than their schema says. Microseconds.
const DOUBT_US: u64 = 2_000_000;

impl AlertHistory {
    /// Takes in a score relative to its threshold; returns whether the state
    /// changed.
    pub(crate) fn handle_score(
        &mut self,
        spec: &VerdictSpec,
        ratio: f32,
        at: impl Into<Moment>,
    ) -> bool {
        let at = at.into();
        let recent = u64::MAX >> (u64::BITS - spec.n);
        self.above = (self.above << 1 | u64::from(ratio > 1.0)) & recent;
        self.not_calm = (self.not_calm << 1 | u64::from(ratio > spec.clear_ratio)) & recent;
        self.verdicts = spec.n.min(self.verdicts + 1);
        let is_doubted = self.is_doubted(self.not_calm == 0, at.now_us);
        let wants_change = match self.state {
            AlertState::Cleared => self.above.count_ones() >= spec.k,
            AlertState::Raised => self.not_calm == 0 && (self.verdicts == spec.n || is_doubted),
        };
        if !wants_change {
            return false;
        }
        let since_us = self.changed.and_then(|changed| at.since_us(changed));
        if since_us.is_some_and(|since_us| (since_us as f64) < spec.hold_off_ms * 1e3) {
            return false;
        }
        self.state = match self.state {
            AlertState::Cleared => AlertState::Raised,
            AlertState::Raised => AlertState::Cleared,
        };
        self.changed = Some(at);
        self.doubt = None;
        true
    }

    /// The alert stands from before hark started: so many calm verdicts, at least
    /// one, end it.
    pub(crate) fn restore(&mut self, enough: u32) {
        *self = Self {
            state: AlertState::Raised,
            doubt: Some(Doubt {
                enough: enough.max(1),
                since_us: None,
            }),
            ..Self::default()
        };
    }

    /// Whether a calm reading changes nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state == AlertState::Cleared && self.above == 0 && self.not_calm == 0
    }

    /// Whether an alert from before hark started has shown itself to be over.
    fn is_doubted(&mut self, is_calm: bool, now_us: u64) -> bool {
        if !is_calm {
            // It is confirmed: from here on it ends like any other.
            self.doubt = None;
        }
        let Some(doubt) = &mut self.doubt else {
            return false;
        };
        let since_us = *doubt.since_us.get_or_insert(now_us);
        self.verdicts >= doubt.enough || now_us.saturating_sub(since_us) >= DOUBT_US
    }

    pub(crate) fn state(&self) -> AlertState {
        self.state
    }
}

/// A [`ScoreSpec`], compiled.
pub(crate) enum Score {
    ReconstructionMse,
    ScaledReconstructionMse { gain: Vec<f32> },
    Output { index: usize, sign: f32 },
}

impl Score {
    pub(crate) fn new(spec: &ScoreSpec) -> Self {
        match spec {
            ScoreSpec::ReconstructionMse { residual_scale } if residual_scale.is_empty() => {
                Self::ReconstructionMse
            }
            ScoreSpec::ReconstructionMse { residual_scale } => Self::ScaledReconstructionMse {
                gain: residual_scale.iter().map(|s| 1.0 / s).collect(),
            },
            ScoreSpec::Output { index, negate } => Self::Output {
                index: *index,
                sign: if *negate { -1.0 } else { 1.0 },
            },
        }
    }

    /// Whether it is the sum of what each feature's reconstruction lacks.
    pub(crate) fn is_of_residuals(&self) -> bool {
        !matches!(self, Self::Output { .. })
    }

    /// The term of feature `index` in such a sum; 0 of any other score.
    pub(crate) fn square_residual(&self, index: usize, feature: f32, output: f32) -> f32 {
        let gain = match self {
            Self::ReconstructionMse => 1.0,
            Self::ScaledReconstructionMse { gain } => gain[index],
            Self::Output { .. } => 0.0,
        };
        let residual = (output - feature) * gain;
        residual * residual
    }

    /// The score of one window; `features` and `outputs` as the model had them.
    /// Too few outputs give NaN, which the engine takes for a fault.
    pub(crate) fn of(&self, features: &[f32], outputs: &[f32]) -> f32 {
        if let Self::Output { index, sign } = self {
            return outputs.get(*index).map_or(f32::NAN, |output| sign * output);
        }
        if outputs.len() != features.len() {
            return f32::NAN;
        }
        let sum = match self {
            Self::ScaledReconstructionMse { gain } => {
                scaled_square_distance(features, outputs, gain)
            }
            _ => square_distance(features, outputs),
        };
        sum / features.len() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(k: u32, n: u32, clear_ratio: f32, hold_off_ms: f64) -> VerdictSpec {
        VerdictSpec {
            threshold: 1.0,
            k,
            n,
            clear_ratio,
            hold_off_ms,
        }
    }

    /// The state after each ratio, `R` or `.`, ratios 1 ms apart.
    fn check(spec: &VerdictSpec, ratios: &[f32], expected: &str) {
        let mut history = AlertHistory::default();
        let states: String = (0..)
            .zip(ratios)
            .map(|(ms, &ratio)| {
                let before = history.state();
                let changed = history.handle_score(spec, ratio, ms * 1000);
                assert_eq!(changed, before != history.state());
                match history.state() {
                    AlertState::Raised => 'R',
                    AlertState::Cleared => '.',
                }
            })
            .collect();
        assert_eq!(states, expected);
    }

    #[test]
    fn k_of_n_raises_and_a_calm_n_clears() {
        check(&spec(1, 1, 1.0, 0.0), &[0.5, 1.0, 1.1, 0.9], "..R.");
        let ratios = [2.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        check(&spec(2, 3, 1.0, 0.0), &ratios, "..RRR..");
        check(&spec(3, 3, 1.0, 0.0), &ratios, ".......");
    }

    #[test]
    fn hysteresis_keeps_an_alert_that_is_not_calm() {
        check(&spec(1, 1, 0.5, 0.0), &[1.5, 0.8, 0.6, 0.5, 0.8], "RRR..");
    }

    #[test]
    fn hold_off_keeps_two_changes_apart() {
        check(
            &spec(1, 1, 1.0, 3.0),
            &[2.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0],
            "RRR...R",
        );
    }

    /// The verdict that clears an alert that stood before hark started, verdicts a
    /// second apart.
    fn check_restored(ratios: &[f32], enough: u32, expected: Option<usize>) {
        let mut history = AlertHistory::default();
        history.restore(enough);
        let spec = spec(2, 8, 0.5, 60_000.0);
        let cleared = (0..)
            .zip(ratios)
            .position(|(second, &ratio)| history.handle_score(&spec, ratio, second * 1_000_000));
        assert_eq!(cleared, expected);
    }

    #[test]
    fn an_alert_from_before_the_start_ends_soon_unless_a_verdict_confirms_it() {
        check_restored(&[0.1; 12], 1, Some(0));
        check_restored(&[0.1; 12], 2, Some(1));
        check_restored(&[0.1; 12], 8, Some(2));
        check_restored(&[0.1, 0.9, 0.1, 0.1, 0.1, 0.1], 3, None);
        check_restored(&[[0.9; 1].as_slice(), &[0.1; 8]].concat(), 1, Some(8));
    }

    #[test]
    fn the_longest_history_does_not_overflow() {
        let ratios = [2.0; 70];
        let expected = ".".repeat(63) + &"R".repeat(7);
        check(&spec(64, 64, 1.0, 0.0), &ratios, &expected);
    }

    fn check_score(spec: &ScoreSpec, features: &[f32], outputs: &[f32], expected: f32) {
        assert_eq!(Score::new(spec).of(features, outputs), expected);
    }

    #[test]
    fn scores_follow_their_formulas() {
        let plain = ScoreSpec::ReconstructionMse {
            residual_scale: vec![],
        };
        check_score(&plain, &[1.0, 2.0], &[2.0, 4.0], 2.5);
        let scaled = ScoreSpec::ReconstructionMse {
            residual_scale: vec![0.5, 2.0],
        };
        check_score(&scaled, &[1.0, 2.0], &[2.0, 4.0], 2.5);
        let output = |negate| ScoreSpec::Output { index: 1, negate };
        check_score(&output(false), &[9.0], &[0.1, 0.9], 0.9);
        check_score(&output(true), &[9.0], &[0.1, -0.9], 0.9);
    }

    #[test]
    fn outputs_of_the_wrong_length_are_no_score() {
        let plain = ScoreSpec::ReconstructionMse {
            residual_scale: vec![],
        };
        assert!(Score::new(&plain).of(&[1.0, 2.0], &[1.0]).is_nan());
        assert!(
            Score::new(&ScoreSpec::Output {
                index: 3,
                negate: false
            })
            .of(&[1.0], &[1.0])
            .is_nan()
        );
    }
}
