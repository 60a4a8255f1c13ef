//! Sensor nodes that speak hark's wire protocol: who they are, and their
//! readings in the schema's order.
//!
//! A node says `Hello` with its channels, units and scales; its readings mean
//! nothing before. A gateway that has missed the `Hello` asks for it. What a
//! node calls its channels is compared with the schema once, at `Hello`.

use super::node_log::NodeLog;
use hark_config::NodesConfig;
use hark_engine::{Reading, Rejection, Schema};
use hark_serve::NodeRequest;
use hark_serve::hot_path::{HotPath, Receipt};
use hark_wire::{Channel, Config, DecodeError, FRAME_MAX, FrameDecoder, Hello, Message};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Readings that should not have come, because of no `Hello` or because the node
/// shall not run, between two requests to mend that.
const ASK_EVERY: u32 = 16;
/// Nodes that one MQTT source tells apart.
const NODES_MAX: usize = 65_536;
/// Requests of an operator on their way; whoever sends more is told to wait.
const REQUESTS_MAX: usize = 8;

/// The nodes of one source: one at the end of a line, or one a topic.
pub(super) struct Nodes {
    decoder: Box<FrameDecoder>,
    /// What is asked of each node that says `Hello`; 0: it keeps its period.
    period_ms: u32,
    running: bool,
    requests: (SyncSender<NodeRequest>, Receiver<NodeRequest>),
    log: NodeLog,
    /// By the sensor that the topic names; empty for the node of a line.
    nodes: HashMap<String, Node>,
    wants_hello: bool,
    /// Nodes are to be told `running`, and `period_ms`.
    wants_running: bool,
    wants_period: bool,
    unknown_readings: u32,
    unwanted_readings: u32,
}

struct Node {
    name: Arc<str>,
    boot_id: u32,
    /// For each channel of the schema, its place in the node's readings and
    /// its scale; or why the node's readings cannot be used.
    channels: Result<Vec<(usize, Channel)>, Rejection>,
    /// Values in each of the node's readings.
    values_len: usize,
    /// The last sequence number, unwrapped.
    sequence: Option<u64>,
}

impl Nodes {
    /// The nodes of the source `name`.
    ///
    /// # Errors
    /// If the thread that reads their logs cannot be started.
    pub(super) fn new(name: &str, config: &NodesConfig) -> anyhow::Result<Self> {
        Ok(Self {
            decoder: Box::default(),
            period_ms: config.period_ms,
            running: config.running,
            requests: sync_channel(REQUESTS_MAX),
            log: NodeLog::start(name, config.elf.as_deref())?,
            nodes: HashMap::new(),
            wants_hello: false,
            wants_running: false,
            wants_period: false,
            unknown_readings: 0,
            unwanted_readings: 0,
        })
    }

    /// The way of an operator's requests to these nodes.
    pub(super) fn requests(&self) -> SyncSender<NodeRequest> {
        self.requests.0.clone()
    }

    /// Takes in the next frame of what a read of a line returned; false if
    /// `bytes` are used up. `sensor` is its configured name; without one the
    /// node's own counts.
    pub(super) fn handle_next(
        &mut self,
        bytes: &mut &[u8],
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) -> bool {
        match self.decoder.next_message(bytes) {
            None => return false,
            Some(Ok(message)) => self.handle_message(&message, "", sensor, receipt, hot_path),
            Some(Err(error)) => {
                self.log.handle_loss();
                hot_path.handle_rejection(reason(error), &error, &[]);
            }
        }
        true
    }

    /// Takes in one frame that came as a payload, with or without delimiter.
    pub(super) fn handle_payload(
        &mut self,
        payload: &[u8],
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        let frame = payload.strip_suffix(&[0]).unwrap_or(payload);
        let mut buffer = [0; FRAME_MAX];
        let Some(buffer) = buffer.get_mut(..frame.len()) else {
            let error = DecodeError::TooLong;
            return hot_path.handle_rejection(reason(error), &error, payload);
        };
        buffer.copy_from_slice(frame);
        match hark_wire::decode(buffer) {
            Ok(message) => {
                self.handle_message(&message, sensor.unwrap_or(""), sensor, receipt, hot_path);
            }
            Err(error) => {
                self.log.handle_loss();
                hot_path.handle_rejection(reason(error), &error, payload);
            }
        }
    }

    /// The line was opened anew: another node may be at its end.
    pub(super) fn handle_link_up(&mut self) {
        self.decoder.forget_partial();
        self.log.handle_loss();
        self.wants_hello = true;
    }

