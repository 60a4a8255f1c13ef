//! The thread that publishes status, alerts, and the states of links and ladders.
//!
//! Alerts are left in the [`Outbox`], go on to the client once they are on the disk,
//! and wait there until the broker has answered for them (QoS 1: at least once, in
//! order). A broker that is away costs nothing but the wait, and neither does the end
//! of hark: what is unanswered then is published by the next. When there are too
//! many, the oldest alert gives way, counted; one that the broker refuses is
//! counted, and named in the log.
//!
//! Of a state only the newest counts. It is published anew on each connection, and
//! never takes the place of an alert.

use super::Broker;
use crate::node_commands::{NodeCommands, Reply};
use crate::standing::{self, Carried, Journal};
use hark_mqtt::{Client, ClientEvent, ClientSettings, Down, Endpoint, Letter, Waker, Will};
use hark_threads::{Shutdown, Stage, Threads};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a stop waits for the broker to acknowledge the last alerts. It
/// leaves the rest of the two seconds of a stop to everything else.
const GOODBYE: Duration = Duration::from_millis(800);
/// The longest wait before the thread looks for the shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// What letters are called at the client: an alert by its number, which is above 0,
/// a state by its place above this.
const STATUS: u64 = 0;
const STATES: u64 = 1 << 63;

/// What became of the alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutboxCounts {
    /// Alerts that the broker acknowledged.
    pub alerts_published: u64,
    /// Alerts not acknowledged yet.
    pub alerts_waiting: u64,
    /// Alerts that gave way to newer ones.
    pub alerts_dropped: u64,
    /// Alerts that the broker refused.
    pub alerts_refused: u64,
    /// Connections made.
    pub connects: u64,
}

#[derive(Default)]
struct Alerts {
    /// On their way to the publisher, oldest first, and since when.
    left: VecDeque<(Letter, Instant)>,
    /// By topic; few, and never fewer.
    states: BTreeMap<String, State>,
    counts: OutboxCounts,
}

/// A retained message of which only the newest counts.
struct State {
    payload: Vec<u8>,
    place: u64,
    /// The broker does not have it yet, as far as anybody knows.
    is_due: bool,
    /// A letter of its topic is with the client.
    is_posted: bool,
}

/// Where alerts are left for the publisher.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Mutex<Alerts>>,
    waker: Waker,
    journal: Journal,
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

impl Outbox {
    /// An outbox for at most `alerts_max` unacknowledged alerts, which `journal` brings
    /// to the disk, with those that an earlier hark left there.
    ///
    /// # Errors
    /// The system's, if it has no file descriptor left.
    pub fn new(alerts_max: usize, journal: Journal, carried: &Carried) -> std::io::Result<Self> {
        let outbox = Self {
            shared: Arc::default(),
            waker: Waker::new()?,
            journal,
            alerts_max,
        };
        outbox.journal.wake(outbox.waker.clone());
        for post in carried.posts.iter().filter(|post| !post.is_settled) {
            let payload = post.payload.clone().into_bytes();
            outbox.leave(post.number, post.topic.clone(), payload);
        }
        Ok(outbox)
    }

    /// Leaves an alert, to be retained on its topic, and whether it stands. Never
    /// waits for a broker, or a disk.
    pub fn post_alert(&self, topic: String, payload: String, stands: bool) {
        let number = self.journal.post(&topic, &payload, stands, false);
        self.leave(number, topic, payload.into_bytes());
        self.waker.wake();
    }

    fn leave(&self, number: u64, topic: String, payload: Vec<u8>) {
        let mut alerts = self.alerts();
        alerts.counts.alerts_waiting += 1;
        // The publisher takes them at once, into a queue with the same bound.
        if alerts.left.len() >= self.alerts_max
            && let Some((oldest, _)) = alerts.left.pop_front()
        {
            self.journal.settle(oldest.handle);
            alerts.drop_one();
        }
        let letter = Letter {
            topic,
            payload,
            is_retained: true,
            handle: number,
        };
        alerts.left.push_back((letter, Instant::now()));
    }

    /// The newest state of `topic`, to be retained there.
    pub fn set_state(&self, topic: String, payload: String) {
        let mut alerts = self.alerts();
        let place = alerts.states.len() as u64;
        let state = alerts.states.entry(topic).or_insert(State {
            payload: Vec::new(),
            place,
            is_due: false,
            is_posted: false,
        });
        state.payload = payload.into_bytes();
        state.is_due = true;
        drop(alerts);
        self.waker.wake();
    }

