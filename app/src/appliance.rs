//! The appliance: every thread is started here, and joined here.
//!
//! Starting opens everything that can be wrong first (bundles, mappings, the
//! event log), so that a broken configuration fails before a thread runs.
//! Stopping goes downstream: sources, then the outputs that they feed, then
//! the publisher, so that nothing accepted is left behind.

use crate::bundle::ModelBundle;
use crate::config::{Config, Link, check_level};
use crate::event_log::EventLog;
use crate::hot_path::{HotPath, SourceResult, histogram};
use crate::mqtt::{Broker, Outbox, Publisher, PublisherSettings};
use crate::report::{self, Event, OnVerdict, OutputSettings, Outputs, Reporter, Stdout};
use crate::shutdown::{self, Shutdown, ShutdownSender};
use crate::source::Source;
use crate::summary::{Latency, SourceSummary, Summary};
use anyhow::Context;
use hark_hal::Clock;
use std::collections::BTreeMap;
use std::thread::JoinHandle;

/// How an appliance shows itself.
pub struct Presentation {
    /// What goes to standard output.
    pub stdout: Stdout,
    /// Called with each verdict on the output thread.
    pub on_verdict: Option<OnVerdict>,
}

/// A running appliance.
pub struct Appliance {
    deadline_us: u64,
    sources: Vec<JoinHandle<SourceResult>>,
    stop_sources: ShutdownSender,
    reporter: Reporter,
    outputs: Outputs,
    publisher: Option<(Publisher, Outbox, ShutdownSender)>,
}

impl Appliance {
    /// Starts everything that `config` names.
    ///
    /// # Errors
    /// What cannot be opened, and where it is configured.
    pub fn start(config: &Config, presentation: Presentation) -> anyhow::Result<Self> {
        if config.broker.embedded {
            crate::broker::start(config.broker.listen, config.mqtt.protocol)?;
        }
        let device = device_name(config)?;
        let wants_verdicts = config.mqtt.verdicts && config.mqtt.enabled;
        let wants_verdicts = wants_verdicts || presentation.on_verdict.is_some();
        let (reporter, reports) = report::channel(wants_verdicts);
        let sources = make_sources(config, &device, &reporter)?;
        let publisher = start_publisher(config, &device)?;
        let mqtt = publisher.as_ref().map(|(_, outbox, _)| {
            let root = format!("{}/{device}", config.mqtt.root);
            (outbox.clone(), root)
        });
        let outputs = Outputs::start(
            OutputSettings {
                log: open_log(config)?,
                mqtt,
                publishes_verdicts: config.mqtt.verdicts,
                stdout: presentation.stdout,
                on_verdict: presentation.on_verdict,
            },
            reports,
        )
        .context("starting the output thread")?;
        reporter.report(Event::Started {
            version: env!("CARGO_PKG_VERSION"),
            device,
        });
        let (stop_sources, shutdown) = shutdown::channel();
        Ok(Self {
            deadline_us: (config.device.deadline_ms * 1e3) as u64,
            sources: spawn_sources(sources, &shutdown)?,
            stop_sources,
            reporter,
            outputs,
            publisher,
        })
    }

    /// For events that do not come from a source.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Whether every source has ended, as files do.
    pub fn has_ended(&self) -> bool {
        self.sources.iter().all(JoinHandle::is_finished)
    }

    /// Stops everything, downstream, and sums up.
    pub fn stop(self) -> Summary {
        self.stop_sources.request();
        let results: Vec<_> = self.sources.into_iter().filter_map(join_source).collect();
        self.reporter.report(Event::Stopped);
        drop(self.reporter);
        let mut outputs = self.outputs.join();
        if let Some((publisher, outbox, stop)) = self.publisher {
            stop.request();
            publisher.join();
            outputs.mqtt = outbox.counts();
        }
        Summary {
            outputs,
            ..summarise(self.deadline_us, results)
        }
    }
}

