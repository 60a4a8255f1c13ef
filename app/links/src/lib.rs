//! Links: from their bytes to readings, a step at a time.
//!
//! One file for each kind of link, each a [`Feed`]. A lost link is tried again,
//! ever more slowly.

mod file;
mod memory;
mod modbus;
mod mqtt;
mod node_log;
mod nodes;
mod payloads;
pub mod recognise;
mod serial;

pub use memory::{MemoryFeed, SEQUENCE_FIRST, wait_until, write_sequence};
pub use modbus::misfits;
pub use node_log::LogTable;
pub use serial::settings as serial_settings;

use anyhow::{Context, anyhow};
use file::FileFeed;
use hark_codec::{BYTE_ORDER_MARK, LineSplitter, Utf16Reader};
use hark_config::{Config, Format, Link, SensorTemplate, SourceConfig};
use hark_engine::{Rejection, SensorId};
use hark_outlet::mqtt::Broker;
use hark_serve::hot_path::{HotPath, NodeMemories, Receipt};
use hark_serve::{Feed, NodeRequest};
use hark_threads::Backoff;
use modbus::ModbusFeed;
use mqtt::MqttFeed;
use nodes::Nodes;
use payloads::Payloads;
use serial::SerialFeed;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// The step in which a waiting thread looks for the shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// Makes the feed of a configured source. `broker` is for MQTT sources.
///
/// # Errors
/// If the mapping does not fit the model's schema, or the broker's login
/// cannot be used.
pub fn open(
    source: &SourceConfig,
    config: &Config,
    hot_path: &mut HotPath,
    broker: Option<&Broker>,
) -> anyhow::Result<Box<dyn Feed>> {
    if let Link::Modbus(link) = &source.link {
        let feed = ModbusFeed::new(link, source, hot_path)
            .with_context(|| format!("source {}", source.name))?;
        return Ok(Box::new(feed));
    }
    let decoder =
        StreamDecoder::new(source, hot_path).with_context(|| format!("source {}", source.name))?;
    Ok(match &source.link {
        Link::Serial(link) => Box::new(SerialFeed::new(link, decoder)),
        Link::File(link) => {
            let period_ms = link.period_ms.unwrap_or(hot_path.schema().period_ms);
            Box::new(FileFeed::new(link, decoder, period_ms))
        }
        Link::Mqtt(link) => {
            let broker = broker.context("an MQTT source has a broker")?;
            Box::new(MqttFeed::new(link, source, config, decoder, broker)?)
        }
        Link::Modbus(_) => unreachable!("returned above"),
    })
}

/// From the bytes of one source to readings, whatever their format.
pub(crate) struct StreamDecoder {
    kind: Kind,
    sensor: Option<SensorTemplate>,
}

enum Kind {
    Payloads {
        payloads: Box<Payloads>,
        lines: LineSplitter,
        /// Makes UTF-8 of a stream that is UTF-16.
        wide: Utf16Reader,
    },
    Wire(Box<Nodes>),
}

impl StreamDecoder {
    fn new(config: &SourceConfig, hot_path: &mut HotPath) -> anyhow::Result<Self> {
        // What the operator names keeps its place, whoever else comes.
        if let Some(name) = config.sensor.as_ref().and_then(SensorTemplate::fixed) {
            hot_path
                .sensor(name)
                .map_err(|_| anyhow!("{name:?} cannot be the name of a sensor"))?;
        }
        let kind = match config.format {
            Format::Wire => {
                let max = hot_path.sensors_max();
                Kind::Wire(Box::new(Nodes::new(&config.name, &config.nodes, max)?))
            }
            Format::Payload(format) => Kind::Payloads {
                payloads: Box::new(Payloads::new(config, format, hot_path)?),
                lines: LineSplitter::new(),
                wide: Utf16Reader::default(),
            },
            Format::Registers => unreachable!("units are asked, and send no payloads"),
        };
        Ok(Self {
            kind,
            sensor: config.sensor.clone(),
        })
    }

