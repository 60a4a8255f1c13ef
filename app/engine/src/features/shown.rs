//! A feature as people know it: of which channel, what it was before it was
//! normalised, and what it normally is.

use super::{Extractor, FeatureKind, Formula, Group, statistics};
use crate::spec::PipelineSpec;
use crate::window::{Window, WindowShape};

/// What a feature is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureName {
    /// Which formula.
    pub kind: FeatureKind,
    /// Of `bands`, from where to where, hertz.
    pub band_hz: Option<[f64; 2]>,
}

/// The names of a pipeline's features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureNames {
    groups: Vec<GroupName>,
}

#[derive(Clone, Debug, PartialEq)]
struct GroupName {
    len: usize,
    kind: FeatureKind,
    edges_hz: Vec<f64>,
}

impl FeatureKind {
    /// The kind's name in manifests and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mean => "mean",
            Self::Rms => "rms",
            Self::Std => "std",
            Self::Peak => "peak",
            Self::Crest => "crest",
            Self::Kurtosis => "kurtosis",
            Self::Slope => "slope",
            Self::Ewma => "ewma",
            Self::Bands => "bands",
        }
    }
}

impl FeatureNames {
    /// Those of `spec`.
    pub fn new(spec: &PipelineSpec) -> Self {
        let channels = spec.schema.channels.len();
        let groups = spec.features.iter().map(|feature| GroupName {
            len: feature.len(spec.window.length, channels),
            kind: feature.kind,
            edges_hz: feature.edges_hz.clone(),
        });
        Self {
            groups: groups.collect(),
        }
    }

    /// The name of the feature with this index in the feature vector, if there is one.
    pub fn of(&self, index: usize) -> Option<FeatureName> {
        let mut index = index;
        for group in &self.groups {
            if index < group.len {
                let bands = group.edges_hz.len().saturating_sub(1).max(1);
                let edges = group.edges_hz.get(index % bands..)?;
                return Some(FeatureName {
                    kind: group.kind,
                    band_hz: edges.first_chunk().copied(),
                });
            }
            index -= group.len;
        }
        None
    }
}

impl Extractor {
    /// Calls `visit` with the index of each feature and its channel.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        let mut begin = 0;
        for group in &self.groups {
            for index in 0..group.len {
                visit(begin + index, group.channel(index));
            }
            begin += group.len;
        }
    }

    /// What feature `index`, which the model saw as `x`, was before it was normalised.
    /// One that was clipped is computed afresh: of what the window holds by now, which
    /// may be some readings more.
    pub(crate) fn value(
        &mut self,
        index: usize,
        x: f32,
        shape: &WindowShape,
        window: &Window,
    ) -> f32 {
        let Self {
            groups,
            spectrum,
            period_s,
            ..
        } = self;
        let (group, index) = locate(groups, index);
        let was_clipped = group.clip.is_some_and(|clip| x.abs() >= clip);
        if !was_clipped || !window.is_full(shape) {
            return group.normalisation.as_ref().map_or(x, |normalisation| {
                x / normalisation.gain[index] + normalisation.center[index]
            });
        }
        let channel = group.channel(index);
        let value = match (&group.formula, spectrum) {
            (Formula::Raw, _) => {
                let row = index / group.channels.len();
                let mut column = statistics::column(window, shape, channel);
                return column.nth(row).unwrap_or(x);
            }
            (Formula::Bands(bands), Some(spectrum)) => {
                let mean = statistics::mean(window.sums(channel), shape.length);
                let column = statistics::column(window, shape, channel);
                spectrum.transform(column, mean as f32);
                spectrum.band(&bands[index % bands.len()])
            }
            (formula, _) => formula.value(shape, window, channel, *period_s),
        };
        value as f32
    }

    /// What feature `index` is while nothing is wrong, before it is normalised: where
    /// the bundle centres it; else as of a channel that stays at its mean, which
    /// `mean` says.
    pub(crate) fn normal(&self, index: usize, mean: impl FnOnce(usize) -> f32) -> f32 {
        let (group, index) = locate(&self.groups, index);
        let center = group.normalisation.as_ref().filter(|_| group.is_centred);
        match center {
            Some(normalisation) => normalisation.center[index],
            None => group.formula.of_constant(mean(group.channel(index))),
        }
    }
}

impl Extractor {
    /// As [`Extractor::normal`], as the model sees it.
    pub(crate) fn normalised_normal(&self, index: usize, mean: impl FnOnce(usize) -> f32) -> f32 {
        let normal = self.normal(index, mean);
        let (group, index) = locate(&self.groups, index);
        group.normalised(index, normal)
    }

    /// The channels that there are features of, rising.
    pub(crate) fn channels(&self) -> Vec<usize> {
        let channels = self.groups.iter().flat_map(|group| &group.channels);
        let channels: std::collections::BTreeSet<usize> = channels.copied().collect();
        channels.into_iter().collect()
    }
}

/// The group of feature `index`, and its index there.
fn locate(groups: &[Group], index: usize) -> (&Group, usize) {
    let mut index = index;
    for group in groups {
        if index < group.len {
            return (group, index);
        }
        index -= group.len;
    }
    unreachable!("features are counted by their groups")
}

