//! The stages of a reading's way, each with its own budget and histogram.

/// How many stages there are, the length of an array by [`Stage::index`].
pub const STAGES: usize = Stage::ALL.len();

/// A stage between the read that completed a reading and its last output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Bytes to reading.
    Decode,
    /// Reading to sample.
    Validate,
    /// Sample to window to features, the rule included.
    Features,
    /// Features to scores.
    Inference,
    /// Scores to verdict and alert.
    Verdict,
    /// Handing verdict and alert to the outputs.
    Output,
}

impl Stage {
    /// All stages, in the order in which a reading passes them.
    pub const ALL: [Self; 6] = [
        Self::Decode,
        Self::Validate,
        Self::Features,
        Self::Inference,
        Self::Verdict,
        Self::Output,
    ];

    /// The stage's name in JSON, configuration and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Validate => "validate",
            Self::Features => "features",
            Self::Inference => "inference",
            Self::Verdict => "verdict",
            Self::Output => "output",
        }
    }

    /// The stage's place in [`Stage::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_own_place() {
        assert!(Stage::ALL.into_iter().map(Stage::index).eq(0..STAGES));
    }
}
