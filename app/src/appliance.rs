//! The appliance: every thread is started here, and joined here.
//!
//! Starting opens everything that can be wrong first (bundles, mappings, the
//! board), so that a broken configuration fails before a thread runs.
//! Stopping goes downstream: sources, then the outputs that they feed, then
//! the publisher, so that nothing accepted is left behind.

mod standing;
mod start;

use crate::board::Board;
use crate::broker::EmbeddedBroker;
use crate::summary::Summary;
use anyhow::Context;
use hark_config::Config;
use hark_hal::Clock;
use hark_outlet::data_dir::DataDir;
use hark_outlet::line_writer::LineCounts;
use hark_outlet::mqtt::{Broker, Outbox, PublisherSettings};
use hark_outlet::outputs::{OutputCounts, OutputSettings, Outputs, Stdout};
use hark_outlet::standing::Journal;
use hark_outlet::verdicts::{self, OnVerdict, VerdictSettings, Verdicts};
use hark_serve::Feed;
use hark_serve::fault::{Injection, Stall};
use hark_serve::hot_path::{Handover, HotPath};
use hark_serve::report::{self, Event, Reporter, Reports, SensorVerdict};
use hark_serve::shift::{Ended, Served, Shard};
use hark_serve::withheld::Withheld;
use hark_threads::{Outcome, Shutdown, Stage, Threads};
use hdrhistogram::Histogram;
use start::{
    Start, device_name, hold_data_dir, open_logs, open_rungs, publisher_settings, publishes_itself,
};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Until when the stages of a stop are waited for, from its beginning: two seconds
/// for all, whatever is stuck. A stage that ends early leaves its time to the rest.
const WATCH_BY: Duration = Duration::from_millis(200);
/// Most of it is for the sources: for a read that is under way, and for a model
/// that the keeper has not given up yet.
const SERVE_BY: Duration = Duration::from_millis(700);
/// The rest is for what is told last: the summary and the lines of the log.
const STOP_BY: Duration = Duration::from_millis(1_400);
/// The embedded broker only has its last bytes to send.
const BROKER_BY: Duration = Duration::from_millis(1_500);

/// How long threads may take to end after a reader that was waited for.
const LAST_THREADS: Duration = Duration::from_millis(700);

/// How an appliance shows itself.
#[derive(Default)]
pub struct Presentation {
    /// What goes to standard output.
    pub stdout: Stdout,
    /// Called with each verdict on the verdict thread.
    pub on_verdict: Option<OnVerdict>,
    /// Whether whoever reads standard output is waited for, as only a replay may;
    /// else what finds no room is dropped and counted.
    pub waits_for_reader: bool,
    /// What is done to the active models, for demonstrations.
    pub fault: Option<Injection>,
    /// What is done to a serving thread, for tests.
    pub stall: Option<Stall>,
    /// Whether the logs of an earlier run give way to its own.
    pub replaces_logs: bool,
    /// Whether the configured outputs and watchdogs are driven: by the appliance
    /// in its place, and not by a replay of what it heard.
    pub drives_board: bool,
    /// What the appliance left whose place this one takes.
    pub before: Option<Before>,
    /// A start that is told by it to stop does not wait for its models; the
    /// caller stops it then.
    pub stop: Option<Shutdown>,
}

/// What an appliance leaves to the one that takes its place.
#[derive(Clone)]
pub struct Before {
    /// The embedded broker, if it serves on.
    pub broker: Option<EmbeddedBroker>,
    /// What its sources know is told by this clock.
    clock: Clock,
    /// Of each source that ended in order. Taken by the first start that comes to
    /// where only the system can fail it: one that is refused before leaves them.
    handovers: Arc<Mutex<Vec<Handover>>>,
}

/// Makes the feed of a source; what [`hark_links::open`] does unless a benchmark has
/// a feed of its own.
pub type MakeFeed<'a> =
    dyn FnMut(usize, &mut HotPath, Option<&Broker>) -> anyhow::Result<Box<dyn Feed>> + 'a;

/// A running appliance.
pub struct Appliance {
    deadline_us: u64,
    threads: Threads,
    sources: Vec<Served>,
    /// Ended sources' results, by the index of the source.
    results: Vec<Option<Ended>>,
    reporter: Reporter,
    outputs: Outputs,
    verdicts: Option<Verdicts>,
    /// What the publisher publishes.
    outbox: Option<Outbox>,
    /// Where alerts are kept for the next start.
    journal: Journal,
    /// What the supervisor returns.
    board: Option<Outcome<Board>>,
    clock: Clock,
    withheld: Withheld,
    /// Until all of it has stopped.
    _data_dir: Option<DataDir>,
    /// The broker inside hark.
    broker: Option<EmbeddedBroker>,
}