    /// What became of the alerts so far.
    pub fn counts(&self) -> OutboxCounts {
        self.alerts().counts
    }

    fn alerts(&self) -> MutexGuard<'_, Alerts> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alerts {
    /// The next alert, unless it is to wait for the disk.
    fn take(&mut self, journal: &Journal, is_leaving: bool) -> Option<Letter> {
        let (letter, since) = self.left.front()?;
        let is_free = is_leaving
            || journal.is_durable(letter.handle)
            || since.elapsed() >= standing::PATIENCE;
        if !is_free {
            return None;
        }
        self.left.pop_front().map(|(letter, _)| letter)
    }

    /// The next state that the broker is to have.
    fn take_state(&mut self) -> Option<Letter> {
        let mut due = self.states.iter_mut();
        let (topic, state) = due.find(|(_, state)| state.is_due && !state.is_posted)?;
        (state.is_due, state.is_posted) = (false, true);
        Some(Letter {
            topic: topic.clone(),
            payload: state.payload.clone(),
            is_retained: true,
            handle: STATES + state.place,
        })
    }

    /// What became of the letter of a state, and whether it is to be sent again.
    fn note_state(&mut self, handle: u64, is_due: bool) {
        let place = handle - STATES;
        if let Some(state) = self.states.values_mut().find(|state| state.place == place) {
            state.is_posted = false;
            state.is_due |= is_due;
        }
    }

    fn drop_one(&mut self) {
        self.counts.alerts_dropped += 1;
        self.counts.alerts_waiting -= 1;
    }
}

/// Starts the thread that publishes what is left in `outbox`, until it is told to
/// stop.
///
/// # Errors
/// If the system gives no thread, or a setting is too long for MQTT.
pub fn publish(
    threads: &Threads,
    settings: PublisherSettings,
    outbox: Outbox,
) -> anyhow::Result<()> {
    let mut publishing = Publishing::new(settings, outbox)?;
    let run = move |shutdown: &Shutdown| publishing.run(shutdown);
    threads.spawn("publisher", Stage::Publish, run)?;
    Ok(())
}

struct Publishing {
    endpoint: Endpoint,
    desk: Desk,
}

/// What the publisher does with what the client tells.
struct Desk {
    settings: PublisherSettings,
    outbox: Outbox,
    /// The last alerts wait for no disk.
    is_leaving: bool,
    /// Told once, not at every try.
    last_reason: String,
    was_up: bool,
    last_refusal: String,
}

impl Publishing {
    fn new(settings: PublisherSettings, outbox: Outbox) -> anyhow::Result<Self> {
        let status = |payload: &str| letter(&settings.status_topic, payload);
        let commands = settings.commands.topic();
        let client = Client::new(ClientSettings {
            will: Some(Will {
                topic: settings.status_topic.clone(),
                payload: settings.offline.clone(),
            }),
            subscriptions: commands.into_iter().map(|topic| (topic, 1)).collect(),
            greeting: Some(status(&settings.online)),
            letters_max: outbox.alerts_max,
            ..settings.broker.client_settings()
        })?;
        Ok(Self {
            endpoint: settings.broker.endpoint(client),
            desk: Desk {
                settings,
                outbox,
                is_leaving: false,
                last_reason: String::new(),
                was_up: false,
                last_refusal: String::new(),
            },
        })
    }

    fn run(&mut self, shutdown: &Shutdown) {
        while !shutdown.is_requested() {
            self.turn();
        }
        let settings = &self.desk.settings;
        let stopped = letter(&settings.status_topic, &settings.stopped);
        self.desk.is_leaving = true;
        self.take_in();
        self.endpoint.leave(Some(stopped), GOODBYE);
        while !self.endpoint.client().is_gone() {
            self.turn();
        }
        self.desk.outbox.journal.end();
    }

    fn turn(&mut self) {
        let Self { endpoint, desk } = self;
        endpoint.wait(Some(&desk.outbox.waker), SHUTDOWN_POLL);
        endpoint.fill();
        while let Some(event) = endpoint.poll_event() {
            if let Some(Reply { topic, payload }) = desk.handle(event) {
                let published = endpoint.client().publish(&[&topic], payload.as_bytes());
                // Whoever asked asks again.
                if let Err(error) = published {
                    tracing::warn!("an answer on {topic} is lost: {error}");
                }
            }
        }
        self.take_in();
    }

