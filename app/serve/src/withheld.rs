//! Models that are withheld: what cost a reset is not run again until its file
//! changes or the operator says so.
//!
//! A model that hangs at every try takes one thread after the other, until nobody
//! could take over from it: then the watchdog is not fed, and the board is reset, or
//! hark is killed, for ever. So at that moment, while there is time, it is written
//! down. An end in order takes that back, and so does a thread that comes back; what
//! still stands at the next start cost a reset. A load that ends the process is
//! written down before it begins: after [`UNFINISHED_MAX`] of which nobody saw the
//! end the model is withheld, too. Nothing is written for a run.
//!
//! ```text
//! <data_dir>/withheld/<sha256>.json       the model is not run; remove it and it is
//! <data_dir>/withheld/<sha256>.loading    loads without an end, until now
//! ```
//!
//! A bundle's digest covers each of its files, so one that changed has no record. One
//! thread writes and reads, so that a disk that hangs costs the record and not the
//! verdicts, and there are no records without the thread (the default).

use anyhow::Context;
use hark_hal::{replace_file, sync_folder_of};
use hark_threads::{Shutdown, Stage, Threads};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Loads in a row of which nobody saw the end that withhold a model. More than one,
/// for a cut of the power may come in the middle of any.
const UNFINISHED_MAX: u32 = 3;
/// How long a load waits for the disk; one that hangs costs the record.
const PATIENCE: Duration = Duration::from_secs(2);
/// On their way to the thread: a load of each rung of some sources.
const QUEUE_MAX: usize = 64;
/// Records that are kept; the oldest gives way. Operators have some models, each in
/// some versions.
const RECORDS_MAX: usize = 64;
/// What is read of a record: twice the longest paths there are.
const RECORD_BYTES_MAX: u64 = 16 * 1024;
/// The step in which the thread looks for the shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// A model, as far as it may be withheld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name in `[[models]]`.
    pub model: String,
    /// The rung that it was.
    pub rung: String,
    /// Where its bundle is.
    pub bundle: String,
    /// The digest of the bundle, which tells whether it is still the same.
    pub sha256: String,
}

/// Why a model is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It hung until nobody could take over.
    Hang,
    /// Its loads ended hark.
    Load,
}

/// A model that is withheld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// Why.
    pub cause: Cause,
    /// Since when, RFC 3339.
    pub time: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { model, bundle, .. } = &self.subject;
        let what = match self.cause {
            Cause::Hang => "hung until no thread could take over, and cost a reset",
            Cause::Load => "ended hark while it was loaded",
        };
        let time = &self.time;
        write!(
            f,
            "{bundle} {what} ({time}): it is not run until its file changes or `hark model retry \
             {model}` is called"
        )
    }
}

/// The records of one appliance. Copies are handles on the same.
#[derive(Clone, Default)]
pub struct Withheld {
    queue: Option<SyncSender<Message>>,
    /// A load has waited in vain: until the disk answers no other waits for it.
    /// A hint and no more: `Relaxed`.
    stands_still: Arc<AtomicBool>,
}

enum Message {
    /// It is about to be loaded; the record, if it is withheld.
    Load(Subject, SyncSender<Option<Record>>),
    /// Its load has ended, one way or the other.
    Loaded(String),
    /// A source has lost its last thread to these.
    Suspect(Arc<str>, Vec<Subject>),
    /// A thread of the source came back.
    Absolve(Arc<str>),
    /// The appliance ends, or is left behind with what hangs.
    End { in_order: bool },
}

