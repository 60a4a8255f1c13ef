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
//! A stuck thread cannot be joined, so these threads are detached; the
//! appliance joins the result of the shard instead.

use crate::bundle::{Refused, Rungs};
use crate::fault::Stall;
use crate::feed::{Fed, Feed};
use crate::hot_path::{HotPath, Runner, SourceResult};
use crate::report::{Event, Reporter};
use anyhow::Context;
use hark_engine::Rung;
use hark_hal::Realtime;
use hark_keeper::Slot;
use hark_threads::panics;
use hark_threads::progress::Progress;
use hark_threads::shutdown::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests for fresh instances that may wait for the loader: one of each rung
/// of some tens of sources. What does not fit is asked for again.
const REQUESTS_MAX: usize = 64;

/// Everything that serving one source needs, to be handed from thread to thread.
pub struct Shard {
    /// From readings to verdicts.
    pub hot_path: HotPath,
    /// From the link to readings.
    pub feed: Box<dyn Feed>,
    /// Ends it.
    pub shutdown: Shutdown,
}

/// What others have for a shard; it looks when it has a moment.
enum Letter {
    /// A stuck thread came back.
    Late(Box<Runner>),
    /// The loader is done.
    Loaded(Rung, Result<Box<Runner>, Refused>),
    /// A thread stands by again.
    Relieved,
}

/// What the threads of one source share.
pub struct Post {
    index: usize,
    slot: Arc<Slot<Box<Shard>>>,
    relief: Mutex<Receiver<Box<Shard>>>,
    /// Threads that wait for `relief`.
    standbys: AtomicUsize,
    /// Threads that are stuck in a model.
    abandoned: AtomicUsize,
    abandoned_max: usize,
    mail: Mutex<Vec<Letter>>,
    has_mail: AtomicBool,
    rungs: Arc<Rungs>,
    loader: Loader,
    realtime: Realtime,
    reporter: Reporter,
    results: SyncSender<Ended>,
    progress: Arc<Progress>,
    stall: Option<Stall>,
}

/// The appliance's end of a post.
pub struct Served {
    /// The source's name.
    pub name: Arc<str>,
    /// The slot for the keeper to watch.
    pub slot: Arc<Slot<Box<Shard>>>,
    /// Where the keeper puts a shard that it claimed.
    pub relief: SyncSender<Box<Shard>>,
    /// The shared part.
    pub post: Arc<Post>,
    /// What its serving threads show of themselves.
    pub progress: Arc<Progress>,
    /// How it ended, once.
    pub result: Receiver<Ended>,
}

/// How serving a source ended.
pub enum Ended {
    /// In order.
    Served(Box<SourceResult>),
    /// By a panic, which took the counters along.
    Panicked,
}

/// How a source is to be served.
pub struct Settings {
    /// Counts the sources.
    pub index: usize,
    /// Threads that may be stuck at once.
    pub abandoned_max: usize,
    /// What the threads ask of the kernel.
    pub realtime: Realtime,
    /// Its models.
    pub rungs: Arc<Rungs>,
    /// Who loads fresh instances.
    pub loader: Loader,
    /// Where events go.
    pub reporter: Reporter,
    /// What a test does to the serving thread.
    pub stall: Option<Stall>,
}

/// Starts to serve `shard`, on a thread of its own.
///
/// # Errors
/// If the system gives no thread.
pub fn serve(shard: Box<Shard>, settings: Settings) -> anyhow::Result<Served> {
    let (relief, relief_out) = sync_channel(1);
    let (results, result) = sync_channel(1);
    let name = Arc::clone(shard.hot_path.source());
    let slot = Arc::new(Slot::new());
    let progress = Arc::clone(shard.hot_path.progress());
    let post = Arc::new(Post {
        index: settings.index,
        slot: Arc::clone(&slot),
        relief: Mutex::new(relief_out),
        standbys: AtomicUsize::new(0),
        abandoned: AtomicUsize::new(0),
        abandoned_max: settings.abandoned_max,
        mail: Mutex::default(),
        has_mail: AtomicBool::new(false),
        rungs: settings.rungs,
        loader: settings.loader,
        realtime: settings.realtime,
        reporter: settings.reporter,
        results,
        progress: Arc::clone(&progress),
        stall: settings.stall,
    });
    Post::stand_by(&post).context("starting a source's relief thread")?;
    let serving = Arc::clone(&post);
    spawn(&format!("source-{}", post.index), move || {
        serving.prepare();
        serving.work(shard);
    })
    .context("starting a source's thread")?;
    Ok(Served {
        name,
        slot,
        relief,
        post,
        progress,
        result,
    })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map(drop)
}

