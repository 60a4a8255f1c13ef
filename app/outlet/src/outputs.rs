//! The output thread: from the channel of reports to the log, standard output
//! and MQTT, each of which has a queue and a thread of its own.
//!
//! The output thread itself waits for none of them. Only a replay waits for
//! whoever reads its standard output, for as long as it takes.

use crate::alert_text;
use crate::event_log::EventLog;
use crate::line_writer::{Entry, LineCounts, LineSender, LineWriter, Rank, Room};
use crate::mqtt::{Outbox, OutboxCounts};
use crate::standing::Journal;
use hark_engine::AlertState;
use hark_serve::report::{AlertAbout, Dropped, Event, Reports};
use hark_threads::progress::Progress;
use hark_threads::{Outcome, Shutdown, Stage, Threads};
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// How long the thread waits for an event before it shows that it is there.
const IDLE: Duration = Duration::from_millis(500);
/// What waits for the log, or for standard output. A disk that hangs for a
/// minute keeps back that much, and it is one alert of each of 4096 sensors.
const ROOM: Room = Room {
    lines: 4096,
    bytes: 4 * 1024 * 1024,
};
/// How long the last lines of both may take at the end: some syncs of a slow
/// disk, and less than the publisher takes for its goodbye.
const GOODBYE: Duration = Duration::from_millis(700);

/// What people call the logs.
const EVENT_LOG: &str = "event log";
const ALERT_LOG: &str = "alert log";

/// Where reports go.
pub struct OutputSettings {
    /// The local log of everything, if there is one.
    pub log: Option<EventLog>,
    /// The local log of alerts alone, which no other event can crowd out.
    pub alert_log: Option<EventLog>,
    /// The publisher's outbox, if there is a publisher.
    pub mqtt: Option<Outbox>,
    /// `<root>/<device>`, which every topic begins with.
    pub root: String,
    /// Who keeps alerts that stand, where there is no publisher.
    pub journal: Journal,
    /// Whether alerts go to standard output, and how.
    pub stdout: Stdout,
    /// Whether whoever reads standard output is waited for.
    pub waits_for_reader: bool,
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

/// The output thread, and those that write.
pub struct Outputs {
    ended: Outcome<()>,
    /// How many reports were dropped before it: seen here, too, when the thread
    /// is left behind.
    dropped: Arc<Dropped>,
    writers: Writers,
}

#[derive(Default)]
struct Writers {
    log: Option<LineWriter>,
    alert_log: Option<LineWriter>,
    stdout: Option<LineWriter>,
    waits_for_reader: bool,
}

/// What is being written after the output thread has ended.
pub struct LastLines {
    writers: Writers,
    dropped: Arc<Dropped>,
}

impl Outputs {
    /// Starts the threads; they end with [`Event::Stopped`].
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        threads: &Threads,
        settings: OutputSettings,
        reports: Reports,
    ) -> std::io::Result<Self> {
        let OutputSettings {
            log,
            alert_log,
            mqtt,
            root,
            journal,
            stdout,
            waits_for_reader,
            progress,
        } = settings;
        let start_log = |name, log: Option<EventLog>| {
            log.map(|log| LineWriter::start(threads, name, ROOM, log_entries(name, log)))
                .transpose()
        };
        let log = start_log(EVENT_LOG, log)?;
        let alert_log = start_log(ALERT_LOG, alert_log)?;
        let is_wanted = stdout != Stdout::Silent;
        let printed =
            is_wanted.then(|| LineWriter::start(threads, "standard output", ROOM, print_entries()));
        let printed = printed.transpose()?;
        let output = |name, writer: &Option<LineWriter>, is_patient| {
            let sender = writer.as_ref()?.sender().clone();
            Some(Output {
                name,
                sender,
                is_patient,
                is_held_up: false,
            })
        };
        let mut fan = Fan {
            log: output(EVENT_LOG, &log, false),
            alert_log: output(ALERT_LOG, &alert_log, false),
            printed: output("standard output", &printed, waits_for_reader),
            stdout,
            mqtt,
            root,
            journal,
        };
        let dropped = Arc::clone(reports.dropped());
        let run = move |_: &Shutdown| fan.run(&reports, &progress);
        Ok(Self {
            ended: threads.spawn("outputs", Stage::Write, run)?,
            dropped,
            writers: Writers {
                log,
                alert_log,
                stdout: printed,
                waits_for_reader,
            },
        })
    }

    /// Whether whoever reads standard output is waited for.
    pub fn waits_for_reader(&self) -> bool {
        self.writers.waits_for_reader
    }

