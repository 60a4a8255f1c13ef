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

mod shown;
mod spectrum;
mod statistics;
#[cfg(test)]
mod tests;

use crate::schema::{Schema, is_positive, require};
use crate::spec::{PipelineSpec, SpecError};
use crate::window::{Window, WindowShape};
use serde::Deserialize;
pub use shown::{FeatureName, FeatureNames};
use spectrum::Spectrum;
use std::ops::Range;

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
                || {
                    let expected = match channels == len {
                        true => channels.to_string(),
                        false => format!("{channels} (one a channel) or {len} (one a feature)"),
                    };
                    format!("{count} numbers; expected {expected}")
                },
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

/// Computes the feature vector of a full window, without allocating.
pub(crate) struct Extractor {
    groups: Vec<Group>,
    spectrum: Option<Spectrum>,
    period_s: f64,
    len: usize,
}

struct Group {
    formula: Formula,
    channels: Vec<usize>,
    takes_all_channels: bool,
    len: usize,
    normalisation: Option<Normalisation>,
    /// Whether the bundle says where its features are while nothing is wrong.
    is_centred: bool,
    clip: Option<f32>,
}

enum Formula {
    Raw,
    Mean,
    Rms,
    Std,
    Peak,
    Crest,
    Kurtosis,
    Slope,
    /// The EWMA of this index in the window's shape.
    Ewma(usize),
    /// The bins of each band.
    Bands(Vec<Range<usize>>),
}

/// `y = (x − center) · gain`, both as long as the group.
struct Normalisation {
    center: Vec<f32>,
    gain: Vec<f32>,
}

impl Extractor {
    /// Compiles a checked spec, and notes in `shape` what the windows must keep.
    pub(crate) fn new(spec: &PipelineSpec, shape: &mut WindowShape) -> Self {
        let groups: Vec<Group> = spec
            .features
            .iter()
            .map(|feature| Group::new(feature, &spec.schema, shape))
            .collect();
        let has_bands = groups
            .iter()
            .any(|g| matches!(g.formula, Formula::Bands(_)));
        let period_s = spec.schema.period_ms / 1e3;
        Self {
            spectrum: has_bands.then(|| Spectrum::new(shape.length)),
            len: groups.iter().map(|g| g.len).sum(),
            groups,
            period_s,
        }
    }

    /// The length of the feature vector.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes the features of a full window to `out`, shape `[len]`.
    pub(crate) fn extract(&mut self, shape: &WindowShape, window: &Window, out: &mut [f32]) {
        assert_eq!(out.len(), self.len);
        let mut rest = out;
        for group in &self.groups {
            let (slots, tail) = rest.split_at_mut(group.len);
            rest = tail;
            match (&group.formula, self.spectrum.as_mut()) {
                (Formula::Raw, _) => group.copy_raw(shape, window, slots),
                (Formula::Bands(bands), Some(spectrum)) => {
                    group.fill_bands(shape, window, slots, spectrum, bands);
                }
                _ => group.fill(shape, window, slots, self.period_s),
            }
            group.normalise(slots);
        }
    }
}

impl Group {
    fn new(feature: &FeatureSpec, schema: &Schema, shape: &mut WindowShape) -> Self {
        let channels: Vec<usize> = match feature.channels.as_slice() {
            [] => (0..schema.channels.len()).collect(),
            named => named
                .iter()
                .map(|name| schema.channel(name).expect("the spec was checked"))
                .collect(),
        };
        let len = feature.len(shape.length, schema.channels.len());
        Self {
            formula: Formula::new(feature, shape, schema.period_ms / 1e3),
            takes_all_channels: channels.iter().copied().eq(0..schema.channels.len()),
            normalisation: Normalisation::new(feature, len, channels.len()),
            is_centred: !feature.center.is_empty(),
            clip: feature.clip,
            channels,
            len,
        }
    }

    fn copy_raw(&self, shape: &WindowShape, window: &Window, slots: &mut [f32]) {
        let (older, newer) = window.blocks(shape);
        if self.takes_all_channels {
            let (first, second) = slots.split_at_mut(older.len());
            first.copy_from_slice(older);
            second.copy_from_slice(newer);
            return;
        }
        let rows = older
            .chunks_exact(shape.channels)
            .chain(newer.chunks_exact(shape.channels));
        let values = rows.flat_map(|row| self.channels.iter().map(|&c| row[c]));
        slots.iter_mut().zip(values).for_each(|(slot, x)| *slot = x);
    }

