//! What an appliance is made of, opened and started: models, sources with their
//! threads and keeper, the supervisor, the publisher, the log.

use super::MakeFeed;
use crate::board::{Board, Watched, supervise};
use anyhow::Context;
use hark_config::{BrokerAddress, Config, Link, RemoteCommand, SourceConfig, check_level};
use hark_hal::{Clock, Realtime, ServiceManager};
use hark_keeper::keep;
use hark_outlet::data_dir::DataDir;
use hark_outlet::event_log::EventLog;
use hark_outlet::mqtt::{self, Broker, Outbox, PublisherSettings};
use hark_outlet::node_commands::NodeCommands;
use hark_outlet::standing::{Carried, Journal};
use hark_serve::NodeRequest;
use hark_serve::bundle::Rungs;
use hark_serve::fault::{Injection, Stall};
use hark_serve::hot_path::HotPath;
use hark_serve::report::Reporter;
use hark_serve::shift::{self, Kept, Loader, Served, Shard};
use hark_serve::withheld::Withheld;
use hark_threads::progress::Progress;
use hark_threads::{Outcome, Shutdown, Stage, Threads};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// What starting the sources takes.
pub(super) struct Start<'a> {
    pub(super) config: &'a Config,
    pub(super) device: &'a str,
    pub(super) rungs: &'a BTreeMap<&'a str, Arc<Rungs>>,
    pub(super) reporter: &'a Reporter,
    pub(super) clock: Clock,
    pub(super) threads: &'a Threads,
    /// A start that is told to stop waits for no model.
    pub(super) stop: &'a Shutdown,
    pub(super) stall: Option<Stall>,
    pub(super) keeper_progress: Arc<Progress>,
    pub(super) outputs_progress: Arc<Progress>,
}

