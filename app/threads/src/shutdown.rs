//! One signal that everything receives: stop.

use tokio::sync::watch;

/// The side that gives the signal.
pub struct ShutdownSender(watch::Sender<bool>);

/// The side that receives it; as many copies as there are threads and tasks.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A signal not yet given.
pub fn channel() -> (ShutdownSender, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownSender(sender), Shutdown(receiver))
}

impl ShutdownSender {
    /// Gives the signal; giving it twice is as good as once.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether the signal has been given, or nobody is left to give it.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits for the signal.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, which is as final.
        self.0.wait_for(|requested| *requested).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_receives_the_signal() {
        let (sender, shutdown) = channel();
        let copy = shutdown.clone();
        assert!(!shutdown.is_requested());
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
}
