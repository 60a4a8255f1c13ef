//! Readings from the topics of a broker.
//!
//! One plain thread reads the socket, decodes and serves. What has been read
//! and not yet served is the only queue there is: it stands in the session's
//! buffer, undecoded, and what has waited there for too long is shed without
//! being decoded. The socket is emptied even while readings wait, so that
//! waiting is seen here and not hidden in the network.

use super::{Named, Retry, SHUTDOWN_POLL, StreamDecoder};
use hark_config::{Config, MqttLink, SensorTemplate, SourceConfig, TopicPattern};
use hark_engine::{Admission, Rejection, SensorId};
use hark_mqtt::{Event, Link, Session};
use hark_outlet::mqtt::Broker;
use hark_serve::hot_path::{HotPath, Receipt};
use hark_serve::{Fed, Feed};
use hark_threads::shutdown::Shutdown;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Topics whose sensors are remembered, so that a known topic costs one look-up.
const TOPICS_MAX: usize = 65_536;
/// What waits to be served, bytes: 50 ms of 100 000 small readings a second.
const BACKLOG_BYTES: usize = 1 << 20;
/// Above this part of the backlog readings are shed however young they are.
const BACKLOG_FULL: usize = BACKLOG_BYTES / 8 * 7;
/// Verdicts and acknowledgements that wait for the socket, bytes.
const OUTPUT_BYTES: usize = 256 * 1024;
/// While readings wait, verdicts are written in batches of so many.
const VERDICTS_WRITTEN_AT: usize = 128;
/// How often the socket is emptied while readings wait: their latency counts
/// from the read, so this is how much of a wait in the kernel may stay unseen.
const FILL_EVERY: Duration = Duration::from_micros(500);
/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Reads of the socket whose time is kept apart; a later one counts as the last.
const READS_MAX: usize = 4096;

/// The topics of a broker.
pub(super) struct MqttFeed {
    broker: Broker,
    topics: Vec<TopicPattern>,
    qos: u8,
    sensor: Option<SensorTemplate>,
    decoder: StreamDecoder,
    admission: Admission,
    rank: usize,
    retry: Retry,
    link: Option<Link>,
    /// Subscriptions that are not answered yet.
    unanswered: usize,
    /// By topic: its sensor; `None`: the payload says.
    known: HashMap<Box<str>, Option<(String, Option<SensorId>)>>,
    /// Where in the stream each read ended that may hold unserved messages.
    reads: VecDeque<(u64, Receipt)>,
    has_more: bool,
    filled: Instant,
    started: Instant,
}

impl MqttFeed {
    pub(super) fn new(
        link: &MqttLink,
        source: &SourceConfig,
        config: &Config,
        decoder: StreamDecoder,
        broker: &Broker,
    ) -> anyhow::Result<Self> {
        let priorities = config.priorities();
        let rank = priorities.iter().position(|p| *p == source.priority);
        Ok(Self {
            broker: broker.clone(),
            topics: link.topics.clone(),
            qos: link.qos,
            sensor: source.sensor.clone(),
            decoder,
            admission: Admission::new(config.wait_us_max(), priorities.len().max(1)),
            rank: rank.unwrap_or(0),
            retry: Retry::new(link.reconnect),
            link: None,
            unanswered: 0,
            known: HashMap::new(),
            reads: VecDeque::with_capacity(READS_MAX),
            has_more: false,
            filled: Instant::now(),
            started: Instant::now(),
        })
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let settings = self.broker.session_settings();
        let session = Session::new(&settings, BACKLOG_BYTES, OUTPUT_BYTES)?;
        let mut link = Link::connect(&self.broker.name(), session, CONNECT_TIMEOUT)?;
        link.flush()?;
        self.reads.clear();
        self.link = Some(link);
        Ok(())
    }

    /// Handles one event, or reads, or waits for a moment. The link is kept
    /// unless it failed.
    fn step(&mut self, mut link: Link, hot_path: &mut HotPath) -> anyhow::Result<()> {
        if self.has_more {
            let held = hot_path.held_verdicts();
            if held.is_some_and(|(_, held)| held.len() >= VERDICTS_WRITTEN_AT) {
                publish_verdicts(&mut link, hot_path)?;
            }
            if hot_path.mark().saturating_duration_since(self.filled) > FILL_EVERY {
                self.fill(&mut link, hot_path)?;
            }
            self.has_more = self.handle_event(&mut link, hot_path)?;
        } else {
            self.listen(&mut link, hot_path)?;
        }
        self.link = Some(link);
        Ok(())
    }

    fn listen(&mut self, link: &mut Link, hot_path: &mut HotPath) -> anyhow::Result<()> {
        // What is left is part of a message that the next read completes.
        self.reads.clear();
        let is_written = publish_verdicts(link, hot_path)?;
        let patience = if hot_path.has_waiting() || link.session().is_blocked() {
            Duration::ZERO
        } else {
            SHUTDOWN_POLL
        };
        link.wait(true, !is_written, patience)?;
        self.fill(link, hot_path)?;
        self.has_more |= link.session().is_blocked();
        let now_ms = self.started.elapsed().as_millis() as u64;
        link.session().handle_time(now_ms)?;
        Ok(())
    }

    fn fill(&mut self, link: &mut Link, hot_path: &mut HotPath) -> anyhow::Result<()> {
        let len = link.fill()?;
        let receipt = hot_path.receive();
        self.filled = hot_path.mark();
        if len == 0 {
            return Ok(());
        }
        self.has_more = true;
        let received = link.session().received();
        if self.reads.len() == READS_MAX {
            self.reads.pop_back();
        }
        self.reads.push_back((received, receipt));
        Ok(())
    }

