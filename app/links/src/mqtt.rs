//! Readings from the topics of a broker.
//!
//! One plain thread reads the socket, decodes and serves. What has been read
//! and not yet served is the only queue there is: it stands in the session's
//! buffer, undecoded, and what has waited there for too long is shed without
//! being decoded. The socket is emptied even while readings wait, so that
//! waiting is seen here and not hidden in the network.

use super::{Named, SHUTDOWN_POLL, StreamDecoder};
use hark_config::{CHANNEL_CAPTURE, Config, MqttLink, SensorTemplate, SourceConfig, TopicPattern};
use hark_engine::{Admission, Rejection, SensorId};
use hark_mqtt::{Client, ClientEvent, ClientSettings, Endpoint};
use hark_outlet::mqtt::Broker;
use hark_serve::hot_path::{HotPath, NodeMemories, Receipt};
use hark_serve::{Fed, Feed};
use hark_threads::shutdown::Shutdown;
use hark_wire::FRAME_MAX;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What is counted of messages that the broker had kept, in `link_faults` of the
/// summary.
const RETAINED: &str = "retained";
/// Topics whose sensors are remembered, so that a known topic costs one look-up.
const TOPICS_MAX: usize = 65_536;
/// Bytes of these topics together: what strangers make of them is forgotten.
const TOPICS_BYTES_MAX: usize = 4 << 20;
/// The level below its own topic on which a node listens (SPEC.md).
const CONFIG_LEVEL: &str = "/config";
/// Bytes of a topic that are shown.
const TOPIC_SHOWN: usize = 64;
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
/// Reads of the socket whose time is kept apart; a later one counts as the last.
const READS_MAX: usize = 4096;