impl Post {
    /// Notes on the keeper's thread that it has taken over.
    pub fn handle_taken_over(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Threads that are stuck in a model now.
    pub fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Starts a thread that stands by.
    fn stand_by(post: &Arc<Self>) -> std::io::Result<()> {
        let standing = Arc::clone(post);
        post.standbys.fetch_add(1, Ordering::Relaxed);
        let spawned = spawn(&format!("relief-{}", post.index), move || {
            standing.prepare();
            standing.wait_for_shard();
        });
        if spawned.is_err() {
            post.standbys.fetch_sub(1, Ordering::Relaxed);
        }
        spawned
    }

    fn prepare(&self) {
        panics::prepare_thread();
        for refused in self.realtime.prepare_thread(self.index) {
            tracing::warn!("source thread {}: {refused}", self.index);
        }
    }

    /// Waits until the keeper hands a shard over, or is gone.
    fn wait_for_shard(self: &Arc<Self>) {
        let received = {
            let relief = self.relief.lock().unwrap_or_else(PoisonError::into_inner);
            relief.recv()
        };
        self.standbys.fetch_sub(1, Ordering::Relaxed);
        let Ok(mut shard) = received else {
            return;
        };
        tracing::warn!(
            "{}: the model does not answer; its thread is given up, the rule answers",
            shard.hot_path.source()
        );
        let has_relief = self.abandoned() < self.abandoned_max && Self::stand_by(self).is_ok();
        if !has_relief {
            self.note_no_relief(&mut shard);
        }
        self.work(shard);
    }

    fn note_no_relief(&self, shard: &mut Shard) {
        let source = Arc::clone(shard.hot_path.source());
        tracing::error!(
            "{source}: {} threads hang in models; no model is run any more",
            self.abandoned()
        );
        let abandoned = self.abandoned();
        self.reporter.report(Event::NoRelief { source, abandoned });
        self.progress.set_lacks_relief(true);
        shard.hot_path.set_relieved(false);
    }

    /// Serves until the end, or until the model has cost this thread.
    fn work(self: &Arc<Self>, shard: Box<Shard>) {
        let serve = AssertUnwindSafe(|| self.serve(shard));
        match catch_unwind(serve) {
            Ok(Some(result)) => {
                self.progress.end();
                drop(self.results.try_send(Ended::Served(Box::new(result))));
            }
            Ok(None) => {}
            Err(_) => drop(self.results.try_send(Ended::Panicked)),
        }
    }

    fn serve(self: &Arc<Self>, mut shard: Box<Shard>) -> Option<SourceResult> {
        loop {
            shard.hot_path.note_pass();
            if let Some(stall) = &self.stall {
                stall.block_once();
            }
            if self.has_mail.load(Ordering::Acquire) {
                self.read_mail(&mut shard.hot_path);
            }
            if let Some(rung) = shard.hot_path.poll_wanted_instance() {
                self.loader.request(self, rung);
            }
            let has_more = shard.feed.has_more();
            if let Some((mut runner, due_us)) = shard.hot_path.start_inference(has_more) {
                let armed = self.slot.arm(shard, due_us);
                let ran = runner.run();
                match self.slot.disarm(armed) {
                    Some(back) => shard = back,
                    None => {
                        self.come_back_late(runner);
                        return None;
                    }
                }
                shard.hot_path.finish_inference(runner, ran);
                continue;
            }
            let Shard {
                hot_path,
                feed,
                shutdown,
            } = &mut *shard;
            if feed.advance(hot_path, shutdown) == Fed::Ended {
                return Some(shard.hot_path.finish());
            }
        }
    }

    /// This thread was taken for stuck: it returns the model, and stands by
    /// unless another does.
    fn come_back_late(self: &Arc<Self>, runner: Runner) {
        self.post(Letter::Late(Box::new(runner)));
        self.abandoned.fetch_sub(1, Ordering::Relaxed);
        if self.standbys.fetch_add(1, Ordering::Relaxed) > 0 {
            self.standbys.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.post(Letter::Relieved);
        self.wait_for_shard();
    }

    fn post(&self, letter: Letter) {
        self.letters().push(letter);
        self.has_mail.store(true, Ordering::Release);
    }

    fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_mail(&self, hot_path: &mut HotPath) {
        self.has_mail.store(false, Ordering::Relaxed);
        let letters = std::mem::take(&mut *self.letters());
        for letter in letters {
            match letter {
                Letter::Late(runner) => hot_path.handle_late_return(*runner),
                Letter::Loaded(rung, loaded) => {
                    hot_path.handle_loaded(rung, loaded.map(|runner| *runner));
                }
                Letter::Relieved => {
                    hot_path.set_relieved(true);
                    self.progress.set_lacks_relief(false);
                }
            }
        }
    }
}

/// The thread that loads fresh instances: it takes too long for a hot path.
#[derive(Clone)]
pub struct Loader {
    requests: SyncSender<(Arc<Post>, Rung)>,
}

impl Loader {
    /// Starts the thread. It ends with the last post that could ask.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (requests, requested) = sync_channel::<(Arc<Post>, Rung)>(REQUESTS_MAX);
        spawn("loader", move || {
            for (post, rung) in requested {
                let loaded = post.rungs.load(rung).map(Box::new);
                post.post(Letter::Loaded(rung, loaded));
            }
        })?;
        Ok(Self { requests })
    }

    fn request(&self, post: &Arc<Post>, rung: Rung) {
        if self.requests.try_send((Arc::clone(post), rung)).is_err() {
            let text = "too many models are being loaded".to_owned();
            let reason = hark_engine::StepReason::Missing;
            post.post(Letter::Loaded(rung, Err(Refused { reason, text })));
        }
    }
}
