//! Sensor nodes that speak hark's wire protocol: who they are, and their
//! readings in the schema's order.
//!
//! A node says `Hello` with its channels, units and scales; its readings mean
//! nothing before. A gateway that has missed the `Hello` asks for it, on a line or
//! on the topic `<the node's>/config`. What a node calls its channels is compared
//! with the schema once, at `Hello`.

mod node;
#[cfg(test)]
mod spec_tests;
mod table;

use super::node_log::NodeLog;
use hark_config::NodesConfig;
use hark_engine::Rejection;
use hark_serve::NodeRequest;
use hark_serve::hot_path::{HotPath, NodeMemories, Receipt};
use hark_wire::{Config, DecodeError, FRAME_MAX, FrameDecoder, Health, Hello, Message};
use node::{Node, check_hello};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use table::{Asks, NodeTable, TOPIC_BYTES_MAX};

/// Readings that should not have come, because of no `Hello` or because the node
/// shall not run, between two requests to mend that.
const ASK_EVERY: u32 = 16;
/// The node of a line, as the table of nodes has it.
const LINE: &str = "";
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
    nodes: NodeTable,
    asks: Asks,
    /// The node of the line is to be asked for its Hello.
    wants_hello: bool,
    /// It is to be told `running`, and `period_ms`.
    wants_running: bool,
    wants_period: bool,
    unknown_readings: u32,
    unwanted_readings: u32,
}

