//! What leaves the hot path: verdicts, alerts and events, as the outside sees
//! them.
//!
//! The hot path hands over small values through bounded channels and never
//! waits. One thread passes alerts and events on to the local log, to standard
//! output and to the publisher's outbox; each of them writes on a thread of its
//! own, so that none can hold another up. Verdicts have a channel and a thread
//! of their own too, so that no amount of them can crowd alerts out.

mod alert;
mod causes;

pub(crate) use alert::Reporting;
pub use alert::{AlertAbout, AlertId, AlertReport, AlertTime, Standing};
pub use causes::{CauseReport, CausesReport, PipelineNames};

use hark_engine::Verdict;
use hark_threads::progress::Alarms;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Alerts and events on their way to the output thread. Alerts of one sensor
/// are at least a hold-off apart, so this is one from each of 4096 sensors.
const NOTICES_MAX: usize = 4096;
/// Of them, what is no alert may take so many places; what does not fit is
/// dropped and counted.
const EVENTS_MAX: usize = NOTICES_MAX / 2;
/// Verdicts on their way to the output thread; what does not fit is dropped
/// and counted. A tenth of a second at 80 000 a second.
const VERDICTS_MAX: usize = 8192;

/// Which model gave a verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelIdentity {
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// SHA-256 of the bundle's manifest, which holds the digests of its files.
    pub sha256: String,
    /// What runs it, such as `tract int8`; empty if nothing does.
    pub backend: String,
}

/// One verdict, as it stands on MQTT. Its first names are those of the
/// reading that it answers.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictReport {
    /// The reading's sequence number.
    pub seq: Option<u64>,
    /// The reading's timestamp, microseconds.
    pub ts: Option<i64>,
    /// The score.
    pub score: f32,
    /// Whether it lies above the threshold.
    pub anomaly: bool,
    /// The state of the sensor's alert.
    pub state: &'static str,
    /// The rung of the ladder.
    pub rung: &'static str,
    /// From the return of the read, microseconds.
    pub latency_us: u64,
    /// Of a verdict that is repeated, how old it is, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_us: Option<u64>,
    /// What the score comes from, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causes: Option<CausesReport>,
}

