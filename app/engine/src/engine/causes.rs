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
    /// Features whose causes are known from before.
    Known(Causes),
}

impl Engine {
    /// Why the sensor's newest window has the score that it has.
    pub(super) fn causes(&mut self, sensor: SensorId, basis: Basis<'_>) -> Causes {
        match basis {
            Basis::Nothing => Causes::NONE,
            Basis::Known(causes) => causes,
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
