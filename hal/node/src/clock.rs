//! Microseconds since the start, from a counter that wraps.

/// Extends a 32-bit counter of a board's timer. It must be looked at at least
/// once in each turn of the counter.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ticks: u64,
    ticks_per_us: u64,
}

impl Clock {
    /// A clock at zero of a counter that starts at zero and counts up.
    pub const fn new(ticks_per_us: u32) -> Self {
        Self {
            ticks: 0,
            ticks_per_us: ticks_per_us as u64,
        }
    }

    /// Time since the start in µs, when the counter shows `counter`.
    pub fn now_us(&mut self, counter: u32) -> u64 {
        let step = counter.wrapping_sub(self.ticks as u32);
        self.ticks += u64::from(step);
        self.ticks / self.ticks_per_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_wraps_goes_on() {
        let mut clock = Clock::new(25);
        let mut check = |counter, expected| assert_eq!(clock.now_us(counter), expected);
        check(0, 0);
        check(50, 2);
        check(u32::MAX, u64::from(u32::MAX) / 25);
        check(49, ((1 << 32) + 49) / 25);
        check(49, ((1 << 32) + 49) / 25);
    }
}