/// The topics of a broker.
pub(super) struct MqttFeed {
    broker: Broker,
    topics: Vec<TopicPattern>,
    accepts_retained: bool,
    has_told_retained: bool,
    /// A topic names the channel whose value its payload is.
    has_values: bool,
    sensor: Option<SensorTemplate>,
    decoder: StreamDecoder,
    admission: Admission,
    rank: usize,
    endpoint: Endpoint,
    /// What stays away is reported once, not at every try.
    last_reason: String,
    /// The same for filters that the broker refuses.
    refused: Vec<String>,
    known: KnownTopics,
    /// Where in the stream each read ended that may hold unserved messages.
    reads: VecDeque<(u64, Receipt)>,
    has_more: bool,
    filled: Instant,
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
        let subscriptions = link.topics.iter();
        let client = Client::new(ClientSettings {
            subscriptions: subscriptions.map(|t| (t.filter(), link.qos)).collect(),
            // A source without one of its topics would look healthy.
            needs_every_subscription: true,
            backoff_ms: [link.reconnect.ms_min, link.reconnect.ms_max],
            read_buffer_bytes: BACKLOG_BYTES,
            write_buffer_bytes: OUTPUT_BYTES,
            ..broker.client_settings()
        })?;
        Ok(Self {
            broker: broker.clone(),
            topics: link.topics.clone(),
            accepts_retained: link.accepts_retained,
            has_told_retained: false,
            has_values: link.topics.iter().any(TopicPattern::captures_channel),
            sensor: source.sensor.clone(),
            decoder,
            admission: Admission::new(config.wait_us_max(), priorities.len().max(1)),
            rank: rank.unwrap_or(0),
            endpoint: broker.endpoint(client),
            last_reason: String::new(),
            refused: Vec::new(),
            known: KnownTopics::default(),
            reads: VecDeque::with_capacity(READS_MAX),
            has_more: false,
            filled: Instant::now(),
        })
    }

    /// Handles one event of what was read, if there is one.
    fn serve(&mut self, hot_path: &mut HotPath, is_stopping: bool) {
        let held = hot_path.held_verdicts();
        if held.is_some_and(|(_, held)| held.len() >= VERDICTS_WRITTEN_AT) {
            publish_verdicts(self.endpoint.client(), hot_path);
            self.endpoint.flush();
        }
        // What arrives after the shutdown stays with the broker: else one that
        // sends faster than is served would hold the stop up.
        let is_due = hot_path.mark().saturating_duration_since(self.filled) > FILL_EVERY;
        if is_due && !is_stopping {
            self.fill(hot_path);
        }
        // What came in one message is served before the next.
        self.has_more = self.decoder.serve_waiting(hot_path) || self.handle_event(hot_path);
    }

    fn listen(&mut self, hot_path: &mut HotPath) {
        let client = self.endpoint.client();
        // What is left is part of a message that the next read completes, or
        // whole messages that wait for room for their acknowledgements.
        if !client.is_blocked() {
            self.reads.clear();
        }
        publish_verdicts(client, hot_path);
        let patience = if hot_path.has_waiting() {
            Duration::ZERO
        } else {
            SHUTDOWN_POLL
        };
        self.endpoint.wait(None, patience);
        self.fill(hot_path);
    }

    fn fill(&mut self, hot_path: &mut HotPath) {
        let len = self.endpoint.fill();
        let receipt = hot_path.receive();
        self.filled = hot_path.mark();
        let client = self.endpoint.client();
        self.has_more |= len > 0 || client.has_more();
        if len == 0 {
            return;
        }
        if self.reads.len() == READS_MAX {
            self.reads.pop_back();
        }
        self.reads.push_back((client.received(), receipt));
    }

    /// Handles the next event; false if there is none in what was read.
    fn handle_event(&mut self, hot_path: &mut HotPath) -> bool {
        let client = self.endpoint.client();
        let (from, received) = (client.consumed(), client.received());
        while self.reads.front().is_some_and(|(end, _)| *end <= from) {
            self.reads.pop_front();
        }
        let receipt = self.reads.front().map(|(_, receipt)| *receipt);
        let Some(event) = client.poll_event() else {
            return false;
        };
        match event {
            ClientEvent::Message {
                topic, is_retained, ..
            } if is_retained && !self.accepts_retained => {
                hot_path.note_fault(RETAINED, 1);
                if !std::mem::replace(&mut self.has_told_retained, true) {
                    let source = hot_path.source();
                    let shown = &topic[..topic.floor_char_boundary(TOPIC_SHOWN)];
                    tracing::info!(peer = %source, "{source}: {shown:?} is retained by the broker, so it is old and no reading; retained = \"accept\" takes such");
                }
            }
            ClientEvent::Message { topic, payload, .. } => {
                let receipt = receipt.unwrap_or_else(|| hot_path.receive());
                let waited_us = hot_path.waited_us(&receipt);
                let is_full = (received - from) as usize > BACKLOG_FULL;
                if is_full || !self.admission.is_admitted(self.rank, waited_us) {
                    hot_path.handle_shed(&receipt);
                } else {
                    let known = &mut self.known;
                    let rules = Rules {
                        topics: &self.topics,
                        has_values: self.has_values,
                        sensor: self.sensor.as_ref(),
                    };
                    rules.handle(topic, payload, receipt, known, &mut self.decoder, hot_path);
                    ask_nodes(self.endpoint.client(), &mut self.decoder);
                }
            }
            ClientEvent::Oversize { bytes } => {
                let detail = format!("a packet of {bytes} bytes");
                hot_path.handle_rejection(Rejection::Oversize, &detail, &[]);
            }
            ClientEvent::SubscriptionRefused { filter, reason, .. } => {
                // Once, and not at every try.
                if !self.refused.iter().any(|told| told == filter) {
                    self.refused.push(filter.to_owned());
                    let broker = self.broker.name();
                    tracing::warn!("broker {broker} refuses {filter}: {reason}");
                }
            }
            ClientEvent::Up => {
                self.last_reason.clear();
                self.refused.clear();
                hot_path.handle_link_up();
                self.decoder.handle_link_up(false);
            }
            ClientEvent::Down { why, is_young, .. } => {
                self.reads.clear();
                hot_path.drop_held_verdicts();
                let hint = if is_young {
                    self.broker.hint_of_a_quick_loss()
                } else {
                    String::new()
                };
                let reason = format!("broker {}: {why}{hint}", self.broker.name());
                if reason != self.last_reason {
                    hot_path.handle_link_down(&reason);
                    self.last_reason = reason;
                }
            }
            // This client posts no letters.
            ClientEvent::Published { .. } | ClientEvent::Refused { .. } => {}
        }
        true
    }

    fn say_goodbye(&mut self, hot_path: &mut HotPath) {
        publish_verdicts(self.endpoint.client(), hot_path);
        self.endpoint.leave(None, Duration::ZERO);
        // A broker that does not take it sees the connection close.
        self.endpoint.flush();
    }
}

impl Feed for MqttFeed {
    fn leave_nodes(&mut self) -> Option<NodeMemories> {
        self.decoder.leave_nodes()
    }

    fn handle_nodes(&mut self, nodes: NodeMemories) {
        self.decoder.handle_nodes(nodes);
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        let is_stopping = shutdown.is_requested();
        if self.has_more {
            self.serve(hot_path, is_stopping);
        } else if is_stopping {
            self.say_goodbye(hot_path);
            return Fed::Ended;
        } else {
            self.listen(hot_path);
        }
        Fed::Open
    }
}

