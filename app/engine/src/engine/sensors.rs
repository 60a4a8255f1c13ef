//! The sensors of one source: names to states, bounded.
//!
//! When every place is taken, a sensor that comes new has that of the one which has
//! been silent for longest: of the newcomers first, then of those that have had a
//! verdict, were not heard for [`KEPT_PERIODS`], and have no alert that stands, then
//! of those that have one. What is configured, and what waits for a verdict, stays.

use super::PENDING_MAX;
use super::absence::Awaited;
use crate::alert::Excess;
use crate::causes::Causes;
use crate::rule::Rule;
use crate::validate::Validator;
use crate::verdict::{AlertHistory, AlertState};
use crate::window::{Window, WindowShape};
use crate::{Rejection, Rung};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// A sensor that has had a verdict keeps its place through a silence of so many of
/// the schema's periods, as long as one in trouble may need to come back.
const KEPT_PERIODS: f64 = 10.0;
/// The least of that, microseconds: a minute, in which a node has started again.
const KEPT_US_MIN: u64 = 60_000_000;
/// Between two looks for a place where none was found, microseconds.
const LOOK_AGAIN_US: u64 = 1_000_000;
/// A look at all sensors finds so large a part of them, the most silent, so that a
/// flood of names costs each of them a few steps and not a look at all sensors.
const CANDIDATES_PART: usize = 16;
/// One more than can wait for their verdicts at a time.
const CANDIDATES_MIN: usize = PENDING_MAX + 1;

/// A sensor of one engine; meaningless to another. Void once
/// [`Counters::sensors_replaced`](crate::Counters::sensors_replaced) has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SensorId(pub(super) u32);

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
    /// Of scores.
    pub(super) alerts: AlertHistory,
    /// Of readings whose values are out of range.
    pub(super) range: AlertHistory,
    /// The last value that was.
    pub(super) excess: Option<Excess>,
    pub(super) silent: AlertState,
    pub(super) cache: Cache,
    pub(super) last: Option<LastVerdict>,
    /// When its last reading came, accepted or not; before the first, from when on
    /// that is awaited.
    pub(super) heard_us: u64,
    /// Whether a reading of it has come.
    pub(super) is_heard: bool,
    pub(super) awaited: Awaited,
    /// Gaps in a row that emptied its window before it was full.
    pub(super) emptied: u32,
    /// When its last sample was taken, by its own time if it has one.
    pub(super) sampled_us: i64,
    pub(super) tenure: Tenure,
    name: Arc<str>,
}

/// How firmly a sensor holds its place, the least firmly first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tenure {
    /// Its window was never full.
    Newcomer,
    /// It has had a verdict.
    Known,
    /// It is the operator's, and stays.
    Configured,
}

/// The last verdict by a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastVerdict {
    pub(super) score: f32,
    pub(super) threshold: f32,
    pub(super) given_us: u64,
}

impl SensorState {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether an alert of its values stands.
    pub(super) fn has_alert(&self) -> bool {
        [self.alerts.state(), self.range.state()].contains(&AlertState::Raised)
    }

    pub(super) fn restart(&mut self) {
        self.validator = Validator::new();
        self.window.reset();
    }
}

pub(super) struct Sensors {
    ids: HashMap<Arc<str>, SensorId>,
    states: Vec<SensorState>,
    max: usize,
    /// Features that each sensor's cache holds; 0: no cache.
    cached_len: usize,
    /// Who may give a place back, the most silent last, and when it was heard.
    candidates: Vec<(SensorId, u64)>,
    look_again_us: u64,
}