fn join_source(thread: JoinHandle<SourceResult>) -> Option<SourceResult> {
    let name = thread.thread().name().unwrap_or("source").to_owned();
    thread
        .join()
        .inspect_err(|_| tracing::error!("{name} panicked; its readings are not in the summary"))
        .ok()
}

fn summarise(deadline_us: u64, results: Vec<SourceResult>) -> Summary {
    let mut summary = Summary {
        deadline_us,
        ..Summary::default()
    };
    let (mut latency_ns, mut inference_ns) = (histogram(), histogram());
    for (index, result) in results.into_iter().enumerate() {
        if index == 0 {
            summary.model = (*result.identity).clone();
        }
        latency_ns
            .add(&result.latency_ns)
            .expect("histograms have the same bounds");
        inference_ns
            .add(&result.inference_ns)
            .expect("histograms have the same bounds");
        summary.add_counters(&result.counters);
        let source = SourceSummary {
            sensors: result.sensors as u64,
            connects: result.connects,
            link_losses: result.link_losses,
            examples: result.examples.into_iter().collect(),
            ..SourceSummary::of(&result.counters)
        };
        summary.sources.insert(result.source.to_string(), source);
    }
    summary.verdict_latency_us = Latency::of(&latency_ns);
    summary.inference_us = Latency::of(&inference_ns);
    summary
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

/// Opens every bundle, and makes every source with its own instance of its model.
fn make_sources(config: &Config, device: &str, reporter: &Reporter) -> anyhow::Result<Vec<Source>> {
    let bundles = open_bundles(config)?;
    let clock = Clock::start();
    let sources = config.sources.iter().map(|source| {
        let bundle = &bundles[source.model.as_str()];
        let hot_path = HotPath::new(source, &config.device, bundle, reporter.clone(), clock)?;
        let broker = match &source.link {
            Link::Mqtt(link) => Some(Broker::new(
                &config.mqtt,
                config.broker_of(link),
                format!("{}-{}", client_id(config, device), source.name),
            )?),
            Link::Serial(_) | Link::File(_) => None,
        };
        Source::new(source.clone(), hot_path, broker)
    });
    sources.collect()
}

/// The bundles of all models that a source uses, by the model's name.
fn open_bundles(config: &Config) -> anyhow::Result<BTreeMap<&str, ModelBundle>> {
    let is_used = |name: &str| config.sources.iter().any(|source| source.model == name);
    config
        .models
        .iter()
        .filter(|model| is_used(&model.name))
        .map(|model| Ok((model.name.as_str(), ModelBundle::open(model)?)))
        .collect()
}

fn client_id(config: &Config, device: &str) -> String {
    match &config.mqtt.client_id {
        Some(id) => id.clone(),
        None => format!("hark-{device}"),
    }
}

fn spawn_sources(
    sources: Vec<Source>,
    shutdown: &Shutdown,
) -> anyhow::Result<Vec<JoinHandle<SourceResult>>> {
    let spawn = |(index, source): (usize, Source)| {
        let shutdown = shutdown.clone();
        std::thread::Builder::new()
            .name(format!("source-{index}"))
            .spawn(move || source.run(shutdown))
            .context("starting a source's thread")
    };
    sources.into_iter().enumerate().map(spawn).collect()
}

fn start_publisher(
    config: &Config,
    device: &str,
) -> anyhow::Result<Option<(Publisher, Outbox, ShutdownSender)>> {
    if !config.mqtt.enabled {
        return Ok(None);
    }
    let address = crate::config::BrokerAddress {
        host: config.mqtt.host.clone(),
        port: config.mqtt.port,
        protocol: config.mqtt.protocol,
    };
    let status = |state: &str| {
        let version = env!("CARGO_PKG_VERSION");
        serde_json::json!({ "state": state, "device": device, "version": version }).to_string()
    };
    let settings = PublisherSettings {
        broker: Broker::new(&config.mqtt, address, client_id(config, device))?,
        status_topic: format!("{}/{device}/status", config.mqtt.root),
        online: status("online"),
        offline: status("offline"),
        stopped: status("stopped"),
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
