//! Fresh instances of models on their way to one source.
//!
//! ```text
//!            request                 Loaded
//!   (none) ──────────→ under way ──────────────→ (none), an instance or why not
//!                          │                        ↑
//!                          │ LOAD_MAX, or nobody    │ Loaded
//!                          │ waits any longer       │
//!                          └────→ late ─────────────┘
//!                                  the ladder is told that there is none
//! ```
//!
//! A load runs on a thread of its own, for a vendor's runtime may hang in it: then
//! that thread is lost, and nothing else. What is late still arrives if it ever
//! ends. Until then the rung is not loaded a second time, so that no more threads
//! are lost than there are rungs.

use super::mailbox::{Mailbox, ThreadMessage};
use crate::bundle::{MODEL_RUNGS, Refused, Rungs, called};
use crate::hot_path::HotPath;
use hark_engine::{Rung, StepReason};
use hark_threads::{Shutdown, Stage, Threads, panics};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What loading one model may take on a slow core: less than what the unit leaves a
/// whole start (`TimeoutStartSec=`, 60 s). After that the ladder goes without it.
const LOAD_MAX: Duration = Duration::from_secs(50);
/// Loads under way at once, of all sources: they take whole cores from those that
/// serve. Those that are late do not count, for they may never end.
const LOADS_MAX: usize = 4;
/// How often a start looks whether its models are loaded.
const LOOK: Duration = Duration::from_millis(2);

/// What loads for all sources have in common.
#[derive(Clone)]
pub struct Loader {
    threads: Threads,
    under_way: Arc<AtomicUsize>,
}

/// One of [`LOADS_MAX`]; given back when dropped.
struct Permit(Arc<AtomicUsize>);

enum Load {
    UnderWay { since: Instant, _permit: Permit },
    Late,
}

/// The loads of one source.
pub(super) struct Loads {
    source: Arc<str>,
    rungs: Arc<Rungs>,
    loader: Loader,
    mailbox: Arc<Mailbox>,
    /// By [`Rung`].
    loads: [Option<Load>; MODEL_RUNGS],
    /// Threads that are stuck in its model, by [`Rung`].
    stuck: [u32; MODEL_RUNGS],
}

impl Loader {
    /// A loader whose threads are among `threads`.
    pub fn new(threads: Threads) -> Self {
        Self {
            threads,
            under_way: Arc::default(),
        }
    }

