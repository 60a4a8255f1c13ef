//! What time may be spent on, and what happens when it runs out: `[budget]`,
//! `[ladder]` and `[threads]`.

use super::section::Section;
use hark_engine::{LadderPolicy, STAGES, Stage};
use hark_hal::Realtime;

/// How the deadline is shared out if `[budget]` says nothing: most of it is the
/// model's, and a third is kept for what comes after a model that hangs: the
/// rest of a burst, answered by the rule.
const SHARES: [f64; STAGES] = [0.04, 0.02, 0.04, 0.58, 0.12, 0.20];

/// Less than that is nothing: the keeper counts in microseconds. Milliseconds.
const INFERENCE_MS_MIN: f64 = 0.001;

/// `[budget]`: the part of the deadline of each stage.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetConfig {
    /// By [`Stage::index`], milliseconds; the sum is at most the deadline.
    pub stages_ms: [f64; STAGES],
}

impl BudgetConfig {
    /// Stages without a budget of their own share what the others leave.
    pub(super) fn read(section: &mut Section<'_, '_>, deadline_ms: f64) -> Self {
        const KEYS: [&str; STAGES] = [
            "decode_ms",
            "validate_ms",
            "features_ms",
            "inference_ms",
            "verdict_ms",
            "output_ms",
        ];
        let set_ms = KEYS.map(|key| section.float(key, 0.0..=60_000.0));
        let sum_ms: f64 = set_ms.iter().sum();
        let last = KEYS.iter().zip(set_ms).rfind(|(_, ms)| *ms > 0.0);
        let (key, last_ms) = last.map_or((KEYS[0], 0.0), |(key, ms)| (*key, ms));
        let is_sound = section.is_sound(&KEYS);
        if sum_ms > deadline_ms && is_sound {
            section.wrong(
                key,
                format!(
                    "the budgets add up to {sum_ms} ms, more than device.deadline_ms = {deadline_ms}"
                ),
            );
        }
        let open_share: f64 = SHARES
            .iter()
            .zip(set_ms)
            .filter(|(_, ms)| *ms == 0.0)
            .map(|(share, _)| share)
            .sum();
        let left_ms = (deadline_ms - sum_ms).max(0.0);
        let budget = |stage: Stage| match set_ms[stage.index()] {
            0.0 => left_ms * SHARES[stage.index()] / open_share,
            ms => ms,
        };
        let stages_ms = Stage::ALL.map(budget);
        // Every model would be given up before it starts, and the rule be all that
        // ever answers: nobody means that by a budget.
        let inference_ms = stages_ms[Stage::Inference.index()];
        let leaves_nothing = inference_ms < INFERENCE_MS_MIN && last_ms > 0.0;
        if leaves_nothing && sum_ms <= deadline_ms && is_sound {
            section.wrong(
                key,
                format!(
                    "must be below {last_ms}: the budgets leave nothing of \
                     device.deadline_ms = {deadline_ms} for inference"
                ),
            );
        }
        Self { stages_ms }
    }

    /// The budget of one stage, nanoseconds.
    pub fn stage_ns(&self, stage: Stage) -> u64 {
        (self.stages_ms[stage.index()] * 1e6) as u64
    }

    /// How long before the deadline the keeper answers for the model: what the
    /// stages after inference may take. Microseconds.
    pub fn keeper_margin_us(&self) -> u64 {
        let after = [Stage::Verdict, Stage::Output];
        let sum_ms: f64 = after
            .map(|stage| self.stages_ms[stage.index()])
            .iter()
            .sum();
        (sum_ms * 1e3) as u64
    }
}

/// `[ladder]`: when to step down, and how to come up again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LadderConfig {
    /// What the engine goes by.
    pub policy: LadderPolicy,
    /// Threads that models which hang may cost each source: 1 to 64.
    pub threads_abandoned_max: usize,
}

impl LadderConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let ms = |section: &mut Section<'_, '_>, key| section.integer(key, 1..=86_400_000_u64);
        let policy = LadderPolicy {
            misses_max: section.integer("misses_max", 1..=64),
            misses_of: section.integer("misses_of", 1..=64),
            hang_us: ms(section, "hang_ms") * 1000,
            probe_us_min: ms(section, "probe_ms_min") * 1000,
            probe_us_max: ms(section, "probe_ms_max") * 1000,
            probes_to_pass: section.integer("probes_to_pass", 1..=1000),
            drift_max: section.float("drift_max", 0.0..=1e6) as f32,
        };
        if section.is_sound(&["misses_max", "misses_of"]) && policy.misses_max > policy.misses_of {
            let message = format!("must be at most `misses_of`, {}", policy.misses_of);
            section.wrong("misses_max", message);
        }
        if section.is_sound(&["probe_ms_min", "probe_ms_max"])
            && policy.probe_us_min > policy.probe_us_max
        {
            let message = format!(
                "must be at least `probe_ms_min`, {}",
                policy.probe_us_min / 1000
            );
            section.wrong("probe_ms_max", message);
        }
        Self {
            policy,
            threads_abandoned_max: section.integer("threads_abandoned_max", 1..=64),
        }
    }
}

/// `[threads]`: what the sources' threads ask of the kernel; the keeper's
/// priority is one higher.
pub(super) fn read_threads(section: &mut Section<'_, '_>) -> Realtime {
    Realtime {
        cores: section.parsed("cores", parse_cores).unwrap_or_default(),
        fifo_priority: Some(section.integer("fifo_priority", 0..=98)).filter(|p| *p > 0),
        locks_memory: section.boolean("lock_memory"),
        prefault_stack_bytes: section.integer("prefault_stack_kib", 0..=1024) * 1024,
    }
}

/// The kernel's notation of a list of processors, such as `0,2-3`.
fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    const CORE_MAX: usize = 1023;
    let wrong = || format!("must be cores such as \"2\" or \"0,2-3\", found {text:?}");
    let number = |text: &str| -> Result<usize, String> {
        let core: Option<usize> = text.trim().parse().ok();
        core.filter(|core| *core <= CORE_MAX).ok_or_else(wrong)
    };
    let mut cores = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_written_as_the_kernel_writes_them() {
        assert_eq!(parse_cores(""), Ok(vec![]));
        assert_eq!(parse_cores("2"), Ok(vec![2]));
        assert_eq!(parse_cores("0, 2-3"), Ok(vec![0, 2, 3]));
        for wrong in ["a", "3-2", "1,", "-1", "99999"] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_shares_are_a_whole() {
        assert!((SHARES.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