impl Nodes {
    /// The nodes of the source `name`, at most `max`.
    ///
    /// # Errors
    /// If the thread that reads their logs cannot be started.
    pub(super) fn new(name: &str, config: &NodesConfig, max: usize) -> anyhow::Result<Self> {
        Ok(Self {
            decoder: Box::default(),
            period_ms: config.period_ms,
            running: config.running,
            requests: sync_channel(REQUESTS_MAX),
            log: NodeLog::start(name, config.elf.as_deref())?,
            nodes: NodeTable::new(max),
            asks: Asks::default(),
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

    /// Leaves who is known.
    pub(super) fn leave(&mut self) -> NodeMemories {
        Box::new(self.nodes.take())
    }

    /// Takes in who was known before a reload: their readings are understood at
    /// once, and a Hello that finds them as they were is no restart.
    pub(super) fn handle_known(&mut self, known: NodeMemories) {
        if let Ok(known) = known.downcast::<NodeTable>() {
            self.nodes.extend(*known);
        }
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
            Some(Ok(message)) => self.handle_message(&message, LINE, sensor, receipt, hot_path),
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
        topic: &str,
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        if topic.len() > TOPIC_BYTES_MAX {
            let len = topic.len();
            let detail = format!("a topic of {len} bytes, a node's has {TOPIC_BYTES_MAX} at most");
            return hot_path.handle_rejection(Rejection::Oversize, &detail, payload);
        }
        let frame = payload.strip_suffix(&[0]).unwrap_or(payload);
        let mut buffer = [0; FRAME_MAX];
        let Some(buffer) = buffer.get_mut(..frame.len()) else {
            let error = DecodeError::TooLong;
            return hot_path.handle_rejection(reason(error), &error, payload);
        };
        buffer.copy_from_slice(frame);
        match hark_wire::decode(buffer) {
            Ok(message) => {
                self.handle_message(&message, topic, sensor, receipt, hot_path);
            }
            Err(error) => {
                self.log.handle_loss();
                hot_path.handle_rejection(reason(error), &error, payload);
            }
        }
    }

    /// The line was opened anew: another node may be at its end. Or the connection
    /// to the broker was made: who is not known is asked once it is heard.
    pub(super) fn handle_link_up(&mut self) {
        self.decoder.forget_partial();
        self.log.handle_loss();
        self.wants_hello = true;
        self.asks.clear();
    }

    /// The topic of the next node to be asked for its Hello over MQTT, and what to
    /// say there.
    pub(super) fn poll_ask(&mut self) -> Option<(Box<str>, Message)> {
        let topic = self.asks.poll()?;
        let config = Config {
            period_ms: 0,
            running: self.running,
            say_hello: true,
        };
        Some((topic, Message::Config(config)))
    }

    fn ask_hello(&mut self, key: &str, now_us: u64) {
        if key == LINE {
            self.wants_hello = true;
        } else {
            self.asks.ask(key, now_us);
        }
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
            Message::Hello(hello) => self.handle_hello(hello, key, sensor, receipt, hot_path),
            Message::Reading(reading) => {
                self.handle_reading(reading, key, sensor, receipt, hot_path);
            }
            Message::Health(health) => self.handle_health(health, key, sensor, receipt, hot_path),
            Message::Log(log) => {
                let name = match self.nodes.get(key) {
                    Some(node) => Arc::clone(&node.name),
                    None if key == LINE => Arc::clone(hot_path.source()),
                    None => key.into(),
                };
                self.log.handle_piece(hot_path.source(), &name, log);
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
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        let now_us = receipt.now.mono_us;
        if let Err(detail) = check_hello(hello) {
            let detail = format!("the Hello of node {:?}: {detail}", hello.node.as_str());
            // What this node sends can be read by no Hello of before.
            self.nodes.remove(key);
            return hot_path.handle_rejection(Rejection::BadHello, &detail, &[]);
        }
        let mut node = Node::new(hello, hot_path.schema(), now_us);
        let last = self.nodes.get(key);
        let is_new = last.is_none_or(|last| last.boot_id != node.boot_id || last.name != node.name);
        if is_new {
            tracing::info!(
                peer = %hot_path.source(),
                "{}: node {} with firmware {}",
                hot_path.source(),
                node.name,
                hello.firmware
            );
            if let Some(id) = hot_path.find(sensor.unwrap_or(&node.name)) {
                hot_path.handle_restart(id);
            }
        }
        // With a configured name the new node is the same sensor.
        if let (Some(last), None) = (last, sensor)
            && last.name != node.name
            && let Some(id) = hot_path.find(&last.name)
        {
            hot_path.handle_gone(id);
        }
        if let (Some(last), false) = (last, is_new) {
            node.go_on(last);
        }
        if key == LINE {
            self.unknown_readings = 0;
            self.wants_running = true;
            self.wants_period = self.period_ms != 0;
        }
        self.asks.handle_hello(key);
        if !self.nodes.insert(key, node, now_us) {
            let max = hot_path.sensors_max();
            let detail = format!(
                "the Hello of node {:?}: all {max} places of device.sensors_max are taken",
                hello.node.as_str()
            );
            hot_path.handle_rejection(Rejection::UnknownSensor, &detail, &[]);
        }
    }

    fn handle_health(
        &mut self,
        health: &Health,
        key: &str,
        sensor: Option<&str>,
        receipt: Receipt,
        hot_path: &mut HotPath,
    ) {
        tracing::debug!("{}: {health:?}", hot_path.source());
        if let Some(node) = self.nodes.get_mut(key) {
            if node.boot_id == health.boot_id {
                return;
            }
            // The node has started anew, and its Hello was lost. Its count begins
            // anew at once: else what it sends until then would be taken for seen.
            node.restart(health.boot_id);
            if let Some(id) = hot_path.find(sensor.unwrap_or(&node.name)) {
                hot_path.handle_restart(id);
            }
        }
        self.ask_hello(key, receipt.now.mono_us);
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
            if key != LINE || self.unknown_readings.is_multiple_of(ASK_EVERY) {
                self.ask_hello(key, receipt.now.mono_us);
            }
            self.unknown_readings = self.unknown_readings.wrapping_add(1);
            let detail = "a reading before its node's Hello";
            return hot_path.handle_rejection(Rejection::NoHello, &detail, &[]);
        };
        if !self.running {
            // Some are on their way when the node is told.
            self.unwanted_readings = self.unwanted_readings.wrapping_add(1);
            self.wants_running |= self.unwanted_readings.is_multiple_of(ASK_EVERY);
        }
        node.heard_us = receipt.now.mono_us;
        let reading = match node.reading(message) {
            Ok(reading) => reading,
            Err(reason) => {
                let detail = node.explain(reason, hot_path.schema());
                return hot_path.handle_rejection(reason, &detail, &[]);
            }
        };
        let name = sensor.unwrap_or(&node.name);
        node.is_proven |= hot_path.handle_reading_of(name, &reading, receipt, &[]);
    }
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
        Nodes::new("line", &config, 1).unwrap()
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
}
