//! One signal that everything receives: stop.
//!
//! A thread looks at it at each turn, or waits with it in place of a sleep. What
//! must first write all that it was given ends by its queue instead: the output
//! thread and the writers by a last message, the node log and who stands by when
//! nobody is left to give them work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The side that gives the signal, once and for good; dropped, it gives it, for
/// then nobody is left who could.
pub struct ShutdownSender(Arc<Signal>);

/// The side that receives it; as many copies as there are threads.
#[derive(Clone)]
pub struct Shutdown(Arc<Signal>);

#[derive(Default)]
struct Signal {
    is_given: AtomicBool,
    /// Held from the look to the wait, and while the signal is given: so none
    /// falls in between.
    waiting: Mutex<()>,
    given: Condvar,
}

/// A signal not yet given.
pub fn channel() -> (ShutdownSender, Shutdown) {
    let signal = Arc::<Signal>::default();
    (ShutdownSender(Arc::clone(&signal)), Shutdown(signal))
}

impl ShutdownSender {
    /// Gives the signal; giving it twice is as good as once.
    pub fn request(&self) {
        let signal = &*self.0;
        let waiting = signal
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Release: whoever sees the signal sees why it was given.
        signal.is_given.store(true, Ordering::Release);
        drop(waiting);
        signal.given.notify_all();
    }
}

impl Drop for ShutdownSender {
    fn drop(&mut self) {
        self.request();
    }
}

impl Shutdown {
    /// Whether the signal has been given. A load, for every turn of a hot path.
    pub fn is_requested(&self) -> bool {
        self.0.is_given.load(Ordering::Acquire)
    }

    /// Sleeps for `time`, or until the signal; whether it has been given.
    pub fn wait(&self, time: Duration) -> bool {
        let waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_waiting = |_: &mut ()| !self.is_requested();
        let waited = self.0.given.wait_timeout_while(waiting, time, is_waiting);
        drop(waited);
        self.is_requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test may take.
    const EVER: Duration = Duration::from_secs(3_600);

    #[test]
    fn every_copy_receives_the_signal() {
        let (sender, shutdown) = channel();
        let copy = shutdown.clone();
        assert!(!shutdown.is_requested());
        assert!(!shutdown.wait(Duration::ZERO));
        sender.request();
        assert!(shutdown.is_requested());
        assert!(copy.is_requested());
    }

    #[test]
    fn a_lost_sender_is_a_signal() {
        let (sender, shutdown) = channel();
        drop(sender);
        assert!(shutdown.is_requested());
    }

    #[test]
    fn the_signal_ends_every_wait() {
        let (sender, shutdown) = channel();
        let copy = shutdown.clone();
        let waits = std::thread::spawn(move || copy.wait(EVER));
        sender.request();
        assert!(waits.join().unwrap());
        assert!(shutdown.wait(EVER));
    }
}
