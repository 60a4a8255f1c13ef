//! The engine's side that faces the outputs: verdicts, alerts and steps.

use super::causes::Basis;
use super::pending::Question;
use super::sensors::{CachedScore, LastVerdict};
use super::{Engine, OUTPUTS_MAX, Output};
use crate::alert::Alert;
use crate::causes::Causes;
use crate::outcome::Outcome;
use crate::validate::NodeClock;
use crate::verdict::{AlertState, Moment, Verdict};
use hark_ladder::Rung;

/// What a rung says of one window.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) rung: Rung,
    pub(super) score: f32,
    pub(super) threshold: f32,
    /// Of a verdict that is repeated.
    pub(super) age_us: Option<u64>,
    /// Whether it says anything of the reading.
    is_evidence: bool,
}

impl Answer {
    pub(super) fn without_model(
        rule_score: Option<f32>,
        last: Option<LastVerdict>,
        now_us: u64,
    ) -> Self {
        match (rule_score, last) {
            (None, Some(last)) => Self {
                rung: Rung::Last,
                score: last.score,
                threshold: last.threshold,
                age_us: Some(now_us.saturating_sub(last.given_us)),
                // A verdict that is repeated is no new evidence: one odd score must
                // not raise an alert by being said k times.
                is_evidence: false,
            },
            (rule_score, _) => Self {
                rung: Rung::Rule,
                score: rule_score.unwrap_or(0.0),
                threshold: 1.0,
                age_us: None,
                // A rule that still learns knows nothing: its 0 must not clear what
                // stood before hark started.
                is_evidence: rule_score.is_some(),
            },
        }
    }
}

impl Engine {
    /// Says what changed on the ladder. If no model is left that could run
    /// them, the windows that wait are answered by the rule.
    pub(super) fn follow(&mut self, now_us: u64) {
        self.counters.hangs += self.ladder.give_up_hung(now_us);
        if let Some(step) = self.ladder.poll_step(now_us) {
            self.counters.ladder_steps += 1;
            self.say(Output::Step(step));
        }
        if self.pending.waiting() > 0 && self.ladder.choice(now_us).is_none() {
            while let Some(question) = self.pending.take_waiting() {
                self.give_fallback(&question, now_us);
            }
        }
    }

    /// Answers with the score that the sensor's same features had just before.
    /// Only if nothing else is under way: verdicts of a sensor stay in order.
    pub(super) fn answer_from_cache(&mut self, place: u8, question: &Question) -> Option<Outcome> {
        if !self.limits.is_caching || self.pending.unanswered() > 0 {
            return None;
        }
        let choice = self.ladder.choice(question.arrived_us)?;
        let model = choice.model;
        let rung = self.ladder.model(model).rung;
        let cache = &self.sensors.get(question.sensor).cache;
        // By the rung that would run now: another model's score says nothing here.
        let cached = cache.get(self.pending.features(place), rung)?;
        // A trial is there to see the model run.
        if choice.is_trial {
            return None;
        }
        self.counters.cache_hits += 1;
        let causes = cached.causes;
        let basis = Basis::Repeated {
            model,
            place,
            causes,
        };
        Some(self.give_model_verdict(question, cached, basis, question.arrived_us))
    }

    /// Gives the score of model `index` for the features in `place`.
    pub(super) fn give_score(
        &mut self,
        index: usize,
        place: u8,
        question: &Question,
        score: f32,
        basis: Basis<'_>,
        now_us: u64,
    ) {
        // What is repeated later has its causes from here: the outputs are not kept.
        let causes = if self.limits.is_caching {
            self.causes(question.sensor, basis)
        } else {
            Causes::NONE
        };
        let cached = CachedScore {
            rung: self.ladder.model(index).rung,
            score,
            threshold: self.scorings[index].threshold,
            causes,
        };
        let features = self.pending.features(place);
        let cache = &mut self.sensors.get_mut(question.sensor).cache;
        cache.set(features, cached);
        self.give_model_verdict(question, cached, basis, now_us);
    }

