//! The engine's side that knows why a score is what it is.

use super::{Engine, SensorId};
use crate::causes::{Causes, Parts};

/// What an answer was made from.
#[derive(Clone, Copy)]
pub(super) enum Basis<'a> {
    /// Nothing of this window.
    Nothing,
    /// The channels, by the rule.
    Rule,
    /// What the model of this index said of the features in `place`.
    Outputs {
        model: usize,
        place: u8,
        outputs: &'a [f32],
    },
    /// What the model of this index said before of the features that are in `place`
    /// again, and why.
    Repeated {
        model: usize,
        place: u8,
        causes: Causes,
    },
}

impl Engine {
    /// Whether what the causes of are asked for is no sum of parts: then they take
    /// further runs of the model.
    pub(super) fn needs_occlusion(&self, basis: Basis<'_>) -> Option<(usize, u8)> {
        match basis {
            Basis::Nothing | Basis::Rule => None,
            Basis::Outputs { model, place, .. } | Basis::Repeated { model, place, .. } => {
                let score = &self.scorings[model].score;
                (!score.is_of_residuals()).then_some((model, place))
            }
        }
    }

    /// Why the sensor's newest window has the score that it has.
    pub(super) fn causes(&mut self, sensor: SensorId, basis: Basis<'_>) -> Causes {
        match basis {
            Basis::Nothing => Causes::NONE,
            Basis::Repeated { causes, .. } => causes,
            Basis::Rule => {
                let state = self.sensors.get(sensor);
                state.rule.causes(state.window.newest(&self.shape))
            }
            Basis::Outputs {
                model,
                place,
                outputs,
            } => self.causes_of_residuals(sensor, model, place, outputs),
        }
    }

    /// None if the score of the model is no sum of residuals.
    fn causes_of_residuals(
        &mut self,
        sensor: SensorId,
        model: usize,
        place: u8,
        outputs: &[f32],
    ) -> Causes {
        let score = &self.scorings[model].score;
        if !score.is_of_residuals() {
            return Causes::NONE;
        }
        let features = self.pending.features(place);
        let mut parts = Parts::new();
        self.extractor.for_each(|index, channel| {
            let term = score.square_residual(index, features[index], outputs[index]);
            parts.add(channel, Some(index), term);
        });
        let (extractor, shape) = (&mut self.extractor, &self.shape);
        let state = self.sensors.get(sensor);
        parts.causes(|_, feature| {
            let index = feature.expect("every part is of a feature");
            let value = extractor.value(index, features[index], shape, &state.window);
            (
                value,
                extractor.normal(index, |channel| state.rule.mean(channel)),
            )
        })
    }
}
