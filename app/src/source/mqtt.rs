//! Readings from the topics of a broker.
//!
//! The connection is polled on the source's own thread, so a message goes from
//! the socket to its verdict without a hand-over.

use super::{StreamDecoder, Waits};
use crate::config::{MqttLink, SensorTemplate, SourceConfig, TopicPattern};
use crate::hot_path::HotPath;
use crate::mqtt::{Broker, Connection, Event};
use crate::shutdown::Shutdown;
use hark_engine::Rejection;

/// Topics whose sensors are remembered, so that a known topic costs one look-up.
const TOPICS_MAX: usize = 65_536;

/// The MQTT source of one thread.
pub(super) struct MqttSource<'a> {
    link: &'a MqttLink,
    sensor: Option<&'a SensorTemplate>,
    hot_path: &'a mut HotPath,
    decoder: &'a mut StreamDecoder,
    /// The sensor's name of each topic seen; `None`: the payload says.
    topics: std::collections::HashMap<String, Option<String>>,
    last_reason: String,
}

impl<'a> MqttSource<'a> {
    pub(super) fn new(
        link: &'a MqttLink,
        config: &'a SourceConfig,
        hot_path: &'a mut HotPath,
        decoder: &'a mut StreamDecoder,
    ) -> Self {
        Self {
            link,
            sensor: config.sensor.as_ref(),
            hot_path,
            decoder,
            topics: std::collections::HashMap::new(),
            last_reason: String::new(),
        }
    }

    /// Listens until the shutdown, connecting anew whenever the broker is lost.
    pub(super) fn run(&mut self, broker: &Broker, shutdown: &mut Shutdown) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.listen(broker, shutdown)),
            Err(error) => self.hot_path.handle_link_down(&error),
        }
    }

    async fn listen(&mut self, broker: &Broker, shutdown: &mut Shutdown) {
        let mut waits = Waits::new(self.link.reconnect);
        while !shutdown.is_requested() {
            let mut connection = broker.connect(None);
            let ended = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                ended = self.serve(&mut connection, &mut waits) => ended,
            };
            if let Err(error) = ended {
                self.note_lost(broker, &error);
            }
            tokio::select! {
                () = shutdown.requested() => break,
                () = tokio::time::sleep(waits.next()) => {}
            }
        }
    }

    async fn serve(
        &mut self,
        connection: &mut Connection,
        waits: &mut Waits,
    ) -> anyhow::Result<()> {
        let mut unanswered = self.link.topics.iter();
        loop {
            match connection.poll().await? {
                Event::Connected => self.subscribe(connection)?,
                Event::Subscribed { is_granted } => {
                    let pattern = unanswered.next().map(TopicPattern::filter);
                    let filter = pattern.unwrap_or_default();
                    anyhow::ensure!(is_granted, "it refuses the subscription to {filter}");
                    if unanswered.len() == 0 {
                        waits.reset();
                        self.handle_link_up();
                    }
                }
                Event::Message { topic, payload } => self.handle_message(&topic, &payload),
                Event::Sent(_) | Event::Acknowledged(_) | Event::Other => {}
            }
        }
    }

    /// The link is up when readings can come: after the last subscription.
    fn handle_link_up(&mut self) {
        self.last_reason.clear();
        self.hot_path.handle_link_up();
        self.decoder.handle_link_up();
    }

    fn subscribe(&self, connection: &Connection) -> anyhow::Result<()> {
        for pattern in &self.link.topics {
            connection
                .subscribe(&pattern.filter(), self.link.qos)
                .map_err(|_| anyhow::anyhow!("too many topics for one connection"))?;
        }
        Ok(())
    }

    fn handle_message(&mut self, topic: &str, payload: &[u8]) {
        let receipt = self.hot_path.receive();
        if !self.topics.contains_key(topic) {
            let Some(name) = self.name_of(topic) else {
                let detail = format!("no pattern of this source matches topic {topic:?}");
                return self
                    .hot_path
                    .handle_rejection(Rejection::UnknownSensor, &detail, payload);
            };
            if self.topics.len() >= TOPICS_MAX {
                self.topics.clear();
            }
            self.topics.insert(topic.to_owned(), name);
        }
        let name = self.topics.get(topic).and_then(Option::as_deref);
        self.decoder
            .handle_payload(payload, name, receipt, self.hot_path);
    }

    /// The sensor's name by the first pattern that matches; `Some(None)` if
    /// the payload says.
    fn name_of(&self, topic: &str) -> Option<Option<String>> {
        let is_match = |pattern: &&TopicPattern| pattern.is_match(topic);
        let pattern = self.link.topics.iter().find(is_match)?;
        let Some(template) = self.sensor else {
            return Some(None);
        };
        let mut name = String::new();
        template
            .render(pattern, topic, &mut name)
            .then_some(Some(name))
    }

    /// A broker that stays away is reported once, not at every try.
    fn note_lost(&mut self, broker: &Broker, error: &anyhow::Error) {
        let reason = format!("broker {}: {error:#}", broker.name());
        if reason != self.last_reason {
            self.hot_path.handle_link_down(&reason);
            self.last_reason = reason;
        }
    }
}
