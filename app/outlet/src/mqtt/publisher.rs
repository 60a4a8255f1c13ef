//! The thread that publishes status and alerts.
//!
//! Alerts wait in the [`Outbox`] until the broker has acknowledged them. A
//! broker that is away costs nothing but the wait: when it is back, everything
//! unacknowledged is sent again, in order (QoS 1: at least once). When the
//! outbox is full the oldest alert gives way, counted.

use super::{Broker, Connection, Delivery, Event, Will};
use crate::node_commands::{NodeCommands, Reply};
use hark_threads::Backoff;
use hark_threads::shutdown::Shutdown;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The waits between two tries to connect, doubled from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits for the broker to acknowledge the last alerts. It
/// leaves the rest of the two seconds of a stop to everything else.
const GOODBYE: Duration = Duration::from_millis(800);

/// A message with its topic.
#[derive(Clone, Debug)]
struct Letter {
    topic: String,
    payload: Vec<u8>,
}

/// What became of the letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutboxCounts {
    /// Alerts that the broker acknowledged.
    pub alerts_published: u64,
    /// Alerts not acknowledged yet.
    pub alerts_waiting: u64,
    /// Alerts that gave way to newer ones.
    pub alerts_dropped: u64,
    /// Connections made.
    pub connects: u64,
}

#[derive(Default)]
struct Letters {
    /// Oldest first. The first `handed` are with the connection.
    alerts: VecDeque<Letter>,
    handed: usize,
    counts: OutboxCounts,
}

/// Where the output thread leaves letters for the publisher.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<(Mutex<Letters>, Notify)>,
    alerts_max: usize,
}

/// Who publishes, and where.
pub struct PublisherSettings {
    /// The broker.
    pub broker: Broker,
    /// The topic of `status`.
    pub status_topic: String,
    /// What `status` says while connected.
    pub online: String,
    /// What the broker says if the connection breaks.
    pub offline: String,
    /// What `status` says after a clean stop.
    pub stopped: String,
    /// What is asked of nodes over this connection.
    pub commands: NodeCommands,
}

/// The publisher's thread.
pub struct Publisher {
    thread: JoinHandle<()>,
}

impl Outbox {
    /// An outbox for at most `alerts_max` unacknowledged alerts.
    pub fn new(alerts_max: usize) -> Self {
        Self {
            shared: Arc::default(),
            alerts_max,
        }
    }

    /// Leaves an alert, to be retained on its topic.
    pub fn post_alert(&self, topic: String, payload: Vec<u8>) {
        let mut letters = self.letters();
        if letters.alerts.len() >= self.alerts_max {
            // What is with the connection may be acknowledged any moment; the
            // oldest that is not gives way.
            let oldest = letters.handed;
            if letters.alerts.remove(oldest).is_none() {
                letters.counts.alerts_dropped += 1;
                return;
            }
            letters.counts.alerts_dropped += 1;
        }
        letters.alerts.push_back(Letter { topic, payload });
        drop(letters);
        self.shared.1.notify_one();
    }

    /// What became of the letters so far.
    pub fn counts(&self) -> OutboxCounts {
        let letters = self.letters();
        OutboxCounts {
            alerts_waiting: letters.alerts.len() as u64,
            ..letters.counts
        }
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        let (letters, _) = &*self.shared;
        letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// Starts publishing what is left in `outbox` until the shutdown.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        settings: PublisherSettings,
        outbox: Outbox,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("publisher".into())
            .spawn(move || {
                runtime.block_on(publish(&settings, &outbox, shutdown));
                // Dropped, it would wait for a name that is being resolved.
                runtime.shutdown_background();
            })?;
        Ok(Self { thread })
    }

    /// Whether the thread has ended: before a stop only a panic ends it.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread, which ends soon after the shutdown.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the publisher's thread panicked");
        }
    }
}

async fn publish(settings: &PublisherSettings, outbox: &Outbox, mut shutdown: Shutdown) {
    let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
    let mut last_reason = String::new();
    while !shutdown.is_requested() {
        let mut session = Session::new(settings, outbox, &mut backoff);
        let Err(error) = session.run(&mut shutdown).await else {
            return;
        };
        let mut reason = format!("{error:#}");
        let was_connected = session.is_connected;
        drop(session);
        if backoff.is_young() {
            reason += &settings.broker.hint_of_a_quick_loss();
        } else if was_connected {
            last_reason.clear();
        }
        // A broker that stays away is reported once, not at every try.
        if reason != last_reason {
            let broker = settings.broker.name();
            tracing::warn!("broker {broker}: {reason}; alerts wait, trying again");
            last_reason = reason;
        }
        tokio::select! {
            () = sleep(backoff.handle_down()) => {}
            () = shutdown.requested() => {}
        }
    }
}

/// One connection's worth of publishing.
struct Session<'a> {
    settings: &'a PublisherSettings,
    outbox: &'a Outbox,
    connection: Connection,
    backoff: &'a mut Backoff,
    is_connected: bool,
    /// What was handed over at QoS 1 and not acknowledged, in order.
    unacknowledged: VecDeque<Handed>,
}

/// A QoS 1 message with the connection.
struct Handed {
    /// Known once it was sent.
    packet_id: Option<u16>,
    is_alert: bool,
    is_acknowledged: bool,
}

