//! The ledger's side for alerts that no score brings: values out of range, silent
//! sensors, a link that is away. All of them can be foretold.

use super::Ledger;
use super::said::{Change, Expected};
use hark_engine::{Alert, AlertKind, AlertState, Outcome, Reading, Rejection, SensorId, Step};

/// What is known of one sensor's range and silence.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    at_us: Option<u64>,
    /// Since when it is awaited that was never heard.
    awaited_us: Option<u64>,
    pub(super) silent: AlertState,
    /// Bit 0 is the newest reading that told its range: it was beyond.
    beyond: u64,
    pub(super) range: AlertState,
    range_changed: Option<Change>,
}

impl Heard {
    /// Since when nothing came of what is awaited.
    fn since_us(&self) -> Option<u64> {
        self.at_us.or(self.awaited_us)
    }
}

/// What is known of the link.
#[derive(Clone, Copy, Default)]
pub(super) struct LinkBook {
    down_since_us: Option<u64>,
    pub(super) state: AlertState,
}

impl Ledger<'_> {
    /// `sensor` was heard, whatever came.
    pub(super) fn hear(&mut self, sensor: SensorId, now_us: u64) {
        let heard = &mut self.heard[sensor.index()];
        heard.at_us = Some(now_us);
        if std::mem::take(&mut heard.silent) == AlertState::Raised {
            self.expect_alert(Some(sensor), AlertKind::Silent, AlertState::Cleared);
        }
    }

    /// A reading of `sensor` came to `step`.
    pub(super) fn judge_range(
        &mut self,
        sensor: SensorId,
        reading: &Reading,
        step: Step,
        now_us: u64,
    ) {
        let is_beyond = match step {
            Step::Settled(Outcome::Rejected(
                Rejection::NotFinite { .. }
                | Rejection::Range { .. }
                | Rejection::RateOfChange { .. },
            )) => true,
            Step::Settled(Outcome::Rejected(_)) => return,
            _ => false,
        };
        if !self.limits.alerts.watches_range {
            return;
        }
        let spec = &self.scenario.spec.verdict;
        let heard = &mut self.heard[sensor.index()];
        heard.beyond = heard.beyond << 1 | u64::from(is_beyond);
        let recent = heard.beyond & (u64::MAX >> (u64::BITS - spec.n));
        let state = match heard.range {
            AlertState::Cleared if recent.count_ones() >= spec.k => AlertState::Raised,
            AlertState::Raised if recent == 0 => AlertState::Cleared,
            _ => return,
        };
        let change = Change::new(self.limits.clock, reading.timestamp_us, now_us);
        if heard
            .range_changed
            .is_some_and(|last| change.is_held(last, spec.hold_off_ms))
        {
            return;
        }
        heard.range = state;
        heard.range_changed = Some(change);
        self.expect_alert(Some(sensor), AlertKind::Range, state);
    }

    /// The link is there, or away.
    pub(crate) fn handle_link(&mut self, is_up: bool, now_us: u64) {
        // Every sensor of the simulated gateway counts as one that the operator named.
        let unheard = self.heard.iter_mut().filter(|heard| heard.at_us.is_none());
        unheard.for_each(|heard| heard.awaited_us = is_up.then_some(now_us));
        if !is_up {
            self.link.down_since_us.get_or_insert(now_us);
            return;
        }
        self.link.down_since_us = None;
        if std::mem::take(&mut self.link.state) == AlertState::Raised {
            self.expect_alert(None, AlertKind::Link, AlertState::Cleared);
        }
    }

    /// When the next absence is to be told.
    pub(crate) fn next_absence_us(&self) -> Option<u64> {
        let silences = self.awaited().map(|(_, at)| at);
        silences.chain(self.link_due_us()).min()
    }

    /// Whoever is away by now is about to be told.
    pub(crate) fn handle_absences(&mut self, now_us: u64) {
        if self.link_due_us().is_some_and(|due_us| due_us <= now_us) {
            self.link.state = AlertState::Raised;
            self.expect_alert(None, AlertKind::Link, AlertState::Raised);
        }
        let due = self.awaited().filter(|(_, due_us)| *due_us <= now_us);
        let mut due: Vec<usize> = due.map(|(index, _)| index).collect();
        due.sort_by_key(|&index| (self.heard[index].since_us(), index));
        for index in due {
            self.heard[index].silent = AlertState::Raised;
            let sensor = self.sensors[index];
            self.expect_alert(Some(sensor), AlertKind::Silent, AlertState::Raised);
        }
    }

    /// Sensors that may fall silent, and when they do.
    fn awaited(&self) -> impl Iterator<Item = (usize, u64)> {
        let after_us = self.limits.alerts.silent_after_us;
        let heard = self.heard.iter().enumerate();
        heard
            .filter(move |(_, heard)| after_us > 0 && heard.silent == AlertState::Cleared)
            .filter_map(move |(index, heard)| Some((index, heard.since_us()? + after_us)))
    }

    fn link_due_us(&self) -> Option<u64> {
        let after_us = self.limits.alerts.link_down_us;
        let is_told = self.link.state == AlertState::Raised;
        let since_us = self.link.down_since_us.filter(|_| after_us > 0 && !is_told);
        since_us.map(|since_us| since_us + after_us)
    }

    fn expect_alert(&mut self, sensor: Option<SensorId>, kind: AlertKind, state: AlertState) {
        if state == AlertState::Raised {
            self.counters.alerts += 1;
            self.counters.alerts_by_kind[kind.index()] += 1;
        }
        self.expected
            .push_back(Expected::Alert(sensor, kind, state));
    }

    /// The engine said an alert that no score brings.
    pub(super) fn handle_unscored_alert(&mut self, alert: &Alert) {
        self.check_no_alert_is_missing();
        let said = (alert.sensor(), alert.kind(), alert.state());
        match self.expected.pop_front() {
            Some(Expected::Alert(sensor, kind, state)) => assert_eq!(said, (sensor, kind, state)),
            other => panic!("{alert:?} has no cause; due is {other:?}"),
        }
        if let Alert::Range(range) = alert {
            let excess = range.excess.expect("nothing stood before");
            let is_beyond = match (excess.reason, excess.limit) {
                (Rejection::NotFinite { .. }, None) => !excess.value.is_finite(),
                (_, Some(limit)) => excess.value > limit || limit < 0.0 && excess.value < limit,
                _ => false,
            };
            assert!(is_beyond, "{range:?} is within its limit");
        }
    }
}
