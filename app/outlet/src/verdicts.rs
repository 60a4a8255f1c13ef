//! The verdict thread: every verdict to whoever asked for it.
//!
//! Verdicts are many and none of them matters alone, so they go at QoS 0 over
//! a connection of their own, as many in one write as wait. While the broker is
//! away or slow they are dropped, counted; alerts take another way. A source
//! that reads from the same broker publishes its verdicts itself, over the
//! connection that it has, without a hand-over.

use crate::mqtt::Broker;
use hark_mqtt::{Client, ClientEvent, ClientSettings, Down, Endpoint, Unpublished};
use hark_serve::report::{SensorVerdict, VerdictReport};
use hark_threads::{Outcome, Shutdown, Stage, Threads};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Called with each verdict, on the verdict thread.
pub type OnVerdict = Box<dyn FnMut(&SensorVerdict) + Send>;

/// Verdicts on their way to the socket, bytes: some thousands.
const OUTPUT_BYTES: usize = 512 * 1024;
/// The most verdicts between two writes.
const BATCH_MAX: usize = 1024;
/// How long the thread waits for a verdict before it looks after the connection.
const IDLE: Duration = Duration::from_millis(100);
/// How long the first verdicts wait for the first connection.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long the last verdicts are waited with after the stop, while the socket
/// takes none.
const LAST_VERDICTS: Duration = Duration::from_millis(300);
/// How long the goodbye may take after that.
const GOODBYE: Duration = Duration::from_millis(300);

/// Who wants verdicts.
pub struct VerdictSettings {
    /// Where they are published, and the topic root `<root>/<device>`.
    pub mqtt: Option<(Broker, String)>,
    /// Called with each.
    pub on_verdict: Option<OnVerdict>,
}

/// The verdict thread, for its owner.
pub struct Verdicts {
    ended: Outcome<()>,
    /// Counted where the owner sees it, too, when the thread is left behind.
    /// A count and no more, so every access is `Relaxed`.
    dropped: Arc<AtomicU64>,
}

impl Verdicts {
    /// Waits until no verdict waits any more, or until `until`; returns how many
    /// were dropped.
    pub fn finish(self, until: Option<Instant>) -> u64 {
        self.ended.wait(until);
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Starts the verdict thread. Told to stop, it ends once no verdict waits; what
/// a broker has not taken soon after is dropped, counted.
///
/// # Errors
/// If the system gives no thread, or a setting is too long for MQTT.
pub fn hand_out(
    threads: &Threads,
    settings: VerdictSettings,
    verdicts: Receiver<SensorVerdict>,
) -> anyhow::Result<Verdicts> {
    let VerdictSettings { mqtt, on_verdict } = settings;
    let dropped = Arc::<AtomicU64>::default();
    let publisher = mqtt.map(|(broker, root)| Publisher::new(broker, &root, &dropped));
    let mut publisher = publisher.transpose()?;
    let mut on_verdict = on_verdict;
    // Not by the channel: a thread that hangs in a model keeps its end of it.
    let run = move |stop: &Shutdown| run(&verdicts, &mut publisher, &mut on_verdict, stop);
    let ended = threads.spawn("verdicts", Stage::Write, run)?;
    Ok(Verdicts { ended, dropped })
}

fn run(
    verdicts: &Receiver<SensorVerdict>,
    publisher: &mut Option<Publisher>,
    on_verdict: &mut Option<OnVerdict>,
    shutdown: &Shutdown,
) {
    if let Some(publisher) = publisher {
        publisher.wait_for_broker(shutdown);
    }
    loop {
        if let Some(publisher) = publisher
            && shutdown.is_requested()
        {
            publisher.hurry();
        }
        let first = match verdicts.recv_timeout(IDLE) {
            Ok(verdict) => Some(verdict),
            Err(RecvTimeoutError::Timeout) if shutdown.is_requested() => break,
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let batch = first.into_iter().chain(verdicts.try_iter().take(BATCH_MAX));
        for verdict in batch {
            if let Some(on_verdict) = on_verdict {
                on_verdict(&verdict);
            }
            if let Some(publisher) = publisher.as_mut().filter(|_| !verdict.is_published) {
                publisher.publish(&verdict);
            }
        }
        if let Some(publisher) = publisher {
            publisher.look_after();
        }
    }
    if let Some(publisher) = publisher {
        publisher.finish();
    }
}

struct Publisher {
    broker: Broker,
    root: String,
    endpoint: Endpoint,
    dropped: Arc<AtomicU64>,
    /// After the stop: until when the last verdicts are worth a wait.
    until: Option<Instant>,
}

impl Publisher {
    fn new(broker: Broker, root: &str, dropped: &Arc<AtomicU64>) -> anyhow::Result<Self> {
        let client = Client::new(ClientSettings {
            write_buffer_bytes: OUTPUT_BYTES,
            ..broker.client_settings()
        })?;
        Ok(Self {
            endpoint: broker.endpoint(client),
            broker,
            root: format!("{root}/verdict/"),
            dropped: Arc::clone(dropped),
            until: None,
        })
    }

    /// The first verdicts shall not be lost for want of an answer; they wait in
    /// their channel.
    fn wait_for_broker(&mut self, shutdown: &Shutdown) {
        let until = Instant::now() + CONNECT_WAIT;
        while !self.endpoint.client().is_up() && Instant::now() < until && !shutdown.is_requested()
        {
            self.turn(IDLE);
        }
    }

    /// The stop has begun.
    fn hurry(&mut self) {
        self.until
            .get_or_insert_with(|| Instant::now() + LAST_VERDICTS);
    }

    fn publish(&mut self, report: &SensorVerdict) {
        let is_late = self.until.is_some_and(|until| Instant::now() >= until);
        let Self { endpoint, root, .. } = self;
        let mut written = publish(endpoint.client(), root, report);
        // A socket that takes nothing costs a wait for each verdict: thousands of
        // them would outlast a stop.
        if let Err(Unpublished::Full(_)) = written
            && !is_late
        {
            endpoint.wait(None, Duration::from_millis(1));
            written = publish(endpoint.client(), root, report);
        }
        let dropped = u64::from(written.is_err());
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// Writes what waits, and hears what the broker says.
    fn look_after(&mut self) {
        self.turn(Duration::ZERO);
        self.endpoint.flush();
    }

    fn turn(&mut self, timeout: Duration) {
        self.endpoint.wait(None, timeout);
        self.endpoint.fill();
        while let Some(event) = self.endpoint.poll_event() {
            // The publisher of alerts says that the broker is away.
            if let ClientEvent::Down { why, .. } = event
                && !matches!(why, Down::Unreachable(_) | Down::NoConnection { .. })
            {
                tracing::warn!("verdicts to broker {}: {why}", self.broker.name());
            }
        }
    }

    fn finish(&mut self) {
        self.endpoint.leave(None, GOODBYE);
        while !self.endpoint.client().is_gone() {
            self.turn(GOODBYE);
        }
    }
}

/// Puts a verdict into the client's output, on topic `<root><sensor>`.
///
/// # Errors
/// If there is no connection, or no room.
pub fn publish(client: &mut Client, root: &str, report: &SensorVerdict) -> Result<(), Unpublished> {
    client.publish_with(&[root, &report.sensor], |payload| {
        serde_json::to_writer(payload, &VerdictReport::new(report))
            .expect("a payload takes everything");
    })
}
