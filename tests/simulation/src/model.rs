//! The models in simulated time: how long they think and what they then say.
//!
//! Each rung has one instance and a mood, which changes during the storm: from
//! microseconds to never, from right answers to errors, panics, numbers that
//! are none, and too many or too few of them.

use hark_engine::{Fault, ModelRung, Rung, ScoreSpec};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The longest inference that does end.
const SLOW_US_MAX: u64 = 2_000_000;
/// The longest run of a healthy model, whatever the batch.
const RUN_US_MAX: u64 = 100;
/// Vibration of a healthy machine, in g; the score is the distance from it.
const HEALTHY_G: f32 = 1.0;

/// What a seed draws for the models.
pub(crate) struct ModelPlan {
    /// The model rungs, best first.
    pub(crate) rungs: Vec<ModelRung>,
    moods: Vec<Mood>,
    /// Mean time between two changes of mood.
    pub(crate) mood_mean_us: u64,
    /// Probability that a fresh instance does not load, in the storm.
    pub(crate) load_fails: f64,
    /// Stuck threads at which no model may be run any more.
    pub(crate) relief_max: usize,
    /// Mean time between two steps of the wall clock beyond every validity.
    pub(crate) clock_mean_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Normal,
    /// Around the deadline.
    Slow,
    /// Never answers, or after seconds.
    Hanging,
    Failing,
    Panicking,
    /// Not a number, infinite, too many outputs or too few.
    Garbled,
    /// Any score at all.
    Erratic,
}

impl ModelPlan {
    pub(crate) fn draw(rng: &mut ChaCha8Rng, is_stormy: bool, score: &ScoreSpec) -> Self {
        let bad = [
            Mood::Slow,
            Mood::Hanging,
            Mood::Failing,
            Mood::Panicking,
            Mood::Garbled,
            Mood::Erratic,
        ];
        let moods = bad.into_iter().filter(|_| is_stormy && rng.random());
        let moods = [Mood::Normal].into_iter().chain(moods).collect();
        let rungs: &[Rung] = [
            &[Rung::Model][..],
            &[Rung::Delegate, Rung::Model],
            &[Rung::Model, Rung::Previous],
            &[Rung::Delegate, Rung::Model, Rung::Previous],
        ][rng.random_range(0..4)];
        let model = |&rung: &Rung| ModelRung {
            rung,
            score: score.clone(),
            threshold: [1.0, 1.25][rng.random_range(0..2)],
            // After every run, unless the wall clock steps.
            expires_utc_us: rng.random::<bool>().then_some(EXPIRES_UTC_US),
            batch_max: [1, 4, 32][rng.random_range(0..3)],
        };
        Self {
            rungs: rungs.iter().map(model).collect(),
            moods,
            mood_mean_us: rng.random_range(200_000..5_000_000),
            load_fails: if is_stormy { 0.4 } else { 0.0 },
            relief_max: rng.random_range(1..=3),
            clock_mean_us: u64::from(is_stormy && rng.random()) * 4_000_000,
        }
    }
}

/// When models expire that do.
pub(crate) const EXPIRES_UTC_US: i64 = 1_000_000_000_000;

/// What the model will say about one window.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) outputs: Result<Vec<f32>, Fault>,
    /// The score that follows, or why none does.
    pub(crate) score: Result<f32, Fault>,
}

/// The models of all rungs.
pub(crate) struct Models<'a> {
    plan: &'a ModelPlan,
    is_autoencoder: bool,
    /// By the rung's place in the plan.
    moods: Vec<Mood>,
}

impl<'a> Models<'a> {
    pub(crate) fn new(plan: &'a ModelPlan, score: &ScoreSpec) -> Self {
        Self {
            plan,
            is_autoencoder: matches!(score, ScoreSpec::ReconstructionMse { .. }),
            moods: vec![Mood::Normal; plan.rungs.len()],
        }
    }

    /// Draws another mood for one model; after the storm there is one only.
    pub(crate) fn change_mood(&mut self, is_storm: bool, rng: &mut ChaCha8Rng) {
        if is_storm {
            let index = rng.random_range(0..self.moods.len());
            self.moods[index] = self.plan.moods[rng.random_range(0..self.plan.moods.len())];
        } else {
            self.moods.fill(Mood::Normal);
        }
    }

    pub(crate) fn moods(&self) -> &[Mood] {
        &self.moods
    }

    fn mood(&self, rung: Rung) -> Mood {
        let index = self.plan.rungs.iter().position(|m| m.rung == rung);
        self.moods[index.expect("the engine runs planned models only")]
    }

    /// How long a run takes whose first window is due in `left_us`; `None`: it
    /// never ends.
    pub(crate) fn takes_us(&self, rung: Rung, left_us: u64, rng: &mut ChaCha8Rng) -> Option<u64> {
        match self.mood(rung) {
            Mood::Slow => Some(rng.random_range(0..=2 * left_us + 1)),
            Mood::Hanging if rng.random() => None,
            Mood::Hanging => Some(rng.random_range(0..SLOW_US_MAX)),
            _ => Some(rng.random_range(5..RUN_US_MAX)),
        }
    }

    /// What the model says of a window, shape `[features]`.
    pub(crate) fn answer(&self, rung: Rung, features: &[f32], rng: &mut ChaCha8Rng) -> Answer {
        let faulty = |fault| Answer {
            outputs: Err(fault),
            score: Err(fault),
        };
        let score = match self.mood(rung) {
            Mood::Failing => return faulty(Fault::Error),
            Mood::Panicking => return faulty(Fault::Panic),
            Mood::Garbled => {
                return Answer {
                    outputs: Ok(self.garbled(features, rng)),
                    score: Err(Fault::NotFinite),
                };
            }
            Mood::Erratic => rng.random_range(0.0..4.0),
            Mood::Normal | Mood::Slow | Mood::Hanging => (features[0] - HEALTHY_G).abs(),
        };
        Answer {
            outputs: Ok(self.outputs(features, score)),
            score: Ok(score),
        }
    }

    fn outputs(&self, features: &[f32], score: f32) -> Vec<f32> {
        if !self.is_autoencoder {
            return vec![score];
        }
        let error = score.sqrt();
        features.iter().map(|feature| feature + error).collect()
    }

    fn garbled(&self, features: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut outputs = self.outputs(features, 1.0);
        match rng.random_range(0..4) {
            0 => outputs[0] = f32::NAN,
            1 => outputs[0] = f32::NEG_INFINITY,
            2 => outputs.clear(),
            // An output that the bundle did not declare is no fault of a
            // classifier, but of an autoencoder.
            _ if self.is_autoencoder => outputs.push(0.0),
            _ => outputs[0] = f32::INFINITY,
        }
        outputs
    }
}
