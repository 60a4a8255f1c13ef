//! The appliance: every thread is started here, and joined here.
//!
//! Starting opens everything that can be wrong first (bundles, mappings, the
//! board), so that a broken configuration fails before a thread runs.
//! Stopping goes downstream: sources, then the outputs that they feed, then
//! the publisher, so that nothing accepted is left behind.

mod start;

use crate::board::{Board, Supervisor};
use crate::summary::Summary;
use anyhow::Context;
use hark_config::Config;
use hark_hal::Clock;
use hark_keeper::Keeper;
use hark_outlet::line_writer::LineCounts;
use hark_outlet::mqtt::{Broker, Outbox, Publisher};
use hark_outlet::outputs::{OutputSettings, Outputs, Stdout};
use hark_outlet::verdicts::{OnVerdict, VerdictSettings, Verdicts};
use hark_serve::Feed;
use hark_serve::fault::{Injection, Stall};
use hark_serve::hot_path::HotPath;
use hark_serve::report::{self, Event, Reporter};
use hark_serve::shift::{Ended, Served};
use hark_threads::shutdown::{self, ShutdownSender};
use hdrhistogram::Histogram;
use start::{
    Start, device_name, open_log, open_rungs, publisher_settings, publishes_itself, start_publisher,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a stop waits for a source: for a connect that is under way, and for
/// a model that the keeper has not given up yet.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

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
    /// Whether the configured outputs and watchdogs are driven: by the appliance
    /// in its place, and not by a replay of what it heard.
    pub drives_board: bool,
}

/// Makes the feed of a source; what [`hark_links::open`] does unless a benchmark has
/// a feed of its own.
pub type MakeFeed<'a> =
    dyn FnMut(usize, &mut HotPath, Option<&Broker>) -> anyhow::Result<Box<dyn Feed>> + 'a;