    /// Waits until everything up to [`Event::Stopped`] is left with the writers
    /// and the publisher. Only the reader of a replay can hold that up.
    pub fn stop(&mut self) -> LastLines {
        let until = Instant::now() + GOODBYE;
        let until = (!self.writers.waits_for_reader).then_some(until);
        self.ended.wait(until);
        LastLines {
            dropped: Arc::clone(&self.dropped),
            writers: std::mem::take(&mut self.writers),
        }
    }
}

impl LastLines {
    /// Waits until all is written, for a bounded time unless the reader is waited
    /// for; what is not counts as lost.
    pub fn finish(self) -> OutputCounts {
        let Writers {
            log,
            alert_log,
            stdout,
            waits_for_reader,
        } = self.writers;
        for writer in [&log, &alert_log, &stdout].into_iter().flatten() {
            writer.end();
        }
        let until = Instant::now() + GOODBYE;
        let left = || until.saturating_duration_since(Instant::now());
        let finish = |writer: Option<LineWriter>, within| {
            writer.map_or_else(LineCounts::default, |writer| writer.finish(within))
        };
        let log = finish(log, Some(left()));
        let alert_log = finish(alert_log, Some(left()));
        let stdout = finish(stdout, (!waits_for_reader).then(left));
        OutputCounts {
            events_logged: log.written,
            events_lost: log.lost,
            alert_log_written: alert_log.written,
            alert_log_lost: alert_log.lost,
            stdout_written: stdout.written,
            stdout_lost: stdout.lost,
            alerts_unreported: self.dropped.alerts(),
            events_unreported: self.dropped.events(),
            verdicts_unreported: self.dropped.verdicts(),
            ..OutputCounts::default()
        }
    }
}

/// What became of alerts and verdicts after the engine gave them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OutputCounts {
    /// Written to the local event log.
    pub events_logged: u64,
    /// Not written, because the log failed or stood still.
    pub events_lost: u64,
    /// Alerts written to the log that holds nothing else.
    pub alert_log_written: u64,
    /// Alerts not written there.
    pub alert_log_lost: u64,
    /// Alerts that standard output took.
    pub stdout_written: u64,
    /// Alerts that it did not take.
    pub stdout_lost: u64,
    /// Lines that standard error took until the stop.
    pub stderr_written: u64,
    /// Lines that it did not take.
    pub stderr_lost: u64,
    /// Alerts that the disk does not hold for the next start, because it failed or
    /// stood still.
    pub alerts_unsaved: u64,
    /// Alerts dropped between the hot path and the outputs.
    pub alerts_unreported: u64,
    /// Other events dropped there.
    pub events_unreported: u64,
    /// Verdicts dropped there.
    pub verdicts_unreported: u64,
    /// Verdicts dropped while the broker was away or slow.
    pub verdicts_dropped: u64,
    /// On MQTT.
    #[serde(flatten)]
    pub mqtt: OutboxCounts,
}

/// The output thread's own part: hands each report to every output.
struct Fan {
    log: Option<Output>,
    alert_log: Option<Output>,
    printed: Option<Output>,
    stdout: Stdout,
    mqtt: Option<Outbox>,
    root: String,
    journal: Journal,
}

struct Output {
    name: &'static str,
    sender: LineSender,
    is_patient: bool,
    /// The last line found no room.
    is_held_up: bool,
}

/// A line of the event log.
#[derive(Serialize)]
struct Line<'a> {
    /// When it was reported, RFC 3339; the wall clock may be wrong. Alerts have a
    /// time of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(flatten)]
    event: &'a Event,
}

impl Fan {
    fn run(&mut self, reports: &Reports, progress: &Progress) {
        loop {
            progress.pass();
            let event = match reports.next(IDLE) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.hand_on(&event);
            // A thread that hangs in a model keeps its end of the channel.
            if matches!(event, Event::Stopped) {
                return;
            }
        }
    }

    fn hand_on(&mut self, event: &Event) {
        self.publish(event);
        let time = (!matches!(event, Event::Alert(_))).then(now);
        let line = line(&Line { time, event });
        if let Some(log) = &mut self.log {
            let rank = match event {
                Event::Alert(_) => Rank::Alert,
                _ => Rank::Other,
            };
            log.post(line.clone(), rank);
        }
        if let (Some(log), Event::Alert(_)) = (&mut self.alert_log, event) {
            log.post(line.clone(), Rank::Alert);
        }
        if let (Some(printed), Event::Alert(alert)) = (&mut self.printed, event) {
            let line = match self.stdout {
                Stdout::Text | Stdout::Silent => alert_text::line(alert).into_bytes(),
                Stdout::Json => line,
            };
            printed.post(line, Rank::Alert);
        }
    }
}

