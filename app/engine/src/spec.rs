//! The pipeline that a bundle declares: schema, window, features, score, verdict.
//!
//! These are the tables under `[pipeline]` in a bundle's `manifest.toml`. They
//! are plain data; [`PipelineSpec::check`] refuses what cannot be served, so
//! that everything built from a checked spec is infallible.

use crate::features::FeatureSpec;
use crate::schema::{Schema, is_positive, require};
use hark_ladder::{LadderModel, PolicyError, Rung};
use serde::Deserialize;

/// The longest window, in readings: 4096 × 32 channels of f32 is 512 KiB a sensor.
pub const WINDOW_MAX: usize = 4096;
/// The most features of one window, the input length of the largest model.
pub const FEATURES_MAX: usize = 65_536;
/// The longest k-of-n history, one bit a verdict in a `u64`.
pub const HISTORY_MAX: u32 = 64;

/// A field of a pipeline that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", key(.field, *.index))]
pub struct SpecError {
    /// Dotted path below `[pipeline]`.
    pub field: &'static str,
    /// Which entry of the list that the path begins with, if it does.
    pub index: Option<usize>,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// The lists below `[pipeline]`.
const LISTS: [&str; 2] = ["schema.channels", "features"];

impl SpecError {
    /// The key in the manifest, such as `pipeline.features[1].scale`.
    pub fn key(&self) -> String {
        key(self.field, self.index)
    }

    fn of(self, index: usize) -> Self {
        Self {
            index: Some(index),
            ..self
        }
    }
}

impl From<PolicyError> for SpecError {
    fn from(error: PolicyError) -> Self {
        Self {
            field: error.key,
            index: None,
            problem: error.problem,
        }
    }
}

fn key(field: &str, index: Option<usize>) -> String {
    let mut lists = LISTS.into_iter();
    let list = lists.find_map(|list| Some((list, field.strip_prefix(list)?)));
    match (list, index) {
        (Some((list, rest)), Some(index)) => format!("pipeline.{list}[{index}]{rest}"),
        _ => format!("pipeline.{field}"),
    }
}

/// Everything between a reading and an alert, as a bundle declares it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Which readings are valid.
    pub schema: Schema,
    /// How readings are gathered.
    pub window: WindowSpec,
    /// φ: what the model sees of a window, concatenated in this order.
    pub features: Vec<FeatureSpec>,
    /// How the model's outputs become one score.
    pub score: ScoreSpec,
    /// ψ: how scores become alerts.
    pub verdict: VerdictSpec,
}

/// How many readings a window holds, and how often one is due.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Readings in a window, 1 to [`WINDOW_MAX`].
    pub length: usize,
    /// Readings between two due windows, 1 to `length`.
    pub stride: usize,
    /// The longest run of missing readings that a window bridges; a longer one
    /// empties the window. 0: every gap empties it.
    #[serde(default)]
    pub gap_max: u64,
}

/// How the model's outputs become one anomaly score.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreSpec {
    /// Mean squared difference of features and outputs, an autoencoder's:
    /// `score = 1/N · Σ ((y_i − x_i) / s_i)²`.
    ReconstructionMse {
        /// `s`, one for each feature, above 0. Absent: all 1.
        #[serde(default)]
        residual_scale: Vec<f32>,
    },
    /// One output as it is, such as a classifier's probability of a fault.
    Output {
        /// Index of the output.
        index: usize,
        /// Whether it is the less the odder a window is, as the scores of
        /// scikit-learn's outlier detectors are: `score = −y`.
        #[serde(default)]
        negate: bool,
    },
}

/// ψ: threshold, k-of-n, hysteresis and hold-off.
///
/// A score above `threshold` is an anomaly. The alert is raised when `k` of
/// the last `n` verdicts are anomalies. It clears when none of the last `n`
/// scores lies above `threshold × clear_ratio`. Two changes of state lie at
/// least `hold_off_ms` apart, by the clock that the source's `clock` names.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct VerdictSpec {
    /// The score above which a window is an anomaly; above 0.
    pub threshold: f32,
    /// Anomalies among the last `n` that raise the alert, 1 to `n`.
    pub k: u32,
    /// Verdicts looked back on, 1 to [`HISTORY_MAX`].
    pub n: u32,
    /// Hysteresis, above 0 and at most 1.
    pub clear_ratio: f32,
    /// Least time between two changes of state, milliseconds.
    #[serde(default)]
    pub hold_off_ms: f64,
}

impl PipelineSpec {
    /// The length of the feature vector, the model's input.
    pub fn features_len(&self) -> usize {
        let channels = self.schema.channels.len();
        let lengths = self
            .features
            .iter()
            .map(|f| f.len(self.window.length, channels));
        lengths.sum()
    }

