//! The supervisor: the thread that looks at the pipeline's progress and drives
//! the [`Board`] by what [`Supervision`] makes of it.
//!
//! It is woken by alerts, for the alarm output, and looks a few times a second
//! at the loops. If it stands still itself, nobody feeds the watchdogs.

use super::Board;
use crate::watchdog::{Actions, Change, Sight, Supervision};
use hark_keeper::Slot;
use hark_serve::report::{Event, Reporter};
use hark_serve::shift::Shard;
use hark_threads::progress::{Alarms, Progress};
use hark_threads::{Outcome, Stage, Threads};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Between two feedings at least: a heartbeat that a person sees.
const FEED_EVERY: Duration = Duration::from_secs(1);
/// A watchdog is fed so many times, if all is well, before it would bite.
const FEEDS_MIN: u32 = 3;
/// Between two updates of the status line.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// One loop to be watched.
pub struct Watched {
    /// What people call it, such as `source line`.
    pub name: String,
    /// What it shows of itself.
    pub progress: Arc<Progress>,
    /// Of a source: where its shard lies while a model runs.
    pub slot: Option<Arc<Slot<Box<Shard>>>>,
}

/// Starts to watch `loops`, among `threads`; one that does not pass for `stall` is
/// a fault.
///
/// The first stage of a stop ends it, and returns the board: nothing is fed from
/// there on, so a stop that does not come to its end is a reset. The board's
/// [`Board::release`] is that end.
///
/// # Errors
/// If the system gives no thread.
pub fn supervise(
    threads: &Threads,
    board: Board,
    loops: Vec<Watched>,
    stall: Duration,
    reporter: Reporter,
) -> std::io::Result<Outcome<Board>> {
    let patience = board.patience();
    let period = patience.map_or(FEED_EVERY, |time| FEED_EVERY.min(time / FEEDS_MIN));
    threads.spawn("supervisor", Stage::Watch, move |shutdown| {
        let alarms = Arc::clone(reporter.alarms());
        alarms.listen();
        let supervision = Supervision::new(loops.len(), stall, period, Instant::now());
        let mut watch = Watch {
            board,
            loops,
            supervision,
            alarms,
            reporter,
            faults: Vec::new(),
            status_at: None,
        };
        while !shutdown.is_requested() {
            watch.look(Instant::now());
            // Woken by an alert, and by the stop.
            std::thread::park_timeout(LOOK);
        }
        watch.board
    })
}

struct Watch {
    board: Board,
    loops: Vec<Watched>,
    supervision: Supervision,
    alarms: Arc<Alarms>,
    reporter: Reporter,
    /// The loops that are stalled.
    faults: Vec<usize>,
    status_at: Option<Instant>,
}

impl Watch {
    fn look(&mut self, now: Instant) {
        let sights: Vec<Sight> = self.loops.iter().map(sight).collect();
        let Actions {
            feeds,
            is_at_fault,
            changes,
        } = self.supervision.handle_look(now, &sights);
        let has_changed = !changes.is_empty();
        for change in changes {
            self.tell(change);
        }
        let is_unproven = self.board.is_fail_safe() && !self.supervision.has_fed();
        self.board
            .set_alarm(is_at_fault || is_unproven || self.alarms.standing() > 0);
        if feeds {
            self.board.feed();
        }
        let is_due = self
            .status_at
            .is_none_or(|at| now.saturating_duration_since(at) >= STATUS_EVERY);
        if is_due || has_changed {
            self.status_at = Some(now);
            let status = self.status();
            self.board.tell_status(&status);
        }
    }

    fn tell(&mut self, change: Change) {
        match change {
            Change::Stalled { index, silent } => {
                let thread = self.loops[index].name.clone();
                tracing::error!(
                    "{thread} has not passed for {silent:.1?}: the watchdog is not fed"
                );
                self.faults.push(index);
                let silent_ms = silent.as_millis() as u64;
                self.reporter.report(Event::Stalled { thread, silent_ms });
            }
            Change::Recovered { index, silent } => {
                let thread = self.loops[index].name.clone();
                tracing::warn!("{thread} passes again, after {silent:.1?}");
                self.faults.retain(|fault| *fault != index);
                let silent_ms = silent.as_millis() as u64;
                self.reporter.report(Event::Recovered { thread, silent_ms });
            }
        }
    }

    /// As in `1234 readings, 1 of 3 alerts stand, by the model`.
    fn status(&self) -> String {
        if let Some(&fault) = self.faults.first() {
            return format!("stalled: {}", self.loops[fault].name);
        }
        let sources = || self.loops.iter().filter(|watched| watched.slot.is_some());
        let readings: u64 = sources().map(|source| source.progress.readings()).sum();
        let (standing, raised) = (self.alarms.standing(), self.alarms.raised());
        let lowest = sources().map(|source| source.progress.rung()).max();
        let rung = lowest.map_or_else(String::new, |rung| format!(", by the {}", rung.name()));
        format!("{readings} readings, {standing} of {raised} alerts stand{rung}")
    }
}

fn sight(watched: &Watched) -> Sight {
    let progress = &watched.progress;
    let is_armed = |slot: &Arc<Slot<Box<Shard>>>| slot.deadline_us().is_some();
    Sight {
        passes: progress.passes(),
        is_lent: watched.slot.as_ref().is_some_and(is_armed),
        has_ended: progress.has_ended(),
        lacks_relief: progress.lacks_relief(),
    }
}
