//! The last scored feature vector of a sensor, so that one that is stuck or
//! idle costs no inference.

use crate::Rung;

/// A score, and what it is a score of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CachedScore {
    pub(super) rung: Rung,
    pub(super) score: f32,
    pub(super) threshold: f32,
}

/// Holds nothing, and no memory, where caching is off.
#[derive(Default)]
pub(super) struct Cache {
    features: Box<[f32]>,
    cached: Option<CachedScore>,
}

impl Cache {
    /// A cache for vectors of `features_len`; 0: off.
    pub(super) fn new(features_len: usize) -> Self {
        Self {
            features: vec![0.0; features_len].into(),
            cached: None,
        }
    }

    /// The score of `features` by `rung`, if they are the ones last scored.
    pub(super) fn get(&self, features: &[f32], rung: Rung) -> Option<CachedScore> {
        let is_same = |c: &CachedScore| c.rung == rung && *self.features == *features;
        self.cached.filter(is_same)
    }

    pub(super) fn set(&mut self, features: &[f32], cached: CachedScore) {
        if self.features.len() == features.len() {
            self.features.copy_from_slice(features);
            self.cached = Some(cached);
        }
    }
}
