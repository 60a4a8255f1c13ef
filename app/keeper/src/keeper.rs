//! The thread that watches slots and claims what is due.

use crate::Slot;
use std::sync::Arc;
use std::time::Duration;

/// The shortest sleep: a deadline that has just come is claimed at the next
/// turn, and turns without a sleep would starve a machine with one core.
const SLEEP_MIN: Duration = Duration::from_micros(20);

/// Watches `slots` on the calling thread, until `sleep` says that it is over.
/// What is due is claimed and given to `take_over` with the index of its slot:
/// it must neither wait nor allocate.
///
/// A slot armed while the keeper sleeps is seen after at most `tick`, which is
/// therefore how late a claim may be when deadlines are closer than that.
/// `clock` gives microseconds on the clock of the deadlines; `sleep` waits for
/// the time that it is given and returns whether to end.
pub fn keep<T>(
    slots: &[Arc<Slot<T>>],
    tick: Duration,
    clock: impl Fn() -> u64,
    mut take_over: impl FnMut(usize, T),
    mut sleep: impl FnMut(Duration) -> bool,
) {
    loop {
        let time = turn(slots, tick, &clock, &mut take_over);
        if sleep(time.max(SLEEP_MIN)) {
            return;
        }
    }
}

/// Claims what is due; returns how long to sleep until the next turn.
fn turn<T>(
    slots: &[Arc<Slot<T>>],
    tick: Duration,
    clock: &impl Fn() -> u64,
    take_over: &mut impl FnMut(usize, T),
) -> Duration {
    let now_us = clock();
    let mut next_us = now_us.saturating_add(tick.as_micros() as u64);
    for (index, slot) in slots.iter().enumerate() {
        match slot.claim(now_us) {
            Some(value) => take_over(index, value),
            None => next_us = next_us.min(slot.deadline_us().unwrap_or(u64::MAX)),
        }
    }
    // Taking over took its time, too.
    Duration::from_micros(next_us.saturating_sub(clock()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// One turn at `now_us` with a tick of 100 µs over slots armed for
    /// `deadlines_us`: who was taken over, and the sleep.
    fn check(now_us: u64, deadlines_us: &[u64], taken: &[usize], sleep_us: u64) {
        let slots: Vec<_> = deadlines_us
            .iter()
            .map(|&deadline_us| {
                let slot = Slot::new();
                slot.arm((), deadline_us);
                Arc::new(slot)
            })
            .collect();
        let mut found = Vec::new();
        let sleep = turn(
            &slots,
            Duration::from_micros(100),
            &|| now_us,
            &mut |index, ()| found.push(index),
        );
        assert_eq!(
            (&found[..], sleep),
            (taken, Duration::from_micros(sleep_us))
        );
    }

    #[test]
    fn what_is_due_is_claimed_and_what_is_not_is_slept_for() {
        check(0, &[], &[], 100);
        check(50, &[50], &[0], 100);
        check(50, &[51], &[], 1);
        check(50, &[500], &[], 100);
        check(50, &[80, 40, 20], &[1, 2], 30);
    }

    #[test]
    fn the_time_of_taking_over_is_not_slept_again() {
        let slot = Slot::new();
        slot.arm((), 0);
        let calls = Cell::new(0);
        let clock = || calls.replace(calls.get() + 70);
        let tick = Duration::from_micros(100);
        let sleep = turn(&[Arc::new(slot)], tick, &clock, &mut |_, ()| {});
        assert_eq!(sleep, Duration::from_micros(30));
    }

    #[test]
    fn what_nobody_takes_back_is_claimed_until_it_is_over() {
        let slot = Arc::new(Slot::new());
        let armed = slot.arm("work", 1_000);
        let taken = Cell::new(None);
        let turns = Cell::new(0);
        keep(
            &[Arc::clone(&slot)],
            Duration::from_millis(1),
            || turns.get() * 1_000,
            |_, value| taken.set(Some(value)),
            |_| turns.replace(turns.get() + 1) == 1,
        );
        assert_eq!((turns.get(), taken.get()), (2, Some("work")));
        assert_eq!(slot.disarm(armed), None);
    }
}