/// A running appliance.
pub struct Appliance {
    deadline_us: u64,
    sources: Vec<Served>,
    /// Ended sources' results, by the index of the source.
    results: Vec<Option<Ended>>,
    keeper: Keeper,
    stop_sources: ShutdownSender,
    reporter: Reporter,
    outputs: Outputs,
    verdicts: Option<Verdicts>,
    publisher: Option<(Publisher, Outbox, ShutdownSender)>,
    supervisor: Option<Supervisor>,
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
        presentation: Presentation,
        make_feed: &mut MakeFeed<'_>,
    ) -> anyhow::Result<Self> {
        if config.broker.embedded {
            crate::broker::start(config.broker.listen, config.mqtt.protocol)?;
        }
        let device = device_name(config)?;
        let publishes_verdicts = config.mqtt.verdicts && config.mqtt.enabled;
        let needs_thread = publishes_verdicts
            && !config
                .sources
                .iter()
                .all(|source| publishes_itself(config, source));
        let wants_verdicts = needs_thread || presentation.on_verdict.is_some();
        let (mut reporter, reports, verdicts) = report::channel();
        reporter.waits_for_reader(presentation.waits_for_reader);
        let reporter = if wants_verdicts {
            reporter
        } else {
            reporter.without_verdicts()
        };
        let rungs = open_rungs(config, presentation.fault.as_ref())?;
        let clock = Clock::start();
        let (stop_sources, shutdown) = shutdown::channel();
        let mut start = Start {
            config,
            device: &device,
            rungs: &rungs,
            reporter: &reporter,
            clock,
            shutdown,
            stall: presentation.stall,
            keeper_progress: Arc::default(),
            outputs_progress: Arc::default(),
        };
        let shards = start.make_shards(make_feed)?;
        let root = format!("{}/{device}", config.mqtt.root);
        let requests = start.node_requests(&shards);
        let publisher = publisher_settings(config, &device, requests)?;
        let log = open_log(config);
        let verdicts_mqtt = needs_thread
            .then(|| anyhow::Ok((start.verdict_broker()?, root.clone())))
            .transpose()?;
        let board = presentation.drives_board.then(|| Board::open(config));
        let board = board.transpose()?;
        // What can fail from here on is the system, which gives no thread: then
        // the watchdog is right to bite.
        let publisher = publisher
            .map(|settings| start_publisher(config, settings))
            .transpose()?;
        let mqtt = publisher
            .as_ref()
            .map(|(_, outbox, _)| (outbox.clone(), root));
        let settings = OutputSettings {
            log,
            mqtt,
            stdout: presentation.stdout,
            waits_for_reader: presentation.waits_for_reader,
            progress: Arc::clone(&start.outputs_progress),
        };
        let outputs = Outputs::start(settings, reports).context("starting the output thread")?;
        let settings = VerdictSettings {
            mqtt: verdicts_mqtt,
            on_verdict: presentation.on_verdict,
        };
        let verdicts = wants_verdicts.then(|| Verdicts::start(settings, verdicts));
        let verdicts = verdicts
            .transpose()
            .context("starting the verdict thread")?;
        reporter.report(Event::Started {
            version: env!("CARGO_PKG_VERSION"),
            device: device.clone(),
        });
        let (sources, keeper) = start.serve(shards)?;
        let supervisor = board.map(|board| start.supervise(board, &sources));
        let supervisor = supervisor.transpose().context("starting the supervisor")?;
        Ok(Self {
            deadline_us: (config.device.deadline_ms * 1e3) as u64,
            results: sources.iter().map(|_| None).collect(),
            sources,
            keeper,
            stop_sources,
            reporter,
            outputs,
            verdicts,
            publisher,
            supervisor,
        })
    }

    /// For events that do not come from a source.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Whether there is nothing to wait for: every source has ended, as files do,
    /// or a thread has panicked, which only a new start mends.
    pub fn has_ended(&mut self) -> bool {
        self.take_results(Duration::ZERO);
        self.results.iter().all(Option::is_some) || self.panicked().next().is_some()
    }

    /// The threads that have ended though nobody stopped them.
    fn panicked(&self) -> impl Iterator<Item = String> {
        let served = self.sources.iter().zip(&self.results);
        let sources = served
            .filter(|(_, result)| matches!(result, Some(Ended::Panicked)))
            .map(|(served, _)| format!("source {}", served.name));
        let publisher = self.publisher.as_ref();
        let others = [
            ("the output thread", self.outputs.has_ended()),
            (
                "the verdict thread",
                self.verdicts.as_ref().is_some_and(Verdicts::has_ended),
            ),
            (
                "the publisher",
                publisher.is_some_and(|(publisher, ..)| publisher.has_ended()),
            ),
        ];
        let others = others.into_iter().filter(|(_, has_ended)| *has_ended);
        sources.chain(others.map(|(name, _)| name.to_owned()))
    }

    /// Takes in the results of sources that end within `wait`.
    fn take_results(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
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

    /// As [`Appliance::stop`], with the latencies of all verdicts, nanoseconds.
    pub fn stop_with_latency(mut self) -> (Summary, Histogram<u64>) {
        let board = self.supervisor.take().and_then(Supervisor::stop);
        self.stop_sources.request();
        self.take_results(STOP_TIMEOUT);
        let threads_panicked: Vec<String> = self.panicked().collect();
        let abandoned = self
            .sources
            .iter()
            .map(|served| served.post.abandoned())
            .sum();
        let mut sources_stuck = 0;
        for (served, result) in self.sources.iter().zip(&self.results) {
            if result.is_none() {
                tracing::error!("{} does not end; its readings are not counted", served.name);
                sources_stuck += 1;
            }
        }
        // Without the keeper nobody hands a shard over: who stands by goes.
        drop(self.keeper);
        drop(self.sources);
        self.reporter.report(Event::Stopped);
        drop(self.reporter);
        // The publisher says goodbye while the others write their last lines.
        let last_lines = self.outputs.stop();
        if let Some((.., stop)) = &self.publisher {
            stop.request();
        }
        let mut outputs = last_lines.finish();
        outputs.verdicts_dropped = self.verdicts.map_or(0, Verdicts::stop);
        if let Some((publisher, outbox, _)) = self.publisher {
            publisher.join();
            outputs.mqtt = outbox.counts();
        }
        let LineCounts { written, lost } = crate::logging::counts();
        (outputs.stderr_written, outputs.stderr_lost) = (written, lost);
        // A stop that leaves a source behind, or follows a panic, is no orderly one:
        // the watchdog goes on, and waits for the next hark or resets the board.
        if let Some(board) = board
            && sources_stuck == 0
            && threads_panicked.is_empty()
        {
            board.release();
        }
        let results = self.results.into_iter().flatten();
        let results = results.filter_map(|ended| match ended {
            Ended::Served(result) => Some(*result),
            Ended::Panicked => None,
        });
        let (summary, latency_ns) = Summary::of(self.deadline_us, results.collect());
        let summary = Summary {
            outputs,
            threads_abandoned: abandoned,
            sources_stuck,
            threads_panicked,
            ..summary
        };
        (summary, latency_ns)
    }
}
