//! The connection to a broker, made anew whenever it breaks.

use hark_outlet::mqtt::{Broker, Connection, Delivery, Event};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The waits between two tries to connect, doubled from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

pub(super) struct Link<'a> {
    broker: &'a Broker,
    connection: Option<Connection>,
    is_connected: bool,
    retry_at: Instant,
    backoff: Duration,
    last_reason: String,
}

impl<'a> Link<'a> {
    pub(super) fn new(broker: &'a Broker) -> Self {
        Self {
            broker,
            connection: None,
            is_connected: false,
            retry_at: Instant::now(),
            backoff: BACKOFF_MIN,
            last_reason: String::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Waits for the next event; `None`: the connection broke, or was refused.
    ///
    /// Cancelling the future between events loses nothing.
    pub(super) async fn poll(&mut self) -> Option<Event> {
        if self.connection.is_none() {
            sleep_until(self.retry_at).await;
        }
        let connection = self
            .connection
            .get_or_insert_with(|| self.broker.connect(None));
        match connection.poll().await {
            Ok(event) => {
                if matches!(event, Event::Connected) {
                    self.note_connected();
                }
                Some(event)
            }
            Err(error) => {
                self.note_broken(&error);
                None
            }
        }
    }

    /// Hands a message to the connection. False: there is none, or it is behind.
    pub(super) fn publish(&self, topic: &str, delivery: Delivery, payload: &[u8]) -> bool {
        let connection = self.connection.as_ref().filter(|_| self.is_connected);
        connection.is_some_and(|c| c.publish(topic, delivery, false, payload).is_ok())
    }

    /// Says goodbye behind everything handed over, and waits until it is sent.
    pub(super) async fn take_leave(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|_| self.is_connected) else {
            return;
        };
        while connection.disconnect().is_err() {
            if connection.poll().await.is_err() {
                return;
            }
        }
        // The connection ends with an error once the goodbye has been sent.
        while connection.poll().await.is_ok() {}
    }

    fn note_connected(&mut self) {
        tracing::info!("connected to broker {}", self.broker.name());
        self.is_connected = true;
        self.backoff = BACKOFF_MIN;
        self.last_reason.clear();
    }

    /// A broker that stays away is reported once, not at every try.
    fn note_broken(&mut self, error: &anyhow::Error) {
        // Not the whole chain: rumqttc's errors repeat their causes.
        let reason = error.to_string();
        if reason != self.last_reason {
            tracing::warn!("broker {}: {reason}; trying again", self.broker.name());
            self.last_reason = reason;
        }
        self.connection = None;
        self.is_connected = false;
        self.retry_at = Instant::now() + self.backoff;
        self.backoff = BACKOFF_MAX.min(self.backoff * 2);
    }
}
