//! Every thread of an appliance: started, named, told to stop and waited for in
//! one place.
//!
//! ```text
//!   spawn ──→ runs ──→ ended
//!               │  └─→ panicked      told by `panicked`, at any time
//!               │
//!               └ after its stage's deadline: left behind, told by `running`
//! ```
//!
//! A stop goes downstream, one [`Stage`] after the other, so that nothing which
//! was accepted is left behind by those who still could take it on: signal a
//! stage, wait for its threads until a deadline, go on with the next. A thread
//! cannot be ended from outside. One that hangs in a disk, a pipe or a vendor's
//! runtime is left behind, by its name, and goes with the process: no wait here
//! is without a deadline.

use crate::shutdown::{self, Shutdown, ShutdownSender};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Instant;

/// Names of panicked threads that are kept. A panic ends the appliance, so there
/// are few; the rest of an avalanche says nothing new.
const PANICS_MAX: usize = 32;

/// When a thread is told to stop: the first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Who watches the others.
    Watch,
    /// Who serves a source.
    Serve,
    /// Who serves those: the keeper, standbys, loaders.
    Keep,
    /// Who writes what was reported: logs, standard output, verdicts.
    Write,
    /// Who publishes what was written.
    Publish,
}

const STAGES: usize = Stage::Publish as usize + 1;

/// The threads of an appliance. Copies are handles on the same threads.
#[derive(Clone)]
pub struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    signals: [(ShutdownSender, Shutdown); STAGES],
    state: Mutex<State>,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    started: u64,
    running: Vec<Running>,
    panicked: Vec<String>,
}

struct Running {
    id: u64,
    name: String,
    stage: Stage,
    /// To be woken; none for the moment in which it is being started.
    thread: Option<Thread>,
}

/// What a thread returns in the end.
#[derive(Debug)]
pub struct Outcome<T>(Receiver<T>);

impl<T> Outcome<T> {
    /// What the thread returned; none while it runs, or if it panicked.
    pub fn take(&self) -> Option<T> {
        self.0.try_recv().ok()
    }

    /// As [`Outcome::take`], and waits for it until `until`; for ever without.
    pub fn wait(&self, until: Option<Instant>) -> Option<T> {
        let Some(until) = until else {
            return self.0.recv().ok();
        };
        let left = until.saturating_duration_since(Instant::now());
        self.0.recv_timeout(left).ok()
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::new()
    }
}

