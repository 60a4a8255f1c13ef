//! The sensors of one source: names to states, bounded.

use crate::rule::Rule;
use crate::validate::Validator;
use crate::verdict::AlertHistory;
use crate::window::{Window, WindowShape};
use crate::{Rejection, Rung};
use std::collections::HashMap;

/// A sensor of one engine; meaningless to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SensorId(u32);

impl SensorId {
    /// Counts from 0 in the order in which the sensors were taken in.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Everything that one sensor's next reading is judged by.
pub(super) struct SensorState {
    pub(super) validator: Validator,
    pub(super) rule: Rule,
    pub(super) window: Window,
    pub(super) alerts: AlertHistory,
    pub(super) cache: Cache,
    pub(super) last: Option<LastVerdict>,
}

/// The last verdict by a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastVerdict {
    pub(super) score: f32,
    pub(super) threshold: f32,
    pub(super) given_us: u64,
}

impl SensorState {
    pub(super) fn restart(&mut self) {
        self.validator = Validator::new();
        self.window.reset();
    }
}

pub(super) struct Sensors {
    ids: HashMap<Box<str>, SensorId>,
    states: Vec<SensorState>,
    max: usize,
    /// Features that each sensor's cache holds; 0: no cache.
    cached_len: usize,
}

impl Sensors {
    pub(super) fn new(max: usize, cached_len: usize) -> Self {
        Self {
            ids: HashMap::new(),
            states: Vec::new(),
            max,
            cached_len,
        }
    }

    pub(super) fn id(&mut self, name: &str, shape: &WindowShape) -> Result<SensorId, Rejection> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        if name.is_empty() || self.states.len() >= self.max {
            return Err(Rejection::UnknownSensor);
        }
        let id = SensorId(self.states.len() as u32);
        self.ids.insert(name.into(), id);
        self.states.push(SensorState {
            validator: Validator::new(),
            rule: Rule::new(),
            window: Window::new(shape),
            alerts: AlertHistory::default(),
            cache: Cache::new(self.cached_len),
            last: None,
        });
        Ok(id)
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn get(&self, id: SensorId) -> &SensorState {
        &self.states[id.index()]
    }

    pub(super) fn get_mut(&mut self, id: SensorId) -> &mut SensorState {
        &mut self.states[id.index()]
    }
}

/// A score, and what it is a score of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CachedScore {
    pub(super) rung: Rung,
    pub(super) score: f32,
    pub(super) threshold: f32,
}

/// The last scored feature vector of a sensor, so that one that is stuck or
/// idle costs no inference. Holds nothing, and no memory, where caching is off.
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