    fn fill(&self, shape: &WindowShape, window: &Window, slots: &mut [f32], period_s: f64) {
        for (slot, &channel) in slots.iter_mut().zip(&self.channels) {
            *slot = self.formula.value(shape, window, channel, period_s) as f32;
        }
    }

    fn fill_bands(
        &self,
        shape: &WindowShape,
        window: &Window,
        slots: &mut [f32],
        spectrum: &mut Spectrum,
        bands: &[Range<usize>],
    ) {
        let slots = slots.chunks_exact_mut(bands.len());
        for (slots, &channel) in slots.zip(&self.channels) {
            let column = statistics::column(window, shape, channel);
            let mean = statistics::mean(window.sums(channel), shape.length);
            spectrum.transform(column, mean as f32);
            for (slot, bins) in slots.iter_mut().zip(bands) {
                *slot = spectrum.band(bins) as f32;
            }
        }
    }

    fn normalise(&self, slots: &mut [f32]) {
        if let Some(Normalisation { center, gain }) = &self.normalisation {
            for ((x, center), gain) in slots.iter_mut().zip(center).zip(gain) {
                *x = (*x - center) * gain;
            }
        }
        if let Some(clip) = self.clip {
            slots.iter_mut().for_each(|x| *x = x.clamp(-clip, clip));
        }
    }
}

impl Formula {
    fn new(feature: &FeatureSpec, shape: &mut WindowShape, period_s: f64) -> Self {
        shape.keeps_sums |= !matches!(
            feature.kind,
            FeatureKind::Raw | FeatureKind::Peak | FeatureKind::Kurtosis | FeatureKind::Ewma
        );
        match feature.kind {
            FeatureKind::Raw => Self::Raw,
            FeatureKind::Mean => Self::Mean,
            FeatureKind::Rms => Self::Rms,
            FeatureKind::Std => Self::Std,
            FeatureKind::Peak => Self::Peak,
            FeatureKind::Crest => Self::Crest,
            FeatureKind::Kurtosis => Self::Kurtosis,
            FeatureKind::Slope => Self::Slope,
            FeatureKind::Ewma => {
                let alpha = feature.alpha.expect("the spec was checked");
                shape.ewma_alphas.push(alpha);
                Self::Ewma(shape.ewma_alphas.len() - 1)
            }
            FeatureKind::Bands => {
                let bins = |e: &[f64]| spectrum::bins(shape.length, period_s, e[0], e[1]);
                Self::Bands(feature.edges_hz.windows(2).map(bins).collect())
            }
        }
    }

    /// The feature of one channel, for the formulas that give one.
    // Where windows are extracted a call for each channel would be a tenth of the work.
    #[inline(always)]
    fn value(&self, shape: &WindowShape, window: &Window, channel: usize, period_s: f64) -> f64 {
        let length = shape.length;
        let column = || statistics::column(window, shape, channel);
        let sums = || window.sums(channel);
        match *self {
            Self::Mean => statistics::mean(sums(), length),
            Self::Rms => statistics::rms(sums(), length),
            Self::Std => statistics::std(sums(), length),
            Self::Peak => statistics::peak(column()),
            Self::Crest => {
                statistics::crest(statistics::peak(column()), statistics::rms(sums(), length))
            }
            Self::Kurtosis => statistics::kurtosis(column, length),
            Self::Slope => statistics::slope(sums(), length, period_s),
            Self::Ewma(index) => window.ewma(shape, index)[channel].into(),
            Self::Raw | Self::Bands(_) => unreachable!("these give several features a channel"),
        }
    }
}

impl Normalisation {
    fn new(feature: &FeatureSpec, len: usize, channels: usize) -> Option<Self> {
        if feature.center.is_empty() && feature.scale.is_empty() {
            return None;
        }
        // Raw lags are time-major, bands channel-major: a number for each
        // channel repeats accordingly.
        let channel_of = |i: usize| match feature.kind {
            FeatureKind::Raw => i % channels,
            _ => i * channels / len,
        };
        let spread = |numbers: &[f32], absent: f32| -> Vec<f32> {
            let at = |i| {
                if numbers.len() == len {
                    i
                } else {
                    channel_of(i)
                }
            };
            (0..len)
                .map(|i| numbers.get(at(i)).copied().unwrap_or(absent))
                .collect()
        };
        let gain = spread(&feature.scale, 1.0);
        Some(Self {
            center: spread(&feature.center, 0.0),
            gain: gain.iter().map(|scale| 1.0 / scale).collect(),
        })
    }
}