/// What is opened before the first thread starts, for it may be wrong.
struct Opened {
    shards: Vec<Box<Shard>>,
    publisher: Option<PublisherSettings>,
    verdicts: Option<VerdictSettings>,
    /// `<root>/<device>`, which every topic begins with.
    root: String,
    board: Option<Board>,
}

impl Appliance {
    /// Starts everything that `config` names.
    ///
    /// # Errors
    /// What cannot be opened, and where it is configured.
    pub fn start(config: &Config, presentation: Presentation) -> anyhow::Result<Self> {
        let sources = &config.sources;
        Self::start_with(config, presentation, &mut |index, hot_path, broker| {
            hark_links::open(&sources[index], config, hot_path, broker)
        })
    }

    /// As [`Appliance::start`], with feeds that `make_feed` makes.
    ///
    /// # Errors
    /// As [`Appliance::start`].
    pub fn start_with(
        config: &Config,
        mut presentation: Presentation,
        make_feed: &mut MakeFeed<'_>,
    ) -> anyhow::Result<Self> {
        let data_dir = hold_data_dir(config, presentation.replaces_logs)?;
        let before = presentation.before.as_mut();
        let mut broker = before.and_then(|before| before.broker.take());
        if broker.is_none() {
            broker = EmbeddedBroker::start(&config.broker)?;
        }
        let threads = Threads::new();
        let started = Self::start_on(&threads, config, presentation, make_feed, data_dir, broker);
        if started.is_err() {
            // Those that were started hold on to one another.
            threads.stop(Stage::Publish, Instant::now() + STOP_BY);
        }
        started
    }

    fn start_on(
        threads: &Threads,
        config: &Config,
        presentation: Presentation,
        make_feed: &mut MakeFeed<'_>,
        data_dir: Option<DataDir>,
        broker: Option<EmbeddedBroker>,
    ) -> anyhow::Result<Self> {
        let device = device_name(config)?;
        // A replay resets no board, and a demonstration is to hang each time.
        let withheld = if presentation.drives_board {
            Withheld::open(threads, &config.device.data_dir)
                .context("starting the thread of withheld models")?
        } else {
            Withheld::default()
        };
        let rungs = open_rungs(config, presentation.fault.as_ref(), &withheld)?;
        let before = presentation.before.clone();
        let clock = before.as_ref().map(|before| before.clock);
        let clock = clock.unwrap_or_else(Clock::start);
        let stop = presentation.stop.clone();
        let stop = stop.unwrap_or_else(|| threads.shutdown(Stage::Serve).clone());
        let channels = report::channel();
        let (reporter, reports, verdicts) = reporter_for(config, &presentation, channels);
        let start = Start {
            config,
            device: &device,
            rungs: &rungs,
            reporter: &reporter,
            clock,
            threads,
            stop: &stop,
            stall: presentation.stall.clone(),
            keeper_progress: Arc::default(),
            outputs_progress: Arc::default(),
        };
        let (mut opened, shown) = open(&start, presentation, make_feed)?;
        let (journal, carried) = start
            .open_journal()
            .context("starting the thread of standing alerts")?;
        if let Some(before) = before {
            start.hand_over(&before.handovers, &mut opened.shards);
        }
        let over = start.reconcile(&carried, &opened.root, &mut opened.shards);
        // What can fail from here on is the system, which gives no thread: then
        // the watchdog is right to bite.
        let publisher = opened.publisher;
        let publish = |settings| start.publish(settings, journal.clone(), &carried);
        let outbox = publisher.map(publish).transpose()?;
        let way_out = standing::WayOut {
            root: opened.root,
            outbox: outbox.clone(),
            journal: journal.clone(),
        };
        way_out.tell_states(&opened.shards);
        way_out.tell_over(over, &reporter);
        let outputs = start_outputs(&start, shown, way_out, reports)?;
        let verdicts = opened
            .verdicts
            .map(|to| verdicts::hand_out(threads, to, verdicts));
        let verdicts = verdicts.transpose();
        let verdicts = verdicts.context("starting the verdict thread")?;
        reporter.report(Event::Started {
            version: env!("CARGO_PKG_VERSION"),
            device: device.clone(),
        });
        let sources = start.serve(opened.shards)?;
        let board = opened.board.map(|board| start.supervise(board, &sources));
        let board = board.transpose().context("starting the supervisor")?;
        Ok(Self {
            deadline_us: (config.device.deadline_ms * 1e3) as u64,
            results: sources.iter().map(|_| None).collect(),
            threads: threads.clone(),
            sources,
            reporter,
            outputs,
            verdicts,
            outbox,
            journal,
            board,
            clock,
            withheld,
            _data_dir: data_dir,
            broker,
        })
    }