    /// Hands on what was left, one by one: whoever leaves more never waits long.
    fn take_in(&mut self) {
        let Self { endpoint, desk } = self;
        let outbox = &desk.outbox;
        outbox.waker.clear();
        loop {
            let left = outbox.alerts().take(&outbox.journal, desk.is_leaving);
            let Some(alert) = left else { break };
            if let Some(gone) = endpoint.client().post(alert) {
                desk.give_up(gone.handle);
            }
        }
        // Only where there is room, and a broker: they take no alert's place.
        let client = endpoint.client();
        while client.is_up() && client.waiting() < outbox.alerts_max {
            let state = outbox.alerts().take_state();
            let Some(state) = state else { break };
            if let Some(gone) = client.post(state) {
                desk.give_up(gone.handle);
            }
        }
    }
}

impl Desk {
    /// Handles one event; what a command is answered with.
    fn handle(&mut self, event: ClientEvent<'_>) -> Option<Reply> {
        match event {
            ClientEvent::Up => {
                tracing::info!("connected to broker {}", self.settings.broker.name());
                self.was_up = true;
                let mut alerts = self.outbox.alerts();
                alerts.counts.connects += 1;
                // The broker may have been another, or have forgotten.
                let states = alerts.states.values_mut();
                states.for_each(|state| state.is_due = true);
            }
            ClientEvent::SubscriptionRefused { filter, reason, .. } => tracing::warn!(
                "the broker refuses the subscription to {filter}: {reason}; \
                 commands for nodes do not arrive"
            ),
            ClientEvent::Message {
                topic,
                is_retained: true,
                ..
            } => tracing::warn!(
                "{topic}: the broker keeps a command, which may be older than others: not taken"
            ),
            ClientEvent::Message { payload, .. } => return self.settings.commands.handle(payload),
            ClientEvent::Oversize { bytes } => {
                tracing::warn!("a command for a node of {bytes} bytes is not taken");
            }
            ClientEvent::Published { handle } => {
                tracing::debug!("the broker has acknowledged a letter");
                self.handle_answered(handle, |counts| {
                    counts.alerts_published += 1;
                });
            }
            ClientEvent::Refused {
                handle,
                topic,
                reason,
                ..
            } => {
                self.handle_answered(handle, |counts| counts.alerts_refused += 1);
                self.tell_refusal(format!("the broker refuses {topic}: {reason}"));
            }
            ClientEvent::Down { why, is_young, .. } => self.tell_down(&why, is_young),
        }
        None
    }

    fn handle_answered(&self, handle: u64, count: impl FnOnce(&mut OutboxCounts)) {
        match handle {
            STATUS => {}
            STATES.. => self.outbox.alerts().note_state(handle, false),
            number => {
                let counts = &mut self.outbox.alerts().counts;
                counts.alerts_waiting -= 1;
                count(counts);
                self.outbox.journal.settle(number);
            }
        }
    }

    /// A letter that found no room at the client.
    fn give_up(&self, handle: u64) {
        match handle {
            STATUS => {}
            STATES.. => self.outbox.alerts().note_state(handle, true),
            number => {
                self.outbox.alerts().drop_one();
                self.outbox.journal.settle(number);
            }
        }
    }

    fn tell_refusal(&mut self, refusal: String) {
        if refusal != self.last_refusal {
            tracing::warn!("{refusal}; it is not sent again");
            self.last_refusal = refusal;
        }
    }

    fn tell_down(&mut self, why: &Down, is_young: bool) {
        let mut reason = why.to_string();
        if is_young {
            reason += &self.settings.broker.hint_of_a_quick_loss();
        } else if self.was_up {
            self.last_reason.clear();
        }
        self.was_up = false;
        if reason != self.last_reason {
            let broker = self.settings.broker.name();
            tracing::warn!("broker {broker}: {reason}; alerts wait, trying again");
            self.last_reason = reason;
        }
    }
}

fn letter(topic: &str, payload: &str) -> Letter {
    Letter {
        topic: topic.to_owned(),
        payload: payload.as_bytes().to_vec(),
        is_retained: true,
        handle: STATUS,
    }
}
