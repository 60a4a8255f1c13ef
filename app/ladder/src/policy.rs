//! The names of the ladder's rungs and steps, and what its user decides.

/// The most inferences that are looked back on: one bit each in a `u64`.
pub const MISSES_OF_MAX: u32 = u64::BITS;

/// Who answers for a reading, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The active model on its accelerator.
    Delegate,
    /// The active model on the CPU.
    Model,
    /// The last good model before the active one.
    Previous,
    /// The statistical rule.
    Rule,
    /// The sensor's last verdict by a model, repeated with its age, where the
    /// rule still learns.
    Last,
}

impl Rung {
    /// Whether a verdict of this rung counts as `scored`; all others count as
    /// `fallback`.
    pub fn is_active_model(self) -> bool {
        self <= Self::Model
    }

    /// Whether this rung runs a model at all.
    pub fn is_model(self) -> bool {
        self <= Self::Previous
    }

    /// The rung's name in JSON, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delegate => "delegate",
            Self::Model => "model",
            Self::Previous => "previous",
            Self::Rule => "rule",
            Self::Last => "last",
        }
    }
}

/// Why the standing rung changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepReason {
    /// The model answered with an error.
    Error,
    /// The model panicked.
    Panic,
    /// The model's score was no finite number.
    NotFinite,
    /// Too many of the last inferences missed their deadline.
    Deadline,
    /// An inference did not end within [`LadderPolicy::hang_us`].
    Hang,
    /// The model's validity has ended.
    Expired,
    /// The features have drifted from what the models were trained on.
    Drift,
    /// The model's file is not there.
    Missing,
    /// The model's file cannot be trusted or read.
    Corrupt,
    /// The model cost a reset, and is not run until its file changes or the operator
    /// says so.
    Withheld,
    /// No thread is left that could take over from one that hangs.
    NoRelief,
    /// A better rung passed its trials, or what held it back has ended.
    Recovered,
}

impl StepReason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Error,
        Self::Panic,
        Self::NotFinite,
        Self::Deadline,
        Self::Hang,
        Self::Expired,
        Self::Drift,
        Self::Missing,
        Self::Corrupt,
        Self::Withheld,
        Self::NoRelief,
        Self::Recovered,
    ];

    /// The reason's name in JSON, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::NotFinite => "not_finite",
            Self::Deadline => "deadline",
            Self::Hang => "hang",
            Self::Expired => "expired",
            Self::Drift => "drift",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::Withheld => "withheld",
            Self::NoRelief => "no_relief",
            Self::Recovered => "recovered",
        }
    }

    /// The reason's place in [`StepReason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The standing rung changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LadderStep {
    /// The rung that stood before.
    pub from: Rung,
    /// The rung that stands now, never `from`.
    pub to: Rung,
    /// What brought it about.
    pub reason: StepReason,
    /// When, on the monotonic clock.
    pub at_us: u64,
}

/// When a rung steps down and how it comes up again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LadderPolicy {
    /// Missed deadlines among the last `misses_of` inferences that bring a
    /// rung down, at least 1.
    pub misses_max: u32,
    /// Inferences looked back on, `misses_max` to [`MISSES_OF_MAX`].
    pub misses_of: u32,
    /// How long an inference may take before its instance is given up.
    pub hang_us: u64,
    /// From a rung's fault to its first trial, above 0.
    pub probe_us_min: u64,
    /// The longest wait between two trials; each that fails doubles it.
    pub probe_us_max: u64,
    /// Trials in a row that must be good, at least 1.
    pub probes_to_pass: u32,
    /// Root mean square of the features, over about the last thousand windows,
    /// beyond which no model is believed. 0: off.
    pub drift_max: f32,
}

impl Default for LadderPolicy {
    /// Three misses of eight step down, one second to a minute between trials,
    /// three good ones step up, ten seconds are a hang, drift is off.
    fn default() -> Self {
        Self {
            misses_max: 3,
            misses_of: 8,
            hang_us: 10_000_000,
            probe_us_min: 1_000_000,
            probe_us_max: 60_000_000,
            probes_to_pass: 3,
            drift_max: 0.0,
        }
    }
}

/// A number of a [`LadderPolicy`] that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct PolicyError {
    /// Its key, from `ladder` on.
    pub key: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl LadderPolicy {
    /// # Errors
    /// The first number that makes no sense.
    pub fn check(&self) -> Result<(), PolicyError> {
        let misses_are_valid =
            (1..=self.misses_of).contains(&self.misses_max) && self.misses_of <= MISSES_OF_MAX;
        require(misses_are_valid, "ladder.misses_max", || {
            format!(
                "{} of {}; expected 1 or more, of at most {MISSES_OF_MAX}",
                self.misses_max, self.misses_of
            )
        })?;
        let probes_are_valid = (1..=self.probe_us_max).contains(&self.probe_us_min);
        require(probes_are_valid, "ladder.probe_us_min", || {
            format!(
                "{} is outside 1 to {}",
                self.probe_us_min, self.probe_us_max
            )
        })?;
        require(self.probes_to_pass > 0, "ladder.probes_to_pass", || {
            "expected at least 1".into()
        })?;
        let drift_is_valid = self.drift_max.is_finite() && self.drift_max >= 0.0;
        require(drift_is_valid, "ladder.drift_max", || {
            "expected a bound above 0, or 0 for none".into()
        })
    }
}

fn require(
    holds: bool,
    key: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<(), PolicyError> {
    if holds {
        return Ok(());
    }
    Err(PolicyError {
        key,
        problem: problem(),
    })
}
