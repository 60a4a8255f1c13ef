//! The threads of one source: one serves, one stands by to relieve it.
//!
//! Inference runs inline on the serving thread, which lends its whole
//! [`Shard`] out for as long. If the model has not answered when the keeper's
//! time comes, the keeper claims the shard, has the rule answer, and hands it
//! to the thread that stands by, which goes on serving. The stuck thread costs
//! nothing but itself: when it comes back it leaves the model in the mailbox
//! and stands by in its turn. How many may be stuck at once is bounded; with
//! none left to stand by, no model is run any more.
//!
//! ```text
//!             ┌──────────── answered in time ─────────────┐
//!             ↓                                           │
//!   source: serves ── lends the shard, runs the model ────┤
//!             │                                           │
//!             │ the feed has ended        the keeper claimed the shard
//!             ↓                                           ↓
//!           ended                       stuck until the model returns;
//!             ↑                     leaves the model in the mailbox, then
//!             │ the feed has ended                        │
//!   relief: serves ←── is handed the shard ── stands by ←─┤ nobody stands by
//!                                                         │
//!                                                 ended ←─┘ somebody does
//! ```
//!
//! Who counts as what is the [`Crew`]'s to say. A stuck thread cannot be ended,
//! so nobody waits for these threads: the appliance waits for the result of the
//! shard, which some thread always has.

mod loads;
mod mailbox;

pub use loads::Loader;