    /// Handles the next event; false if there is none in what was read.
    fn handle_event(&mut self, link: &mut Link, hot_path: &mut HotPath) -> anyhow::Result<bool> {
        let session = link.session();
        let (from, received) = (session.consumed(), session.received());
        while self.reads.front().is_some_and(|(end, _)| *end <= from) {
            self.reads.pop_front();
        }
        let receipt = self.reads.front().map(|(_, receipt)| *receipt);
        let Some(event) = session.poll_event()? else {
            return Ok(false);
        };
        match event {
            Event::Message { topic, payload } => {
                let receipt = receipt.unwrap_or_else(|| hot_path.receive());
                let waited_us = hot_path.waited_us(&receipt);
                let is_full = (received - from) as usize > BACKLOG_FULL;
                if is_full || !self.admission.is_admitted(self.rank, waited_us) {
                    hot_path.handle_shed(&receipt);
                } else {
                    let known = &mut self.known;
                    let rules = Rules {
                        topics: &self.topics,
                        sensor: self.sensor.as_ref(),
                    };
                    rules.handle(topic, payload, receipt, known, &mut self.decoder, hot_path);
                }
            }
            Event::Oversize { bytes } => {
                let detail = format!("a packet of {bytes} bytes");
                hot_path.handle_rejection(Rejection::Oversize, &detail, &[]);
            }
            Event::Connected => self.subscribe(link)?,
            Event::Subscribed { is_granted } => self.handle_subscribed(is_granted, hot_path)?,
            Event::Other => {}
        }
        Ok(true)
    }

    fn subscribe(&mut self, link: &mut Link) -> anyhow::Result<()> {
        self.unanswered = self.topics.len();
        for pattern in &self.topics {
            link.session()
                .subscribe(&[(pattern.filter().as_str(), self.qos)])?;
        }
        link.flush()?;
        Ok(())
    }

    /// The link is up when readings can come: after the last subscription.
    fn handle_subscribed(
        &mut self,
        is_granted: bool,
        hot_path: &mut HotPath,
    ) -> anyhow::Result<()> {
        let index = self.topics.len() - self.unanswered;
        let filter = self.topics.get(index).map(TopicPattern::filter);
        let filter = filter.unwrap_or_default();
        anyhow::ensure!(is_granted, "it refuses the subscription to {filter}");
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.retry.handle_up();
            hot_path.handle_link_up();
            self.decoder.handle_link_up();
        }
        Ok(())
    }

    fn say_goodbye(&mut self, hot_path: &mut HotPath) {
        if let Some(link) = &mut self.link {
            publish_verdicts(link, hot_path).ok();
            link.session().disconnect();
            // A broker that does not take it sees the connection close.
            link.flush().ok();
        }
    }
}

impl Feed for MqttFeed {
    fn has_more(&self) -> bool {
        self.has_more
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        if !self.has_more && shutdown.is_requested() {
            self.say_goodbye(hot_path);
            return Fed::Ended;
        }
        let result = match self.link.take() {
            Some(link) => self.step(link, hot_path),
            None if !self.retry.is_due() => {
                hot_path.handle_idle();
                return Fed::Open;
            }
            None => self.connect(),
        };
        if let Err(error) = result {
            self.has_more = false;
            hot_path.drop_held_verdicts();
            let hint = if self.retry.backoff.is_young() {
                self.broker.hint_of_a_quick_loss()
            } else {
                String::new()
            };
            let reason = format!("broker {}: {error:#}{hint}", self.broker.name());
            self.retry.handle_down(reason, hot_path);
        }
        Fed::Open
    }
}

/// Publishes the verdicts of this source's own readings, as many as fit, and
/// writes; whether everything was written.
fn publish_verdicts(link: &mut Link, hot_path: &mut HotPath) -> anyhow::Result<bool> {
    if let Some((root, held)) = hot_path.held_verdicts() {
        while let Some(report) = held.front() {
            if hark_outlet::verdicts::publish(link.session(), root, report).is_err() {
                break;
            }
            held.pop_front();
        }
    }
    Ok(link.flush()?)
}

/// Which sensor a topic belongs to.
struct Rules<'a> {
    topics: &'a [TopicPattern],
    sensor: Option<&'a SensorTemplate>,
}

impl Rules<'_> {
    fn handle(
        &self,
        topic: &str,
        payload: &[u8],
        receipt: Receipt,
        known: &mut HashMap<Box<str>, Option<(String, Option<SensorId>)>>,
        decoder: &mut StreamDecoder,
        hot_path: &mut HotPath,
    ) {
        if !known.contains_key(topic) {
            let Some(name) = self.name_of(topic) else {
                let detail = format!("no pattern of this source matches topic {topic:?}");
                return hot_path.handle_rejection(Rejection::UnknownSensor, &detail, payload);
            };
            if known.len() >= TOPICS_MAX {
                known.clear();
            }
            known.insert(topic.into(), name.map(|name| (name, None)));
        }
        let named = match known.get_mut(topic) {
            Some(Some((name, sensor))) => {
                if sensor.is_none() {
                    *sensor = hot_path.sensor(name).ok();
                }
                match *sensor {
                    Some(sensor) => Named::Known { name, sensor },
                    None => Named::Name(name),
                }
            }
            _ => Named::Nobody,
        };
        decoder.handle_payload(payload, named, receipt, hot_path);
    }

    /// The sensor's name by the first pattern that matches; `Some(None)` if
    /// the payload says.
    fn name_of(&self, topic: &str) -> Option<Option<String>> {
        let is_match = |pattern: &&TopicPattern| pattern.is_match(topic);
        let pattern = self.topics.iter().find(is_match)?;
        let Some(template) = self.sensor else {
            return Some(None);
        };
        let mut name = String::new();
        template
            .render(pattern, topic, &mut name)
            .then_some(Some(name))
    }
}