impl Withheld {
    /// Starts the thread of the records below `data_dir`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn open(threads: &Threads, data_dir: &Path) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_MAX);
        let mut records = Records::new(data_dir);
        let withheld = Self {
            queue: Some(queue),
            stands_still: Arc::clone(&records.stands_still),
        };
        threads.spawn("withheld models", Stage::Publish, move |shutdown| {
            records.run(&messages, shutdown);
        })?;
        Ok(withheld)
    }

    /// Whether `subject` may be loaded now; notes that it is. Waits for the disk, but
    /// not for long.
    ///
    /// # Errors
    /// The record, if it is withheld.
    pub(crate) fn begin_load(&self, subject: &Subject) -> Result<(), Box<Record>> {
        let (answer, answered) = sync_channel(1);
        let is_sent = self.send(Message::Load(subject.clone(), answer));
        if !is_sent || self.stands_still.load(Ordering::Relaxed) {
            return Ok(());
        }
        match answered.recv_timeout(PATIENCE) {
            Ok(Some(record)) => Err(Box::new(record)),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                let bundle = &subject.bundle;
                tracing::warn!("{bundle}: the disk does not say whether it is withheld; loaded");
                self.stands_still.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// The load of the model with this digest has ended, one way or the other.
    pub(crate) fn end_load(&self, sha256: &str) {
        self.send(Message::Loaded(sha256.to_owned()));
    }

    /// `source` has lost its last thread to `subjects`: if that does not end well,
    /// they cost a reset. Never waits.
    pub(crate) fn suspect(&self, source: &Arc<str>, subjects: Vec<Subject>) {
        self.send(Message::Suspect(Arc::clone(source), subjects));
    }

    /// A thread of `source` came back.
    pub(crate) fn absolve(&self, source: &Arc<str>) {
        self.send(Message::Absolve(Arc::clone(source)));
    }

    /// The appliance ends: `in_order`, or with something that hangs.
    pub fn end(&self, in_order: bool) {
        self.send(Message::End { in_order });
    }

    /// Whether somebody will see to it.
    fn send(&self, message: Message) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        match queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("withheld models: the disk does not answer; not recorded");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The models that are withheld below `data_dir`.
///
/// # Errors
/// If they cannot be read.
pub fn withheld_in(data_dir: &Path) -> anyhow::Result<Vec<Record>> {
    let folder = folder_of(data_dir);
    let reading = || format!("reading {}", folder.display());
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(reading)?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry.with_context(reading)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            records.extend(read_record(&path));
        }
    }
    Ok(records)
}

/// The operator says so: the model of `record` is run again. A hark that runs takes
/// notice when its ladder asks for the model next.
///
/// # Errors
/// If the record cannot be removed.
pub fn release(data_dir: &Path, record: &Record) -> anyhow::Result<()> {
    let path = folder_of(data_dir).join(format!("{}.json", record.subject.sha256));
    remove(&path).with_context(|| format!("removing {}", path.display()))
}

fn folder_of(data_dir: &Path) -> PathBuf {
    data_dir.join("withheld")
}

/// The record at `path`; none if there is none, or it is not a record.
fn read_record(path: &Path) -> Option<Record> {
    let mut json = Vec::new();
    let file = File::open(path).ok()?;
    file.take(RECORD_BYTES_MAX).read_to_end(&mut json).ok()?;
    let record: Record = serde_json::from_slice(&json).ok()?;
    let name = path.file_stem().and_then(|name| name.to_str());
    (name == Some(&record.subject.sha256)).then_some(record)
}

/// Removes a file if it is there, for good.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_folder_of(path)),
    }
}

/// The thread's own part.
struct Records {
    folder: PathBuf,
    /// Digests whose load has an end in this process: it will have one again.
    loaded: BTreeSet<String>,
    /// Digests that are being loaded.
    loading: BTreeSet<String>,
    /// Digests that were written down by this process, and the sources that lack a
    /// thread for them.
    suspects: BTreeMap<String, BTreeSet<Arc<str>>>,
    has_failed: bool,
    stands_still: Arc<AtomicBool>,
}

impl Records {
    fn new(data_dir: &Path) -> Self {
        Self {
            folder: folder_of(data_dir),
            loaded: BTreeSet::new(),
            loading: BTreeSet::new(),
            suspects: BTreeMap::new(),
            has_failed: false,
            stands_still: Arc::default(),
        }
    }