/// Something that happened to a source or to the appliance.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "most events are alerts, and few wait at a time"
)]
pub enum Event {
    /// hark has started.
    Started {
        /// Its version.
        version: &'static str,
        /// The device's name.
        device: String,
    },
    /// hark stops.
    Stopped,
    /// A source's link was made.
    LinkUp {
        /// The source.
        source: Arc<str>,
    },
    /// A source's link was lost or could not be made.
    LinkDown {
        /// The source.
        source: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Something went wrong on a source's link that cost a reading of this sensor,
    /// or made it late; told once until the sensor has done well for long.
    LinkFault {
        /// The source.
        source: Arc<str>,
        /// The sensor.
        sensor: Arc<str>,
        /// What: `timeout`, `crc`, `exception_2` and so on.
        fault: &'static str,
        /// What it means, and what to write.
        detail: String,
    },
    /// The first rejection of this reason from this source.
    Rejecting {
        /// The source.
        source: Arc<str>,
        /// The reason.
        reason: &'static str,
        /// What was rejected and why.
        example: String,
    },
    /// A source has as many sensors as `device.sensors_max` allows: a new one takes
    /// the place of the one that has been silent for longest.
    SensorsFull {
        /// The source.
        source: Arc<str>,
        /// So many.
        sensors_max: usize,
    },
    /// After a reload the sensors of a source go on with their windows and rules.
    SensorsKept {
        /// The source.
        source: Arc<str>,
        /// How many.
        sensors: usize,
        /// How many have no place any more.
        dropped: usize,
    },
    /// After a reload the windows and rules of a source's sensors begin anew.
    SensorsAnew {
        /// The source.
        source: Arc<str>,
        /// What has changed.
        reason: &'static str,
    },
    /// Another rung of the ladder answers from now on.
    Ladder {
        /// The source.
        source: Arc<str>,
        /// The rung that answered until now.
        from: &'static str,
        /// The rung that answers.
        to: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// So many threads hang in models that no other could take over: no model
    /// is run any more, and the watchdog is not to be fed.
    NoRelief {
        /// The source.
        source: Arc<str>,
        /// Threads that hang.
        abandoned: usize,
    },
    /// A thread of the pipeline has not passed for too long: the watchdog is not
    /// fed, and the alarm output is active.
    Stalled {
        /// Which.
        thread: String,
        /// For how long it has not passed, milliseconds.
        silent_ms: u64,
    },
    /// A thread that had stalled passes again.
    Recovered {
        /// Which.
        thread: String,
        /// For how long it had not passed, milliseconds.
        silent_ms: u64,
    },
    /// A model could not be loaded; a lower rung answers in its place.
    ModelRefused {
        /// The source.
        source: Arc<str>,
        /// The rung whose model it is.
        rung: &'static str,
        /// Why.
        reason: String,
    },
    /// A reload was asked for, and the configuration before still holds.
    NotReloaded {
        /// Why.
        reason: String,
    },
    /// So many lines are missing here, because the output did not take them.
    LeftOut {
        /// Which.
        output: &'static str,
        /// How many.
        count: u64,
    },
    /// A demonstration put a fault into its rig.
    FaultInjected {
        /// The sensor.
        sensor: String,
        /// The fault.
        fault: String,
    },
    /// An alert changed state.
    Alert(AlertReport),
}

/// A verdict and whose it is.
#[derive(Clone, Debug)]
pub struct SensorVerdict {
    /// The sensor's name.
    pub sensor: Arc<str>,
    /// The verdict.
    pub verdict: Verdict,
    /// Its source publishes it itself.
    pub is_published: bool,
    /// By what names its causes are told, if they are asked for.
    pub names: Option<Arc<PipelineNames>>,
}

/// The hot path's end of the channels.
#[derive(Clone)]
pub struct Reporter {
    events: SyncSender<Event>,
    verdicts: Option<SyncSender<SensorVerdict>>,
    waits_for_reader: bool,
    /// Alerts and events in their channel.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    alarms: Arc<Alarms>,
}

/// What did not fit between the hot path and the outputs, each kind by itself.
/// Counts and no more, so every access is `Relaxed`.
#[derive(Debug, Default)]
pub struct Dropped {
    alerts: AtomicU64,
    events: AtomicU64,
    verdicts: AtomicU64,
}

impl Dropped {
    /// Alerts that did not fit.
    pub fn alerts(&self) -> u64 {
        self.alerts.load(Ordering::Relaxed)
    }

    /// Other events that did not fit.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Verdicts that did not fit.
    pub fn verdicts(&self) -> u64 {
        self.verdicts.load(Ordering::Relaxed)
    }
}

/// The output thread's end.
pub struct Reports {
    events: Receiver<Event>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
}

/// The channels between the hot path and the outputs. The one of verdicts is
/// of no use to anybody who does not want them: drop it then.
pub fn channel() -> (Reporter, Reports, Receiver<SensorVerdict>) {
    // A place more than is given away: the stop must always find one.
    let (events, events_out) = sync_channel(NOTICES_MAX + 1);
    let (verdicts, verdicts_out) = sync_channel(VERDICTS_MAX);
    let dropped = Arc::<Dropped>::default();
    let waiting = Arc::new(AtomicUsize::new(0));
    let reporter = Reporter {
        events,
        verdicts: Some(verdicts),
        waits_for_reader: false,
        waiting: Arc::clone(&waiting),
        dropped: Arc::clone(&dropped),
        alarms: Arc::default(),
    };
    let reports = Reports {
        events: events_out,
        waiting,
        dropped,
    };
    (reporter, reports, verdicts_out)
}

impl Reporter {
    /// Nobody wants verdicts.
    pub fn without_verdicts(self) -> Self {
        Self {
            verdicts: None,
            ..self
        }
    }

    /// Whether what does not fit is waited with, and not dropped: for a replay,
    /// which has all the time that its reader takes.
    pub fn waits_for_reader(&mut self, waits: bool) {
        self.waits_for_reader = waits;
    }

    /// Hands over an event; waits only in a replay. One that does not fit is
    /// counted.
    pub fn report(&self, event: Event) {
        let (places, dropped) = match event {
            Event::Alert(_) => (NOTICES_MAX, &self.dropped.alerts),
            // The channel alone decides: others that are being turned away count
            // for a moment, and must not cost it its place.
            Event::Stopped => (usize::MAX, &self.dropped.events),
            _ => (EVENTS_MAX, &self.dropped.events),
        };
        // A count and no more: the channel hands the event over.
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let is_sent = if self.waits_for_reader {
            self.events.send(event).is_ok()
        } else {
            before < places && self.events.try_send(event).is_ok()
        };
        if !is_sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over a verdict if somebody wants verdicts; waits only in a replay.
    pub fn report_verdict(&self, report: SensorVerdict) {
        let Some(verdicts) = &self.verdicts else {
            return;
        };
        let is_dropped = if self.waits_for_reader {
            verdicts.send(report).is_err()
        } else {
            verdicts.try_send(report).is_err()
        };
        if is_dropped {
            self.count_verdicts_dropped(1);
        }
    }

    /// The alerts that stand.
    pub fn alarms(&self) -> &Arc<Alarms> {
        &self.alarms
    }

    /// Notes that so many verdicts were dropped.
    pub fn count_verdicts_dropped(&self, count: u64) {
        self.dropped.verdicts.fetch_add(count, Ordering::Relaxed);
    }
}

impl Reports {
    /// The next alert or event.
    ///
    /// # Errors
    /// If none comes within `timeout`, or nobody is left to report one.
    pub fn next(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let event = self.events.recv_timeout(timeout)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(event)
    }

    /// The count of reports that did not fit.
    pub fn dropped(&self) -> &Arc<Dropped> {
        &self.dropped
    }
}

impl VerdictReport {
    /// The report of one verdict.
    pub fn new(report: &SensorVerdict) -> Self {
        let SensorVerdict { verdict, names, .. } = report;
        // What is awaited comes with the same verdict, said once more.
        let is_known = !verdict.causes.are_awaited();
        let causes = names.as_ref().filter(|_| is_known);
        Self {
            seq: verdict.sequence,
            ts: verdict.timestamp_us,
            score: verdict.score,
            anomaly: verdict.is_anomaly(),
            state: verdict.state.name(),
            rung: verdict.rung.name(),
            latency_us: verdict.latency_us,
            age_us: verdict.age_us,
            causes: causes.map(|names| CausesReport::new(names, &verdict.causes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Event {
        Event::Alert(AlertReport {
            id: AlertId::default(),
            kind: "silent",
            state: "raised",
            time: AlertTime::of_receipt(0),
            sensor: "a".into(),
            source: "line".into(),
            seq: None,
            ts: None,
            row: None,
            about: AlertAbout::Silent {
                silent_ms: None,
                silent_after_ms: 5_000,
            },
        })
    }

    #[test]
    fn events_crowd_out_neither_alerts_nor_the_stop_and_what_is_dropped_is_counted() {
        let (reporter, reports, _) = channel();
        let dropped = || (reports.dropped().events(), reports.dropped().alerts());
        let source: Arc<str> = "line".into();
        for _ in 0..EVENTS_MAX + 3 {
            let source = Arc::clone(&source);
            reporter.report(Event::LinkUp { source });
        }
        assert_eq!(dropped(), (3, 0));
        for _ in EVENTS_MAX..NOTICES_MAX + 2 {
            reporter.report(alert());
        }
        assert_eq!(dropped(), (3, 2));
        reporter.report(Event::Stopped);
        assert_eq!(dropped(), (3, 2));
        let reported: Vec<Event> = reports.events.try_iter().collect();
        let alerts = reported.iter().filter(|e| matches!(e, Event::Alert(_)));
        assert_eq!(alerts.count(), NOTICES_MAX - EVENTS_MAX);
        assert!(matches!(reported.last(), Some(Event::Stopped)));
    }
}