impl Start<'_> {
    /// Makes every source with its own instances of its models.
    pub(super) fn make_shards(
        &self,
        make_feed: &mut MakeFeed<'_>,
    ) -> anyhow::Result<Vec<Box<Shard>>> {
        let loader = Loader::new(self.threads.clone());
        // The rule serves meanwhile, and a model that is late is taken when it comes.
        // So one that hangs is waited for once, and not by each source that uses it.
        let mut late = BTreeSet::new();
        let mut shards = Vec::new();
        for (index, source) in self.config.sources.iter().enumerate() {
            let mut shard = self.make_shard(index, source, &loader, make_feed)?;
            ask_for_patience();
            let is_late = late.contains(&source.model);
            let patience = if is_late {
                Duration::ZERO
            } else {
                START_PATIENCE
            };
            if !shard.load_models(patience, self.stop) {
                late.insert(&source.model);
            }
            shards.push(Box::new(shard));
        }
        Ok(shards)
    }

    fn make_shard(
        &self,
        index: usize,
        source: &SourceConfig,
        loader: &Loader,
        make_feed: &mut MakeFeed<'_>,
    ) -> anyhow::Result<Shard> {
        let config = self.config;
        let rungs = &self.rungs[source.model.as_str()];
        let reporter = self.reporter.clone();
        let mut hot_path = HotPath::new(source, config, rungs, reporter, self.clock)?;
        let broker = match &source.link {
            Link::Mqtt(link) => {
                let id = format!("{}-{}", client_id(config, self.device), source.name);
                Some(broker(config, config.broker_of(link), id)?)
            }
            Link::Serial(_) | Link::File(_) | Link::Modbus(_) => None,
        };
        if publishes_itself(config, source) {
            hot_path.hold_verdicts(format!("{}/{}/verdict/", config.mqtt.root, self.device));
        }
        let feed = make_feed(index, &mut hot_path, broker.as_ref())?;
        let shutdown = self.threads.shutdown(Stage::Serve).clone();
        Ok(Shard::new(
            hot_path,
            feed,
            Arc::clone(rungs),
            loader.clone(),
            shutdown,
        ))
    }

    /// The ways of an operator's requests to nodes, by the source's name.
    pub(super) fn node_requests(
        &self,
        shards: &[Box<Shard>],
    ) -> BTreeMap<String, SyncSender<NodeRequest>> {
        let sources = self.config.sources.iter().zip(shards);
        sources
            .filter_map(|(source, shard)| {
                Some((source.name.clone(), shard.feed().node_requests()?))
            })
            .collect()
    }

    /// Starts the threads of every source, and the keeper that watches them.
    pub(super) fn serve(&self, shards: Vec<Box<Shard>>) -> anyhow::Result<Vec<Served>> {
        let config = self.config;
        if let Err(refused) = config.threads.prepare_process() {
            tracing::warn!("memory is not locked: {refused}");
        }
        let (mut sources, mut kept) = (Vec::new(), Vec::new());
        for (index, shard) in shards.into_iter().enumerate() {
            let settings = shift::Settings {
                index,
                abandoned_max: config.ladder.threads_abandoned_max,
                realtime: config.threads.clone(),
                threads: self.threads.clone(),
                reporter: self.reporter.clone().without_verdicts(),
                stall: self.stall.clone(),
            };
            let (served, keeps) = shift::serve(shard, settings)?;
            sources.push(served);
            kept.push(keeps);
        }
        self.start_keeper(kept)
            .context("starting the keeper's thread")?;
        Ok(sources)
    }

    fn start_keeper(&self, kept: Vec<Kept>) -> std::io::Result<()> {
        // What is armed just after a look, and due before the next, is claimed
        // half the margin late: the other half is left for the verdict. Each
        // look wakes a core, so there are no more of them than that takes.
        let margin_us = self.config.budget.keeper_margin_us();
        let tick_us = (margin_us / 2).clamp(KEEPER_TICK_US_MIN, KEEPER_TICK_US_MAX);
        let tick = Duration::from_micros(tick_us);
        let priority = self.config.threads.fifo_priority;
        let clock = self.clock;
        let progress = Arc::clone(&self.keeper_progress);
        let stop = self.threads.shutdown(Stage::Serve).clone();
        let run = move |shutdown: &Shutdown| {
            prepare_keeper(priority);
            let slots: Vec<_> = kept.iter().map(|kept| Arc::clone(&kept.slot)).collect();
            let stopped_at = Cell::new(None);
            // It asks for the time at each turn.
            let time = || {
                progress.pass();
                if !stop.is_requested() {
                    return clock.now_us();
                }
                let now = Instant::now();
                let since = stopped_at.get().unwrap_or(now);
                stopped_at.set(Some(since));
                // A stop waits for no deadline: what is lent out is due.
                let is_due = now.saturating_duration_since(since) >= STOP_PATIENCE;
                let ahead_us = if is_due { ANY_DEADLINE_US } else { 0 };
                clock.now_us().saturating_add(ahead_us)
            };
            let take_over = |index: usize, shard| kept[index].take_over(shard);
            keep(&slots, tick, time, take_over, |time| shutdown.wait(time));
        };
        self.threads.spawn("keeper", Stage::Keep, run).map(drop)
    }

    /// Starts the thread that watches all the others.
    pub(super) fn supervise(
        &self,
        board: Board,
        sources: &[Served],
    ) -> std::io::Result<Outcome<Board>> {
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
        let stall = self.config.watchdog.stall;
        supervise(self.threads, board, loops, stall, reporter)
    }

    /// Starts the publisher; what it is to publish is left in the outbox.
    pub(super) fn publish(
        &self,
        settings: PublisherSettings,
        journal: Journal,
        carried: &Carried,
    ) -> anyhow::Result<Outbox> {
        let outbox = Outbox::new(self.config.mqtt.alerts_queued_max, journal, carried)
            .context("opening the way to the publisher")?;
        mqtt::publish(self.threads, settings, outbox.clone())
            .context("starting the publisher's thread")?;
        Ok(outbox)
    }

    pub(super) fn verdict_broker(&self) -> anyhow::Result<Broker> {
        let id = format!("{}-verdicts", client_id(self.config, self.device));
        broker(self.config, self.config.mqtt.address(), id)
    }
}

/// How long a stop leaves a model that runs. An answer is mostly a matter of
/// milliseconds; the sources have to end in [`super::SERVE_BY`].
const STOP_PATIENCE: Duration = Duration::from_millis(150);
/// Further ahead than any deadline. A time that goes on from there, and not the
/// end of all time, so that the keeper still sleeps a tick between two looks: a
/// model that answers is then hardly ever seen at it.
const ANY_DEADLINE_US: u64 = 1 << 62;
/// How long a start waits for a model, whose source begins with the rule after that.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The keeper looks no more often than this, microseconds.
const KEEPER_TICK_US_MIN: u64 = 100;
/// And no more seldom, microseconds: it shows by its looks that it is there, and
/// sees a stop early enough for [`STOP_PATIENCE`].
const KEEPER_TICK_US_MAX: u64 = 100_000;

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

/// What reading or loading one model may take on a slow core: what the unit leaves
/// a whole start (`TimeoutStartSec=`).
const MODEL_TIMEOUT: Duration = Duration::from_secs(60);

