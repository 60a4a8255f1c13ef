//! The appliance: every thread is started here, and joined here.
//!
//! Starting opens everything that can be wrong first (bundles, mappings, the
//! event log), so that a broken configuration fails before a thread runs.
//! Stopping goes downstream: sources, then the outputs that they feed, then
//! the publisher, so that nothing accepted is left behind.

use crate::board::{Board, Supervisor, Watched};
use crate::bundle::Rungs;
use crate::config::{Config, Link, SourceConfig, check_level};
use crate::event_log::EventLog;
use crate::fault::{Injection, Stall};
use crate::hot_path::HotPath;
use crate::mqtt::{Broker, Outbox, Publisher, PublisherSettings};
use crate::node_commands::NodeCommands;
use crate::progress::Progress;
use crate::report::{
    self, Event, OnVerdict, OutputSettings, Outputs, Reporter, Stdout, VerdictSettings, Verdicts,
};
use crate::shift::{self, Ended, Loader, Served, Shard};
use crate::shutdown::{self, Shutdown, ShutdownSender};
use crate::source::{Feed, NodeRequest};
use crate::summary::Summary;
use anyhow::Context;
use hark_hal::{Clock, Realtime};
use hark_keeper::Keeper;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
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
    /// Whether a verdict that nobody has room for is waited with, as only a
    /// replay may; else it is dropped and counted.
    pub waits_for_verdicts: bool,
    /// What is done to the active models, for demonstrations.
    pub fault: Option<Injection>,
    /// What is done to a serving thread, for tests.
    pub stall: Option<Stall>,
    /// Whether the configured outputs and watchdogs are driven: by the appliance
    /// in its place, and not by a replay of what it heard.
    pub drives_board: bool,
}

/// Makes the feed of a source; what [`Feed::new`] does unless a benchmark has
/// a feed of its own.
pub type MakeFeed<'a> =
    dyn FnMut(usize, &mut HotPath, Option<&Broker>) -> anyhow::Result<Feed> + 'a;

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
            Feed::new(&sources[index], config, hot_path, broker)
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
        reporter.waits_for_verdicts(presentation.waits_for_verdicts);
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
        let publisher = start_publisher(config, &device, requests)?;
        let mqtt = publisher
            .as_ref()
            .map(|(_, outbox, _)| (outbox.clone(), root.clone()));
        let log = open_log(config)?;
        let settings = OutputSettings {
            log,
            mqtt,
            stdout: presentation.stdout,
            progress: Arc::clone(&start.outputs_progress),
        };
        let outputs = Outputs::start(settings, reports).context("starting the output thread")?;
        let settings = VerdictSettings {
            mqtt: needs_thread
                .then(|| anyhow::Ok((start.verdict_broker()?, root)))
                .transpose()?,
            on_verdict: presentation.on_verdict,
        };
        let verdicts = wants_verdicts.then(|| Verdicts::start(settings, verdicts));
        let verdicts = verdicts
            .transpose()
            .context("starting the verdict thread")?;
        // What can fail from here on is the system, which gives no thread: then
        // the watchdog is right to bite.
        let board = presentation.drives_board.then(|| Board::open(config));
        let board = board.transpose()?;
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

    /// Whether every source has ended, as files do.
    pub fn has_ended(&mut self) -> bool {
        self.take_results(Duration::ZERO);
        self.results.iter().all(Option::is_some)
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
        let mut outputs = self.outputs.join();
        outputs.verdicts_dropped = self.verdicts.map_or(0, Verdicts::stop);
        if let Some((publisher, outbox, stop)) = self.publisher {
            stop.request();
            publisher.join();
            outputs.mqtt = outbox.counts();
        }
        // A stop that leaves a source behind is no orderly one: the watchdog goes
        // on, and waits for the next hark or resets the board.
        if let Some(board) = board
            && sources_stuck == 0
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
            ..summary
        };
        (summary, latency_ns)
    }
}

/// What starting the sources takes.
struct Start<'a> {
    config: &'a Config,
    device: &'a str,
    rungs: &'a BTreeMap<&'a str, Arc<Rungs>>,
    reporter: &'a Reporter,
    clock: Clock,
    shutdown: Shutdown,
    stall: Option<Stall>,
    keeper_progress: Arc<Progress>,
    outputs_progress: Arc<Progress>,
}

