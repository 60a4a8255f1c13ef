//! The ladder: which model answers the next window, and which way it goes.
//!
//! Each model rung has an instance and a breaker. The instance is there, out
//! with a thread that is stuck in it, or absent; the breaker is closed, or open
//! after a fault, for a time that doubles. A window goes to the best rung whose
//! instance is there and whose breaker is closed, or is due for a trial. The
//! *standing* rung is the best one that was not given up, even while its
//! instance is out; each change of it is a [`LadderStep`] with its reason. Below
//! all models stands the rule, which needs no instance and cannot fail.
//!
//! ```text
//! instance: Present ──hang──► Out ──longer than hang_us──► Absent ──wanted──► asked for
//!              ▲               │                             ▲                    │
//!              ├──late return──┘                             └───could not load───┤
//!              └─────────────────────────loaded───────────────────────────────────┘
//!
//! breaker:  closed ──fault, misses, given up──► open ──the wait is over──► due for trials
//!              ▲                                  ▲                            │
//!              │                                  ├──bad: twice the wait───────┤
//!              │                                  └──good: the short wait──────┤
//!              └───enough good ones in a row───────────────────────────────────┘
//!
//! a window goes to: the first rung that is believed, Present, and closed or due
//! stands:           the first rung that is believed and closed
//! believed:         models are allowed, no drift, not expired
//! ```

mod breaker;
mod drift;
mod policy;

pub use policy::{LadderPolicy, LadderStep, MISSES_OF_MAX, PolicyError, Rung, StepReason};

use breaker::Breaker;
use drift::Drift;

/// Where the instance of a rung is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    Present,
    /// A thread has been stuck in it since then.
    Out {
        since_us: u64,
    },
    /// There is none; the driver has been asked for one, or will be.
    Absent {
        is_asked_for: bool,
    },
}

/// A model as its ladder knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LadderModel {
    /// Its place on the ladder.
    pub rung: Rung,
    /// When its validity ends, microseconds since the Unix epoch.
    pub expires_utc_us: Option<i64>,
    /// Most windows in one run of it, at least 1.
    pub batch_max: usize,
}

/// The state of one model rung.
struct Model {
    spec: LadderModel,
    is_expired: bool,
    instance: Whereabouts,
    /// Tells an instance from the one that took its place.
    generation: u32,
    breaker: Breaker,
    /// Why the breaker opened last.
    reason: StepReason,
}

/// Which model runs the next window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index of the model.
    pub model: usize,
    /// One window only, to see whether the model is well again.
    pub is_trial: bool,
}

/// How an inference ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In time, with a score.
    Good,
    /// After the deadline.
    Late,
    /// Without a score, and why.
    Faulty(StepReason),
}

/// A thread that is stuck in a model, as [`Ladder::handle_hang`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hang {
    /// Whose instance it has.
    pub rung: Rung,
    /// Which one of its rung that is.
    pub generation: u32,
    /// Windows that it was running.
    pub windows: u32,
}

/// The models of one source, which of them may run, and which one stands.
///
/// It asks no clock: `now_us` is the monotonic clock's, and does not go back.
///
/// ```
/// use hark_ladder::{Ending, Ladder, LadderModel, LadderPolicy, Rung, StepReason};
///
/// let model = |rung| LadderModel { rung, expires_utc_us: None, batch_max: 1 };
/// let models = [Rung::Model, Rung::Previous].map(model);
/// let mut ladder = Ladder::new(LadderPolicy::default(), models);
/// let choice = ladder.choice(0).expect("a model is there");
/// ladder.handle_ending(choice, Ending::Faulty(StepReason::Panic), 0);
/// let step = ladder.poll_step(0).expect("the model panicked");
/// assert_eq!((step.from, step.to), (Rung::Model, Rung::Previous));
/// ```
pub struct Ladder {
    policy: LadderPolicy,
    models: Vec<Model>,
    are_models_allowed: bool,
    drift: Drift,
    /// Index of the standing model; as many as there are models: the rule.
    standing: usize,
}

impl Ladder {
    /// A ladder of checked rungs, each with its instance.
    pub fn new(policy: LadderPolicy, models: impl IntoIterator<Item = LadderModel>) -> Self {
        Self {
            policy,
            models: models.into_iter().map(Model::new).collect(),
            are_models_allowed: true,
            drift: Drift::new(policy.drift_max),
            standing: 0,
        }
    }

    /// The model that a [`Choice`] names.
    #[inline]
    pub fn model(&self, index: usize) -> &LadderModel {
        &self.models[index].spec
    }

