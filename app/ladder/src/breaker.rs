//! The circuit breaker of one rung: it keeps a sick model from eating every
//! deadline, and lets it try again, one window at a time, ever less often.

use super::LadderPolicy;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    /// Open: no window before then, and from then on one at a time.
    open_until_us: Option<u64>,
    /// Bit 0 is the newest inference: it missed its deadline.
    misses: u64,
    /// The wait before the next trial; 0: it has not been open.
    back_off_us: u64,
    /// Good trials in a row.
    passed: u32,
}

impl Breaker {
    pub(super) fn is_closed(&self) -> bool {
        self.open_until_us.is_none()
    }

    /// Whether a trial, or a fresh instance for one, may come.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.open_until_us.is_some_and(|until| until <= now_us)
    }

    /// Opens, or stays open for twice as long as the last time.
    pub(super) fn open(&mut self, policy: &LadderPolicy, now_us: u64) {
        let doubled_us = self.back_off_us.saturating_mul(2);
        self.back_off_us = doubled_us.clamp(policy.probe_us_min, policy.probe_us_max);
        self.open_until_us = Some(now_us.saturating_add(self.back_off_us));
        self.passed = 0;
    }

    /// If open, stays so at least until `until_us`.
    pub(super) fn hold(&mut self, until_us: u64) {
        self.open_until_us = self.open_until_us.map(|at| at.max(until_us));
    }

    /// If open, lets a trial come at once.
    pub(super) fn make_due(&mut self, now_us: u64) {
        self.open_until_us = self.open_until_us.map(|at| at.min(now_us));
    }

    /// Notes an inference of a closed breaker; true if misses are too many.
    pub(super) fn is_tripped_by(&mut self, policy: &LadderPolicy, is_miss: bool) -> bool {
        let recent = u64::MAX >> (u64::BITS - policy.misses_of);
        self.misses = (self.misses << 1 | u64::from(is_miss)) & recent;
        self.misses.count_ones() >= policy.misses_max
    }

    /// Notes a good trial; closes after enough of them. The next one comes
    /// soon: one that fails brings back the long wait.
    pub(super) fn handle_good_trial(&mut self, policy: &LadderPolicy, now_us: u64) {
        self.passed += 1;
        if self.passed >= policy.probes_to_pass {
            *self = Self::default();
        } else {
            self.open_until_us = Some(now_us.saturating_add(policy.probe_us_min));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: LadderPolicy = LadderPolicy {
        misses_max: 2,
        misses_of: 3,
        hang_us: 0,
        probe_us_min: 10,
        probe_us_max: 35,
        probes_to_pass: 2,
        drift_max: 0.0,
    };

    /// How long an open breaker waits from `now_us` on.
    fn wait(breaker: &Breaker, now_us: u64) -> Option<u64> {
        breaker.open_until_us.map(|until| until - now_us)
    }

    #[test]
    fn k_misses_of_n_trip_it() {
        let trips = |misses: &[bool]| {
            let mut breaker = Breaker::default();
            let handle = |&miss: &bool| breaker.is_tripped_by(&POLICY, miss);
            misses.iter().map(handle).collect::<Vec<_>>()
        };
        assert_eq!(trips(&[true, false, false, true]), [false; 4]);
        assert_eq!(trips(&[true, false, true]), [false, false, true]);
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_starts_anew_after_recovery() {
        let mut breaker = Breaker::default();
        let mut waits = Vec::new();
        for now_us in [100, 200, 300, 400] {
            breaker.open(&POLICY, now_us);
            waits.push(wait(&breaker, now_us));
        }
        assert_eq!(waits, [Some(10), Some(20), Some(35), Some(35)]);
        breaker.handle_good_trial(&POLICY, 500);
        assert_eq!(wait(&breaker, 500), Some(10));
        breaker.handle_good_trial(&POLICY, 600);
        assert!(breaker.is_closed());
        breaker.open(&POLICY, 700);
        assert_eq!(wait(&breaker, 700), Some(10));
    }

    #[test]
    fn good_trials_count_only_in_a_row() {
        let mut breaker = Breaker::default();
        breaker.open(&POLICY, 0);
        breaker.handle_good_trial(&POLICY, 10);
        breaker.open(&POLICY, 20);
        breaker.handle_good_trial(&POLICY, 50);
        assert!(!breaker.is_closed());
    }
}