impl Start<'_> {
    /// Makes every source with its own instances of its models.
    fn make_shards(&mut self, make_feed: &mut MakeFeed<'_>) -> anyhow::Result<Vec<Box<Shard>>> {
        let config = self.config;
        let make = |(index, source): (usize, &SourceConfig)| {
            let rungs = Arc::clone(&self.rungs[source.model.as_str()]);
            let reporter = self.reporter.clone();
            let mut hot_path = HotPath::new(source, config, rungs, reporter, self.clock)?;
            let broker = match &source.link {
                Link::Mqtt(link) => {
                    let id = format!("{}-{}", client_id(config, self.device), source.name);
                    Some(Broker::new(&config.mqtt, config.broker_of(link), id)?)
                }
                Link::Serial(_) | Link::File(_) => None,
            };
            if publishes_itself(config, source) {
                hot_path.hold_verdicts(format!("{}/{}/verdict/", config.mqtt.root, self.device));
            }
            let feed = make_feed(index, &mut hot_path, broker.as_ref())?;
            Ok(Box::new(Shard {
                hot_path,
                feed,
                shutdown: self.shutdown.clone(),
            }))
        };
        config.sources.iter().enumerate().map(make).collect()
    }

    /// The ways of an operator's requests to nodes, by the source's name.
    fn node_requests(&self, shards: &[Box<Shard>]) -> BTreeMap<String, SyncSender<NodeRequest>> {
        let sources = self.config.sources.iter().zip(shards);
        sources
            .filter_map(|(source, shard)| Some((source.name.clone(), shard.feed.node_requests()?)))
            .collect()
    }

    /// Starts the threads of every source, and the keeper that watches them.
    fn serve(&self, shards: Vec<Box<Shard>>) -> anyhow::Result<(Vec<Served>, Keeper)> {
        let config = self.config;
        let realtime = &config.threads;
        if let Err(refused) = realtime.prepare_process() {
            tracing::warn!("memory is not locked: {refused}");
        }
        let loader = Loader::start().context("starting the loader's thread")?;
        let mut sources = Vec::new();
        for (index, shard) in shards.into_iter().enumerate() {
            let settings = shift::Settings {
                index,
                abandoned_max: config.ladder.threads_abandoned_max,
                realtime: realtime.clone(),
                rungs: Arc::clone(&self.rungs[config.sources[index].model.as_str()]),
                loader: loader.clone(),
                reporter: self.reporter.clone().without_verdicts(),
                stall: self.stall.clone(),
            };
            sources.push(shift::serve(shard, settings)?);
        }
        let keeper = self
            .start_keeper(&sources)
            .context("starting the keeper's thread")?;
        Ok((sources, keeper))
    }

    fn start_keeper(&self, sources: &[Served]) -> std::io::Result<Keeper> {
        let posts: Vec<_> = sources
            .iter()
            .map(|served| (Arc::clone(&served.post), served.relief.clone()))
            .collect();
        let slots = sources
            .iter()
            .map(|served| Arc::clone(&served.slot))
            .collect();
        // What is armed just after a look, and due before the next, is claimed
        // half the margin late: the other half is left for the verdict. Each
        // look wakes a core, so there are no more of them than that takes.
        let margin_us = self.config.budget.keeper_margin_us();
        let tick_us = (margin_us / 2).clamp(KEEPER_TICK_US_MIN, KEEPER_TICK_US_MAX);
        let tick = Duration::from_micros(tick_us);
        let priority = self.config.threads.fifo_priority;
        let clock = self.clock;
        let progress = Arc::clone(&self.keeper_progress);
        Keeper::start(
            slots,
            tick,
            move || prepare_keeper(priority),
            // It asks for the time at each turn.
            move || {
                progress.pass();
                clock.now_us()
            },
            move |index, mut shard: Box<Shard>| {
                let (post, relief) = &posts[index];
                shard.hot_path.handle_hang();
                post.handle_taken_over();
                // There is one shard, so there is room for it.
                relief.try_send(shard).ok();
            },
        )
    }

    /// Starts the thread that watches all the others.
    fn supervise(&self, board: Board, sources: &[Served]) -> std::io::Result<Supervisor> {
        let own = [
            ("the deadline keeper", &self.keeper_progress),
            ("the output thread", &self.outputs_progress),
        ];
        let own = own.map(|(name, progress)| Watched {
            name: name.to_owned(),
            progress: Arc::clone(progress),
            slot: None,
        });
        let sources = sources.iter().map(|served| Watched {
            name: format!("source {}", served.name),
            progress: Arc::clone(&served.progress),
            slot: Some(Arc::clone(&served.slot)),
        });
        let loops = sources.chain(own).collect();
        let reporter = self.reporter.clone().without_verdicts();
        Supervisor::start(board, loops, self.config.watchdog.stall, reporter)
    }

    fn verdict_broker(&self) -> anyhow::Result<Broker> {
        let id = format!("{}-verdicts", client_id(self.config, self.device));
        Broker::new(&self.config.mqtt, own_broker(self.config), id)
    }
}

