//! What is to outlive hark: alerts that stand, and what no broker has taken yet.
//!
//! Whoever publishes leaves each post with the [`Journal`], which never waits; a thread
//! of its own brings it to the disk ([`file`]). A post is to be on the disk before
//! the broker has it: a state that the broker keeps and nobody knows of would stay
//! raised for ever after a power cut. So the publisher holds a post back until it is
//! durable, but no longer than [`PATIENCE`]: a disk that hangs or fails costs what is
//! kept, and not the alert.

mod file;
mod reconcile;

use file::JournalFile;
pub use file::Post;
use hark_mqtt::Waker;
use hark_threads::{Shutdown, Stage, Threads};
pub use reconcile::{Over, reconcile};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a post waits for the disk before it is published all the same.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// How long a start waits for what the file holds: one whose disk hangs begins
/// without.
const LOAD_PATIENCE: Duration = Duration::from_secs(2);
/// On their way to the thread: an alert of each of 4096 sensors, and its answer.
const QUEUE_MAX: usize = 8192;
/// What one write to the disk takes together.
const BATCH_MAX: usize = 1024;
/// The step in which the thread looks for the shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);
/// How long it is there for the publisher's last answers: as long as its goodbye.
const GOODBYE: Duration = Duration::from_millis(850);
/// A disk that failed is tried again after so long, if anything is to be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where posts are left for the disk. Without a file it only numbers them.
#[derive(Clone, Default)]
pub struct Journal {
    queue: Option<SyncSender<Message>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The last number that was given.
    last: AtomicU64,
    /// All posts up to this number are on the disk, or will not be. Released after the
    /// sync, acquired before the publish: who sees the number may rely on the disk.
    durable: AtomicU64,
    /// Posts that found no room, and those that the disk has not taken. Counts and no
    /// more: `Relaxed`.
    lost: AtomicU64,
    unwritten: AtomicU64,
    /// Who waits for `durable`.
    waiting: Mutex<Option<Waker>>,
}

enum Message {
    Post(Post),
    Settled(u64),
    /// The publisher has gone.
    End,
}

/// What the file holds, when hark starts.
#[derive(Debug, Default)]
pub struct Carried {
    /// Oldest first.
    pub posts: Vec<Post>,
}

/// Starts the thread of the file at `path`, and waits for what it holds.
/// `unsettled_max`: what a broker may leave unanswered.
///
/// # Errors
/// If the system gives no thread.
pub fn open(
    threads: &Threads,
    path: PathBuf,
    unsettled_max: usize,
) -> std::io::Result<(Journal, Carried)> {
    let (queue, messages) = sync_channel(QUEUE_MAX);
    let (loaded, load) = sync_channel(1);
    let shared = Arc::<Shared>::default();
    let shown = path.display().to_string();
    let writing = Arc::clone(&shared);
    threads.spawn("standing alerts", Stage::Publish, move |shutdown| {
        let file = JournalFile::open(&path, unsettled_max);
        let carried = Carried {
            posts: file.posts().cloned().collect(),
        };
        let last = file.last_number();
        // One that comes too late would give numbers that are taken.
        if loaded.send((carried, last)).is_ok() {
            Writing::new(file, writing).run(&messages, shutdown);
        }
    })?;
    match load.recv_timeout(LOAD_PATIENCE) {
        Ok((carried, last)) => {
            // Nobody else has it yet.
            shared.last.store(last, Ordering::Relaxed);
            shared.durable.store(last, Ordering::Relaxed);
            let queue = Some(queue);
            Ok((Journal { queue, shared }, carried))
        }
        Err(_) => {
            tracing::error!("{shown}: the disk does not answer; no alert outlives this run");
            Ok((Journal::default(), Carried::default()))
        }
    }
}

