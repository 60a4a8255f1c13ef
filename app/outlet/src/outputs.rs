//! The output thread: from the channels to the log, standard output and MQTT.

use crate::event_log::EventLog;
use crate::mqtt::{Outbox, OutboxCounts};
use hark_serve::report::{AlertReport, Event, Reports};
use hark_threads::progress::Progress;
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the thread waits for an event before it shows that it is there.
const IDLE: Duration = Duration::from_millis(500);

/// Where reports go.
pub struct OutputSettings {
    /// The local log, if there is one.
    pub log: Option<EventLog>,
    /// The publisher's outbox and the topic root `<root>/<device>`, if there
    /// is a publisher.
    pub mqtt: Option<(Outbox, String)>,
    /// Whether alerts go to standard output, and how.
    pub stdout: Stdout,
    /// What the thread shows of itself.
    pub progress: Arc<Progress>,
}

/// What standard output is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdout {
    /// Nothing.
    #[default]
    Silent,
    /// A line a person can read for each alert.
    Text,
    /// A JSON object for each alert.
    Json,
}

/// The output thread.
pub struct Outputs {
    thread: JoinHandle<OutputCounts>,
}

impl Outputs {
    /// Starts the thread; it ends with [`Event::Stopped`].
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(settings: OutputSettings, reports: Reports) -> std::io::Result<Self> {
        let mut writer = Writer {
            settings,
            counts: OutputCounts::default(),
        };
        let thread = std::thread::Builder::new()
            .name("outputs".into())
            .spawn(move || {
                writer.run(&reports);
                writer.counts.reports_dropped = reports.dropped.load(Ordering::Relaxed);
                writer.counts
            })?;
        Ok(Self { thread })
    }

    /// Whether the thread has ended: before a stop only a panic ends it.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything reported is written or left with the publisher.
    pub fn join(self) -> OutputCounts {
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the output thread panicked");
            OutputCounts::default()
        })
    }
}

/// What became of alerts and verdicts after the engine gave them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OutputCounts {
    /// Written to the local event log.
    pub events_logged: u64,
    /// Not written, because the log failed.
    pub events_lost: u64,
    /// Dropped between the hot path and the outputs.
    pub reports_dropped: u64,
    /// Verdicts dropped while the broker was away or slow.
    pub verdicts_dropped: u64,
    /// On MQTT.
    #[serde(flatten)]
    pub mqtt: OutboxCounts,
}

struct Writer {
    settings: OutputSettings,
    counts: OutputCounts,
}

/// A line of the event log.
#[derive(Serialize)]
struct Line<'a> {
    /// When it was written, RFC 3339; the wall clock may be wrong.
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Writer {
    fn run(&mut self, reports: &Reports) {
        loop {
            self.settings.progress.pass();
            let event = match reports.events.recv_timeout(IDLE) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.write(&event);
            // A thread that hangs in a model keeps its end of the channel.
            if matches!(event, Event::Stopped) {
                return;
            }
        }
    }

    fn write(&mut self, event: &Event) {
        self.log(event);
        if let Event::Alert(alert) = event {
            if let Some((outbox, root)) = &self.settings.mqtt {
                let payload = json(alert);
                outbox.post_alert(format!("{root}/alert/{}", alert.sensor), payload);
            }
            // The last: whoever reads it may have stopped.
            self.print(alert);
        }
    }

    fn log(&mut self, event: &Event) {
        let Some(log) = &mut self.settings.log else {
            return;
        };
        let time = jiff::Timestamp::now().to_string();
        match log.append(&json(&Line { time, event })) {
            Ok(()) => self.counts.events_logged += 1,
            Err(error) => {
                // The first is worth a line; the rest would only fill a disk
                // that may be full already.
                if self.counts.events_lost == 0 {
                    tracing::error!("event log: {error:#}");
                }
                self.counts.events_lost += 1;
            }
        }
    }

    fn print(&self, alert: &AlertReport) {
        let mut stdout = std::io::stdout().lock();
        // A closed pipe must not stop the appliance.
        match self.settings.stdout {
            Stdout::Silent => Ok(()),
            Stdout::Text => writeln!(stdout, "{}", text(alert)),
            Stdout::Json => stdout
                .write_all(&json(&Line {
                    time: jiff::Timestamp::now().to_string(),
                    event: &Event::Alert(alert.clone()),
                }))
                .and_then(|()| stdout.write_all(b"\n")),
        }
        .ok();
    }
}

fn text(alert: &AlertReport) -> String {
    let sequence = alert
        .sequence
        .map_or_else(|| "-".to_owned(), |n| n.to_string());
    format!(
        "{} {}: score {:.3}, threshold {:.3}, reading {sequence}, by the {} within {} µs",
        alert.state.to_uppercase(),
        alert.sensor,
        alert.score,
        alert.threshold,
        alert.rung,
        alert.latency_us,
    )
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("reports hold no maps with other keys than text")
}
