//! The verdict thread: every verdict to whoever asked for it.
//!
//! Verdicts are many and none of them matters alone, so they go at QoS 0 over
//! a connection of their own, as many in one write as wait. While the broker is
//! away or slow they are dropped, counted; alerts take another way. A source
//! that reads from the same broker publishes its verdicts itself, over the
//! connection that it has, without a hand-over.

use crate::mqtt::Broker;
use hark_mqtt::{Event, Full, Link, Session};
use hark_serve::report::{SensorVerdict, VerdictReport};
use hark_threads::Backoff;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Called with each verdict, on the verdict thread.
pub type OnVerdict = Box<dyn FnMut(&SensorVerdict) + Send>;

/// Verdicts on their way to the socket, bytes: some thousands.
const OUTPUT_BYTES: usize = 512 * 1024;
/// What the broker has to say here is a few bytes.
const INPUT_BYTES: usize = 4096;
/// The most verdicts between two writes.
const BATCH_MAX: usize = 1024;
/// How long the thread waits for a verdict before it looks after the connection.
const IDLE: Duration = Duration::from_millis(100);
/// The waits between two tries to connect, doubled from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last verdicts may take at the end.
const GOODBYE: Duration = Duration::from_millis(300);

/// Who wants verdicts.
pub struct VerdictSettings {
    /// Where they are published, and the topic root `<root>/<device>`.
    pub mqtt: Option<(Broker, String)>,
    /// Called with each.
    pub on_verdict: Option<OnVerdict>,
}

/// The verdict thread.
pub struct Verdicts {
    thread: JoinHandle<u64>,
    is_stopped: Arc<AtomicBool>,
}

impl Verdicts {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        settings: VerdictSettings,
        verdicts: Receiver<SensorVerdict>,
    ) -> std::io::Result<Self> {
        let VerdictSettings { mqtt, on_verdict } = settings;
        let mut publisher = mqtt.map(|(broker, root)| Publisher::new(broker, root));
        let mut on_verdict = on_verdict;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let thread = std::thread::Builder::new()
            .name("verdicts".into())
            .spawn(move || run(&verdicts, &mut publisher, &mut on_verdict, &stopped))?;
        Ok(Self { thread, is_stopped })
    }

    /// Whether the thread has ended: before a stop only a panic ends it.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Lets the thread end once no verdict waits, and waits for that; returns
    /// how many verdicts were dropped.
    pub fn stop(self) -> u64 {
        // Not by the channel alone: a thread that hangs in a model keeps its
        // end of it.
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the verdict thread panicked");
            0
        })
    }
}

fn run(
    verdicts: &Receiver<SensorVerdict>,
    publisher: &mut Option<Publisher>,
    on_verdict: &mut Option<OnVerdict>,
    is_stopped: &AtomicBool,
) -> u64 {
    loop {
        let first = match verdicts.recv_timeout(IDLE) {
            Ok(verdict) => Some(verdict),
            Err(RecvTimeoutError::Timeout) if is_stopped.load(Ordering::Relaxed) => break,
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
    publisher.take().map_or(0, Publisher::finish)
}

struct Publisher {
    broker: Broker,
    root: String,
    link: Option<Link>,
    is_connected: bool,
    started: Instant,
    backoff: Backoff,
    /// When to connect again.
    retry_at: Instant,
    dropped: u64,
}

impl Publisher {
    fn new(broker: Broker, root: String) -> Self {
        let mut publisher = Self {
            broker,
            root: format!("{root}/verdict/"),
            link: None,
            is_connected: false,
            started: Instant::now(),
            backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX),
            retry_at: Instant::now(),
            dropped: 0,
        };
        publisher.connect();
        publisher
    }

    fn publish(&mut self, report: &SensorVerdict) {
        let Some(link) = self.link.as_mut().filter(|_| self.is_connected) else {
            self.dropped += 1;
            return;
        };
        let write = |session: &mut Session| publish(session, &self.root, report);
        let mut written = write(link.session());
        if let Err(Full { .. }) = written {
            let room = link.wait(false, true, Duration::from_millis(1));
            if room.is_ok() && link.flush().is_ok() {
                written = write(link.session());
            }
        }
        self.dropped += u64::from(written.is_err());
    }

    /// Writes what waits, hears what the broker says, connects anew if it is time.
    fn look_after(&mut self) {
        if self.link.is_none() {
            return self.connect();
        }
        if let Err(error) = self.exchange() {
            tracing::warn!("verdicts to broker {}: {error:#}", self.broker.name());
            self.handle_down();
        }
    }

    fn exchange(&mut self) -> anyhow::Result<()> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.flush()?;
        link.fill()?;
        while let Some(event) = link.session().poll_event()? {
            if event == Event::Connected {
                self.is_connected = true;
                self.backoff.handle_up();
            }
        }
        let now_ms = self.started.elapsed().as_millis() as u64;
        link.session().handle_time(now_ms)?;
        Ok(())
    }

    fn connect(&mut self) {
        if Instant::now() < self.retry_at {
            return;
        }
        let connected = Session::new(&self.broker.session_settings(), INPUT_BYTES, OUTPUT_BYTES)
            .map_err(anyhow::Error::from)
            .and_then(|session| {
                let mut link = Link::connect(&self.broker.name(), session, CONNECT_TIMEOUT)?;
                link.flush()?;
                // The first verdicts shall not be lost for want of an answer.
                link.wait(true, false, CONNECT_TIMEOUT)?;
                Ok(link)
            });
        match connected {
            Ok(link) => {
                self.link = Some(link);
                self.look_after();
            }
            // The publisher of alerts says that the broker is away.
            Err(_) => self.handle_down(),
        }
    }

    fn handle_down(&mut self) {
        self.link = None;
        self.is_connected = false;
        self.retry_at = Instant::now() + self.backoff.handle_down();
    }

    fn finish(mut self) -> u64 {
        let until = Instant::now() + GOODBYE;
        if let Some(link) = self.link.as_mut().filter(|_| self.is_connected) {
            link.session().disconnect();
            while let Ok(false) = link.flush() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || link.wait(false, true, left).is_err() {
                    break;
                }
            }
        }
        self.dropped
    }
}

/// Puts a verdict into the session's output, on topic `<root><sensor>`.
pub fn publish(session: &mut Session, root: &str, report: &SensorVerdict) -> Result<(), Full> {
    session.publish_with(&[root, &report.sensor], |payload| {
        serde_json::to_writer(payload, &VerdictReport::new(&report.verdict))
            .expect("a payload takes everything");
    })
}