/// Puts the verdicts of this source's own readings into the output, as many as
/// fit.
fn publish_verdicts(client: &mut Client, hot_path: &mut HotPath) {
    if let Some((root, held)) = hot_path.held_verdicts() {
        while let Some(report) = held.front() {
            if hark_outlet::verdicts::publish(client, root, report).is_err() {
                break;
            }
            held.pop_front();
        }
    }
}

/// Asks nodes whose `Hello` was missed for it, on the topics that they listen to. What
/// the output has no room for is asked another time.
fn ask_nodes(client: &mut Client, decoder: &mut StreamDecoder) {
    while let Some((topic, message)) = decoder.poll_ask() {
        let mut frame = [0; FRAME_MAX];
        let frame = hark_wire::encode(&message, &mut frame);
        // Down or full: it is asked again while its readings come.
        let _ = client.publish(&[&topic, CONFIG_LEVEL], frame);
    }
}

/// The sensors of topics that have one. Of topics that strangers invent nothing is
/// kept: a topic is remembered once its sensor has a place.
#[derive(Default)]
struct KnownTopics {
    sensors: HashMap<Box<str>, SensorId>,
    bytes: usize,
    /// Since then no sensor's place was given to another.
    sensors_replaced: u64,
    /// For one name after the other.
    name: String,
}

impl KnownTopics {
    fn get(&mut self, topic: &str, hot_path: &HotPath) -> Option<SensorId> {
        let sensors_replaced = hot_path.sensors_replaced();
        if self.sensors_replaced != sensors_replaced {
            self.sensors_replaced = sensors_replaced;
            self.clear();
        }
        self.sensors.get(topic).copied()
    }

    fn insert(&mut self, topic: &str, sensor: SensorId) {
        if self.sensors.len() >= TOPICS_MAX || self.bytes + topic.len() > TOPICS_BYTES_MAX {
            self.clear();
        }
        self.bytes += topic.len();
        self.sensors.insert(topic.into(), sensor);
    }

    fn clear(&mut self) {
        self.sensors.clear();
        self.bytes = 0;
    }
}

/// Which sensor a topic belongs to.
struct Rules<'a> {
    topics: &'a [TopicPattern],
    has_values: bool,
    sensor: Option<&'a SensorTemplate>,
}

impl Rules<'_> {
    fn handle(
        &self,
        topic: &str,
        payload: &[u8],
        receipt: Receipt,
        known: &mut KnownTopics,
        decoder: &mut StreamDecoder,
        hot_path: &mut HotPath,
    ) {
        if let Some(sensor) = known.get(topic, hot_path) {
            let named = Named::Known(sensor);
            return self.give(topic, payload, named, receipt, decoder, hot_path);
        }
        let named = match self.name_of(topic, &mut known.name) {
            None => {
                let shown = &topic[..topic.floor_char_boundary(TOPIC_SHOWN)];
                let detail = format_args!("no pattern of this source matches topic {shown:?}");
                return hot_path.handle_rejection(Rejection::UnknownSensor, &detail, payload);
            }
            Some(false) => Named::Nobody,
            Some(true) => Named::Name(&known.name),
        };
        let is_by_topic = matches!(named, Named::Name(_));
        self.give(topic, payload, named, receipt, decoder, hot_path);
        // With its first reading: the next one is to cost no more than all others.
        if is_by_topic && let Some(sensor) = hot_path.find(&known.name) {
            known.insert(topic, sensor);
        }
    }

    fn give(
        &self,
        topic: &str,
        payload: &[u8],
        named: Named<'_>,
        receipt: Receipt,
        decoder: &mut StreamDecoder,
        hot_path: &mut HotPath,
    ) {
        let pattern = self.topics.iter().filter(|_| self.has_values);
        let pattern = { pattern }.find(|pattern| pattern.is_match(topic));
        match pattern.and_then(|pattern| pattern.capture(CHANNEL_CAPTURE, topic)) {
            Some(channel) => decoder.handle_value(channel, payload, named, receipt, hot_path),
            None => decoder.handle_payload(payload, topic, named, receipt, hot_path),
        }
    }

    /// Writes the sensor's name by the first pattern that matches; `Some(false)` if
    /// the payload says.
    fn name_of(&self, topic: &str, name: &mut String) -> Option<bool> {
        let is_match = |pattern: &&TopicPattern| pattern.is_match(topic);
        let pattern = self.topics.iter().find(is_match)?;
        let Some(template) = self.sensor else {
            return Some(false);
        };
        template.render(pattern, topic, name).then_some(true)
    }
}