impl Sensors {
    pub(super) fn new(max: usize, cached_len: usize) -> Self {
        Self {
            ids: HashMap::new(),
            states: Vec::new(),
            max,
            cached_len,
            candidates: Vec::new(),
            look_again_us: 0,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<SensorId> {
        self.ids.get(name).copied()
    }

    /// The sensor called `name`, in a free place if it has none.
    pub(super) fn take_in(
        &mut self,
        name: &str,
        tenure: Tenure,
        shape: &WindowShape,
    ) -> Result<SensorId, Rejection> {
        if let Some(id) = self.find(name) {
            let state = self.get_mut(id);
            state.tenure = state.tenure.max(tenure);
            return Ok(id);
        }
        if name.is_empty() || self.is_full() {
            return Err(Rejection::UnknownSensor);
        }
        Ok(self.push(self.state_of(name, tenure, shape)))
    }

    fn push(&mut self, state: SensorState) -> SensorId {
        let id = SensorId(self.states.len() as u32);
        self.ids.insert(Arc::clone(&state.name), id);
        self.states.push(state);
        id
    }

    /// Takes in a sensor with the state that another engine of its pipeline had of it;
    /// none if there is no place for it.
    pub(super) fn adopt(&mut self, mut state: SensorState) -> Option<SensorId> {
        // Another model may answer from now on, to which the same features are others.
        state.cache = Cache::new(self.cached_len);
        // Whom the operator names now has been taken in.
        state.tenure = state.tenure.min(Tenure::Known);
        let Some(id) = self.find(&state.name) else {
            return (!self.is_full()).then(|| self.push(state));
        };
        let here = self.get_mut(id);
        state.tenure = state.tenure.max(here.tenure);
        *here = state;
        Some(id)
    }

    /// The states, by [`SensorId::index`].
    pub(super) fn into_states(self) -> Vec<SensorState> {
        self.states
    }

    /// Gives the place of `id` to the newcomer `name`, which has none.
    pub(super) fn replace(&mut self, id: SensorId, name: &str, shape: &WindowShape) {
        let state = self.state_of(name, Tenure::Newcomer, shape);
        self.ids.insert(Arc::clone(&state.name), id);
        let gone = std::mem::replace(self.get_mut(id), state);
        // The queue goes by places.
        self.get_mut(id).awaited = gone.awaited;
        self.ids.remove(&gone.name);
    }

    fn state_of(&self, name: &str, tenure: Tenure, shape: &WindowShape) -> SensorState {
        SensorState {
            validator: Validator::new(),
            rule: Rule::new(),
            window: Window::new(shape),
            alerts: AlertHistory::default(),
            range: AlertHistory::default(),
            excess: None,
            silent: AlertState::Cleared,
            cache: Cache::new(self.cached_len),
            last: None,
            heard_us: 0,
            emptied: 0,
            sampled_us: 0,
            is_heard: false,
            awaited: Awaited::No,
            tenure,
            name: name.into(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.states.len() >= self.max
    }

    /// Who is to give its place to a newcomer, if anybody. `is_waiting`: for a
    /// verdict.
    pub(super) fn longest_silent(
        &mut self,
        now_us: u64,
        period_ms: f64,
        is_waiting: impl Fn(SensorId) -> bool,
    ) -> Option<SensorId> {
        if let Some(id) = self.next_candidate(&is_waiting) {
            return Some(id);
        }
        if now_us < self.look_again_us {
            return None;
        }
        self.look_for_candidates(now_us, period_ms);
        let found = self.next_candidate(&is_waiting);
        if found.is_none() {
            self.look_again_us = now_us.saturating_add(LOOK_AGAIN_US);
        }
        found
    }

    fn next_candidate(&mut self, is_waiting: impl Fn(SensorId) -> bool) -> Option<SensorId> {
        while let Some((id, heard_us)) = self.candidates.pop() {
            let state = self.get(id);
            // It may have been heard since, or its place be another's by now.
            if state.heard_us == heard_us && state.tenure != Tenure::Configured && !is_waiting(id) {
                return Some(id);
            }
        }
        None
    }

    fn look_for_candidates(&mut self, now_us: u64, period_ms: f64) {
        let kept_us = KEPT_US_MIN.max((KEPT_PERIODS * period_ms * 1e3) as u64);
        let rank = |state: &SensorState| Reverse((state.tenure, state.has_alert(), state.heard_us));
        let gives_way = |state: &SensorState| match state.tenure {
            Tenure::Newcomer => true,
            Tenure::Known => now_us.saturating_sub(state.heard_us) >= kept_us,
            Tenure::Configured => false,
        };
        let ids = (0..).map(SensorId).zip(&self.states);
        let mut found: Vec<_> = ids
            .filter(|(_, state)| gives_way(state))
            .map(|(id, state)| (rank(state), id))
            .collect();
        found.sort_unstable_by_key(|(rank, _)| *rank);
        let most = (found.len() / CANDIDATES_PART).max(CANDIDATES_MIN);
        let most_silent = found.drain(found.len().saturating_sub(most)..);
        let candidates = most_silent.map(|(Reverse((_, _, heard_us)), id)| (id, heard_us));
        self.candidates.clear();
        self.candidates.extend(candidates);
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SensorId, &mut SensorState)> {
        (0..).map(SensorId).zip(&mut self.states)
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
    pub(super) causes: Causes,
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