    /// Refuses what cannot be served.
    ///
    /// # Errors
    /// The first [`SpecError`], in the order of the tables.
    pub fn check(&self) -> Result<(), SpecError> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// What cannot be served: the first problem of each table and list entry.
    pub fn problems(&self) -> Vec<SpecError> {
        let channels = self.schema.channels.iter().enumerate();
        let channels =
            channels.map(|(index, c)| self.schema.check_channel(c).map_err(|e| e.of(index)));
        let readings = [self.schema.check(), self.window.check()];
        let mut problems: Vec<SpecError> = readings
            .into_iter()
            .chain(channels)
            .filter_map(Result::err)
            .collect();
        // Features are of sound channels and windows.
        if problems.is_empty() {
            let features = self.features.iter().enumerate();
            let features = features.map(|(index, f)| f.check(self).map_err(|e| e.of(index)));
            let features = features.chain([self.check_features_len()]);
            problems.extend(features.filter_map(Result::err));
        }
        if problems.is_empty() {
            problems.extend(self.score.check(self.features_len()).err());
        }
        problems.extend(self.verdict.check().err());
        problems
    }

    fn check_features_len(&self) -> Result<(), SpecError> {
        require(!self.features.is_empty(), "features", || {
            "expected at least one [[pipeline.features]]".into()
        })?;
        let len = self.features_len();
        require(len <= FEATURES_MAX, "features", || {
            format!("{len} features; at most {FEATURES_MAX} fit")
        })
    }
}

impl WindowSpec {
    fn check(&self) -> Result<(), SpecError> {
        let Self { length, stride, .. } = *self;
        require((1..=WINDOW_MAX).contains(&length), "window.length", || {
            format!("{length} is outside 1 to {WINDOW_MAX}")
        })?;
        require((1..=length).contains(&stride), "window.stride", || {
            format!("{stride} is outside 1 to the window's length {length}")
        })
    }
}

impl ScoreSpec {
    pub(crate) fn check(&self, features: usize) -> Result<(), SpecError> {
        let Self::ReconstructionMse { residual_scale } = self else {
            return Ok(());
        };
        let count = residual_scale.len();
        require(
            count == 0 || count == features,
            "score.residual_scale",
            || format!("{count} numbers for {features} features"),
        )?;
        let all_positive = residual_scale.iter().all(|&s| is_positive(s.into()));
        require(all_positive, "score.residual_scale", || {
            "every scale must be above 0".into()
        })
    }

    /// The fewest outputs that a model must have, given its features.
    pub fn outputs_min(&self, features: usize) -> usize {
        match self {
            Self::ReconstructionMse { .. } => features,
            Self::Output { index, .. } => index + 1,
        }
    }
}

impl VerdictSpec {
    fn check(&self) -> Result<(), SpecError> {
        let Self { k, n, .. } = *self;
        require(
            is_positive(self.threshold.into()),
            "verdict.threshold",
            || {
                let hint = "where low scores are the odd ones, set `negate` in [pipeline.score]";
                format!("{} is not a score above 0; {hint}", self.threshold)
            },
        )?;
        require((1..=HISTORY_MAX).contains(&n), "verdict.n", || {
            format!("{n} is outside 1 to {HISTORY_MAX}")
        })?;
        require((1..=n).contains(&k), "verdict.k", || {
            format!("{k} is outside 1 to n = {n}")
        })?;
        let ratio_is_valid = self.clear_ratio > 0.0 && self.clear_ratio <= 1.0;
        require(ratio_is_valid, "verdict.clear_ratio", || {
            format!("{} is outside 0 (excluded) to 1", self.clear_ratio)
        })?;
        let hold_off_is_valid = self.hold_off_ms.is_finite() && self.hold_off_ms >= 0.0;
        require(hold_off_is_valid, "verdict.hold_off_ms", || {
            format!("{} is not a time of 0 or more", self.hold_off_ms)
        })
    }
}

/// One model rung of the ladder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRung {
    /// [`Rung::Delegate`], [`Rung::Model`] or [`Rung::Previous`].
    pub rung: Rung,
    /// How this model's outputs become a score.
    pub score: ScoreSpec,
    /// The score above which a window is an anomaly; above 0.
    pub threshold: f32,
    /// When the model's validity ends, microseconds since the Unix epoch.
    pub expires_utc_us: Option<i64>,
    /// Most windows in one run of the model, at least 1.
    pub batch_max: usize,
}

impl ModelRung {
    pub(crate) fn of_ladder(&self) -> LadderModel {
        LadderModel {
            rung: self.rung,
            expires_utc_us: self.expires_utc_us,
            batch_max: self.batch_max,
        }
    }
}

/// Refuses rungs that are no models, out of order, or cannot be served.
pub(crate) fn check_models(models: &[ModelRung], features: usize) -> Result<(), SpecError> {
    let are_models = models.iter().all(|m| m.rung.is_model());
    require(are_models, "models.rung", || {
        "only delegate, model and previous run a model".into()
    })?;
    let are_in_order = models.is_sorted_by(|a, b| a.rung < b.rung);
    require(are_in_order, "models.rung", || {
        "expected each rung once, best first".into()
    })?;
    for model in models {
        model.score.check(features)?;
        let threshold = model.threshold;
        require(is_positive(threshold.into()), "models.threshold", || {
            format!("{threshold} is not a score above 0")
        })?;
        require(model.batch_max > 0, "models.batch_max", || {
            "expected at least 1".into()
        })?;
    }
    Ok(())
}
