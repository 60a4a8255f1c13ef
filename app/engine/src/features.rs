//! φ: the features that a bundle declares, computed from a window.
//!
//! Training calls the same code through `hark features`, so what was trained
//! is what is served. For a channel with values `x_0 … x_{L−1}`, oldest first,
//! and mean `μ`:
//!
//! | kind | formula | unit |
//! |---|---|---|
//! | `raw` | the `x_i` themselves, time-major | the channel's |
//! | `mean` | `μ = 1/L · Σ x_i` | the channel's |
//! | `rms` | `√(1/L · Σ x_i²)` | the channel's |
//! | `std` | `σ = √(1/L · Σ (x_i − μ)²)` | the channel's |
//! | `peak` | `max │x_i│` | the channel's |
//! | `crest` | peak / RMS, 0 if RMS is 0 | 1 |
//! | `kurtosis` | `1/L · Σ (x_i − μ)⁴ / σ⁴`, a normal signal has 3; 0 if σ is 0 | 1 |
//! | `slope` | least squares, `Σ (i − ī)·x_i / Σ (i − ī)²`, over the period | the channel's per second |
//! | `ewma` | `y ← y + α·(x − y)`, from the first reading after a gap | the channel's |
//! | `bands` | RMS of `x − μ` between each two neighbouring `edges_hz`, see [`spectrum`] | the channel's |
//!
//! Each is then normalised: `clip((x − center) / scale)`.

mod extractor;
mod spectrum;
mod statistics;
#[cfg(test)]
mod tests;

pub(crate) use extractor::Extractor;

use crate::schema::{is_positive, require};
use crate::spec::{PipelineSpec, SpecError};
use serde::Deserialize;

/// One group of features: a kind over some channels, normalised.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Which formula.
    pub kind: FeatureKind,
    /// Names of the channels, in the order of the features. Absent: all.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Smoothing factor of `ewma`, above 0 and at most 1.
    #[serde(default)]
    pub alpha: Option<f32>,
    /// Edges of `bands`, hertz, rising, from 0 to half the sampling rate: one
    /// band fewer than edges, all bands of a channel side by side.
    #[serde(default)]
    pub edges_hz: Vec<f64>,
    /// Subtracted: one for each channel or for each feature of the group.
    /// Absent: 0.
    #[serde(default)]
    pub center: Vec<f32>,
    /// Divided by, above 0: one for each channel or for each feature of the
    /// group. Absent: 1.
    #[serde(default)]
    pub scale: Vec<f32>,
    /// Bound on the absolute value after normalisation, above 0. It keeps the
    /// inputs of a quantized model within its calibrated range.
    #[serde(default)]
    pub clip: Option<f32>,
}

/// The formulas; see the module's table.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// Every reading of the window, time-major.
    Raw,
    /// Arithmetic mean.
    Mean,
    /// Root mean square.
    Rms,
    /// Population standard deviation.
    Std,
    /// Greatest absolute value.
    Peak,
    /// Peak over RMS.
    Crest,
    /// Fourth standardised moment.
    Kurtosis,
    /// Least-squares trend, per second.
    Slope,
    /// Exponentially weighted moving average.
    Ewma,
    /// RMS within frequency bands.
    Bands,
}

impl FeatureSpec {
    /// How many features the group has for windows of shape `[length, channels]`.
    pub(crate) fn len(&self, length: usize, channels: usize) -> usize {
        let channels = match self.channels.len() {
            0 => channels,
            named => named,
        };
        match self.kind {
            FeatureKind::Raw => length * channels,
            FeatureKind::Bands => self.edges_hz.len().saturating_sub(1) * channels,
            _ => channels,
        }
    }

    pub(crate) fn check(&self, pipeline: &PipelineSpec) -> Result<(), SpecError> {
        let schema = &pipeline.schema;
        for name in &self.channels {
            require(schema.channel(name).is_some(), "features.channels", || {
                let known: Vec<_> = schema.channels.iter().map(|c| c.name.as_str()).collect();
                format!(
                    "no channel `{name}` in the schema; there are {}",
                    known.join(", ")
                )
            })?;
        }
        self.check_parameters(schema.period_ms)?;
        self.check_normalisation(pipeline)
    }

    fn check_parameters(&self, period_ms: f64) -> Result<(), SpecError> {
        let is_ewma = self.kind == FeatureKind::Ewma;
        let alpha_is_valid = match self.alpha {
            Some(alpha) => is_ewma && alpha > 0.0 && alpha <= 1.0,
            None => !is_ewma,
        };
        require(alpha_is_valid, "features.alpha", || {
            "`ewma`, and no other kind, needs an alpha above 0 and at most 1".into()
        })?;
        let nyquist_hz = 500.0 / period_ms;
        let edges = &self.edges_hz;
        let edges_are_valid = match self.kind {
            FeatureKind::Bands => {
                edges.len() >= 2
                    && edges.is_sorted_by(|a, b| a < b)
                    && edges.iter().all(|f| (0.0..=nyquist_hz).contains(f))
            }
            _ => edges.is_empty(),
        };
        require(edges_are_valid, "features.edges_hz", || {
            format!(
                "`bands`, and no other kind, needs two or more rising edges from 0 to {nyquist_hz}"
            )
        })
    }

    fn check_normalisation(&self, pipeline: &PipelineSpec) -> Result<(), SpecError> {
        let channels = match self.channels.len() {
            0 => pipeline.schema.channels.len(),
            named => named,
        };
        let len = self.len(pipeline.window.length, pipeline.schema.channels.len());
        for (field, numbers) in [
            ("features.center", &self.center),
            ("features.scale", &self.scale),
        ] {
            let count = numbers.len();
            require(
                count == 0 || count == channels || count == len,
                field,
                || format!("{count} numbers; expected {channels} or {len}"),
            )?;
            let are_finite = numbers.iter().all(|x| x.is_finite());
            require(are_finite, field, || "every number must be finite".into())?;
        }
        let scales_are_valid = self.scale.iter().all(|&s| is_positive(s.into()));
        require(scales_are_valid, "features.scale", || {
            "every scale must be above 0".into()
        })?;
        let clip_is_valid = self.clip.is_none_or(|c| is_positive(c.into()));
        require(clip_is_valid, "features.clip", || {
            "expected a bound above 0".into()
        })
    }
}
