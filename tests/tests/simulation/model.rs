//! The model in simulated time: how long it thinks and what it then says.
//!
//! Its mood changes during the storm: from microseconds to never, from right
//! answers to errors, numbers that are none, and too many or too few of them.
//! With several workers answers come back in another order than asked.

use hark_engine::ScoreSpec;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The longest inference that does end.
const SLOW_US_MAX: u64 = 2_000_000;
/// Vibration of a healthy machine, in g; the score is the distance from it.
const HEALTHY_G: f32 = 1.0;

/// What a seed draws for the model.
pub(crate) struct ModelPlan {
    /// Inferences at once. More than the engine's slots: a model that hangs
    /// then takes every slot.
    workers: usize,
    moods: Vec<Mood>,
    /// Mean time between two changes of mood.
    pub(crate) mood_mean_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Normal,
    /// Around the deadline.
    Slow,
    /// Never answers, or after seconds.
    Hanging,
    Failing,
    /// Not a number, infinite, too many outputs or too few.
    Garbled,
    /// Any score at all, and sometimes twice.
    Erratic,
}

impl ModelPlan {
    pub(crate) fn draw(rng: &mut ChaCha8Rng, is_stormy: bool) -> Self {
        let bad = [
            Mood::Slow,
            Mood::Hanging,
            Mood::Failing,
            Mood::Garbled,
            Mood::Erratic,
        ];
        let moods = bad.into_iter().filter(|_| is_stormy && rng.random());
        let moods = [Mood::Normal].into_iter().chain(moods).collect();
        Self {
            workers: [1, 2, 4, 40][rng.random_range(0..4)],
            moods,
            mood_mean_us: rng.random_range(200_000..5_000_000),
        }
    }
}

/// What the model will say about one window.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `None`: the model fails.
    pub(crate) outputs: Option<Vec<f32>>,
    /// The score that follows, if one does.
    pub(crate) score: Option<f32>,
    /// When; `None`: never.
    pub(crate) at_us: Option<u64>,
}

/// The model and its workers.
pub(crate) struct Model<'a> {
    plan: &'a ModelPlan,
    is_autoencoder: bool,
    mood: Mood,
    running: usize,
}

impl<'a> Model<'a> {
    pub(crate) fn new(plan: &'a ModelPlan, score: &ScoreSpec) -> Self {
        Self {
            plan,
            is_autoencoder: matches!(score, ScoreSpec::ReconstructionMse { .. }),
            mood: Mood::Normal,
            running: 0,
        }
    }

    /// Draws another mood; after the storm there is one only.
    pub(crate) fn change_mood(&mut self, is_storm: bool, rng: &mut ChaCha8Rng) -> Mood {
        self.mood = if is_storm {
            self.plan.moods[rng.random_range(0..self.plan.moods.len())]
        } else {
            Mood::Normal
        };
        self.mood
    }

    pub(crate) fn has_idle_worker(&self) -> bool {
        self.running < self.plan.workers
    }

    /// Whether the answer just given will come a second time.
    pub(crate) fn repeats_itself(&self, rng: &mut ChaCha8Rng) -> bool {
        self.mood == Mood::Erratic && rng.random_ratio(1, 4)
    }

    /// A worker has answered, or was killed.
    pub(crate) fn handle_worker_idle(&mut self) {
        self.running -= 1;
    }

    /// A worker takes a window, shape `[features]`, due at `deadline_us`.
    pub(crate) fn start(
        &mut self,
        features: &[f32],
        now_us: u64,
        deadline_us: u64,
        rng: &mut ChaCha8Rng,
    ) -> Answer {
        self.running += 1;
        let until_deadline = deadline_us.saturating_sub(now_us);
        let takes_us = match self.mood {
            Mood::Slow => Some(rng.random_range(0..=2 * until_deadline + 1)),
            Mood::Hanging if rng.random() => None,
            Mood::Hanging => Some(rng.random_range(0..SLOW_US_MAX)),
            _ => Some(rng.random_range(5..100)),
        };
        let (outputs, score) = self.answer(features, rng);
        Answer {
            outputs,
            score,
            at_us: takes_us.map(|us| now_us + us),
        }
    }

    fn answer(&self, features: &[f32], rng: &mut ChaCha8Rng) -> (Option<Vec<f32>>, Option<f32>) {
        let score = match self.mood {
            Mood::Failing => return (None, None),
            Mood::Garbled => return (Some(self.garbled(features, rng)), None),
            Mood::Erratic => rng.random_range(0.0..4.0),
            Mood::Normal | Mood::Slow | Mood::Hanging => (features[0] - HEALTHY_G).abs(),
        };
        (Some(self.outputs(features, score)), Some(score))
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
