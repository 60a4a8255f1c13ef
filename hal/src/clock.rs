//! The two clocks. The pure crates ask neither: they get `now` as an
//! argument, from here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock, counted from when it was made.
///
/// It never steps, whatever sets the wall clock, and stands still while the
/// machine is suspended. Copies share their start, so that the times of
/// several threads compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Time since the start, µs.
    pub fn now_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    /// The time of `instant` on this clock, µs; 0 for instants before its start.
    pub fn us_at(&self, instant: Instant) -> u64 {
        let elapsed = instant.saturating_duration_since(self.start);
        u64::try_from(elapsed.as_micros()).expect("584 000 years pass a u64")
    }
}

/// The wall clock: µs since 1970-01-01 UTC.
///
/// It may step either way and be years off on a board without a battery; a
/// clock that claims to be before 1970 reads 0. Use it to label, never to
/// measure.
pub fn wall_us() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).expect("584 000 years pass a u64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn instants_are_counted_from_the_start_in_microseconds() {
        let clock = Clock::start();
        let later = clock.start + Duration::from_nanos(1_500_999);
        assert_eq!(clock.us_at(clock.start), 0);
        assert_eq!(clock.us_at(later), 1500);
    }

    #[test]
    fn an_instant_before_the_start_reads_zero() {
        let before = Instant::now();
        let clock = Clock {
            start: before + Duration::from_secs(1),
        };
        assert_eq!(clock.us_at(before), 0);
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::start();
        let times: Vec<_> = (0..1000).map(|_| clock.now_us()).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn the_wall_clock_is_in_microseconds() {
        // 2020 to 2200: milliseconds and nanoseconds would be outside.
        assert!((1_577_836_800_000_000..7_258_118_400_000_000).contains(&wall_us()));
    }
}