/// The keeper looks no more often than this, microseconds.
const KEEPER_TICK_US_MIN: u64 = 100;
/// And no more seldom, microseconds: it shows by its looks that it is there.
const KEEPER_TICK_US_MAX: u64 = 500_000;

/// The keeper must be scheduled before those that it watches.
fn prepare_keeper(fifo_priority: Option<u8>) {
    let realtime = Realtime {
        fifo_priority: fifo_priority.map(|priority| priority + 1),
        ..Realtime::default()
    };
    for refused in realtime.prepare_thread(0) {
        tracing::warn!("keeper: {refused}");
    }
}

/// The configured name of the device, or the host's.
fn device_name(config: &Config) -> anyhow::Result<String> {
    if !config.device.name.is_empty() {
        return Ok(config.device.name.clone());
    }
    let name = hark_hal::host_name();
    anyhow::ensure!(
        check_level(&name).is_ok(),
        "the host name {name:?} cannot be a level of a topic: set device.name"
    );
    Ok(name)
}

/// The models that a source uses, by their names.
fn open_rungs<'a>(
    config: &'a Config,
    fault: Option<&Injection>,
) -> anyhow::Result<BTreeMap<&'a str, Arc<Rungs>>> {
    let is_used = |name: &str| config.sources.iter().any(|source| source.model == name);
    let used = config.models.iter().filter(|model| is_used(&model.name));
    used.map(|model| {
        let rungs = Rungs::open(model)?.with_fault(fault.cloned());
        Ok((model.name.as_str(), Arc::new(rungs)))
    })
    .collect()
}

/// Whether a source publishes its verdicts over the connection by which it reads.
fn publishes_itself(config: &Config, source: &SourceConfig) -> bool {
    let mqtt = &config.mqtt;
    let is_same = match &source.link {
        Link::Mqtt(link) => config.broker_of(link) == own_broker(config),
        Link::Serial(_) | Link::File(_) => false,
    };
    mqtt.enabled && mqtt.verdicts && is_same
}

/// The broker of `[mqtt]`.
fn own_broker(config: &Config) -> crate::config::BrokerAddress {
    crate::config::BrokerAddress {
        host: config.mqtt.host.clone(),
        port: config.mqtt.port,
        protocol: config.mqtt.protocol,
    }
}

fn client_id(config: &Config, device: &str) -> String {
    match &config.mqtt.client_id {
        Some(id) => id.clone(),
        None => format!("hark-{device}"),
    }
}

fn start_publisher(
    config: &Config,
    device: &str,
    requests: BTreeMap<String, SyncSender<NodeRequest>>,
) -> anyhow::Result<Option<(Publisher, Outbox, ShutdownSender)>> {
    if !config.mqtt.enabled {
        return Ok(None);
    }
    let status = |state: &str| {
        let version = env!("CARGO_PKG_VERSION");
        serde_json::json!({ "state": state, "device": device, "version": version }).to_string()
    };
    let settings = PublisherSettings {
        broker: Broker::new(&config.mqtt, own_broker(config), client_id(config, device))?,
        status_topic: format!("{}/{device}/status", config.mqtt.root),
        online: status("online"),
        offline: status("offline"),
        stopped: status("stopped"),
        commands: NodeCommands::new(format!("{}/{device}", config.mqtt.root), requests),
    };
    let outbox = Outbox::new(config.mqtt.alerts_queued_max);
    let (stop, shutdown) = shutdown::channel();
    let publisher = Publisher::start(settings, outbox.clone(), shutdown)
        .context("starting the publisher's thread")?;
    Ok(Some((publisher, outbox, stop)))
}

fn open_log(config: &Config) -> anyhow::Result<Option<EventLog>> {
    let open = |file| {
        let path = config.device.data_dir.join(file);
        EventLog::open(&path, config.events.bytes_max, config.events.files_max)
    };
    config.events.file.as_ref().map(open).transpose()
}