    /// What to say to the node next, if anything.
    ///
    /// The period comes last and apart: a node that cannot keep it refuses what
    /// comes with it.
    pub(super) fn poll_answer(&mut self) -> Option<Message> {
        while let Ok(request) = self.requests.1.try_recv() {
            self.period_ms = request.period_ms.unwrap_or(self.period_ms);
            self.running = request.running.unwrap_or(self.running);
            self.wants_period |= request.period_ms.is_some();
            self.wants_running |= request.period_ms.is_none() || request.running.is_some();
        }
        let say_hello = std::mem::take(&mut self.wants_hello);
        let period_ms = if std::mem::take(&mut self.wants_running) || say_hello {
            0
        } else if std::mem::take(&mut self.wants_period) {
            self.period_ms
        } else {
            return None;
        };
        Some(Message::Config(Config {
            period_ms,
            say_hello,
            running: self.running,
        }))
    }

    fn handle_message(
        &mut self,
        message: &Message,
        key: &str,
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        match message {
            Message::Hello(hello) => self.handle_hello(hello, key, sensor, hot_path),
            Message::Reading(reading) => {
                self.handle_reading(reading, key, sensor, receipt, hot_path);
            }
            Message::Health(health) => {
                // The node has started anew, and its Hello was lost.
                let node = self.nodes.get(key);
                self.wants_hello |= node.is_none_or(|node| node.boot_id != health.boot_id);
                tracing::debug!("{}: {health:?}", hot_path.source());
            }
            Message::Log(log) => {
                let node = self.nodes.get(key).map(|node| &node.name);
                let name = node.unwrap_or(hot_path.source());
                self.log.handle_piece(hot_path.source(), name, log);
            }
            // Only gateways send it; an echo on a two-wire line is one.
            Message::Config(_) => tracing::debug!("{}: an echo", hot_path.source()),
        }
    }

    fn handle_hello(
        &mut self,
        hello: &Hello,
        key: &str,
        sensor: Option<&str>,
        hot_path: &mut HotPath,
    ) {
        let mut node = Node::new(hello, hot_path.schema());
        let last = self.nodes.get(key);
        let is_new = last.is_none_or(|last| last.boot_id != node.boot_id || last.name != node.name);
        if is_new {
            tracing::info!(
                "{}: node {} with firmware {}",
                hot_path.source(),
                node.name,
                hello.firmware
            );
            if let Ok(id) = hot_path.sensor(sensor.unwrap_or(&node.name)) {
                hot_path.handle_restart(id);
            }
        }
        // With a configured name the new node is the same sensor.
        if let (Some(last), None) = (last, sensor)
            && last.name != node.name
            && let Ok(id) = hot_path.sensor(&last.name)
        {
            hot_path.handle_gone(id);
        }
        if let (Some(last), false) = (last, is_new) {
            node.sequence = last.sequence;
        }
        self.unknown_readings = 0;
        self.wants_running = true;
        self.wants_period = self.period_ms != 0;
        if self.nodes.len() < NODES_MAX || last.is_some() {
            self.nodes.insert(key.to_owned(), node);
        }
    }

    fn handle_reading(
        &mut self,
        message: &hark_wire::Reading,
        key: &str,
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        let Some(node) = self.nodes.get_mut(key) else {
            self.wants_hello |= self.unknown_readings.is_multiple_of(ASK_EVERY);
            self.unknown_readings = self.unknown_readings.wrapping_add(1);
            let detail = "a reading before its node's Hello";
            return hot_path.handle_rejection(Rejection::NoHello, &detail, &[]);
        };
        if !self.running {
            // Some are on their way when the node is told.
            self.unwanted_readings = self.unwanted_readings.wrapping_add(1);
            self.wants_running |= self.unwanted_readings.is_multiple_of(ASK_EVERY);
        }
        let reading = match node.reading(message) {
            Ok(reading) => reading,
            Err(reason) => {
                let detail = node.explain(reason, hot_path.schema());
                return hot_path.handle_rejection(reason, &detail, &[]);
            }
        };
        let name = sensor.unwrap_or(&node.name);
        match hot_path.sensor(name) {
            Ok(id) => hot_path.handle_reading(id, &reading, receipt),
            Err(reason) => hot_path.handle_rejection(reason, &format!("sensor {name:?}"), &[]),
        }
    }
}

impl Node {
    fn new(hello: &Hello, schema: &Schema) -> Self {
        Self {
            name: hello.node.as_str().into(),
            boot_id: hello.boot_id,
            channels: map_channels(hello, schema),
            values_len: hello.channels.len(),
            sequence: None,
        }
    }

    /// The node counts in 32 bits and wraps (SPEC.md): the number nearest to
    /// the last one is meant, as in RFC 1982.
    fn unwrap_sequence(&mut self, sequence: u32) -> u64 {
        let unwrapped = match self.sequence {
            None => sequence.into(),
            Some(last) => {
                let step = sequence.wrapping_sub(last as u32).cast_signed();
                last.saturating_add_signed(step.into())
            }
        };
        self.sequence = Some(unwrapped);
        unwrapped
    }

