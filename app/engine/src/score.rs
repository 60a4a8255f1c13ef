//! The model's outputs to one anomaly score.

use crate::spec::ScoreSpec;
use crate::sums::{scaled_square_distance, square_distance};

/// A [`ScoreSpec`], compiled.
pub(crate) enum Score {
    ReconstructionMse,
    ScaledReconstructionMse { gain: Vec<f32> },
    Output { index: usize },
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
            ScoreSpec::Output { index } => Self::Output { index: *index },
        }
    }

    /// The score of one window; `features` and `outputs` as the model had them.
    /// Too few outputs give NaN, which the engine takes for a fault.
    pub(crate) fn of(&self, features: &[f32], outputs: &[f32]) -> f32 {
        if let Self::Output { index } = self {
            return outputs.get(*index).copied().unwrap_or(f32::NAN);
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

    fn check(spec: &ScoreSpec, features: &[f32], outputs: &[f32], expected: f32) {
        assert_eq!(Score::new(spec).of(features, outputs), expected);
    }

    #[test]
    fn scores_follow_their_formulas() {
        let plain = ScoreSpec::ReconstructionMse {
            residual_scale: vec![],
        };
        check(&plain, &[1.0, 2.0], &[2.0, 4.0], 2.5);
        let scaled = ScoreSpec::ReconstructionMse {
            residual_scale: vec![0.5, 2.0],
        };
        check(&scaled, &[1.0, 2.0], &[2.0, 4.0], 2.5);
        check(&ScoreSpec::Output { index: 1 }, &[9.0], &[0.1, 0.9], 0.9);
    }

    #[test]
    fn outputs_of_the_wrong_length_are_no_score() {
        let plain = ScoreSpec::ReconstructionMse {
            residual_scale: vec![],
        };
        assert!(Score::new(&plain).of(&[1.0, 2.0], &[1.0]).is_nan());
        assert!(
            Score::new(&ScoreSpec::Output { index: 3 })
                .of(&[1.0], &[1.0])
                .is_nan()
        );
    }
}
