//! Payloads that [`hark_codec`] decodes, to readings of their sensors.
//!
//! A message may hold many readings. The first is handled at once; the others
//! wait here, so that each step of the feed still handles one reading and a model
//! can be run between any two. Values that come apart are joined before.

use super::{Named, is_blank};
use hark_codec::{Decoded, Decoder, Joined, Joiner, READINGS_MAX};
use hark_config::{CHANNEL_CAPTURE, Link, SourceConfig};
use hark_engine::{Reading, Rejection};
use hark_serve::hot_path::{HotPath, Receipt};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is counted of lines whose start nobody saw, in `link_faults` of the summary.
const PARTIAL_LINE: &str = "partial_line";

/// Gives the receipt of a reading, once its timestamp is known: a recording keeps
/// its own time.
pub(crate) type Receive<'r> = &'r mut dyn FnMut(&mut HotPath, Option<i64>) -> Receipt;

/// The decoder of one source, and what it holds back.
pub(crate) struct Payloads {
    decoder: Decoder,
    joiner: Option<Joiner>,
    waiting: VecDeque<Waiting>,
    bytes_max: usize,
    /// Nobody saw how the line at hand began.
    is_midway: bool,
    /// A value that no channel is, was told.
    has_told: bool,
}

/// A reading that came in one message with another.
struct Waiting {
    reading: Reading,
    channels: u32,
    sensor: Arc<str>,
    receipt: Option<Receipt>,
}

impl Payloads {
    pub(crate) fn new(
        config: &SourceConfig,
        format: hark_codec::Format,
        hot_path: &HotPath,
    ) -> anyhow::Result<Self> {
        let channels = hot_path.schema().channels.len();
        let is_joined = config.hold_ms > 0
            || matches!(&config.link, Link::Mqtt(link)
                if link.topics.iter().any(|topic| topic.captures_channel()));
        Ok(Self {
            decoder: Decoder::new(format, hot_path.schema(), &config.mapping)?,
            joiner: is_joined.then(|| Joiner::new(channels, config.hold_ms)),
            waiting: VecDeque::new(),
            bytes_max: config.payload_bytes_max,
            is_midway: false,
            has_told: false,
        })
    }

    /// A stream begins. `is_midway`: perhaps in the middle of a line.
    pub(crate) fn handle_start(&mut self, is_midway: bool) {
        self.decoder.handle_start();
        self.is_midway = is_midway;
    }

    /// A message begins, which is a file of its own.
    pub(crate) fn handle_message(&mut self) {
        self.decoder.handle_start();
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes in the next reading that waits; false if there is none.
    pub(crate) fn serve_waiting(
        &mut self,
        receive: Option<Receive<'_>>,
        hot_path: &mut HotPath,
    ) -> bool {
        let Some(waiting) = self.waiting.pop_front() else {
            return false;
        };
        let reading = &waiting.reading;
        let receipt = match (waiting.receipt, receive) {
            (Some(receipt), _) => receipt,
            (None, Some(receive)) => receive(hot_path, reading.timestamp_us),
            (None, None) => hot_path.receive(),
        };
        let decoded = Decoded {
            reading,
            channels: waiting.channels,
            sensor: None,
        };
        let named = Named::Name(&waiting.sensor);
        give(
            &mut self.joiner,
            &self.decoder,
            &decoded,
            named,
            receipt,
            &[],
            hot_path,
        );
        true
    }

    /// Takes in a line of a stream.
    pub(crate) fn handle_line(
        &mut self,
        line: &[u8],
        named: Named<'_>,
        now_us: i64,
        receive: Receive<'_>,
        hot_path: &mut HotPath,
    ) {
        if std::mem::take(&mut self.is_midway) {
            // Half a header is none, and half an object is no JSON.
            if self.decoder.adopt_header(line) || is_blank(line) {
                return;
            }
            if !line.trim_ascii_start().starts_with(b"{") {
                return hot_path.note_fault(PARTIAL_LINE, 1);
            }
        }
        self.handle(line, named, now_us, None, receive, hot_path);
    }

    /// Takes in one whole payload. Returns how many readings and rejections it was.
    /// `receipt` is that of all its readings, if they have one.
    pub(crate) fn handle(
        &mut self,
        payload: &[u8],
        named: Named<'_>,
        now_us: i64,
        receipt: Option<Receipt>,
        receive: Receive<'_>,
        hot_path: &mut HotPath,
    ) -> usize {
        if payload.len() > self.bytes_max {
            self.refuse_oversize(payload, hot_path);
            return 1;
        }
        let Self {
            decoder,
            joiner,
            waiting,
            ..
        } = self;
        let mut is_first = true;
        let mut first = None;
        let count = decoder.decode(payload, now_us, &mut |outcome| match outcome {
            Err(rejected) => hot_path.handle_rejection(rejected.reason, &rejected.detail, payload),
            Ok(decoded) if is_first && joiner.is_none() => {
                is_first = false;
                let receipt = receive(hot_path, decoded.reading.timestamp_us);
                hand_over(
                    decoded.reading,
                    decoded.sensor.as_deref(),
                    named,
                    receipt,
                    payload,
                    hot_path,
                );
            }
            Ok(decoded) => {
                let sensor = name_of(named, decoded.sensor.as_deref(), hot_path);
                let next = Waiting {
                    reading: *decoded.reading,
                    channels: decoded.channels,
                    sensor,
                    receipt,
                };
                if is_first {
                    is_first = false;
                    first = Some(next);
                } else if waiting.len() < READINGS_MAX {
                    waiting.push_back(next);
                } else {
                    let detail = "too many readings wait to be served";
                    hot_path.handle_rejection(Rejection::Oversize, &detail, payload);
                }
            }
        });
        if let Some(first) = first {
            let receipt = receive(hot_path, first.reading.timestamp_us);
            let decoded = Decoded {
                reading: &first.reading,
                channels: first.channels,
                sensor: None,
            };
            let named = Named::Name(&first.sensor);
            give(
                &mut self.joiner,
                &self.decoder,
                &decoded,
                named,
                receipt,
                payload,
                hot_path,
            );
        }
        self.tell_notes(hot_path);
        count
    }

    /// Takes in the value of `channel`, which came by itself.
    pub(crate) fn handle_value(
        &mut self,
        channel: &str,
        payload: &[u8],
        named: Named<'_>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        if payload.len() > self.bytes_max {
            return self.refuse_oversize(payload, hot_path);
        }
        let now_us = receipt.now.utc_us;
        let mut part = None;
        let result = self
            .decoder
            .decode_value(channel, payload, now_us, &mut |decoded| {
                let sensor = name_of(named, decoded.sensor.as_deref(), hot_path);
                part = Some((*decoded.reading, decoded.channels, sensor));
            });
        match result {
            Err(rejected) => hot_path.handle_rejection(rejected.reason, &rejected.detail, payload),
            Ok(false) if !std::mem::replace(&mut self.has_told, true) => {
                let source = hot_path.source();
                tracing::info!(peer = %source, "{source}: `{{{CHANNEL_CAPTURE}}}` captures {channel:?}, which is no channel; such values are passed over");
            }
            Ok(_) => {}
        }
        if let Some((reading, channels, sensor)) = part {
            let decoded = Decoded {
                reading: &reading,
                channels,
                sensor: None,
            };
            let named = Named::Name(&sensor);
            give(
                &mut self.joiner,
                &self.decoder,
                &decoded,
                named,
                receipt,
                payload,
                hot_path,
            );
        }
        self.tell_notes(hot_path);
    }

