//! What other threads have for the one that serves a source: a stuck thread its
//! model, a loader a fresh one. The serving thread looks when it has a moment.

use crate::bundle::Refused;
use crate::hot_path::Runner;
use hark_engine::Rung;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A message to the serving thread.
pub(super) enum ThreadMessage {
    /// A stuck thread came back.
    Late(Box<Runner>),
    /// A load has ended.
    Loaded(Rung, Result<Box<Runner>, Refused>),
}

/// Where messages wait. It holds no more than one for each stuck thread and one
/// for each load under way, both of which are bounded.
#[derive(Default)]
pub(super) struct Mailbox {
    messages: Mutex<Vec<ThreadMessage>>,
    /// Spares the serving thread the lock at each of its turns.
    has_mail: AtomicBool,
}

impl Mailbox {
    pub(super) fn post(&self, message: ThreadMessage) {
        self.messages().push(message);
        // Release, with the acquire of `take`: who sees the flag sees why. The
        // message itself is guarded by the lock.
        self.has_mail.store(true, Ordering::Release);
    }

    /// All that has come.
    pub(super) fn take(&self) -> Vec<ThreadMessage> {
        if !self.has_mail.load(Ordering::Acquire) {
            return Vec::new();
        }
        // Relaxed, and before the lock is taken: a message that is posted after
        // the lock was given back is posted after this store too, by the order
        // that the lock makes, and so sets the flag again. The other way round, a
        // message between the two would lie there without a flag.
        self.has_mail.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.messages())
    }

    fn messages(&self) -> MutexGuard<'_, Vec<ThreadMessage>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
