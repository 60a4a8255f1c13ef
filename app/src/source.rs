//! Sources: one thread each, from bytes to verdicts, until the shutdown.
//!
//! A lost link is tried again, ever more slowly; whatever arrives is decoded
//! and handed to the source's [`HotPath`] on the same thread.

mod file;
mod mqtt;
mod nodes;
mod serial;

use crate::config::{Backoff, Format, Link, SensorTemplate, SourceConfig};
use crate::hot_path::{HotPath, Receipt, SourceResult};
use crate::mqtt::Broker;
use crate::shutdown::Shutdown;
use anyhow::Context;
use hark_codec::{Decoder, LineSplitter};
use hark_engine::{Rejection, SensorId};
use nodes::Nodes;
use std::time::Duration;

/// The step in which a waiting thread looks for the shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// A source that can start: everything that could be wrong with it is checked.
pub struct Source {
    config: SourceConfig,
    hot_path: HotPath,
    decoder: StreamDecoder,
    broker: Option<Broker>,
}

impl Source {
    /// Makes the decoder of a source. `broker` is for MQTT sources.
    ///
    /// # Errors
    /// If the mapping does not fit the model's schema.
    pub fn new(
        config: SourceConfig,
        hot_path: HotPath,
        broker: Option<Broker>,
    ) -> anyhow::Result<Self> {
        let decoder = StreamDecoder::new(&config, &hot_path)
            .with_context(|| format!("source {}", config.name))?;
        Ok(Self {
            config,
            hot_path,
            decoder,
            broker,
        })
    }

    /// Listens until the shutdown, or to the end of a file.
    pub fn run(mut self, mut shutdown: Shutdown) -> SourceResult {
        match &self.config.link {
            Link::Serial(link) => {
                serial::run(link, &mut self.hot_path, &mut self.decoder, &shutdown);
            }
            Link::File(link) => {
                file::run(
                    link,
                    &self.config,
                    &mut self.hot_path,
                    &mut self.decoder,
                    &shutdown,
                );
            }
            Link::Mqtt(link) => {
                if let Some(broker) = &self.broker {
                    let mut source = mqtt::MqttSource::new(
                        link,
                        &self.config,
                        &mut self.hot_path,
                        &mut self.decoder,
                    );
                    source.run(broker, &mut shutdown);
                }
            }
        }
        self.hot_path.finish()
    }
}

/// From the bytes of one source to readings, whatever their format.
pub(crate) struct StreamDecoder {
    kind: Kind,
    sensor: Option<SensorTemplate>,
    payload_bytes_max: usize,
}

enum Kind {
    Payloads {
        decoder: Decoder,
        lines: LineSplitter,
    },
    Wire(Box<Nodes>),
}

impl StreamDecoder {
    fn new(config: &SourceConfig, hot_path: &HotPath) -> anyhow::Result<Self> {
        let kind = match config.format {
            Format::Wire => Kind::Wire(Box::default()),
            Format::Payload(format) => Kind::Payloads {
                decoder: Decoder::new(format, hot_path.schema(), &config.mapping)?,
                lines: LineSplitter::new(),
            },
        };
        Ok(Self {
            kind,
            sensor: config.sensor.clone(),
            payload_bytes_max: config.payload_bytes_max,
        })
    }

    /// Takes in what a read of a stream returned.
    fn handle_bytes(&mut self, bytes: &[u8], receipt: Receipt, hot_path: &mut HotPath) {
        let fixed = self.sensor.as_ref().and_then(SensorTemplate::fixed);
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.handle_bytes(bytes, fixed, receipt, hot_path),
            Kind::Payloads { decoder, lines } => lines.push(bytes, |line| match line {
                Ok(line) => {
                    let bytes_max = self.payload_bytes_max;
                    handle_payload(decoder, line, bytes_max, fixed, |_, _| receipt, hot_path);
                }
                Err(oversize) => {
                    hot_path.handle_rejection(Rejection::Oversize, &oversize, &[]);
                }
            }),
        }
    }

    /// Takes in one whole payload of the sensor `sensor`, if that is known.
    fn handle_payload(
        &mut self,
        payload: &[u8],
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        let bytes_max = self.payload_bytes_max;
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.handle_payload(payload, sensor, receipt, hot_path),
            Kind::Payloads { decoder, .. } => {
                handle_payload(
                    decoder,
                    payload,
                    bytes_max,
                    sensor,
                    |_, _| receipt,
                    hot_path,
                );
            }
        }
    }

    /// The link was made anew: what was begun before it broke is void.
    fn handle_link_up(&mut self) {
        match &mut self.kind {
            Kind::Wire(nodes) => nodes.handle_link_up(),
            Kind::Payloads { lines, .. } => *lines = LineSplitter::new(),
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

/// Decodes one payload and hands it on. `receive` gives its receipt, once its
/// timestamp is known: a recording keeps its own time.
fn handle_payload(
    decoder: &mut Decoder,
    payload: &[u8],
    bytes_max: usize,
    sensor: Option<&str>,
    receive: impl FnOnce(&mut HotPath, Option<i64>) -> Receipt,
    hot_path: &mut HotPath,
) {
    if payload.len() > bytes_max {
        let detail = format!("{} bytes, at most {bytes_max} are allowed", payload.len());
        return hot_path.handle_rejection(Rejection::Oversize, &detail, payload);
    }
    let decoded = match decoder.decode(payload) {
        Ok(Some(decoded)) => decoded,
        Ok(None) => return,
        Err(rejected) => {
            return hot_path.handle_rejection(rejected.reason, &rejected.detail, payload);
        }
    };
    let receipt = receive(hot_path, decoded.reading.timestamp_us);
    let named = sensor.or(decoded.sensor.as_deref());
    match sensor_or_source(named, hot_path) {
        Ok(sensor) => hot_path.handle_reading(sensor, &decoded.reading, receipt),
        Err(reason) => {
            let detail = format!("sensor {:?}", named.unwrap_or_default());
            hot_path.handle_rejection(reason, &detail, payload);
        }
    }
}

/// A sensor that nobody names is called as its source.
fn sensor_or_source(name: Option<&str>, hot_path: &mut HotPath) -> Result<SensorId, Rejection> {
    match name {
        Some(name) => hot_path.sensor(name),
        None => {
            let source = std::sync::Arc::clone(hot_path.source());
            hot_path.sensor(&source)
        }
    }
}

/// Waits between two tries, doubled up to a bound.
struct Waits {
    backoff: Backoff,
    next: Duration,
}

impl Waits {
    fn new(backoff: Backoff) -> Self {
        Self {
            next: Duration::from_millis(backoff.ms_min),
            backoff,
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.backoff);
    }

    fn next(&mut self) -> Duration {
        let doubled = self.next * 2;
        let longest = Duration::from_millis(self.backoff.ms_max);
        std::mem::replace(&mut self.next, doubled.min(longest))
    }
}

/// Sleeps, but not past the shutdown.
fn sleep(wait: Duration, shutdown: &Shutdown) {
    let mut rest = wait;
    while !rest.is_zero() && !shutdown.is_requested() {
        let step = rest.min(SHUTDOWN_POLL);
        std::thread::sleep(step);
        rest -= step;
    }
}