    /// What the operator has to mend about a reading refused for `reason`.
    fn explain(&self, reason: Rejection, schema: &Schema) -> String {
        let name = &self.name;
        match (
            reason,
            reason.channel().map(|index| &schema.channels[index]),
        ) {
            (Rejection::Unit { .. }, Some(channel)) => {
                format!("node {name}: {} is not in {}", channel.name, channel.unit)
            }
            (Rejection::MissingChannel { .. }, Some(channel)) => {
                format!("node {name}: no value of {}", channel.name)
            }
            _ => format!("node {name}"),
        }
    }

    /// The reading in the schema's order and units.
    fn reading(&mut self, message: &hark_wire::Reading) -> Result<Reading, Rejection> {
        let sequence = self.unwrap_sequence(message.sequence);
        let channels = self.channels.as_ref().map_err(|reason| *reason)?;
        if message.values.len() != self.values_len {
            return Err(Rejection::ChannelCount);
        }
        let mut reading = Reading::empty(channels.len());
        let slots = reading.values_mut().iter_mut();
        for (channel, (slot, (place, scale))) in (0_u8..).zip(slots.zip(channels)) {
            *slot = scale
                .physical(message.values[*place])
                .ok_or(Rejection::MissingChannel { channel })?;
        }
        reading.sequence = Some(sequence);
        reading.timestamp_us = i64::try_from(message.timestamp_us).ok();
        Ok(reading)
    }
}

fn map_channels(hello: &Hello, schema: &Schema) -> Result<Vec<(usize, Channel)>, Rejection> {
    let map = |(channel, declared): (u8, &hark_engine::Channel)| {
        let place = hello
            .channels
            .iter()
            .position(|c| c.name.as_str() == declared.name)
            .ok_or(Rejection::MissingChannel { channel })?;
        if hello.channels[place].unit.as_str() != declared.unit {
            return Err(Rejection::Unit { channel });
        }
        Ok((place, hello.channels[place].clone()))
    };
    (0_u8..).zip(&schema.channels).map(map).collect()
}

fn reason(error: DecodeError) -> Rejection {
    match error {
        DecodeError::TooLong => Rejection::Oversize,
        DecodeError::Version(_) => Rejection::Version,
        _ => Rejection::Corrupt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(period_ms: u32) -> Nodes {
        let config = NodesConfig {
            period_ms,
            running: false,
            elf: None,
        };
        Nodes::new("line", &config).unwrap()
    }

    /// Checks what is said, as period and whether `Hello` is asked for; each time
    /// it says that nodes shall not run.
    fn check_said(nodes: &mut Nodes, expected: &[(u32, bool)]) {
        let said = std::iter::from_fn(|| nodes.poll_answer());
        let said = said.map(|message| match message {
            Message::Config(config) if !config.running => (config.period_ms, config.say_hello),
            other => panic!("{other:?}"),
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_period_never_comes_with_what_must_not_be_refused() {
        let mut nodes = nodes(20_000);
        check_said(&mut nodes, &[]);
        nodes.handle_link_up();
        check_said(&mut nodes, &[(0, true)]);
        let request = |period_ms, running| NodeRequest { period_ms, running };
        let requests = nodes.requests();
        requests.try_send(request(None, None)).unwrap();
        check_said(&mut nodes, &[(0, false)]);
        requests.try_send(request(Some(5), None)).unwrap();
        check_said(&mut nodes, &[(5, false)]);
        requests.try_send(request(Some(6), Some(false))).unwrap();
        nodes.handle_link_up();
        check_said(&mut nodes, &[(0, true), (6, false)]);
    }

    fn check(sequences: &[u32], expected: &[u64]) {
        let schema = Schema {
            period_ms: 1.0,
            age_max_ms: None,
            channels: Vec::new(),
        };
        let mut node = Node::new(&Hello::default(), &schema);
        let found: Vec<u64> = sequences.iter().map(|&s| node.unwrap_sequence(s)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sequence_that_wraps_goes_on_counting() {
        let wrap = 1_u64 << 32;
        check(&[u32::MAX, 0, 1], &[wrap - 1, wrap, wrap + 1]);
        // A late reading from before the wrap stays before it.
        check(
            &[u32::MAX - 1, 0, u32::MAX, 1],
            &[wrap - 2, wrap, wrap - 1, wrap + 1],
        );
    }

    #[test]
    fn a_restart_and_a_gap_keep_their_numbers() {
        check(&[900, 0, 1], &[900, 0, 1]);
        check(&[5, 9], &[5, 9]);
    }
}