    fn give_model_verdict(
        &mut self,
        question: &Question,
        cached: CachedScore,
        basis: Basis<'_>,
        now_us: u64,
    ) -> Outcome {
        let outcome = if cached.rung.is_active_model() {
            Outcome::Scored
        } else {
            Outcome::Fallback
        };
        self.counters.count(outcome);
        let CachedScore {
            rung,
            score,
            threshold,
            ..
        } = cached;
        self.sensors.get_mut(question.sensor).last = Some(LastVerdict {
            score,
            threshold,
            given_us: now_us,
        });
        let answer = Answer {
            rung,
            score,
            threshold,
            age_us: None,
            is_evidence: true,
        };
        self.give_verdict(question, answer, basis, now_us);
        outcome
    }

    /// Gives the verdict of the rule; while that still learns, the sensor's
    /// last one; and where there is none either, the rule's 0.
    pub(super) fn give_fallback(&mut self, question: &Question, now_us: u64) {
        self.counters.count(Outcome::Fallback);
        let last = self.sensors.get(question.sensor).last;
        let answer = Answer::without_model(question.rule_score, last, now_us);
        let basis = match answer.rung {
            Rung::Rule if answer.is_evidence => Basis::Rule,
            _ => Basis::Nothing,
        };
        self.give_verdict(question, answer, basis, now_us);
    }

    fn give_verdict(&mut self, question: &Question, answer: Answer, basis: Basis<'_>, now_us: u64) {
        let Answer {
            rung,
            score,
            threshold,
            age_us,
            is_evidence,
        } = answer;
        let at = self.moment(question.timestamp_us, now_us);
        let alerts = &mut self.sensors.get_mut(question.sensor).alerts;
        let has_changed = is_evidence && alerts.handle_score(&self.verdict, score / threshold, at);
        let mut verdict = Verdict {
            sensor: question.sensor,
            sequence: question.sequence,
            timestamp_us: question.timestamp_us,
            score,
            threshold,
            state: alerts.state(),
            rung,
            is_in_time: now_us <= question.deadline_us,
            latency_us: now_us.saturating_sub(question.arrived_us),
            read_ns: question.read_ns,
            age_us,
            causes: Causes::NONE,
        };
        self.counters.deadline_misses += u64::from(!verdict.is_in_time);
        let explains = self.limits.explains_verdicts;
        if explains {
            verdict.causes = self.explain(verdict, has_changed, basis, now_us);
        }
        self.say(Output::Verdict(verdict));
        if has_changed {
            if !explains {
                verdict.causes = self.explain(verdict, has_changed, basis, now_us);
            }
            self.say_alert(Alert::Anomaly(verdict));
        }
    }

    /// The causes of `verdict`, or that they are awaited.
    fn explain(
        &mut self,
        verdict: Verdict,
        is_alert: bool,
        basis: Basis<'_>,
        now_us: u64,
    ) -> Causes {
        if is_alert {
            self.give_up_occlusions_of(verdict.sensor);
        }
        let Some((model, place)) = self.needs_occlusion(basis) else {
            return self.causes(verdict.sensor, basis);
        };
        // What brings a score down is no cause of it.
        let is_end = is_alert && verdict.state == AlertState::Cleared;
        if is_end && !self.limits.explains_verdicts {
            return Causes::NONE;
        }
        if self.open_occlusion(verdict, is_alert, model, place, now_us) {
            Causes::AWAITED
        } else {
            Causes::NONE
        }
    }

    /// When a reading is judged, by the clocks that count.
    pub(super) fn moment(&self, timestamp_us: Option<i64>, now_us: u64) -> Moment {
        Moment {
            now_us,
            timestamp_us: timestamp_us.filter(|_| self.limits.clock != NodeClock::None),
        }
    }

    pub(super) fn say(&mut self, output: Output) {
        // A queue that grew would allocate on the hot path, and one that dropped would
        // lose an alert: there is no third way but the driver's, which is to drain.
        assert!(
            self.outputs.len() < OUTPUTS_MAX,
            "outputs are drained between events"
        );
        self.outputs.push_back(output);
    }
}
