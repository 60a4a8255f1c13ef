//! What the next reading of each sensor is judged by, from one engine to the next:
//! windows, rules, sequences, silences and alerts outlive a reload.
//!
//! Both engines are of one pipeline and one clock; that is their users' to see to.

use super::sensors::SensorState;
use super::{Engine, SensorId};
use crate::alert::AlertKind;
use crate::verdict::{AlertHistory, AlertState};
use std::cmp::Reverse;
use std::sync::Arc;

/// What an engine knew of its sensors.
pub struct SensorMemories {
    sensors: Vec<SensorMemory>,
}

struct SensorMemory {
    state: SensorState,
    /// It is to be heard, or else silent.
    is_awaited: bool,
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
        let Self {
            sensors, silence, ..
        } = self;
        let states = sensors.into_states().into_iter();
        let sensors = (0..).map(SensorId).zip(states).map(|(id, state)| {
            let is_awaited = silence.awaits(id);
            SensorMemory { state, is_awaited }
        });
        SensorMemories {
            sensors: sensors.collect(),
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
        memories.sort_by_key(|memory| Reverse(memory.state.heard_us));
        let mut awaited = Vec::new();
        for SensorMemory {
            mut state,
            mut is_awaited,
        } in memories
        {
            if alerts == AlertMemory::Nothing {
                // One that is silent by now is to be told once more.
                is_awaited |= state.silent == AlertState::Raised;
            }
            self.revise_alerts(&mut state, alerts);
            let (heard_us, name) = (state.heard_us, Arc::clone(state.name()));
            let Some(id) = self.sensors.adopt(state) else {
                continue;
            };
            if self.silence.len() < self.sensors.len() {
                self.silence.add();
            }
            if is_awaited {
                awaited.push((id, heard_us));
            }
            known(id, &name);
        }
        // In the order in which they were heard.
        for (id, heard_us) in awaited.into_iter().rev() {
            self.silence.hear(id, heard_us);
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