    fn run(&mut self, messages: &Receiver<Message>, shutdown: &Shutdown) {
        loop {
            match messages.recv_timeout(SHUTDOWN_POLL) {
                Ok(Message::Load(subject, answer)) => {
                    // Whoever asked may have lost patience.
                    answer.try_send(self.begin_load(&subject)).ok();
                    self.stands_still.store(false, Ordering::Relaxed);
                }
                Ok(Message::Loaded(sha256)) => self.end_load(&sha256),
                Ok(Message::Suspect(source, subjects)) => self.suspect(&source, &subjects),
                Ok(Message::Absolve(source)) => self.absolve(&source),
                Ok(Message::End { in_order: false }) | Err(RecvTimeoutError::Disconnected) => {
                    return;
                }
                Ok(Message::End { in_order: true }) => return self.end(),
                // A start that was refused ends in order, too.
                Err(RecvTimeoutError::Timeout) if shutdown.is_requested() => return self.end(),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn begin_load(&mut self, subject: &Subject) -> Option<Record> {
        let sha256 = &subject.sha256;
        if let Some(record) = read_record(&self.path(sha256, "json")) {
            return Some(record);
        }
        if self.loaded.contains(sha256) || !self.loading.insert(sha256.clone()) {
            return None;
        }
        let path = self.path(sha256, "loading");
        let unfinished = fs::read_to_string(&path).ok();
        let unfinished = unfinished.and_then(|count| count.trim().parse().ok());
        let unfinished: u32 = unfinished.unwrap_or(0);
        if unfinished < UNFINISHED_MAX {
            let begun = self.write(&path, (unfinished + 1).to_string().as_bytes());
            self.note(begun);
            return None;
        }
        self.loading.remove(sha256);
        let record = self.withhold(subject, Cause::Load);
        self.note(remove(&path).context("ending a row of loads"));
        Some(record)
    }

    fn end_load(&mut self, sha256: &str) {
        self.loaded.insert(sha256.to_owned());
        if self.loading.remove(sha256) {
            self.note(remove(&self.path(sha256, "loading")).context("noting a load's end"));
        }
    }

    fn suspect(&mut self, source: &Arc<str>, subjects: &[Subject]) {
        for subject in subjects {
            let sources = self.suspects.entry(subject.sha256.clone()).or_default();
            let is_first = sources.is_empty();
            sources.insert(Arc::clone(source));
            if is_first {
                self.withhold(subject, Cause::Hang);
            }
        }
    }

    fn absolve(&mut self, source: &Arc<str>) {
        let mut absolved = Vec::new();
        self.suspects.retain(|sha256, sources| {
            sources.remove(source);
            if sources.is_empty() {
                absolved.push(sha256.clone());
            }
            !sources.is_empty()
        });
        for sha256 in absolved {
            self.note(remove(&self.path(&sha256, "json")).context("taking a record back"));
        }
    }

    /// Nothing of it cost a reset.
    fn end(&mut self) {
        let suspects = std::mem::take(&mut self.suspects);
        let loading = std::mem::take(&mut self.loading);
        let suspects = suspects.keys().map(|sha256| self.path(sha256, "json"));
        let loading = loading.iter().map(|sha256| self.path(sha256, "loading"));
        for path in suspects.chain(loading).collect::<Vec<_>>() {
            self.note(remove(&path).context("taking a record back"));
        }
    }

    fn withhold(&mut self, subject: &Subject, cause: Cause) -> Record {
        let record = Record {
            subject: subject.clone(),
            cause,
            time: jiff::Timestamp::now().to_string(),
        };
        let json = serde_json::to_vec(&record).expect("records hold texts");
        self.forget_beyond_the_bound();
        let written = self.write(&self.path(&subject.sha256, "json"), &json);
        self.note(written);
        record
    }

    fn forget_beyond_the_bound(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let modified = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort_by_key(modified);
        let excess = (paths.len() + 1).saturating_sub(RECORDS_MAX);
        for path in &paths[..excess] {
            // One that cannot be removed stays.
            fs::remove_file(path).ok();
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let writing = || format!("writing {}", path.display());
        if !self.folder.is_dir() {
            fs::create_dir_all(&self.folder).with_context(writing)?;
            sync_folder_of(&self.folder).with_context(writing)?;
        }
        replace_file(path, content).with_context(writing)
    }

    fn path(&self, sha256: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.{extension}"))
    }

    /// What fails goes on failing, mostly: it is told once, until it works again.
    fn note(&mut self, result: anyhow::Result<()>) {
        if let Err(error) = &result
            && !self.has_failed
        {
            tracing::error!("{error:#}: a model that costs a reset may be run again after it");
        }
        self.has_failed = result.is_err();
    }
}

#[cfg(test)]
mod tests;