    /// For events that do not come from a source.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Whether there is nothing to wait for: every source has ended, as files do,
    /// or a thread has panicked, which only a new start mends.
    pub fn has_ended(&mut self) -> bool {
        self.take_results(Instant::now());
        self.results.iter().all(Option::is_some) || self.panicked().next().is_some()
    }

    /// The threads that have ended though nobody stopped them.
    fn panicked(&self) -> impl Iterator<Item = String> {
        let served = self.sources.iter().zip(&self.results);
        let sources = served
            .filter(|(_, result)| matches!(result, Some(Ended::Panicked)))
            .map(|(served, _)| format!("source {}", served.name));
        let broker = self.broker.iter().flat_map(EmbeddedBroker::panicked);
        sources.chain(self.threads.panicked()).chain(broker)
    }

    /// Takes in the results of sources that end until `until`.
    fn take_results(&mut self, until: Instant) {
        for (served, result) in self.sources.iter().zip(&mut self.results) {
            if result.is_some() {
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            match served.result.recv_timeout(left) {
                Ok(ended) => *result = Some(ended),
                Err(_) => continue,
            }
            if let Some(Ended::Panicked) = result {
                tracing::error!("{} panicked; its readings are not counted", served.name);
            }
        }
    }

    /// Stops everything, downstream, and sums up.
    pub fn stop(self) -> Summary {
        self.stop_with_latency().0
    }

    /// As [`Appliance::stop`], but for what whoever takes this one's place goes on
    /// with: the embedded broker, and what the sources know.
    pub fn stop_for_next(mut self) -> (Summary, Before) {
        let (broker, clock) = (self.broker.take(), self.clock);
        let counts = broker.as_ref().map(EmbeddedBroker::counts);
        let (summary, _, handovers) = self.stop_all();
        let summary = Summary {
            broker: counts,
            ..summary
        };
        let before = Before {
            broker,
            clock,
            handovers: Arc::new(Mutex::new(handovers)),
        };
        (summary, before)
    }

    /// As [`Appliance::stop`], with the latencies of all verdicts, nanoseconds.
    pub fn stop_with_latency(self) -> (Summary, Histogram<u64>) {
        let (summary, latency_ns, _) = self.stop_all();
        (summary, latency_ns)
    }

    fn stop_all(mut self) -> (Summary, Histogram<u64>, Vec<Handover>) {
        let begun = Instant::now();
        self.threads.stop(Stage::Watch, begun + WATCH_BY);
        self.threads.request(Stage::Serve);
        self.take_results(begun + SERVE_BY);
        let abandoned = self.sources.iter().map(|served| served.threads.abandoned());
        let threads_abandoned = abandoned.sum();
        let sources_stuck = self.count_stuck();
        let is_in_order = sources_stuck == 0 && self.panicked().next().is_none();
        self.withheld.end(is_in_order);
        // Who stands by goes with the keeper.
        self.threads.request(Stage::Keep);
        self.reporter.report(Event::Stopped);
        let outputs = self.stop_outputs(begun + STOP_BY);
        // Last of all: the others publish through it until their end.
        if let Some(broker) = &self.broker {
            broker.stop(begun + BROKER_BY);
        }
        // After all of them: one may panic at its last lines.
        let threads_panicked: Vec<String> = self.panicked().collect();
        let broker_left = self.broker.iter().flat_map(EmbeddedBroker::running);
        let threads_left: Vec<String> = self
            .threads
            .running()
            .into_iter()
            .chain(broker_left)
            .collect();
        if !threads_left.is_empty() {
            tracing::warn!("left behind: {}", threads_left.join(", "));
        }
        // A stop that leaves a source behind, or follows a panic, is no orderly one:
        // the watchdog goes on, and waits for the next hark or resets the board.
        if let Some(board) = self.board.as_ref().and_then(Outcome::take)
            && sources_stuck == 0
            && threads_panicked.is_empty()
        {
            board.release();
        }
        let ended = self.results.into_iter().flatten();
        let served = ended.filter_map(|ended| match ended {
            Ended::Served(served) => Some(*served),
            Ended::Panicked => None,
        });
        let (results, handovers) = served.unzip();
        let (summary, latency_ns) = Summary::of(self.deadline_us, results);
        let summary = Summary {
            outputs,
            threads_abandoned,
            sources_stuck,
            threads_panicked,
            threads_left,
            broker: self.broker.as_ref().map(EmbeddedBroker::counts),
            ..summary
        };
        (summary, latency_ns, handovers)
    }

    /// Has everything written and published that was reported, until `until`.
    fn stop_outputs(&mut self, until: Instant) -> OutputCounts {
        let waits_for_reader = self.outputs.waits_for_reader();
        let last_lines = self.outputs.stop();
        if self.outbox.is_none() {
            self.journal.end();
        }
        // The publisher says goodbye while the others write their last lines.
        self.threads.request(Stage::Publish);
        let mut counts = last_lines.finish();
        // Whoever reads a replay's verdicts is waited for, too.
        let until = (!waits_for_reader).then_some(until);
        if let Some(verdicts) = self.verdicts.take() {
            counts.verdicts_dropped = verdicts.finish(until);
        }
        let until = until.unwrap_or_else(|| Instant::now() + LAST_THREADS);
        self.threads.stop(Stage::Publish, until);
        let outbox = self.outbox.as_ref().map(Outbox::counts);
        counts.mqtt = outbox.unwrap_or_default();
        counts.alerts_unsaved = self.journal.unsaved();
        let LineCounts { written, lost } = crate::logging::counts();
        (counts.stderr_written, counts.stderr_lost) = (written, lost);
        counts
    }

    /// The sources that have not ended, which are told of.
    fn count_stuck(&self) -> usize {
        let served = self.sources.iter().zip(&self.results);
        let stuck = served.filter(|(_, result)| result.is_none());
        stuck
            .inspect(|(served, _)| {
                tracing::error!("{} does not end; its readings are not counted", served.name);
            })
            .count()
    }
}

/// How the appliance is shown by its outputs.
struct Shown {
    stdout: Stdout,
    waits_for_reader: bool,
}

/// The channels of reports, as far as somebody wants what goes through them.
fn reporter_for(
    config: &Config,
    presentation: &Presentation,
    (mut reporter, reports, verdicts): (Reporter, Reports, Receiver<SensorVerdict>),
) -> (Reporter, Reports, Receiver<SensorVerdict>) {
    reporter.waits_for_reader(presentation.waits_for_reader);
    if !needs_verdict_thread(config) && presentation.on_verdict.is_none() {
        reporter = reporter.without_verdicts();
    }
    (reporter, reports, verdicts)
}

/// Whether verdicts are published for a source that does not do so itself.
fn needs_verdict_thread(config: &Config) -> bool {
    let mut sources = config.sources.iter();
    config.mqtt.verdicts
        && config.mqtt.enabled
        && !sources.all(|source| publishes_itself(config, source))
}

/// Opens everything that can be wrong, the board last: its watchdog runs from
/// there on.
fn open(
    start: &Start<'_>,
    presentation: Presentation,
    make_feed: &mut MakeFeed<'_>,
) -> anyhow::Result<(Opened, Shown)> {
    let config = start.config;
    let shards = start.make_shards(make_feed)?;
    let requests = start.node_requests(&shards);
    let publisher = publisher_settings(config, start.device, requests)?;
    let root = format!("{}/{}", config.mqtt.root, start.device);
    let mqtt = needs_verdict_thread(config)
        .then(|| anyhow::Ok((start.verdict_broker()?, root.clone())))
        .transpose()?;
    let on_verdict = presentation.on_verdict;
    let is_wanted = mqtt.is_some() || on_verdict.is_some();
    let verdicts = is_wanted.then_some(VerdictSettings { mqtt, on_verdict });
    let board = presentation.drives_board.then(|| Board::open(config));
    let opened = Opened {
        shards,
        publisher,
        verdicts,
        root,
        board: board.transpose()?,
    };
    let shown = Shown {
        stdout: presentation.stdout,
        waits_for_reader: presentation.waits_for_reader,
    };
    Ok((opened, shown))
}

fn start_outputs(
    start: &Start<'_>,
    shown: Shown,
    way_out: standing::WayOut,
    reports: Reports,
) -> anyhow::Result<Outputs> {
    let [log, alert_log] = open_logs(start.config);
    let settings = OutputSettings {
        log,
        alert_log,
        mqtt: way_out.outbox,
        root: way_out.root,
        journal: way_out.journal,
        stdout: shown.stdout,
        waits_for_reader: shown.waits_for_reader,
        progress: Arc::clone(&start.outputs_progress),
    };
    Outputs::start(start.threads, settings, reports).context("starting the output thread")
}