impl Fan {
    /// Leaves with the publisher, and on the disk, what is retained on a broker.
    fn publish(&self, event: &Event) {
        match (event, &self.mqtt) {
            // Its topic is emptied by whoever found that out.
            (Event::Alert(alert), _) if matches!(alert.about, AlertAbout::Gone { .. }) => {}
            (Event::Alert(alert), mqtt) => {
                let topic = alert_text::topic(&self.root, &alert.sensor, alert.kind);
                let stands = alert.state == AlertState::Raised.name();
                match mqtt {
                    Some(outbox) => outbox.post_alert(topic, text(alert), stands),
                    None => {
                        self.journal.post(&topic, &text(alert), stands, true);
                    }
                }
            }
            (_, Some(outbox)) => {
                if let Some((topic, state)) = state_of(event, &self.root) {
                    outbox.set_state(topic, state);
                }
            }
            (_, None) => {}
        }
    }
}

impl Output {
    fn post(&mut self, line: Vec<u8>, rank: Rank) {
        if self.is_patient {
            return self.sender.post_patiently(line);
        }
        let was_held_up = std::mem::replace(&mut self.is_held_up, !self.sender.post(line, rank));
        if self.is_held_up && !was_held_up {
            let name = self.name;
            tracing::warn!("{name} is held up: what finds no room is left out and counted");
        }
    }
}

/// Writes to the log that people call `output`; runs on its thread.
fn log_entries(
    output: &'static str,
    mut log: EventLog,
) -> impl FnMut(Entry<'_>) -> anyhow::Result<()> {
    move |entry| match entry {
        Entry::Line(line) => log.append(line),
        Entry::LeftOut(count) => {
            let time = Some(now());
            let event = &Event::LeftOut { output, count };
            log.append(&line(&Line { time, event }))?;
            tracing::warn!("{output}: {count} lines were left out; it takes them again");
            Ok(())
        }
    }
}

/// Writes to standard output; runs on its thread. What is missing there is told on
/// standard error: whoever reads alerts expects nothing else.
fn print_entries() -> impl FnMut(Entry<'_>) -> anyhow::Result<()> {
    let mut missing = 0;
    move |entry| {
        let mut stdout = std::io::stdout().lock();
        match entry {
            Entry::LeftOut(count) => missing += count,
            Entry::Line(line) => {
                // In one piece: of two, the standard library would keep the first
                // where the second fails.
                stdout.write_all(&[line, b"\n"].concat())?;
                let missing = std::mem::take(&mut missing);
                if missing > 0 {
                    tracing::warn!("standard output: {missing} alerts were left out");
                }
            }
        }
        Ok(())
    }
}

/// The topic of the state of a source's link.
pub fn link_topic(root: &str, source: &str) -> String {
    format!("{root}/link/{source}")
}

/// The topic of the rung that answers for a source.
pub fn ladder_topic(root: &str, source: &str) -> String {
    format!("{root}/ladder/{source}")
}

/// The state that an event brings, and its topic, if it brings one.
fn state_of(event: &Event, root: &str) -> Option<(String, String)> {
    let time = now();
    match event {
        Event::LinkUp { source } => {
            let state = json!({ "state": "up", "source": source, "time": time });
            Some((link_topic(root, source), state.to_string()))
        }
        Event::LinkDown { source, reason } => {
            let state = link_down(source, reason);
            Some((link_topic(root, source), state))
        }
        Event::Ladder {
            source,
            from,
            to,
            reason,
        } => {
            let state = json!({
                "source": source, "rung": to, "from": from, "to": to, "reason": reason, "time": time,
            });
            Some((ladder_topic(root, source), state.to_string()))
        }
        _ => None,
    }
}

/// The state of a link that is away.
pub fn link_down(source: &str, reason: &str) -> String {
    json!({ "state": "down", "source": source, "reason": reason, "time": now() }).to_string()
}

/// The state of a ladder that has made no step.
pub fn ladder_stands(source: &str, rung: &str) -> String {
    json!({ "source": source, "rung": rung, "time": now() }).to_string()
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn line(value: &impl Serialize) -> Vec<u8> {
    text(value).into_bytes()
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("reports hold no maps with other keys than text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_did_not_take_stands_in_it_as_an_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut write = log_entries(EVENT_LOG, EventLog::new(&path, 1000, 1));
        write(Entry::Line(b"{}")).unwrap();
        write(Entry::LeftOut(3)).unwrap();
        let log = std::fs::read_to_string(&path).unwrap();
        let told = log.strip_prefix("{}\n").unwrap();
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        assert_eq!(told["event"], "left_out");
        assert_eq!(told["output"], "event log");
        assert_eq!(told["count"], 3);
        assert!(told["time"].is_string());
    }
}
