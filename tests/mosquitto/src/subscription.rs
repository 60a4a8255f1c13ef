//! What `mosquitto_sub` receives, message by message, each with a time limit.
//!
//! A client that is not hark's own, so that a mistake in hark's MQTT cannot hide
//! itself. Payloads may be any bytes; they cross the pipe as hexadecimal.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Mosquitto;
use crate::broker::client_error;

/// Messages held until the test asks for them; when full, the pipe to
/// `mosquitto_sub` fills next, and then the broker queues: nothing is lost that
/// a test would read.
const MESSAGES_MAX: usize = 4096;

/// From the start of `mosquitto_sub` to its subscription at the broker.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Where a subscription is announced to itself; such messages are hidden.
const READY_ROOT: &str = "hark-tests/ready/";

/// Tells the subscriptions of one broker apart.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// One message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// It was kept by the broker from before the subscription.
    pub is_retained: bool,
    /// The topic.
    pub topic: String,
    /// The payload; empty when a retained message was cleared.
    pub payload: Vec<u8>,
}

impl Message {
    /// The payload as text, or an error that shows what it is instead.
    ///
    /// # Errors
    /// If the payload is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        str::from_utf8(&self.payload).with_context(|| format!("reading {self:?} as text"))
    }
}

/// A subscription at the broker; ended when dropped.
///
/// After a restart of the broker it subscribes anew within some seconds. Unless
/// it has a session, what is published in between it does not see, unless retained.
#[derive(Debug)]
pub struct Subscription {
    child: Child,
    /// `None` only while being dropped.
    messages: Option<Receiver<Message>>,
    reader: Option<JoinHandle<()>>,
}

impl Subscription {
    pub(crate) fn open(broker: &Mosquitto, topic: &str) -> Result<Self> {
        Self::open_with(broker, topic, &[])
    }

    /// As [`Subscription::open`], with more arguments for `mosquitto_sub`.
    pub(crate) fn open_with(broker: &Mosquitto, topic: &str, args: &[&str]) -> Result<Self> {
        let ready_topic = format!("{READY_ROOT}{}", OPENED.fetch_add(1, Ordering::Relaxed));
        let mut child = broker
            .client("mosquitto_sub")
            .args(["-q", "1", "-F", "%r %x %t"])
            .args(args)
            // The broker handles topics in order: once the last is subscribed
            // to, so is the one that the test wants.
            .args(["-t", topic, "-t", &ready_topic])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| client_error("mosquitto_sub", error))?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let (sender, messages) = sync_channel(MESSAGES_MAX);
        let (ready_sender, ready) = sync_channel(1);
        let reader = {
            let ready_topic = ready_topic.clone();
            thread::spawn(move || forward(stdout, &sender, &ready_topic, &ready_sender))
        };
        let subscription = Self {
            child,
            messages: Some(messages),
            reader: Some(reader),
        };
        broker.publish_retained(&ready_topic, "ready")?;
        ready
            .recv_timeout(OPEN_LIMIT)
            .with_context(|| format!("subscribing to {topic} within {OPEN_LIMIT:?}"))?;
        broker.publish_retained(&ready_topic, "")?;
        Ok(subscription)
    }

    /// The next message, in the order of arrival.
    ///
    /// # Errors
    /// If none comes within `limit`, or `mosquitto_sub` has ended.
    pub fn next(&self, limit: Duration) -> Result<Message> {
        self.receive(limit)?
            .with_context(|| format!("waited {limit:?} in vain for a message"))
    }

    /// The next message for which `wanted` holds; those before it are dropped.
    ///
    /// # Errors
    /// As [`Subscription::next`]; `limit` holds for all of them together.
    pub fn find(&self, limit: Duration, wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        let deadline = Instant::now() + limit;
        let mut dropped: u64 = 0;
        while let Some(message) =
            self.receive(deadline.saturating_duration_since(Instant::now()))?
        {
            if wanted(&message) {
                return Ok(message);
            }
            dropped += 1;
        }
        bail!("none of {dropped} messages within {limit:?} was the one wanted")
    }

    /// Passes when nothing arrives for all of `limit`.
    ///
    /// # Errors
    /// If a message arrives; it is in the error.
    pub fn expect_silence(&self, limit: Duration) -> Result<()> {
        match self.receive(limit)? {
            None => Ok(()),
            Some(message) => bail!("expected silence, received {message:?}"),
        }
    }

    /// `None` when `limit` has passed.
    fn receive(&self, limit: Duration) -> Result<Option<Message>> {
        let messages = self.messages.as_ref().expect("only drop takes it");
        match messages.recv_timeout(limit) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("mosquitto_sub has ended"),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // It may have ended by itself, which is no concern here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A reader that waits for room in the channel ends when it is gone.
        drop(self.messages.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Reads messages until `mosquitto_sub` ends or nobody wants them any more.
fn forward(
    stdout: ChildStdout,
    sender: &SyncSender<Message>,
    ready_topic: &str,
    ready: &SyncSender<()>,
) {
    for line in BufReader::new(stdout).lines() {
        let Some(message) = line.ok().as_deref().and_then(parse) else {
            return;
        };
        if message.topic == ready_topic {
            // Full when it was told already.
            let _ = ready.try_send(());
        } else if !message.topic.starts_with(READY_ROOT) && sender.send(message).is_err() {
            return;
        }
    }
}

/// A line in the format that `mosquitto_sub` was given: flag, payload, topic.
fn parse(line: &str) -> Option<Message> {
    let (retained, rest) = line.split_once(' ')?;
    let (payload, topic) = rest.split_once(' ')?;
    Some(Message {
        is_retained: retained == "1",
        topic: topic.to_owned(),
        payload: bytes_of_hex(payload)?,
    })
}

fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