    /// The best model that can run a window now.
    #[inline]
    pub fn choice(&self, now_us: u64) -> Option<Choice> {
        let models = self.models.iter().enumerate();
        models
            .filter(|(_, m)| self.can_run(m))
            .find_map(|(model, m)| {
                // A rung that is due for a trial comes before a lower one that is
                // well: it would never come up if the lower one were always taken.
                let is_trial = !m.breaker.is_closed();
                let may_run = !is_trial || m.breaker.is_due(now_us);
                may_run.then_some(Choice { model, is_trial })
            })
    }

    /// Whether a model can run any number of windows.
    #[inline]
    pub fn has_server(&self) -> bool {
        let mut models = self.models.iter();
        models.any(|m| self.can_run(m) && m.breaker.is_closed())
    }

    #[inline]
    fn can_run(&self, model: &Model) -> bool {
        self.is_believed(model) && model.instance == Whereabouts::Present
    }

    #[inline]
    fn is_believed(&self, model: &Model) -> bool {
        self.are_models_allowed && !self.drift.is_drifted() && !model.is_expired
    }

    /// The rung that stands.
    pub fn standing(&self) -> Rung {
        self.rung(self.standing)
    }

    fn rung(&self, index: usize) -> Rung {
        self.models.get(index).map_or(Rung::Rule, |m| m.spec.rung)
    }