impl Journal {
    /// Leaves a post with the disk; returns its number. Never waits.
    pub fn post(&self, topic: &str, payload: &str, stands: bool, is_settled: bool) -> u64 {
        // Posts come from one thread at a time, and the queue orders them.
        let number = self.shared.last.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(queue) = &self.queue else {
            self.shared.note_durable(number);
            return number;
        };
        let post = Post {
            number,
            topic: topic.to_owned(),
            payload: payload.to_owned(),
            stands,
            is_settled,
        };
        if queue.try_send(Message::Post(post)).is_err() {
            // The disk stands still: the publisher's patience ends its wait.
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        number
    }

    /// The broker has answered for a post, or it was given up.
    pub fn settle(&self, number: u64) {
        if let Some(queue) = &self.queue {
            // One that finds no room is published again after a restart: at least once.
            match queue.try_send(Message::Settled(number)) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Whether a post is on the disk, or will not be.
    pub fn is_durable(&self, number: u64) -> bool {
        self.shared.durable.load(Ordering::Acquire) >= number
    }

    /// Posts that are not on the disk, because it failed or stood still.
    pub fn unsaved(&self) -> u64 {
        let shared = &self.shared;
        shared.lost.load(Ordering::Relaxed) + shared.unwritten.load(Ordering::Relaxed)
    }

    /// Who is to be woken when a post is durable.
    pub fn wake(&self, waker: Waker) {
        *self.shared.waiting() = Some(waker);
    }

    /// Nothing is posted or settled any more.
    pub fn end(&self) {
        if let Some(queue) = &self.queue {
            // Without it the thread ends a moment later.
            queue.try_send(Message::End).ok();
        }
    }
}

impl Shared {
    fn note_durable(&self, number: u64) {
        self.durable.fetch_max(number, Ordering::Release);
        if let Some(waker) = &*self.waiting() {
            waker.wake();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end, on its thread.
struct Writing {
    file: JournalFile,
    shared: Arc<Shared>,
    is_failing: bool,
    again_at: Instant,
    /// Posts taken in that the disk does not hold yet, by the last of them.
    unwritten: u64,
    ended: bool,
}

impl Writing {
    fn new(file: JournalFile, shared: Arc<Shared>) -> Self {
        Self {
            file,
            shared,
            is_failing: false,
            again_at: Instant::now(),
            unwritten: 0,
            ended: false,
        }
    }

    fn run(&mut self, messages: &Receiver<Message>, shutdown: &Shutdown) {
        // Whatever was settled or set aside: the file begins short and sound.
        self.write(&[], &[]);
        let mut until = None;
        while !self.ended {
            match messages.recv_timeout(SHUTDOWN_POLL) {
                Ok(first) => self.take_in(first, messages),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if self.unwritten > 0 => self.write(&[], &[]),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if shutdown.is_requested() {
                let until = *until.get_or_insert_with(|| Instant::now() + GOODBYE);
                self.ended |= Instant::now() >= until;
            }
        }
    }

    fn take_in(&mut self, first: Message, messages: &Receiver<Message>) {
        let (mut posted, mut settled) = (Vec::new(), Vec::new());
        let batch = messages.try_iter().take(BATCH_MAX);
        for message in [first].into_iter().chain(batch) {
            match message {
                Message::Post(post) => {
                    self.file.keep(post.clone());
                    posted.push(post);
                }
                Message::Settled(number) => {
                    self.file.settle(number);
                    settled.push(number);
                }
                Message::End => self.ended = true,
            }
        }
        self.write(&posted, &settled);
    }

    fn write(&mut self, posted: &[Post], settled: &[u64]) {
        let last = posted.last().map_or(0, |post| post.number);
        self.unwritten += posted.len() as u64;
        let written = if self.is_failing && Instant::now() < self.again_at {
            None
        } else {
            Some(self.file.write(posted, settled))
        };
        match written {
            Some(Ok(())) => {
                if self.is_failing {
                    tracing::warn!("standing alerts are on the disk again");
                }
                self.is_failing = false;
                self.unwritten = 0;
            }
            Some(Err(error)) => {
                if !self.is_failing {
                    tracing::error!("{error:#}; until it works again no alert outlives hark");
                }
                self.is_failing = true;
                self.again_at = Instant::now() + AGAIN_AFTER;
            }
            None => {}
        }
        // Also of what is lost: nobody is to wait for it.
        let unwritten = self.unwritten + self.file.forgotten;
        self.shared.unwritten.store(unwritten, Ordering::Relaxed);
        self.shared.note_durable(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_with_it_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/standing.jsonl");
        let start = || {
            let threads = Threads::new();
            let (journal, carried) = open(&threads, path.clone(), 10).unwrap();
            (threads, journal, carried)
        };
        let (threads, journal, carried) = start();
        assert_eq!(carried.posts, []);
        let numbers = ["a", "b", "c"].map(|topic| journal.post(topic, "{}", true, false));
        journal.settle(numbers[1]);
        journal.end();
        let until = Instant::now() + Duration::from_secs(60);
        assert!(threads.stop(Stage::Publish, until));
        assert!(journal.is_durable(numbers[2]));
        assert_eq!(journal.unsaved(), 0);

        let (_threads, journal, carried) = start();
        let settled = carried.posts.iter().map(|post| post.is_settled);
        assert_eq!(settled.collect::<Vec<_>>(), [false, true, false]);
        assert!(journal.post("d", "{}", true, false) > numbers[2]);
    }

    #[test]
    fn without_a_file_nobody_waits() {
        let journal = Journal::default();
        let number = journal.post("a", "{}", true, false);
        assert!(journal.is_durable(number));
        journal.settle(number);
        journal.end();
    }
}