/// Many models take longer together than a start may: the service manager is
/// asked before each. Without one nothing is sent.
fn ask_for_patience() {
    let service = ServiceManager::from_environment();
    if let Err(error) = service.extend_timeout(MODEL_TIMEOUT) {
        tracing::warn!("telling the service manager: {error}");
    }
}

/// The configured name of the device, or the host's.
pub(super) fn device_name(config: &Config) -> anyhow::Result<String> {
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
pub(super) fn open_rungs<'a>(
    config: &'a Config,
    fault: Option<&Injection>,
    withheld: &Withheld,
) -> anyhow::Result<BTreeMap<&'a str, Arc<Rungs>>> {
    let is_used = |name: &str| config.sources.iter().any(|source| source.model == name);
    let used = config.models.iter().filter(|model| is_used(&model.name));
    used.map(|model| {
        ask_for_patience();
        let rungs = Rungs::open(model)?.with_fault(fault.cloned());
        let rungs = rungs.but_withheld(withheld.clone());
        Ok((model.name.as_str(), Arc::new(rungs)))
    })
    .collect()
}

/// Whether a source publishes its verdicts over the connection by which it reads.
pub(super) fn publishes_itself(config: &Config, source: &SourceConfig) -> bool {
    let mqtt = &config.mqtt;
    let is_same = match &source.link {
        Link::Mqtt(link) => config.broker_of(link) == config.mqtt.address(),
        Link::Serial(_) | Link::File(_) | Link::Modbus(_) => false,
    };
    mqtt.enabled && mqtt.verdicts && is_same
}

/// The broker at `address`, as a client called `client_id` reaches it.
fn broker(config: &Config, address: BrokerAddress, client_id: String) -> anyhow::Result<Broker> {
    Broker::new(&config.mqtt_at(&address), address, client_id)
}

fn client_id(config: &Config, device: &str) -> String {
    match &config.mqtt.client_id {
        Some(id) => id.clone(),
        None => format!("hark-{device}"),
    }
}

/// Who publishes, and where; nobody without `mqtt.enabled`.
pub(super) fn publisher_settings(
    config: &Config,
    device: &str,
    requests: BTreeMap<String, SyncSender<NodeRequest>>,
) -> anyhow::Result<Option<PublisherSettings>> {
    if !config.mqtt.enabled {
        return Ok(None);
    }
    let status = |state: &str| {
        let version = env!("CARGO_PKG_VERSION");
        serde_json::json!({ "state": state, "device": device, "version": version }).to_string()
    };
    let is_allowed = config.mqtt.commands.contains(&RemoteCommand::Node);
    let requests = if is_allowed {
        requests
    } else {
        BTreeMap::new()
    };
    Ok(Some(PublisherSettings {
        broker: broker(config, config.mqtt.address(), client_id(config, device))?,
        status_topic: format!("{}/{device}/status", config.mqtt.root),
        online: status("online"),
        offline: status("offline"),
        stopped: status("stopped"),
        commands: NodeCommands::new(format!("{}/{device}", config.mqtt.root), requests),
    }))
}

/// Holds the folder of the logs, if there is to be anything, against another hark.
/// Those that an earlier one left there give way if `replaces_logs`.
pub(super) fn hold_data_dir(
    config: &Config,
    replaces_logs: bool,
) -> anyhow::Result<Option<DataDir>> {
    let paths: Vec<PathBuf> = log_paths(config).into_iter().flatten().collect();
    if paths.is_empty() && config.events.standing_file.is_none() {
        return Ok(None);
    }
    let held = DataDir::hold(&config.device.data_dir)?;
    if replaces_logs {
        // One that stays is written on.
        paths.iter().for_each(|path| {
            std::fs::remove_file(path).ok();
        });
    }
    Ok(Some(held))
}

/// The logs of everything and of alerts alone, if there are to be any. They are
/// opened by the threads that write them: a disk that hangs or cannot be written
/// costs the logs and not the verdicts.
pub(super) fn open_logs(config: &Config) -> [Option<EventLog>; 2] {
    let events = &config.events;
    let open = |path: PathBuf| EventLog::new(&path, events.bytes_max, events.files_max);
    log_paths(config).map(|path| path.map(open))
}

fn log_paths(config: &Config) -> [Option<PathBuf>; 2] {
    let events = &config.events;
    let in_data_dir = |file: &PathBuf| config.device.data_dir.join(file);
    [&events.file, &events.alerts_file].map(|file| file.as_ref().map(in_data_dir))
}