    /// The step to the rung that should stand, if it is another.
    #[inline]
    pub fn poll_step(&mut self, now_us: u64) -> Option<LadderStep> {
        // The instance has no part in it: one that is out for a moment is no news
        // to an operator, and one that stays out opens the breaker.
        let stands = |m: &Model| self.is_believed(m) && m.breaker.is_closed();
        let models = self.models.iter();
        let next = models.clone().position(stands).unwrap_or(models.len());
        let from = std::mem::replace(&mut self.standing, next);
        let reason = match next.cmp(&from) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Less => StepReason::Recovered,
            std::cmp::Ordering::Greater => self.why_down(&self.models[from]),
        };
        Some(LadderStep {
            from: self.rung(from),
            to: self.rung(next),
            reason,
            at_us: now_us,
        })
    }

    fn why_down(&self, model: &Model) -> StepReason {
        // What holds for all rungs comes first: it would keep this one down, too,
        // if its own fault were mended.
        if !self.are_models_allowed {
            StepReason::NoRelief
        } else if self.drift.is_drifted() {
            StepReason::Drift
        } else if model.is_expired {
            StepReason::Expired
        } else {
            model.reason
        }
    }

    /// Root mean square of the features over about the last thousand windows, if it
    /// is measured.
    pub fn drift(&self) -> Option<f32> {
        self.drift.is_on().then(|| self.drift.rms())
    }

    /// Whether it is beyond [`LadderPolicy::drift_max`].
    pub fn is_drifted(&self) -> bool {
        self.drift.is_drifted()
    }

    /// Whether [`Ladder::handle_window`] is to be called.
    #[inline]
    pub fn measures_drift(&self) -> bool {
        self.drift.is_on()
    }

    /// Takes in the mean square of the features of one window.
    #[inline]
    pub fn handle_window(&mut self, mean_square: f32) {
        self.drift.handle_window(mean_square);
    }

    /// Looks at the wall clock: a model may have come to its end, or the clock
    /// may have been set right.
    #[inline]
    pub fn handle_wall_clock(&mut self, utc_us: i64) {
        for model in &mut self.models {
            model.is_expired = model.spec.expires_utc_us.is_some_and(|end| end <= utc_us);
        }
    }

    /// Gives up what has been out for too long; returns how many.
    #[inline]
    pub fn give_up_hung(&mut self, now_us: u64) -> u64 {
        let hang_us = self.policy.hang_us;
        let is_hung = |m: &Model| match m.instance {
            Whereabouts::Out { since_us } => now_us.saturating_sub(since_us) > hang_us,
            _ => false,
        };
        let mut count = 0;
        for index in 0..self.models.len() {
            if is_hung(&self.models[index]) {
                count += 1;
                self.models[index].instance = Whereabouts::Absent {
                    is_asked_for: false,
                };
                self.models[index].reason = StepReason::Hang;
                // Open already if its deadline was one too many: it has its wait
                // then, and hanging on is no second fault.
                if self.models[index].breaker.is_closed() {
                    self.open(index, StepReason::Hang, now_us);
                }
            }
        }
        count
    }

    /// An inference that `choice` began has ended. Returns whether it was a
    /// trial that failed.
    #[inline]
    pub fn handle_ending(&mut self, choice: Choice, ending: Ending, now_us: u64) -> bool {
        let model = &mut self.models[choice.model];
        if choice.is_trial {
            // One late trial is enough: it ran alone, with all of the deadline.
            match ending {
                Ending::Good => model.breaker.handle_good_trial(&self.policy, now_us),
                Ending::Late => self.open(choice.model, StepReason::Deadline, now_us),
                Ending::Faulty(reason) => self.open(choice.model, reason, now_us),
            }
            return ending != Ending::Good;
        }
        // The rest of a batch adds nothing to the fault that opened it.
        if model.breaker.is_closed() {
            let is_late = ending == Ending::Late;
            if let Ending::Faulty(reason) = ending {
                self.open(choice.model, reason, now_us);
            } else if model.breaker.is_tripped_by(&self.policy, is_late) {
                self.open(choice.model, StepReason::Deadline, now_us);
            }
        }
        false
    }

    /// A thread is stuck in the model of `choice`, with so many windows.
    /// Returns its name.
    pub fn handle_hang(&mut self, choice: Choice, windows: u32, now_us: u64) -> Hang {
        let model = &mut self.models[choice.model];
        model.instance = Whereabouts::Out { since_us: now_us };
        Hang {
            rung: model.spec.rung,
            generation: model.generation,
            windows,
        }
    }

    /// A stuck thread came back. Returns whether its instance is still wanted.
    pub fn handle_late_return(&mut self, hang: Hang) -> bool {
        let Some(index) = self.index(hang.rung) else {
            return false;
        };
        let model = &mut self.models[index];
        let is_out = matches!(model.instance, Whereabouts::Out { .. });
        // Out it may be by a later hang of the instance that took its place.
        let is_wanted = is_out && model.generation == hang.generation;
        if is_wanted {
            model.instance = Whereabouts::Present;
        }
        is_wanted
    }

    /// There are no instances yet; the driver brings them without being asked.
    pub fn await_instances(&mut self) {
        for model in &mut self.models {
            model.instance = Whereabouts::Absent { is_asked_for: true };
        }
    }

    /// Which instance of `rung` is the present one; `None`: the ladder has no such
    /// rung.
    pub fn generation(&self, rung: Rung) -> Option<u32> {
        Some(self.models[self.index(rung)?].generation)
    }

    /// A fresh instance of `rung` was loaded.
    pub fn handle_instance(&mut self, rung: Rung, now_us: u64) {
        if let Some(index) = self.index(rung) {
            let model = &mut self.models[index];
            model.instance = Whereabouts::Present;
            model.generation += 1;
            // It was waited for, which is wait enough. It is on trial even so: the
            // file that made the last one fail may be the same.
            model.breaker.make_due(now_us);
        }
    }

    /// There is no instance of `rung`.
    pub fn handle_no_instance(&mut self, rung: Rung, reason: StepReason, now_us: u64) {
        if let Some(index) = self.index(rung) {
            self.models[index].instance = Whereabouts::Absent {
                is_asked_for: false,
            };
            self.open(index, reason, now_us);
        }
    }

    /// A rung that lacks an instance and may have one; told once until it is
    /// answered.
    pub fn poll_wanted_instance(&mut self, now_us: u64) -> Option<Rung> {
        let is_wanted = |m: &Model| {
            let is_asked_for = Whereabouts::Absent { is_asked_for: true };
            let lacks_one = matches!(m.instance, Whereabouts::Absent { .. });
            // Not before a trial is due: loading costs a disk and a core that the
            // rung below may need.
            lacks_one && m.instance != is_asked_for && m.breaker.is_due(now_us)
        };
        let mut models = self.models.iter();
        let index = models.position(|m| is_wanted(m) && self.is_believed(m))?;
        self.models[index].instance = Whereabouts::Absent { is_asked_for: true };
        Some(self.models[index].spec.rung)
    }

    /// Whether any model may run at all.
    pub fn set_models_allowed(&mut self, are_allowed: bool) {
        self.are_models_allowed = are_allowed;
    }

    /// Opens a breaker. The rungs above must see the next one hold for a while
    /// before they try again.
    fn open(&mut self, index: usize, reason: StepReason, now_us: u64) {
        let Self { policy, models, .. } = self;
        let (better, rest) = models.split_at_mut(index);
        rest[0].breaker.open(policy, now_us);
        rest[0].reason = reason;
        // Else a rung above, whose wait has just ended, would be tried in the very
        // moment in which there is nothing good to fall back on.
        let held_us = now_us.saturating_add(policy.probe_us_min);
        better.iter_mut().for_each(|m| m.breaker.hold(held_us));
    }

    fn index(&self, rung: Rung) -> Option<usize> {
        self.models.iter().position(|m| m.spec.rung == rung)
    }
}

impl Model {
    fn new(spec: LadderModel) -> Self {
        Self {
            spec,
            is_expired: false,
            instance: Whereabouts::Present,
            generation: 0,
            breaker: Breaker::default(),
            reason: StepReason::Error,
        }
    }
}
