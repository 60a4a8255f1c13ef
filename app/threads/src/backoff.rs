//! How long to wait before a link is made again.
//!
//! Each wait is twice the one before, up to a bound, until a link has held: one
//! that was made and lost at once, as by two clients of one name that throw each
//! other off their broker, is no reason to hurry.

use std::time::{Duration, Instant};

/// A link that is lost sooner has not held.
const HELD_AFTER: Duration = Duration::from_secs(5);

/// The waits of one link.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    wait: Duration,
    up_at: Option<Instant>,
}

impl Backoff {
    /// Waits from `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            wait: min,
            up_at: None,
        }
    }

    /// The link was made.
    pub fn handle_up(&mut self) {
        self.up_at = Some(Instant::now());
    }

    /// Whether the link is up, and was not for long.
    pub fn is_young(&self) -> bool {
        self.up_at.is_some_and(|at| at.elapsed() < HELD_AFTER)
    }

    /// The link was lost or could not be made: the time until the next try.
    pub fn handle_down(&mut self) -> Duration {
        let has_held = !self.is_young();
        if self.up_at.take().is_some() && has_held {
            self.wait = self.min;
        }
        let wait = self.wait;
        self.wait = self.max.min(wait * 2);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_does_not_hold_is_waited_for_longer_each_time() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(50));
        let mut waits = Vec::new();
        for _ in 0..4 {
            backoff.handle_up();
            assert!(backoff.is_young());
            waits.push(backoff.handle_down());
            assert!(!backoff.is_young(), "it is down");
        }
        assert_eq!(waits, [ms(10), ms(20), ms(40), ms(50)]);
        backoff.up_at = Instant::now().checked_sub(HELD_AFTER);
        assert_eq!(backoff.handle_down(), ms(10));
    }
}
