//! The ledger's side that hears the engine: verdicts, alerts and steps, each
//! held against what was due.

use super::{Ledger, Open};
use hark_engine::{AlertKind, AlertState, LadderStep, NodeClock, Rung, SensorId, Verdict};

/// A verdict that must be given now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    open: Open,
    rung: Rung,
    /// Known for a model's.
    score: Option<f32>,
    /// Of a verdict that is repeated.
    age_us: Option<u64>,
    now_us: u64,
}

/// What must be said now.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    Verdict(Due),
    Step(LadderStep),
    /// Of a kind that no score brings.
    Alert(Option<SensorId>, AlertKind, AlertState),
}

/// A verdict by a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByModel {
    pub(super) rung: Rung,
    pub(super) score: f32,
    given_us: u64,
}

/// What was said about one sensor, and what is still due.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    pub(super) state: AlertState,
    /// Bit 0 is the newest verdict: an anomaly.
    anomalies: u64,
    changed: Option<Change>,
    /// Readings that were valid: the rule has learnt from them.
    pub(super) samples: u64,
    pub(super) by_model: Option<ByModel>,
}

impl Ledger<'_> {
    /// A verdict of the rule is due, or of the last model while it learns.
    pub(super) fn expect_fallback(&mut self, open: Open, now_us: u64) {
        let has_last = self.said[open.sensor.index()].by_model.is_some();
        let rung = if !open.rule_has_learnt && has_last {
            Rung::Last
        } else {
            Rung::Rule
        };
        self.expect(open, rung, None, now_us);
    }

    pub(super) fn expect(&mut self, open: Open, rung: Rung, score: Option<f32>, now_us: u64) {
        if [Rung::Delegate, Rung::Model].contains(&rung) {
            self.counters.scored += 1;
        } else {
            self.counters.fallback += 1;
        }
        let deadline_us = open.arrived_us + self.limits.deadline_us;
        if now_us > deadline_us {
            self.counters.deadline_misses += 1;
            let late_us = now_us - (deadline_us - self.limits.keeper_margin_us);
            assert!(
                late_us <= self.scenario.keeper_late_us_max,
                "late, though the driver was not"
            );
        }
        let said = &mut self.said[open.sensor.index()];
        if let Some(score) = score {
            let given_us = now_us;
            said.by_model = Some(ByModel {
                rung,
                score,
                given_us,
            });
        }
        let repeated = said.by_model.filter(|_| rung == Rung::Last);
        let score = repeated.map(|last| last.score).or(score);
        let age_us = repeated.map(|last| now_us - last.given_us);
        self.expected.push_back(Expected::Verdict(Due {
            open,
            rung,
            score,
            age_us,
            now_us,
        }));
    }

    pub(super) fn handle_step(&mut self, step: &LadderStep) {
        self.check_no_alert_is_missing();
        match self.expected.pop_front() {
            Some(Expected::Step(expected)) => assert_eq!(*step, expected),
            other => panic!("{step:?} has no cause; due is {other:?}"),
        }
    }

    pub(super) fn handle_verdict(&mut self, verdict: &Verdict) {
        self.check_no_alert_is_missing();
        let Some(Expected::Verdict(due)) = self.expected.pop_front() else {
            panic!("nobody asked for {verdict:?}");
        };
        let (open, latency_us) = (due.open, due.now_us - due.open.arrived_us);
        assert_eq!(verdict.sensor, open.sensor);
        assert_eq!(verdict.sequence, open.sequence);
        assert_eq!(verdict.timestamp_us, open.timestamp_us);
        assert_eq!(verdict.rung, due.rung);
        assert_eq!(verdict.latency_us, latency_us);
        assert_eq!(verdict.is_in_time, latency_us <= self.limits.deadline_us);
        assert_eq!(verdict.age_us, due.age_us);
        assert!(verdict.score.is_finite() && verdict.score >= 0.0);
        if let Some(score) = due.score {
            // An autoencoder's goes through a square root and back.
            let error = (verdict.score - score).abs();
            assert!(
                error <= 1e-3 * (1.0 + score),
                "{} is not {score}",
                verdict.score
            );
        }
        let model = self.scenario.model.rungs.iter();
        if let Some(model) = model.clone().find(|model| model.rung == due.rung) {
            assert_eq!(verdict.threshold, model.threshold);
        }
        let said = &mut self.said[verdict.sensor.index()];
        if due.rung != Rung::Last {
            said.anomalies = said.anomalies << 1 | u64::from(verdict.is_anomaly());
        }
        self.last = Some((*verdict, due.now_us));
    }

    pub(super) fn handle_alert(&mut self, alert: &Verdict) {
        let (verdict, now_us) = self.last.take().expect("an alert follows a verdict");
        // An alert says why, a verdict only where that is asked for.
        let causes = alert.causes;
        let verdict = Verdict { causes, ..verdict };
        assert_eq!(verdict, *alert, "an alert follows its own verdict");
        let shares = causes.as_slice().iter().map(|cause| cause.share);
        assert!(shares.sum::<f32>() <= 1.0, "{causes:?}");
        assert_ne!(verdict.rung, Rung::Last, "a repetition is no evidence");
        let spec = &self.scenario.spec.verdict;
        let said = &mut self.said[alert.sensor.index()];
        assert_ne!(said.state, alert.state, "an alert changes the state");
        said.state = alert.state;
        let recent = said.anomalies & (u64::MAX >> (u64::BITS - spec.n));
        match said.state {
            AlertState::Raised => {
                self.counters.alerts += 1;
                self.counters.alerts_by_kind[AlertKind::Anomaly.index()] += 1;
                assert!(recent.count_ones() >= spec.k, "raised without a cause");
            }
            AlertState::Cleared => assert_eq!(recent, 0, "cleared though not calm"),
        }
        let change = Change::new(self.limits.clock, alert.timestamp_us, now_us);
        let is_held = said
            .changed
            .is_some_and(|last| change.is_held(last, spec.hold_off_ms));
        assert!(!is_held, "two changes within the hold-off");
        said.changed = Some(change);
    }

    /// A verdict with another state than the last must bring an alert.
    pub(super) fn check_no_alert_is_missing(&mut self) {
        if let Some((verdict, _)) = self.last.take() {
            let said = &self.said[verdict.sensor.index()];
            assert_eq!(said.state, verdict.state, "a change of state without alert");
        }
    }
}

/// When an alert changed, by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Change {
    now_us: u64,
    /// Of the reading, where the source names its clock.
    timestamp_us: Option<i64>,
}

impl Change {
    pub(super) fn new(clock: NodeClock, timestamp_us: Option<i64>, now_us: u64) -> Self {
        let timestamp_us = timestamp_us.filter(|_| clock != NodeClock::None);
        Self {
            now_us,
            timestamp_us,
        }
    }

    /// Whether it is too early after `last`. A clock that went back holds nothing.
    pub(super) fn is_held(self, last: Self, hold_off_ms: f64) -> bool {
        let since_us = match (last.timestamp_us, self.timestamp_us) {
            (Some(last), Some(this)) => (i128::from(this) - i128::from(last)) as f64,
            _ => (self.now_us - last.now_us) as f64,
        };
        (0.0..hold_off_ms * 1e3).contains(&since_us)
    }
}
