//! What a score comes from, as the outside sees it: in alerts, and in verdicts where
//! that is asked for.

use hark_engine::{Cause, Causes, FeatureKind, FeatureNames, PipelineSpec};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::sync::Arc;

/// What the channels and features of a pipeline are called.
#[derive(Debug, Default)]
pub struct PipelineNames {
    /// Names and units, by the schema's order.
    channels: Vec<(Arc<str>, Arc<str>)>,
    features: FeatureNames,
}

/// Causes with their names. It is made without an allocation, on the hot path.
#[derive(Clone, Debug, Default)]
pub struct CausesReport {
    names: Arc<PipelineNames>,
    causes: Causes,
}

/// One channel's part in a score.
#[derive(Clone, Debug, Serialize)]
pub struct CauseReport<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// The channel's feature that has the greatest part, such as `mean`; none of the
    /// rule, which judges the channel itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<&'static str>,
    /// Of the feature `bands`, from where to where, hertz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band_hz: Option<[f64; 2]>,
    /// Of the score, 0 to 1.
    pub share: f32,
    /// Of the feature, or of the channel.
    pub value: f32,
    /// What it is while nothing is wrong.
    pub normal: f32,
    /// Of both; none of a pure number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Cow<'a, str>>,
}

impl PipelineNames {
    /// Those of `spec`.
    pub fn new(spec: &PipelineSpec) -> Self {
        let channels = spec.schema.channels.iter();
        let channels = channels.map(|c| (c.name.as_str().into(), c.unit.as_str().into()));
        Self {
            channels: channels.collect(),
            features: FeatureNames::new(spec),
        }
    }

    /// The name of the channel with this index, if there is one.
    pub fn channel(&self, index: usize) -> Option<&Arc<str>> {
        self.channels.get(index).map(|(name, _)| name)
    }

    fn report(&self, cause: &Cause) -> Option<CauseReport<'_>> {
        let (channel, unit) = self.channels.get(usize::from(cause.channel))?;
        let index = cause.feature.map(usize::from);
        let feature = index.and_then(|index| self.features.of(index));
        let unit = match feature.map(|feature| feature.kind) {
            Some(FeatureKind::Crest | FeatureKind::Kurtosis) => None,
            Some(FeatureKind::Slope) => Some(Cow::Owned(format!("{unit}/s"))),
            _ => Some(Cow::Borrowed(&**unit)),
        };
        Some(CauseReport {
            channel,
            feature: feature.map(|feature| feature.kind.name()),
            band_hz: feature.and_then(|feature| feature.band_hz),
            share: cause.share,
            value: cause.value,
            normal: cause.normal,
            unit: unit.filter(|unit| !unit.is_empty()),
        })
    }
}

impl CausesReport {
    /// `causes`, of a pipeline with these names.
    pub fn new(names: &Arc<PipelineNames>, causes: &Causes) -> Self {
        Self {
            names: Arc::clone(names),
            causes: *causes,
        }
    }

    /// They, the greatest share first.
    pub fn iter(&self) -> impl Iterator<Item = CauseReport<'_>> {
        let causes = self.causes.as_slice().iter();
        causes.filter_map(|cause| self.names.report(cause))
    }
}

impl Serialize for CausesReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Rungs;
    use hark_config::{BundlePath, ModelConfig};

    #[test]
    fn a_cause_has_the_unit_of_what_it_shows() {
        let bundle = BundlePath::Builtin("pump-rig".to_owned());
        let model = ModelConfig {
            name: String::new(),
            bundle,
            previous: None,
            is_cached: false,
        };
        let rungs = Rungs::open(&model).unwrap();
        let names = PipelineNames::new(rungs.pipeline());
        let check = |feature, expected: (Option<&str>, Option<&str>)| {
            let cause = Cause {
                channel: 0,
                feature,
                ..Cause::default()
            };
            let report = names.report(&cause).unwrap();
            assert_eq!(report.channel, "accel_motor_rms");
            assert_eq!((report.feature, report.unit.as_deref()), expected);
        };
        check(None, (None, Some("g")));
        check(Some(0), (Some("ewma"), Some("g")));
        check(Some(21), (Some("slope"), Some("g/s")));
        check(Some(29), (Some("kurtosis"), None));
    }
}