impl Threads {
    /// No threads yet.
    pub fn new() -> Self {
        let shared = Shared {
            signals: std::array::from_fn(|_| shutdown::channel()),
            state: Mutex::default(),
            ended: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The signal of a stage, for what waits by other means than its thread's own.
    pub fn shutdown(&self, stage: Stage) -> &Shutdown {
        &self.shared.signals[stage as usize].1
    }

    /// Starts a thread, which is given its stage's signal.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: impl Into<String>,
        stage: Stage,
        run: impl FnOnce(&Shutdown) -> T + Send + 'static,
    ) -> io::Result<Outcome<T>> {
        let name = name.into();
        let builder = std::thread::Builder::new().name(name.clone());
        let (returned, outcome) = sync_channel(1);
        let id = self.shared.enter(name, stage);
        let shutdown = self.shutdown(stage).clone();
        // Not held: when the last handle on the threads is dropped, as by a start
        // that fails halfway, each is told to stop.
        let shared = Arc::downgrade(&self.shared);
        let spawned = builder.spawn(move || {
            // Sound: what a panic leaves half-written is only what `run` owned.
            let ended = catch_unwind(AssertUnwindSafe(|| run(&shutdown)));
            let has_panicked = ended.is_err();
            if let Ok(value) = ended {
                // Nobody may want it.
                returned.try_send(value).ok();
            }
            if let Some(shared) = shared.upgrade() {
                shared.leave(id, has_panicked);
            }
        });
        match spawned {
            Ok(handle) => {
                self.shared.note_started(id, handle.thread());
                Ok(Outcome(outcome))
            }
            Err(error) => {
                self.shared.leave(id, false);
                Err(error)
            }
        }
    }

    /// Tells `stage`, and all before it, to stop, and wakes who is parked.
    pub fn request(&self, stage: Stage) {
        for (sender, _) in &self.shared.signals[..=stage as usize] {
            sender.request();
        }
        let state = self.shared.state();
        let told = state.running.iter().filter(|thread| thread.stage <= stage);
        told.filter_map(|told| told.thread.as_ref())
            .for_each(Thread::unpark);
    }

    /// As [`Threads::request`], and waits for these threads until `until`; whether
    /// all have ended.
    pub fn stop(&self, stage: Stage, until: Instant) -> bool {
        self.request(stage);
        let mut state = self.shared.state();
        loop {
            if state.running.iter().all(|thread| thread.stage > stage) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The threads that run, by their names: after a stop those that are left
    /// behind.
    pub fn running(&self) -> Vec<String> {
        let state = self.shared.state();
        state.running.iter().map(|t| t.name.clone()).collect()
    }

    /// The threads that panicked, by their names.
    pub fn panicked(&self) -> Vec<String> {
        self.shared.state().panicked.clone()
    }
}

impl Shared {
    fn enter(&self, name: String, stage: Stage) -> u64 {
        let mut state = self.state();
        state.started += 1;
        let id = state.started;
        state.running.push(Running {
            id,
            name,
            stage,
            thread: None,
        });
        id
    }

    fn note_started(&self, id: u64, thread: &Thread) {
        let mut state = self.state();
        // It may have ended already.
        if let Some(running) = state.running.iter_mut().find(|running| running.id == id) {
            running.thread = Some(thread.clone());
        }
    }

    fn leave(&self, id: u64, has_panicked: bool) {
        let mut state = self.state();
        let at = state.running.iter().position(|thread| thread.id == id);
        let thread = at.map(|at| state.running.swap_remove(at));
        if let Some(thread) = thread
            && has_panicked
            && state.panicked.len() < PANICS_MAX
        {
            state.panicked.push(thread.name);
        }
        drop(state);
        self.ended.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A thread that runs until it is told to stop, and returns its name.
    fn start(threads: &Threads, name: &'static str, stage: Stage) -> Outcome<&'static str> {
        let run = move |shutdown: &Shutdown| {
            while !shutdown.wait(Duration::from_secs(3_600)) {}
            name
        };
        threads.spawn(name, stage, run).unwrap()
    }

    #[test]
    fn a_stop_goes_downstream_one_stage_after_the_other() {
        let threads = Threads::new();
        let serves = start(&threads, "serves", Stage::Serve);
        let writes = start(&threads, "writes", Stage::Write);
        assert!(threads.stop(Stage::Keep, soon()));
        assert_eq!(serves.take(), Some("serves"));
        assert_eq!(
            (threads.running(), writes.take()),
            (vec!["writes".to_owned()], None)
        );
        assert!(threads.stop(Stage::Publish, soon()));
        assert_eq!(writes.take(), Some("writes"));
    }

    #[test]
    fn what_is_stuck_is_left_behind_by_its_name() {
        let threads = Threads::new();
        let (release, stuck) = sync_channel::<()>(0);
        let hangs = move |_: &Shutdown| stuck.recv().is_err();
        threads.spawn("stuck", Stage::Serve, hangs).unwrap();
        let ends = start(&threads, "ends", Stage::Serve);
        assert!(!threads.stop(Stage::Serve, Instant::now()));
        while ends.take().is_none() {
            std::thread::yield_now();
        }
        drop(release);
        assert!(threads.stop(Stage::Serve, soon()));
        assert!(threads.running().is_empty());
    }

    #[test]
    fn a_panic_is_told_by_name() {
        let threads = Threads::new();
        let panics = |_: &Shutdown| std::panic::resume_unwind(Box::new(()));
        let outcome: Outcome<()> = threads.spawn("panics", Stage::Watch, panics).unwrap();
        assert!(threads.stop(Stage::Watch, soon()));
        assert_eq!(threads.panicked(), ["panics"]);
        assert_eq!(outcome.take(), None);
    }

    #[test]
    fn threads_that_nobody_holds_are_told_to_stop() {
        let threads = Threads::new();
        let outcome = start(&threads, "held", Stage::Publish);
        drop(threads);
        assert_eq!(outcome.0.recv(), Ok("held"));
    }
}
