//! The engine's side that knows alerts which no score brings: values out of range,
//! sensors and links that are away, and what stood before hark started.

use super::absence::Awaited;
use super::sensors::Tenure;
use super::verdicts::Answer;
use super::{Engine, Output, SensorId};
use crate::alert::{Alert, AlertKind, Excess, RangeAlert};
use crate::causes::Causes;
use crate::verdict::{AlertState, Verdict};
use crate::{Reading, Rejection};

/// An alert that stood before hark started is over once no verdict has confirmed it
/// for about so long: a broker that keeps it as raised is to be told within seconds
/// of the first verdicts. Microseconds.
const DOUBT_US: f64 = 3e6;

/// Of sensors that never had a verdict so many may be told as silent in a minute:
/// whoever invents names must not make as many alerts.
pub(super) const NEWCOMERS_TOLD_MAX: u32 = 60;
const MINUTE_US: u64 = 60_000_000;

/// How many newcomers were told as silent in this minute.
#[derive(Default)]
pub(super) struct NewcomersTold {
    minute: u64,
    count: u32,
}

impl NewcomersTold {
    fn admit(&mut self, now_us: u64) -> bool {
        let minute = now_us / MINUTE_US;
        if minute != self.minute {
            *self = Self { minute, count: 0 };
        }
        self.count += 1;
        self.count <= NEWCOMERS_TOLD_MAX
    }
}

/// The ratio of a reading that is out of range, to be judged like a score.
const BEYOND: f32 = 2.0;

impl Engine {
    /// Something came from `sensor`, whatever it is worth.
    pub(super) fn hear(&mut self, sensor: SensorId, now_us: u64) {
        let state = self.sensors.get_mut(sensor);
        let heard_us = std::mem::replace(&mut state.heard_us, now_us);
        let was_heard = std::mem::replace(&mut state.is_heard, true);
        // Nothing is awaited of whoever is told as silent.
        if state.awaited == Awaited::Yes {
            return;
        }
        self.silence.await_next(sensor, state);
        if std::mem::take(&mut state.silent) == AlertState::Raised {
            // Nobody knows when one was last heard that has not been since hark started.
            let silent_us = was_heard.then(|| now_us.saturating_sub(heard_us));
            self.say_alert(Alert::Silent {
                sensor,
                state: AlertState::Cleared,
                silent_us,
            });
        }
    }

    /// Judges whether values are out of range, once a reading has been validated: one
    /// that was refused, or that follows such a one.
    pub(super) fn judge_range(
        &mut self,
        sensor: SensorId,
        reading: &Reading,
        rejection: Option<Rejection>,
        now_us: u64,
    ) {
        let at = self.moment(reading.timestamp_us, now_us);
        let state = self.sensors.get_mut(sensor);
        let ratio = match rejection {
            None => 0.0,
            Some(reason) => {
                let rate = state.validator.rate();
                // What was refused for another reason says nothing of its values.
                let Some(excess) = Excess::of(reason, &self.schema, reading, rate) else {
                    return;
                };
                state.excess = Some(excess);
                BEYOND
            }
        };
        if !self.limits.alerts.watches_range || !state.range.handle_score(&self.verdict, ratio, at)
        {
            return;
        }
        let excess = state.excess;
        let of_channel = |excess: Excess| {
            let channel = excess.reason.channel()?;
            reading.values().get(channel).copied()
        };
        let value = match rejection {
            Some(_) => excess.map(|excess| excess.value),
            None => excess.and_then(of_channel),
        };
        let alert = RangeAlert {
            sensor,
            state: state.range.state(),
            sequence: reading.sequence,
            timestamp_us: reading.timestamp_us,
            excess,
            value,
        };
        self.say_alert(Alert::Range(alert));
    }

    /// The source's link was made: from now on sensors are awaited that were never
    /// heard, if the operator has named them or an alert of theirs stands.
    pub(crate) fn handle_link_up(&mut self, now_us: u64) {
        for (sensor, state) in self.sensors.iter_mut() {
            let is_due = state.tenure == Tenure::Configured || state.has_alert();
            if is_due && !state.is_heard && state.silent == AlertState::Cleared {
                state.heard_us = now_us;
                self.silence.await_next(sensor, state);
            }
        }
        let (was_raised, down_us) = self.link.handle_up(now_us);
        if was_raised {
            self.say_alert(Alert::Link {
                state: AlertState::Cleared,
                down_us,
            });
        }
    }

    /// The source's link was lost, or cannot be made: it tells of itself, and of
    /// sensors that were never heard nothing can be said.
    pub(crate) fn handle_link_down(&mut self, now_us: u64) {
        self.link.handle_down(now_us);
        let states = self.sensors.iter_mut().map(|(_, state)| state);
        states
            .filter(|state| !state.is_heard)
            .for_each(|state| state.awaited.end());
    }

    /// Nobody listened until now: what did not come until then is no silence.
    pub(crate) fn handle_pause(&mut self, now_us: u64) {
        self.silence.handle_pause(now_us);
    }