impl Group {
    fn normalised(&self, index: usize, x: f32) -> f32 {
        let normalisation = self.normalisation.as_ref();
        let x = normalisation.map_or(x, |n| (x - n.center[index]) * n.gain[index]);
        self.clip.map_or(x, |clip| x.clamp(-clip, clip))
    }

    /// The channel of feature `index` of the group.
    fn channel(&self, index: usize) -> usize {
        // Raw lags are time-major, bands channel-major.
        let channels = self.channels.len();
        match self.formula {
            Formula::Raw => self.channels[index % channels],
            _ => self.channels[index * channels / self.len],
        }
    }
}

impl Formula {
    /// What it comes to for a signal that is `x` all the time.
    fn of_constant(&self, x: f32) -> f32 {
        match self {
            Self::Raw | Self::Mean | Self::Ewma(_) => x,
            Self::Rms | Self::Peak => x.abs(),
            Self::Crest if x != 0.0 => 1.0,
            Self::Crest | Self::Std | Self::Kurtosis | Self::Slope | Self::Bands(_) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = r#"
        window = { length = 8, stride = 1 }
        score = { kind = "reconstruction_mse" }
        verdict = { threshold = 0.5, k = 1, n = 1, clear_ratio = 1.0 }
        [[features]]
        kind = "raw"
        channels = ["y", "x"]
        clip = 2.0
        [[features]]
        kind = "bands"
        edges_hz = [0.0, 2.0, 5.0]
        [[features]]
        kind = "mean"
        center = [3.0, -4.0]
        scale = [0.5, 2.0]
        clip = 1.0
        [[features]]
        kind = "crest"
        channels = ["x"]
        [schema]
        period_ms = 100.0
        channels = [
            { name = "x", unit = "g", min = -99.0, max = 99.0 },
            { name = "y", unit = "g", min = -99.0, max = 99.0 },
        ]
    "#;
    const BANDS: usize = 16;
    const MEANS: usize = BANDS + 4;

    fn spec() -> PipelineSpec {
        toml::from_str(PIPELINE).unwrap()
    }

    /// An extractor, and a window of rows `[x, y]`.
    fn extractor(rows: impl Fn(usize) -> [f32; 2]) -> (Extractor, WindowShape, Window) {
        let spec = spec();
        let mut shape = WindowShape::new(&spec.window, 2);
        let extractor = Extractor::new(&spec, &mut shape);
        let mut window = Window::new(&shape);
        (0..8).for_each(|row| {
            window.push(&shape, &rows(row));
        });
        (extractor, shape, window)
    }

    #[test]
    fn each_feature_has_its_channel_and_its_name() {
        let (extractor, ..) = extractor(|_| [0.0; 2]);
        let mut channels = Vec::new();
        extractor.for_each(|index, channel| {
            assert_eq!(index, channels.len());
            channels.push(channel);
        });
        let raw = [1, 0].repeat(8);
        assert_eq!(channels, [&raw[..], &[0, 0, 1, 1, 0, 1, 0]].concat());
        let names = FeatureNames::new(&spec());
        let name = |index| names.of(index).map(|name| (name.kind.name(), name.band_hz));
        assert_eq!(name(0), Some(("raw", None)));
        assert_eq!(name(BANDS + 2), Some(("bands", Some([0.0, 2.0]))));
        assert_eq!(name(BANDS + 3), Some(("bands", Some([2.0, 5.0]))));
        assert_eq!(name(MEANS), Some(("mean", None)));
        assert_eq!(name(MEANS + 2), Some(("crest", None)));
        assert_eq!(name(MEANS + 3), None);
    }

    #[test]
    fn values_are_shown_as_they_were_before_they_were_normalised_and_clipped() {
        let wave = |row: usize| if row.is_multiple_of(2) { 10.0 } else { -10.0 };
        let (mut extractor, shape, window) = extractor(|row| [row as f32, wave(row)]);
        let mut features = vec![0.0; extractor.len()];
        extractor.extract(&shape, &window, &mut features);
        let mut value = |index: usize| extractor.value(index, features[index], &shape, &window);
        // Of `y` and `x` in turn: only `x` of the first three rows is not clipped.
        let raw: Vec<f32> = (0..16).map(&mut value).collect();
        let expected: Vec<f32> = (0..8).flat_map(|row| [wave(row), row as f32]).collect();
        assert_eq!(raw, expected);
        assert!(
            (value(BANDS + 3) - 10.0).abs() < 1.0,
            "{}",
            value(BANDS + 3)
        );
        assert_eq!(value(MEANS), 3.5);
        assert_eq!(value(MEANS + 1), 0.0);
        // Not yet clipped: what the model saw is the value.
        assert_eq!(extractor.value(MEANS, 0.5, &shape, &window), 3.25);
    }

    #[test]
    fn the_normal_is_the_centre_or_that_of_a_channel_at_its_mean() {
        let (extractor, ..) = extractor(|_| [0.0; 2]);
        let normal = |index: usize| extractor.normal(index, |channel| [7.0, -8.0][channel]);
        let found = [0, 1, BANDS, MEANS, MEANS + 1, MEANS + 2].map(normal);
        assert_eq!(found, [-8.0, 7.0, 0.0, 3.0, -4.0, 1.0]);
    }
}
