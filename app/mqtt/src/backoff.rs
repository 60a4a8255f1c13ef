//! How long to wait before a connection is made again.
//!
//! Each wait is twice the one before, up to a bound, until a connection has
//! held: one that was made and lost at once, as by two clients of one name that
//! throw each other off their broker, is no reason to hurry.

/// A connection that is lost sooner has not held.
const HELD_AFTER_MS: u64 = 5_000;

#[derive(Debug)]
pub(crate) struct Backoff {
    min_ms: u64,
    max_ms: u64,
    wait_ms: u64,
    up_at_ms: Option<u64>,
}

impl Backoff {
    /// Waits from the first to the last of `range_ms`, and never none at all.
    pub(crate) fn new(range_ms: [u64; 2]) -> Self {
        let min_ms = range_ms[0].max(1);
        Self {
            min_ms,
            max_ms: range_ms[1].max(min_ms),
            wait_ms: min_ms,
            up_at_ms: None,
        }
    }

    pub(crate) fn handle_up(&mut self, now_ms: u64) {
        self.up_at_ms = Some(now_ms);
    }

    /// Whether the connection is up, and was not for long.
    pub(crate) fn is_young(&self, now_ms: u64) -> bool {
        self.up_at_ms
            .is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < HELD_AFTER_MS)
    }

    /// The connection was lost or could not be made: the time until the next
    /// try.
    pub(crate) fn handle_down(&mut self, now_ms: u64) -> u64 {
        let has_held = !self.is_young(now_ms);
        if self.up_at_ms.take().is_some() && has_held {
            self.wait_ms = self.min_ms;
        }
        let wait_ms = self.wait_ms;
        self.wait_ms = self.max_ms.min(wait_ms.saturating_mul(2));
        wait_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_does_not_hold_is_waited_for_longer_each_time() {
        let mut backoff = Backoff::new([10, 50]);
        let mut now_ms = 0;
        for expected in [10, 20, 40, 50, 50] {
            backoff.handle_up(now_ms);
            now_ms += HELD_AFTER_MS - 1;
            assert!(backoff.is_young(now_ms));
            assert_eq!(backoff.handle_down(now_ms), expected);
            assert!(!backoff.is_young(now_ms), "it is down");
        }
        backoff.handle_up(now_ms);
        assert_eq!(backoff.handle_down(now_ms + HELD_AFTER_MS), 10);
        assert_eq!(backoff.handle_down(now_ms), 20, "it was never up");
    }
}
