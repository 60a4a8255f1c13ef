//! What the next reading of each sensor is judged by, from one engine to the next:
//! windows, rules, sequences, silences and alerts outlive a reload.
//!
//! Both engines are of one pipeline and one clock; that is their users' to see to.

use super::absence::Awaited;
use super::sensors::SensorState;
use super::{Engine, SensorId};
use crate::alert::AlertKind;
use crate::verdict::{AlertHistory, AlertState};
use std::cmp::Reverse;
use std::sync::Arc;

/// What an engine knew of its sensors.
pub struct SensorMemories {
    sensors: Vec<SensorState>,
}

/// What becomes of the sensors' alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertMemory {
    /// They go on as if nothing had been.
    Whole,
    /// Those that stand do so until they are found to be over: verdicts have another
    /// measure from now on.
    States,
    /// They begin anew, unsaid: whoever was told of them is not told any more.
    Nothing,
}

impl SensorMemories {
    /// Of so many sensors.
    pub fn len(&self) -> usize {
        self.sensors.len()
    }

    /// Of none.
    pub fn is_empty(&self) -> bool {
        self.sensors.is_empty()
    }
}

impl Engine {
    /// What it knows of its sensors. Windows that wait for a model are not among it.
    pub(crate) fn into_memories(self) -> SensorMemories {
        SensorMemories {
            sensors: self.sensors.into_states(),
        }
    }

    /// Takes over what another engine knew; `known` is called for each sensor that has
    /// a place. Where there are fewer than there were, the longest silent have none.
    pub(crate) fn handle_memories(
        &mut self,
        memories: SensorMemories,
        alerts: AlertMemory,
        now_us: u64,
        mut known: impl FnMut(SensorId, &Arc<str>),
    ) {
        let mut memories = memories.sensors;
        memories.sort_by_key(|state| Reverse(state.heard_us));
        for mut state in memories {
            let was_silent = state.silent == AlertState::Raised;
            // One that is silent by now is to be told once more where nothing is kept.
            let is_awaited =
                state.awaited == Awaited::Yes || (was_silent && alerts == AlertMemory::Nothing);
            // It does not stand in the queue of this engine.
            state.awaited = Awaited::No;
            self.revise_alerts(&mut state, alerts);
            let name = Arc::clone(state.name());
            let Some(id) = self.sensors.adopt(state) else {
                continue;
            };
            self.silence.make_room(self.sensors.len());
            if is_awaited {
                self.silence.await_next(id, self.sensors.get_mut(id));
            }
            known(id, &name);
        }
        self.silence.handle_pause(now_us);
    }

    fn revise_alerts(&self, state: &mut SensorState, alerts: AlertMemory) {
        let revise = |history: &mut AlertHistory, kind| match alerts {
            AlertMemory::Whole => {}
            AlertMemory::States if history.state() == AlertState::Raised => {
                history.restore(self.calm_enough(kind));
            }
            AlertMemory::States | AlertMemory::Nothing => *history = AlertHistory::default(),
        };
        revise(&mut state.alerts, AlertKind::Anomaly);
        revise(&mut state.range, AlertKind::Range);
        let policy = &self.limits.alerts;
        if !policy.watches_range {
            state.range = AlertHistory::default();
        }
        if alerts == AlertMemory::Nothing || policy.silent_after_us == 0 {
            state.silent = AlertState::Cleared;
        }
    }
}