impl<'a> Session<'a> {
    fn new(settings: &'a PublisherSettings, outbox: &'a Outbox, backoff: &'a mut Backoff) -> Self {
        outbox.letters().handed = 0;
        let will = Will {
            topic: settings.status_topic.clone(),
            payload: settings.offline.clone(),
        };
        Self {
            connection: settings.broker.connect(Some(&will)),
            settings,
            outbox,
            backoff,
            is_connected: false,
            unacknowledged: VecDeque::new(),
        }
    }

    /// Publishes until the shutdown, and says goodbye.
    async fn run(&mut self, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        loop {
            let event = tokio::select! {
                event = self.connection.poll() => event?,
                () = self.outbox.shared.1.notified() => Event::Other,
                () = shutdown.requested() => return self.say_goodbye().await,
            };
            self.handle_event(&event);
        }
    }

    fn handle_event(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to broker {}", self.settings.broker.name());
                self.is_connected = true;
                self.backoff.handle_up();
                self.outbox.letters().counts.connects += 1;
                self.hand_over_status(&self.settings.online);
                self.subscribe();
            }
            Event::Sent(id) => {
                let mut handed = self.unacknowledged.iter_mut();
                if let Some(handed) = handed.find(|h| h.packet_id.is_none()) {
                    handed.packet_id = Some(*id);
                }
            }
            Event::Acknowledged(id) => self.handle_acknowledged(*id),
            Event::Message {
                is_retained: true,
                topic,
                ..
            } => tracing::warn!(
                "{topic}: the broker keeps a command, which may be older than others: not taken"
            ),
            Event::Message { payload, .. } => self.handle_command(payload),
            Event::Subscribed { is_granted: false } => {
                tracing::warn!("the broker refuses `cmd/node`: commands for nodes do not arrive");
            }
            Event::Subscribed { is_granted: true } | Event::Other => {}
        }
        if self.is_connected {
            self.hand_over();
        }
    }

    /// A new connection has room for its first requests.
    fn subscribe(&self) {
        if let Some(topic) = self.settings.commands.topic()
            && self.connection.subscribe(&topic, 1).is_err()
        {
            tracing::warn!("no room to subscribe to {topic}: commands for nodes do not arrive");
        }
    }

    /// An answer that finds no room is lost: whoever asked asks again.
    fn handle_command(&self, payload: &[u8]) {
        if let Some(Reply { topic, payload }) = self.settings.commands.handle(payload) {
            let delivery = Delivery::AtMostOnce;
            let published = self
                .connection
                .publish(&topic, delivery, false, payload.as_bytes());
            if published.is_err() {
                tracing::warn!("no room for an answer on {topic}");
            }
        }
    }

    /// Acknowledgements may come out of order, letters leave in order.
    fn handle_acknowledged(&mut self, id: u16) {
        let mut handed = self.unacknowledged.iter_mut();
        if let Some(handed) = handed.find(|h| h.packet_id == Some(id) && !h.is_acknowledged) {
            handed.is_acknowledged = true;
        }
        while self
            .unacknowledged
            .front()
            .is_some_and(|h| h.is_acknowledged)
        {
            let is_alert = self.unacknowledged.pop_front().is_some_and(|h| h.is_alert);
            if is_alert {
                let mut letters = self.outbox.letters();
                letters.alerts.pop_front();
                letters.handed -= 1;
                letters.counts.alerts_published += 1;
            }
        }
    }

    fn hand_over_status(&mut self, payload: &str) {
        let topic = &self.settings.status_topic;
        let delivery = Delivery::AtLeastOnce;
        if self
            .connection
            .publish(topic, delivery, true, payload.as_bytes())
            .is_ok()
        {
            self.expect_acknowledgement(false);
        }
    }

    fn expect_acknowledgement(&mut self, is_alert: bool) {
        self.unacknowledged.push_back(Handed {
            packet_id: None,
            is_alert,
            is_acknowledged: false,
        });
    }

    /// Hands over what waits, alerts first, as far as the connection takes it.
    fn hand_over(&mut self) {
        let outbox = self.outbox;
        let mut letters = outbox.letters();
        while let Some(Letter { topic, payload }) = letters.alerts.get(letters.handed) {
            let delivery = Delivery::AtLeastOnce;
            if self
                .connection
                .publish(topic, delivery, true, payload)
                .is_err()
            {
                return;
            }
            letters.handed += 1;
            self.expect_acknowledgement(true);
        }
    }

    /// Waits a moment for the last acknowledgements, then leaves `stopped`.
    async fn say_goodbye(&mut self) -> anyhow::Result<()> {
        if !self.is_connected {
            return Ok(());
        }
        let until = Instant::now() + GOODBYE;
        self.hand_over_status(&self.settings.stopped);
        self.hand_over();
        while !self.unacknowledged.is_empty() {
            match timeout_at(until, self.connection.poll()).await {
                Ok(event) => self.handle_event(&event?),
                Err(_) => break,
            }
        }
        if self.connection.disconnect().is_ok() {
            // The loop ends with an error once the goodbye has been sent.
            let last = async { while self.connection.poll().await.is_ok() {} };
            timeout(Duration::from_millis(100), last).await.ok();
        }
        Ok(())
    }
}