    fn refuse_oversize(&self, payload: &[u8], hot_path: &mut HotPath) {
        let bytes_max = self.bytes_max;
        let detail = format!("{} bytes, at most {bytes_max} are allowed", payload.len());
        hot_path.handle_rejection(Rejection::Oversize, &detail, payload);
    }

    /// Says what the operator is to know of payloads that were read all the same.
    fn tell_notes(&mut self, hot_path: &mut HotPath) {
        while let Some(note) = self.decoder.take_note() {
            let source = hot_path.source();
            tracing::warn!(peer = %source, "{source}: {note}");
        }
    }
}

/// The sensor's name, for a reading that outlives its payload.
fn name_of(named: Named<'_>, payloads: Option<&str>, hot_path: &HotPath) -> Arc<str> {
    let name = match (named, payloads) {
        (Named::Known(sensor), _) => return Arc::clone(hot_path.name(sensor)),
        (Named::Name(name), _) | (Named::Nobody, Some(name)) => name,
        (Named::Nobody, None) => return Arc::clone(hot_path.source()),
    };
    match hot_path.find(name) {
        Some(sensor) => Arc::clone(hot_path.name(sensor)),
        None => name.into(),
    }
}

/// Hands a reading over, or joins a part of one to what came before.
fn give(
    joiner: &mut Option<Joiner>,
    decoder: &Decoder,
    decoded: &Decoded<'_>,
    named: Named<'_>,
    receipt: Receipt,
    payload: &[u8],
    hot_path: &mut HotPath,
) {
    let Some(joiner) = joiner else {
        return hand_over(decoded.reading, None, named, receipt, payload, hot_path);
    };
    let sensor = name_of(named, None, hot_path);
    let joined = joiner.handle(&sensor, decoded, receipt.now.mono_us);
    for _ in 0..joiner.take_dropped() {
        let detail = "values of too many sensors wait to be joined";
        hot_path.handle_rejection(Rejection::UnknownSensor, &detail, &[]);
    }
    match joined {
        Joined::Waits => {}
        Joined::WaitsInVain { channel } => {
            let source = hot_path.source();
            let field = decoder.field_of(channel);
            tracing::warn!(peer = %source, "{source}: sensor {sensor:?} makes no reading: {field:?} does not come");
        }
        Joined::Missing { channel } => {
            let reason = Rejection::MissingChannel {
                channel: channel as u8,
            };
            let field = decoder.field_of(channel);
            let detail = format_args!("{field:?} has no value that is young enough for hold_ms");
            hot_path.handle_rejection(reason, &detail, payload);
        }
        Joined::Reading(reading) => {
            hand_over(
                &reading,
                None,
                Named::Name(&sensor),
                receipt,
                payload,
                hot_path,
            );
        }
    }
}

fn hand_over(
    reading: &Reading,
    payloads: Option<&str>,
    named: Named<'_>,
    receipt: Receipt,
    payload: &[u8],
    hot_path: &mut HotPath,
) {
    match (named, payloads) {
        (Named::Known(sensor), _) => hot_path.handle_reading(sensor, reading, receipt),
        (Named::Name(name), _) | (Named::Nobody, Some(name)) => {
            hot_path.handle_reading_of(name, reading, receipt, payload);
        }
        (Named::Nobody, None) => {
            let source = Arc::clone(hot_path.source());
            hot_path.handle_reading_of(&source, reading, receipt, payload);
        }
    }
}