    /// Takes in the next reading of what a read of a stream returned; false if
    /// `bytes` are used up.
    fn handle_next(&mut self, bytes: &mut &[u8], receipt: Receipt, hot_path: &mut HotPath) -> bool {
        let fixed = self.sensor.as_ref().and_then(SensorTemplate::fixed);
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.handle_next(bytes, fixed, receipt, hot_path),
            Kind::Payloads {
                payloads, lines, ..
            } => {
                if payloads.serve_waiting(None, hot_path) {
                    return true;
                }
                match lines.next_line(bytes) {
                    None => return false,
                    Some(Ok(line)) => {
                        let (named, now_us) = (Named::of(fixed), receipt.now.utc_us);
                        payloads.handle_line(line, named, now_us, &mut |_, _| receipt, hot_path);
                    }
                    Some(Err(oversize)) => {
                        hot_path.handle_rejection(Rejection::Oversize, &oversize, &[]);
                    }
                }
                true
            }
        }
    }

    /// Takes in one whole payload, which came on `topic`.
    fn handle_payload(
        &mut self,
        payload: &[u8],
        topic: &str,
        named: Named<'_>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        match &mut self.kind {
            Kind::Wire(nodes) => {
                // The name outlives what is done to the table of sensors.
                let known = match named {
                    Named::Known(sensor) => Some(Arc::clone(hot_path.name(sensor))),
                    Named::Name(_) | Named::Nobody => None,
                };
                let name = match named {
                    Named::Name(name) => Some(name),
                    Named::Known(_) | Named::Nobody => known.as_deref(),
                };
                nodes.handle_payload(payload, topic, name, receipt, hot_path);
            }
            Kind::Payloads { payloads, .. } => {
                payloads.handle_message();
                let (now_us, receive) = (receipt.now.utc_us, &mut |_: &mut HotPath, _| receipt);
                let count =
                    payloads.handle(payload, named, now_us, Some(receipt), receive, hot_path);
                // Between the lines of a stream there may be empty ones; a message of
                // nothing is a reading that did not come through.
                if count == 0 && is_blank(payload) {
                    hot_path.handle_rejection(Rejection::Malformed, &"an empty payload", payload);
                }
            }
        }
    }

    /// Takes in the value of one channel, which came by itself.
    fn handle_value(
        &mut self,
        channel: &str,
        payload: &[u8],
        named: Named<'_>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        if let Kind::Payloads { payloads, .. } = &mut self.kind {
            payloads.handle_value(channel, payload, named, receipt, hot_path);
        }
    }

    /// Whether readings wait that came in one message with another.
    fn has_waiting(&self) -> bool {
        matches!(&self.kind, Kind::Payloads { payloads, .. } if payloads.has_waiting())
    }

    /// Takes in the next of them; false if there is none.
    fn serve_waiting(&mut self, hot_path: &mut HotPath) -> bool {
        match &mut self.kind {
            Kind::Payloads { payloads, .. } => payloads.serve_waiting(None, hot_path),
            Kind::Wire(_) => false,
        }
    }

    /// What a read of a stream returned, in UTF-8.
    fn widened<'t>(&'t mut self, bytes: &'t [u8]) -> &'t [u8] {
        match &mut self.kind {
            Kind::Payloads { wide, .. } => wide.push(bytes),
            Kind::Wire(_) => bytes,
        }
    }

    /// The link was made anew: what was begun before it broke is void. `is_midway`:
    /// it may have been made in the middle of a line.
    fn handle_link_up(&mut self, is_midway: bool) {
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.handle_link_up(),
            Kind::Payloads {
                payloads,
                lines,
                wide,
            } => {
                lines.reset();
                wide.reset();
                payloads.handle_start(is_midway);
            }
        }
    }

    fn node_requests(&self) -> Option<SyncSender<NodeRequest>> {
        match &self.kind {
            Kind::Wire(nodes) => Some(nodes.requests()),
            Kind::Payloads { .. } => None,
        }
    }

    fn leave_nodes(&mut self) -> Option<NodeMemories> {
        match &mut self.kind {
            Kind::Wire(nodes) => Some(nodes.leave()),
            Kind::Payloads { .. } => None,
        }
    }

    fn handle_nodes(&mut self, nodes: NodeMemories) {
        if let Kind::Wire(here) = &mut self.kind {
            here.handle_known(nodes);
        }
    }

    /// What the gateway wants to say on MQTT next, and to the node of which topic.
    fn poll_ask(&mut self) -> Option<(Box<str>, hark_wire::Message)> {
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.poll_ask(),
            Kind::Payloads { .. } => None,
        }
    }

    /// What the gateway wants to say to the node at the other end, if anything.
    fn poll_answer(&mut self) -> Option<hark_wire::Message> {
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.poll_answer(),
            Kind::Payloads { .. } => None,
        }
    }
}

/// Whether a payload holds nothing but white space and NULs.
fn is_blank(payload: &[u8]) -> bool {
    let text = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
    text.iter()
        .all(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

/// What is known of a payload's sensor before it is decoded. A sensor that
/// nobody names, the payload neither, is called as its source.
#[derive(Clone, Copy)]
enum Named<'a> {
    /// It has a place in the engine.
    Known(SensorId),
    /// By its name.
    Name(&'a str),
    /// The payload says.
    Nobody,
}

impl<'a> Named<'a> {
    fn of(name: Option<&'a str>) -> Self {
        name.map_or(Self::Nobody, Self::Name)
    }
}

/// A link that is to be made: when to try, and whether its absence was said.
struct Retry {
    backoff: Backoff,
    at: Option<Instant>,
    last_reason: String,
}

impl Retry {
    fn new(config: hark_config::Backoff) -> Self {
        let [min, max] = [config.ms_min, config.ms_max].map(Duration::from_millis);
        Self {
            backoff: Backoff::new(min, max),
            at: None,
            last_reason: String::new(),
        }
    }

    /// Whether it is time to try; if not, waits for a moment.
    fn is_due(&self) -> bool {
        let Some(at) = self.at else {
            return true;
        };
        let left = at.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(SHUTDOWN_POLL));
        left <= SHUTDOWN_POLL
    }

    /// Whether the link was lost, or could not be made, since it was last up.
    fn has_failed(&self) -> bool {
        !self.last_reason.is_empty()
    }

    fn handle_up(&mut self) {
        self.at = None;
        self.backoff.handle_up();
        self.last_reason.clear();
    }

    /// The link was lost or cannot be made. What stays away is reported once,
    /// not at every try; each wait is twice the one before, up to a bound.
    fn handle_down(&mut self, reason: String, hot_path: &mut HotPath) {
        self.at = Some(Instant::now() + self.backoff.handle_down());
        if reason != self.last_reason {
            hot_path.handle_link_down(&reason);
            self.last_reason = reason;
        }
    }
}