    fn permit(&self) -> Option<Permit> {
        // Relaxed: a count and no more; what is loaded goes through a mailbox.
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(&self.under_way));
        (before < LOADS_MAX).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loads {
    pub(super) fn new(source: Arc<str>, rungs: Arc<Rungs>, loader: Loader) -> Self {
        Self {
            source,
            rungs,
            loader,
            mailbox: Arc::default(),
            loads: [const { None }; MODEL_RUNGS],
            stuck: [0; MODEL_RUNGS],
        }
    }

    /// A thread is stuck in the model of `rung`. On the keeper's thread: neither waits
    /// nor allocates.
    pub(super) fn handle_hang(&mut self, rung: Rung) {
        self.stuck[rung as usize] += 1;
    }

    /// Whether a thread is at hand that could take over has changed: where none is,
    /// what the others are stuck in will have cost a reset.
    pub(super) fn handle_relief(&self, has_relief: bool) {
        let withheld = self.rungs.withheld();
        if has_relief {
            return withheld.absolve(&self.source);
        }
        let models = self.rungs.models().iter().map(|model| model.rung);
        let stuck = models.filter(|rung| self.stuck[*rung as usize] > 0);
        let subjects = stuck.filter_map(|rung| self.rungs.subject(rung));
        withheld.suspect(&self.source, subjects.collect());
    }

    /// Where stuck threads leave their models.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Loads every model before the source starts, for otherwise its first windows
    /// would all be the rule's. Waits for that until `patience` is over or a stop is
    /// requested; whether none is late. What is late may still come.
    pub(super) fn load_all(
        &mut self,
        hot_path: &mut HotPath,
        patience: Duration,
        shutdown: &Shutdown,
    ) -> bool {
        let rungs = Arc::clone(&self.rungs);
        for model in rungs.models() {
            self.request(hot_path, model.rung);
        }
        let until = Instant::now() + patience;
        loop {
            self.read_mail(hot_path);
            if !self.is_waiting() {
                return true;
            }
            if Instant::now() >= until {
                self.give_up(hot_path, |_| true);
                return false;
            }
            // Whoever stops wants no models, and no words about them.
            if shutdown.wait(LOOK) {
                return false;
            }
        }
    }

    /// Takes in what has come, asks for what is wanted, and tells what is late:
    /// at each turn of the serving thread.
    pub(super) fn turn(&mut self, hot_path: &mut HotPath) {
        self.read_mail(hot_path);
        if let Some(rung) = hot_path.poll_wanted_instance() {
            self.request(hot_path, rung);
        }
        // Spares the usual turn a look at the clock.
        if self.is_waiting() {
            let now = Instant::now();
            self.give_up(hot_path, |since| {
                now.saturating_duration_since(since) >= LOAD_MAX
            });
        }
    }

    fn is_waiting(&self) -> bool {
        let mut loads = self.loads.iter();
        loads.any(|load| matches!(load, Some(Load::UnderWay { .. })))
    }

    fn read_mail(&mut self, hot_path: &mut HotPath) {
        for message in self.mailbox.take() {
            match message {
                ThreadMessage::Late(runner) => {
                    let stuck = &mut self.stuck[runner.rung() as usize];
                    *stuck = stuck.saturating_sub(1);
                    hot_path.handle_late_return(*runner);
                }
                ThreadMessage::Loaded(rung, loaded) => {
                    self.loads[rung as usize] = None;
                    hot_path.handle_loaded(rung, loaded.map(|runner| *runner));
                }
            }
        }
    }

    fn request(&mut self, hot_path: &mut HotPath, rung: Rung) {
        let started = match self.loads[rung as usize] {
            None => self.start(rung),
            // The ladder asks for it again after a while.
            Some(_) => Err(late(rung)),
        };
        match started {
            Ok(load) => self.loads[rung as usize] = Some(load),
            Err(refused) => hot_path.handle_loaded(rung, Err(refused)),
        }
    }

    fn start(&self, rung: Rung) -> Result<Load, Refused> {
        let permit = self.loader.permit();
        let permit = permit.ok_or_else(|| refused("too many models are being loaded"))?;
        let (rungs, mailbox) = (Arc::clone(&self.rungs), Arc::clone(&self.mailbox));
        let load = move |stop: &Shutdown| {
            // Backends catch their own panics; this is for whatever is around them.
            let loaded = panics::catch(|| rungs.load(rung, stop));
            let loaded = loaded.unwrap_or_else(|| Err(refused("loading it panicked")));
            let loaded = loaded.map(Box::new);
            mailbox.post(ThreadMessage::Loaded(rung, loaded));
        };
        let name = format!("load {} of {}", rung.name(), self.source);
        let spawned = self.loader.threads.spawn(name, Stage::Keep, load);
        spawned.map_err(|error| refused(&format!("no thread to load it: {error}")))?;
        Ok(Load::UnderWay {
            since: Instant::now(),
            _permit: permit,
        })
    }

    /// Tells the ladder that there is no instance of what has been under way since
    /// a time that `is_late`.
    fn give_up(&mut self, hot_path: &mut HotPath, is_late: impl Fn(Instant) -> bool) {
        let source = Arc::clone(&self.source);
        for model in Arc::clone(&self.rungs).models() {
            let load = &mut self.loads[model.rung as usize];
            if let Some(Load::UnderWay { since, .. }) = load
                && is_late(*since)
            {
                let taken = since.elapsed();
                let rung = called(model.rung);
                tracing::warn!("{source}: the {rung} model has been loading for {taken:.1?}");
                *load = Some(Load::Late);
                hot_path.handle_loaded(model.rung, Err(late(model.rung)));
            }
        }
    }
}

fn late(rung: Rung) -> Refused {
    refused(&format!(
        "the load of the {} model does not end",
        called(rung)
    ))
}

fn refused(text: &str) -> Refused {
    Refused {
        reason: StepReason::Missing,
        text: text.to_owned(),
    }
}