use crate::bundle::Rungs;
use crate::fault::Stall;
use crate::feed::{Fed, Feed};
use crate::hot_path::{Handover, HotPath, Runner, SourceResult};
use crate::report::{Event, Reporter, Standing};
use anyhow::Context;
use hark_engine::Rung;
use hark_hal::Realtime;
use hark_keeper::{Crew, Relief, Return, Slot};
use hark_threads::progress::Progress;
use hark_threads::{Shutdown, Stage, Threads, panics};
use loads::Loads;
use mailbox::{Mailbox, ThreadMessage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a source without relief tries to get some. A system that gave no
/// thread gives none a moment later, and to ask is cheap.
const RELIEF_EVERY: Duration = Duration::from_secs(1);

/// Everything that serving one source needs, to be handed from thread to thread.
pub struct Shard {
    hot_path: HotPath,
    feed: Box<dyn Feed>,
    loads: Loads,
    shutdown: Shutdown,
    /// When to ask again, while there is no relief.
    relief_at: Option<Instant>,
}

/// What the threads of one source share.
pub struct SourceThreads {
    index: usize,
    name: Arc<str>,
    slot: Arc<Slot<Box<Shard>>>,
    /// Of the thread that stands by. It holds the lock while it waits, which is no
    /// harm: only one does, but for the moment in which another comes back.
    relief: Mutex<Receiver<Box<Shard>>>,
    crew: Crew,
    mailbox: Arc<Mailbox>,
    threads: Threads,
    realtime: Realtime,
    reporter: Reporter,
    results: SyncSender<Ended>,
    progress: Arc<Progress>,
    stall: Option<Stall>,
}

/// The keeper's end of a source.
pub struct Kept {
    /// The slot to watch.
    pub slot: Arc<Slot<Box<Shard>>>,
    /// Where a claimed shard goes. Who stands by ends when this is dropped, for
    /// without a keeper nobody hands a shard over.
    relief: SyncSender<Box<Shard>>,
    threads: Arc<SourceThreads>,
}

/// The appliance's end of a source.
pub struct Served {
    /// The source's name.
    pub name: Arc<str>,
    /// Where its shard lies while a model runs.
    pub slot: Arc<Slot<Box<Shard>>>,
    /// The shared part.
    pub threads: Arc<SourceThreads>,
    /// What its serving threads show of themselves.
    pub progress: Arc<Progress>,
    /// How it ended, once.
    pub result: Receiver<Ended>,
}

/// How serving a source ended.
pub enum Ended {
    /// In order: what is left of it, and what it leaves to the next.
    Served(Box<(SourceResult, Handover)>),
    /// By a panic, which took the counters along.
    Panicked,
}

/// How a source is to be served.
pub struct Settings {
    /// Counts the sources.
    pub index: usize,
    /// Threads that may be stuck at once, at least one.
    pub abandoned_max: usize,
    /// What the threads ask of the kernel.
    pub realtime: Realtime,
    /// Where its threads are started.
    pub threads: Threads,
    /// Where events go.
    pub reporter: Reporter,
    /// What a test does to the serving thread.
    pub stall: Option<Stall>,
}

impl Shard {
    /// A source with its link and its decoder, which ends with `shutdown`. Its
    /// models are yet to be loaded.
    pub fn new(
        hot_path: HotPath,
        feed: Box<dyn Feed>,
        rungs: Arc<Rungs>,
        loader: Loader,
        shutdown: Shutdown,
    ) -> Self {
        let source = Arc::clone(hot_path.source());
        Self {
            hot_path,
            feed,
            loads: Loads::new(source, rungs, loader),
            shutdown,
            relief_at: None,
        }
    }

    /// Loads its models, and waits for that until `patience` is over or `stop` is
    /// requested; whether none is late. For one that is, a lower rung answers.
    pub fn load_models(&mut self, patience: Duration, stop: &Shutdown) -> bool {
        self.loads.load_all(&mut self.hot_path, patience, stop)
    }

    /// As [`HotPath::handle_standing`].
    pub fn handle_standing(&mut self, standing: &Standing) -> bool {
        self.hot_path.handle_standing(standing)
    }

    /// Goes on where the source that left `handover` was, as far as that holds.
    pub fn handle_handover(&mut self, handover: Handover) {
        if let Some(nodes) = self.hot_path.handle_handover(handover) {
            self.feed.handle_nodes(nodes);
        }
    }

    /// The source's name.
    pub fn source(&self) -> &str {
        self.hot_path.source()
    }

    /// The rung that stands.
    pub fn rung(&self) -> Rung {
        self.hot_path.rung()
    }

    /// Its link and its decoder.
    pub fn feed(&self) -> &dyn Feed {
        self.feed.as_ref()
    }
}

impl Kept {
    /// Takes over from a thread that is stuck in a model, and hands its shard to
    /// the one that stands by. On the keeper's thread: neither waits nor
    /// allocates.
    pub fn take_over(&self, mut shard: Box<Shard>) {
        if let Some(rung) = shard.hot_path.handle_hang() {
            shard.loads.handle_hang(rung);
        }
        self.threads.crew.taken_over();
        // There is one shard, so there is room for it.
        self.relief.try_send(shard).ok();
    }
}

/// Starts to serve `shard`, on a thread of its own.
///
/// # Errors
/// If the system gives no thread.
pub fn serve(shard: Box<Shard>, settings: Settings) -> anyhow::Result<(Served, Kept)> {
    let (relief, relief_out) = sync_channel(1);
    let (results, result) = sync_channel(1);
    let slot = Arc::new(Slot::new());
    let progress = Arc::clone(shard.hot_path.progress());
    let threads = Arc::new(SourceThreads {
        index: settings.index,
        name: Arc::clone(shard.hot_path.source()),
        slot: Arc::clone(&slot),
        relief: Mutex::new(relief_out),
        crew: Crew::new(settings.abandoned_max),
        mailbox: Arc::clone(shard.loads.mailbox()),
        threads: settings.threads,
        realtime: settings.realtime,
        reporter: settings.reporter,
        results,
        progress: Arc::clone(&progress),
        stall: settings.stall,
    });
    // Before the first model can be run.
    let relief_is_due = threads.crew.relieve() == Relief::Start;
    assert!(relief_is_due, "at least one thread may be stuck");
    let standing = threads.start_standby();
    standing.context("starting a source's relief thread")?;
    let serving = threads.start_serving(shard);
    serving.context("starting a source's thread")?;
    let kept = Kept {
        slot: Arc::clone(&slot),
        relief,
        threads: Arc::clone(&threads),
    };
    let served = Served {
        name: Arc::clone(&threads.name),
        slot,
        threads,
        progress,
        result,
    };
    Ok((served, kept))
}

impl SourceThreads {
    /// Threads that are stuck in a model now.
    pub fn abandoned(&self) -> usize {
        self.crew.stuck() as usize
    }

    fn start_serving(self: &Arc<Self>, shard: Box<Shard>) -> std::io::Result<()> {
        let serving = Arc::clone(self);
        let run = move |_: &Shutdown| {
            serving.prepare();
            serving.work(shard);
        };
        let name = format!("source {}", self.name);
        self.threads.spawn(name, Stage::Serve, run).map(drop)
    }

    /// Starts the thread that the crew has counted already.
    fn start_standby(self: &Arc<Self>) -> std::io::Result<()> {
        let standing = Arc::clone(self);
        let run = move |_: &Shutdown| {
            standing.prepare();
            standing.stand_by();
        };
        let name = format!("relief {}", self.name);
        // Not told to stop with those that serve, for one of them may hang.
        let started = self.threads.spawn(name, Stage::Keep, run);
        if started.is_err() {
            self.crew.not_started();
        }
        started.map(drop)
    }

    fn prepare(&self) {
        panics::prepare_thread();
        for refused in self.realtime.prepare_thread(self.index) {
            tracing::warn!("source thread {}: {refused}", self.index);
        }
    }

    /// Waits until the keeper hands a shard over, or is gone.
    fn stand_by(self: &Arc<Self>) {
        let received = {
            let relief = self.relief.lock().unwrap_or_else(PoisonError::into_inner);
            relief.recv()
        };
        let Ok(mut shard) = received else {
            return;
        };
        // The crew counted this thread out when the keeper called it.
        tracing::warn!(
            "{}: the model does not answer; its thread is given up, the rule answers",
            self.name
        );
        self.relieve(&mut shard);
        self.work(shard);
    }

    /// Sees to it that somebody stands by; without, no model is run.
    fn relieve(self: &Arc<Self>, shard: &mut Shard) {
        let has_relief = match self.crew.relieve() {
            Relief::Stands => true,
            Relief::Start => self.start_standby().is_ok(),
            Relief::None => false,
        };
        let had_relief = shard.relief_at.is_none();
        // Nobody tells this source that there is relief again: it asks, and an
        // answer that is fetched cannot be lost.
        shard.relief_at = (!has_relief).then(|| Instant::now() + RELIEF_EVERY);
        if has_relief == had_relief {
            return;
        }
        self.progress.set_lacks_relief(!has_relief);
        shard.hot_path.set_relieved(has_relief);
        shard.loads.handle_relief(has_relief);
        if !has_relief {
            self.tell_no_relief();
        }
    }

    fn tell_no_relief(&self) {
        let (source, abandoned) = (Arc::clone(&self.name), self.abandoned());
        tracing::error!("{source}: {abandoned} threads hang in models; no model is run any more");
        self.reporter.report(Event::NoRelief { source, abandoned });
    }

    /// Serves until the end, or until the model has cost this thread.
    fn work(self: &Arc<Self>, shard: Box<Shard>) {
        // Sound: the shard goes with the panic, and the rest is shared by means
        // that a panic leaves whole.
        let serve = AssertUnwindSafe(|| self.serve(shard));
        let ended = match catch_unwind(serve) {
            Ok(Some(ended)) => {
                self.progress.end();
                Ended::Served(Box::new(ended))
            }
            // Another thread has the shard, and will have the result.
            Ok(None) => return,
            Err(_) => Ended::Panicked,
        };
        // There is one shard, so there is room; nobody may wait for it any more.
        self.results.try_send(ended).ok();
    }

    /// What is left of the source; none if the keeper gave this thread up.
    fn serve(self: &Arc<Self>, mut shard: Box<Shard>) -> Option<(SourceResult, Handover)> {
        loop {
            shard.hot_path.note_pass();
            shard.hot_path.handle_time();
            if let Some(stall) = &self.stall {
                stall.block_once();
            }
            let Shard {
                hot_path, loads, ..
            } = &mut *shard;
            // Before the next inference: it may have come back for it.
            loads.turn(hot_path);
            if shard.relief_at.is_some_and(|at| Instant::now() >= at) {
                self.relieve(&mut shard);
            }
            let has_more = shard.feed.has_more();
            if let Some((runner, due_us)) = shard.hot_path.start_inference(has_more) {
                shard = self.infer(shard, runner, due_us)?;
                // Windows that wait for the next batch are older than what the
                // feed has.
                continue;
            }
            let Shard {
                hot_path,
                feed,
                shutdown,
                ..
            } = &mut *shard;
            if feed.advance(hot_path, shutdown) == Fed::Ended {
                let nodes = feed.leave_nodes();
                let (result, mut handover) = shard.hot_path.finish();
                handover.nodes = nodes;
                return Some((result, handover));
            }
        }
    }

    /// Runs the model with the shard lent out; none if the keeper claimed it.
    fn infer(
        self: &Arc<Self>,
        shard: Box<Shard>,
        mut runner: Runner,
        due_us: u64,
    ) -> Option<Box<Shard>> {
        let armed = self.slot.arm(shard, due_us);
        let ran = runner.run();
        // The slot's exchange decides who goes on: this thread, or the relief.
        let Some(mut shard) = self.slot.disarm(armed) else {
            self.come_back_late(runner);
            return None;
        };
        shard.hot_path.finish_inference(runner, ran);
        Some(shard)
    }

    /// This thread was taken for stuck: it returns the model, and stands by
    /// unless another does.
    fn come_back_late(self: &Arc<Self>, runner: Runner) {
        // Before the crew knows of it: who finds this thread back finds its model.
        self.mailbox.post(ThreadMessage::Late(Box::new(runner)));
        match self.crew.come_back() {
            Return::StandBy => self.stand_by(),
            Return::End => {}
        }
    }
}
