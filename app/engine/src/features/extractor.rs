//! A pipeline's features, compiled: names resolved, buffers allocated once.

use super::spectrum::{self, Spectrum};
use super::{FeatureKind, FeatureSpec, statistics};
use crate::schema::Schema;
use crate::spec::PipelineSpec;
use crate::window::{Window, WindowShape};
use std::ops::Range;

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
