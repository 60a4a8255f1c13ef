//! The thread that watches slots and claims what is due.

use crate::Slot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The shortest sleep: a deadline that has just come is claimed at the next
/// turn, and turns without a sleep would starve a machine with one core.
const SLEEP_MIN: Duration = Duration::from_micros(20);

/// The watching thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Watches `slots`. What is due is claimed and given to `take_over` with the
    /// index of its slot, on the keeper's thread: it must neither wait nor
    /// allocate.
    ///
    /// A slot armed while the keeper sleeps is seen after at most `tick`, which
    /// is therefore how late a claim may be when deadlines are closer than that.
    /// `prepare` is called first on the thread; `clock` gives microseconds on
    /// the clock of the deadlines.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<T: Send + 'static>(
        slots: Vec<Arc<Slot<T>>>,
        tick: Duration,
        prepare: impl FnOnce() + Send + 'static,
        clock: impl Fn() -> u64 + Send + 'static,
        mut take_over: impl FnMut(usize, T) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || {
                prepare();
                while !is_stopped.load(Ordering::Relaxed) {
                    let sleep = turn(&slots, tick, &clock, &mut take_over);
                    std::thread::sleep(sleep.max(SLEEP_MIN));
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic was told as it happened.
            thread.join().ok();
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
    fn a_thread_claims_what_nobody_takes_back() {
        let slot = Arc::new(Slot::new());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let keeper = Keeper::start(
            vec![Arc::clone(&slot)],
            Duration::from_millis(1),
            || {},
            || 1_000,
            move |_, value| sender.send(value).expect("the test listens"),
        );
        let armed = slot.arm("work", 1_000);
        assert_eq!(receiver.recv(), Ok("work"));
        assert_eq!(slot.disarm(armed), None);
        drop(keeper.expect("a thread"));
    }
}
