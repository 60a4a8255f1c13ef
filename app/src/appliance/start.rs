//! What an appliance is made of, opened and started: models, sources with their
//! threads and keeper, the supervisor, the publisher, the log.

use super::MakeFeed;
use crate::board::{Board, Supervisor, Watched};
use anyhow::Context;
use hark_config::{BrokerAddress, Config, Link, SourceConfig, check_level};
use hark_hal::{Clock, Realtime, ServiceManager};
use hark_keeper::Keeper;
use hark_outlet::event_log::EventLog;
use hark_outlet::mqtt::{Broker, Outbox, Publisher, PublisherSettings};
use hark_outlet::node_commands::NodeCommands;
use hark_serve::NodeRequest;
use hark_serve::bundle::Rungs;
use hark_serve::fault::{Injection, Stall};
use hark_serve::hot_path::HotPath;
use hark_serve::report::Reporter;
use hark_serve::shift::{self, Loader, Served, Shard};
use hark_threads::progress::Progress;
use hark_threads::shutdown::{self, Shutdown, ShutdownSender};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// What starting the sources takes.
pub(super) struct Start<'a> {
    pub(super) config: &'a Config,
    pub(super) device: &'a str,
    pub(super) rungs: &'a BTreeMap<&'a str, Arc<Rungs>>,
    pub(super) reporter: &'a Reporter,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
    pub(super) stall: Option<Stall>,
    pub(super) keeper_progress: Arc<Progress>,
    pub(super) outputs_progress: Arc<Progress>,
}

impl Start<'_> {
    /// Makes every source with its own instances of its models.
    pub(super) fn make_shards(
        &mut self,
        make_feed: &mut MakeFeed<'_>,
    ) -> anyhow::Result<Vec<Box<Shard>>> {
        let config = self.config;
        let make = |(index, source): (usize, &SourceConfig)| {
            ask_for_patience();
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
    pub(super) fn node_requests(
        &self,
        shards: &[Box<Shard>],
    ) -> BTreeMap<String, SyncSender<NodeRequest>> {
        let sources = self.config.sources.iter().zip(shards);
        sources
            .filter_map(|(source, shard)| Some((source.name.clone(), shard.feed.node_requests()?)))
            .collect()
    }

    /// Starts the threads of every source, and the keeper that watches them.
    pub(super) fn serve(&self, shards: Vec<Box<Shard>>) -> anyhow::Result<(Vec<Served>, Keeper)> {
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
    pub(super) fn supervise(
        &self,
        board: Board,
        sources: &[Served],
    ) -> std::io::Result<Supervisor> {
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

    pub(super) fn verdict_broker(&self) -> anyhow::Result<Broker> {
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
) -> anyhow::Result<BTreeMap<&'a str, Arc<Rungs>>> {
    let is_used = |name: &str| config.sources.iter().any(|source| source.model == name);
    let used = config.models.iter().filter(|model| is_used(&model.name));
    used.map(|model| {
        ask_for_patience();
        let rungs = Rungs::open(model)?.with_fault(fault.cloned());
        Ok((model.name.as_str(), Arc::new(rungs)))
    })
    .collect()
}

/// Whether a source publishes its verdicts over the connection by which it reads.
pub(super) fn publishes_itself(config: &Config, source: &SourceConfig) -> bool {
    let mqtt = &config.mqtt;
    let is_same = match &source.link {
        Link::Mqtt(link) => config.broker_of(link) == own_broker(config),
        Link::Serial(_) | Link::File(_) => false,
    };
    mqtt.enabled && mqtt.verdicts && is_same
}

/// The broker of `[mqtt]`.
fn own_broker(config: &Config) -> BrokerAddress {
    BrokerAddress {
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
    Ok(Some(PublisherSettings {
        broker: Broker::new(&config.mqtt, own_broker(config), client_id(config, device))?,
        status_topic: format!("{}/{device}/status", config.mqtt.root),
        online: status("online"),
        offline: status("offline"),
        stopped: status("stopped"),
        commands: NodeCommands::new(format!("{}/{device}", config.mqtt.root), requests),
    }))
}

pub(super) fn start_publisher(
    config: &Config,
    settings: PublisherSettings,
) -> anyhow::Result<(Publisher, Outbox, ShutdownSender)> {
    let outbox = Outbox::new(config.mqtt.alerts_queued_max)?;
    let (stop, shutdown) = shutdown::channel();
    let publisher = Publisher::start(settings, outbox.clone(), shutdown)
        .context("starting the publisher's thread")?;
    Ok((publisher, outbox, stop))
}

/// The event log, if there is to be one. It is opened by the thread that writes
/// it: a disk that hangs or cannot be written costs the log and not the verdicts.
pub(super) fn open_log(config: &Config) -> Option<EventLog> {
    let path = config.device.data_dir.join(config.events.file.as_ref()?);
    let events = &config.events;
    Some(EventLog::new(&path, events.bytes_max, events.files_max))
}