    /// When the next sensor may fall silent, or the link has been away for too long,
    /// if nothing comes before, and not before; on the monotonic clock.
    pub fn next_absence_us(&self) -> Option<u64> {
        let (silence, link) = (self.silence.next_due_us(), self.link.next_due_us());
        silence.into_iter().chain(link).min()
    }

    /// Says one sensor that is silent by now, or that the link has been away for too
    /// long; whether there may be more. One by one, so that they fit between two drains.
    pub(crate) fn handle_absence(&mut self, now_us: u64) -> bool {
        if let Some(down_us) = self.link.poll_down(now_us) {
            self.say_alert(Alert::Link {
                state: AlertState::Raised,
                down_us: Some(down_us),
            });
            return true;
        }
        let Some((sensor, silent_us)) = self.silence.poll_silent(&mut self.sensors, now_us) else {
            return false;
        };
        let state = self.sensors.get_mut(sensor);
        if state.tenure == Tenure::Newcomer && !self.newcomers_told.admit(now_us) {
            self.counters.silences_untold += 1;
            return true;
        }
        state.silent = AlertState::Raised;
        self.say_alert(Alert::Silent {
            sensor,
            state: AlertState::Raised,
            silent_us: Some(silent_us),
        });
        true
    }

    /// An alert of this kind was raised before hark started, and was not cleared: it
    /// stands until it is found to be over. Nothing is said of it.
    pub(crate) fn handle_standing(&mut self, sensor: SensorId, kind: AlertKind, now_us: u64) {
        let enough = self.calm_enough(kind);
        let state = self.sensors.get_mut(sensor);
        match kind {
            AlertKind::Anomaly => state.alerts.restore(enough),
            AlertKind::Range => state.range.restore(enough),
            AlertKind::Silent => {
                state.silent = AlertState::Raised;
                return state.awaited.end();
            }
            // Of these a sensor has none.
            AlertKind::Link | AlertKind::Model => {}
        }
        if state.silent == AlertState::Cleared {
            state.heard_us = now_us;
            self.silence.await_next(sensor, state);
        }
    }

    /// So many calm verdicts, or readings, end an alert that nobody has seen rise.
    pub(super) fn calm_enough(&self, kind: AlertKind) -> u32 {
        let period_us = self.schema.period_ms * 1e3;
        let interval_us = match kind {
            AlertKind::Anomaly => period_us * self.shape.stride as f64,
            _ => period_us,
        };
        (DOUBT_US / interval_us) as u32
    }

    /// As [`Engine::handle_standing`], of the link.
    pub(crate) fn handle_standing_link(&mut self) {
        self.link.set_raised();
    }

    /// The node of `sensor` was taken away: nobody will clear its alerts, so those
    /// that stand are cleared here, that of its scores beside the last of them.
    pub(crate) fn handle_gone(&mut self, sensor: SensorId, now_us: u64) {
        self.give_up_occlusions_of(sensor);
        let state = self.sensors.get_mut(sensor);
        state.awaited.end();
        let standing = [
            std::mem::take(&mut state.alerts).state(),
            std::mem::take(&mut state.range).state(),
            std::mem::take(&mut state.silent),
        ];
        let (excess, answer) = (
            state.excess.take(),
            Answer::without_model(None, state.last, now_us),
        );
        let cleared = AlertState::Cleared;
        let alerts = [
            Alert::Anomaly(Verdict {
                sensor,
                sequence: None,
                timestamp_us: None,
                score: answer.score,
                threshold: answer.threshold,
                state: cleared,
                rung: answer.rung,
                is_in_time: true,
                latency_us: 0,
                read_ns: 0,
                age_us: answer.age_us,
                causes: Causes::NONE,
            }),
            Alert::Range(RangeAlert {
                sensor,
                state: cleared,
                sequence: None,
                timestamp_us: None,
                excess,
                value: None,
            }),
            Alert::Silent {
                sensor,
                state: cleared,
                silent_us: None,
            },
        ];
        let stood = standing.into_iter().zip(alerts);
        stood
            .filter(|(state, _)| *state == AlertState::Raised)
            .for_each(|(_, alert)| self.say_alert(alert));
    }

    /// The state of an alert of `sensor`.
    pub fn alert_state_of(&self, sensor: SensorId, kind: AlertKind) -> AlertState {
        let state = self.sensors.get(sensor);
        match kind {
            AlertKind::Anomaly => state.alerts.state(),
            AlertKind::Range => state.range.state(),
            AlertKind::Silent => state.silent,
            AlertKind::Link | AlertKind::Model => AlertState::Cleared,
        }
    }

    /// Whether the link's alert stands.
    pub fn is_link_raised(&self) -> bool {
        self.link.is_raised()
    }

    pub(super) fn say_alert(&mut self, alert: Alert) {
        if alert.state() == AlertState::Raised {
            self.counters.count_alert(alert.kind());
        }
        self.say(Output::Alert(alert));
    }
}
