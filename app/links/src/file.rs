//! Readings from a recording: CSV or JSON lines.
//!
//! The engine is shown the time of the recording, so that a replay decides as
//! the live run did, however fast it goes.

use super::payloads::Payloads;
use super::{Kind, Named, SHUTDOWN_POLL, StreamDecoder};
use hark_codec::Oversize;
use hark_config::{FileLink, SensorTemplate};
use hark_engine::Rejection;
use hark_serve::hot_path::{HotPath, Receipt};
use hark_serve::{Fed, Feed};
use hark_threads::shutdown::Shutdown;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;
/// Where a recording's clock starts: far enough from 0 that times may be
/// subtracted. Microseconds.
const START_US: u64 = 1_000_000_000;
/// How long a recording that repeats and holds no reading is left alone.
const EMPTY_PAUSE: Duration = Duration::from_secs(1);
/// The longest gap in a recording that is kept; a day, microseconds.
const GAP_MAX_US: u64 = 86_400_000_000;

/// A recording that is played to its end, or over and over.
pub(super) struct FileFeed {
    link: FileLink,
    decoder: StreamDecoder,
    clock: RecordingClock,
    file: Option<File>,
    /// It was opened before: the link is up, through all repetitions.
    is_up: bool,
    /// Readings that had come when it was last opened.
    before: Option<u64>,
    buffer: Box<[u8]>,
    /// What was read, in UTF-8.
    text: Vec<u8>,
    /// What is unread of `text`.
    unread: std::ops::Range<usize>,
    is_over: bool,
    /// The wall clock when the file was opened, by which its times are told apart.
    opened_us: i64,
}

impl FileFeed {
    pub(super) fn new(link: &FileLink, decoder: StreamDecoder, period_ms: f64) -> Self {
        Self {
            link: link.clone(),
            decoder,
            clock: RecordingClock::new((period_ms * 1e3) as u64),
            file: None,
            is_up: false,
            before: None,
            buffer: vec![0; READ_BYTES].into(),
            text: Vec::with_capacity(READ_BYTES),
            unread: 0..0,
            is_over: false,
            opened_us: 0,
        }
    }

    /// Opens the file, or reads on, or notes its end.
    fn read(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => {
                if !std::mem::replace(&mut self.is_up, true) {
                    hot_path.handle_link_up();
                }
                self.decoder.handle_link_up(false);
                let readings = hot_path.readings();
                if self.before.replace(readings) == Some(readings) {
                    sleep(EMPTY_PAUSE, shutdown, hot_path);
                }
                self.opened_us = hark_hal::wall_us() as i64;
                closed.insert(File::open(&self.link.path)?)
            }
        };
        let len = file.read(&mut self.buffer)?;
        self.text.clear();
        let text = self.decoder.widened(&self.buffer[..len]);
        self.text.extend_from_slice(text);
        self.unread = 0..self.text.len();
        if len == 0 {
            self.file = None;
            self.is_over = !self.link.repeat;
        }
        Ok(())
    }

    /// Handles the next line, or the last one, which may have no end.
    fn handle_next(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) {
        let Kind::Payloads {
            payloads, lines, ..
        } = &mut self.decoder.kind
        else {
            unreachable!("a file's format is CSV or JSON, as its configuration is read");
        };
        let mut row = Row {
            clock: &mut self.clock,
            speed: self.link.speed,
            sensor: self.decoder.sensor.as_ref(),
            opened_us: self.opened_us,
            payloads,
            hot_path,
            shutdown,
        };
        if row.serve_waiting() {
            return;
        }
        if self.file.is_none() {
            lines.finish(|line| row.handle(line));
        } else {
            let mut bytes = &self.text[self.unread.clone()];
            if let Some(line) = lines.next_line(&mut bytes) {
                row.handle(line);
            }
            self.unread.start = self.unread.end - bytes.len();
        }
    }
}

impl Feed for FileFeed {
    /// Each row has a time of its own, so rows are not queued.
    fn has_more(&self) -> bool {
        false
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        let has_waiting = self.decoder.has_waiting();
        if (self.is_over && !has_waiting) || shutdown.is_requested() {
            return Fed::Ended;
        }
        if self.unread.is_empty()
            && !has_waiting
            && let Err(error) = self.read(hot_path, shutdown)
        {
            let path = self.link.path.display();
            hot_path.handle_link_down(&format!("reading {path}: {error}"));
            return Fed::Ended;
        }
        self.handle_next(hot_path, shutdown);
        Fed::Open
    }
}

/// What a row of the recording is handled with.
struct Row<'a> {
    clock: &'a mut RecordingClock,
    speed: f64,
    sensor: Option<&'a SensorTemplate>,
    opened_us: i64,
    payloads: &'a mut Payloads,
    hot_path: &'a mut HotPath,
    shutdown: &'a Shutdown,
}

impl Row<'_> {
    fn handle(&mut self, line: Result<&[u8], Oversize>) {
        let line = match line {
            Ok(line) => line,
            Err(oversize) => {
                let reason = Rejection::Oversize;
                return self.hot_path.handle_rejection(reason, &oversize, &[]);
            }
        };
        let named = Named::of(self.sensor.and_then(SensorTemplate::fixed));
        let mut receive = receiver(self.clock, self.speed, self.shutdown);
        self.payloads
            .handle_line(line, named, self.opened_us, &mut receive, self.hot_path);
    }

    /// Takes in the next reading that came in one row with another, if there is one.
    fn serve_waiting(&mut self) -> bool {
        let mut receive = receiver(self.clock, self.speed, self.shutdown);
        self.payloads
            .serve_waiting(Some(&mut receive), self.hot_path)
    }
}

/// What gives a reading its time, and waits for it.
fn receiver<'r>(
    clock: &'r mut RecordingClock,
    speed: f64,
    shutdown: &'r Shutdown,
) -> impl FnMut(&mut HotPath, Option<i64>) -> Receipt + 'r {
    move |hot_path, timestamp_us| {
        let recorded_us = clock.handle_row(timestamp_us);
        if speed > 0.0 {
            sleep(clock.wait(speed), shutdown, hot_path);
        }
        hot_path.receive_recorded(recorded_us, timestamp_us)
    }
}

/// Sleeps, but not past the shutdown. A recording that has a gap is no stall.
fn sleep(wait: Duration, shutdown: &Shutdown, hot_path: &HotPath) {
    let until = Instant::now() + wait;
    while !shutdown.is_requested() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(SHUTDOWN_POLL));
        hot_path.note_pass();
    }
}

/// The time of the recording: by its timestamps, or a period a row.
struct RecordingClock {
    period_us: u64,
    started: Instant,
    elapsed_us: u64,
    timestamp_us: Option<i64>,
    is_first: bool,
}

impl RecordingClock {
    fn new(period_us: u64) -> Self {
        Self {
            period_us,
            started: Instant::now(),
            elapsed_us: 0,
            timestamp_us: None,
            is_first: true,
        }
    }

    /// The time of the next row, microseconds. It never goes back, and no gap
    /// is longer than [`GAP_MAX_US`].
    fn handle_row(&mut self, timestamp_us: Option<i64>) -> u64 {
        let step_us = match (self.timestamp_us, timestamp_us) {
            (Some(last), Some(this)) => this.saturating_sub(last).max(0) as u64,
            _ => self.period_us,
        };
        if !self.is_first {
            self.elapsed_us += step_us.min(GAP_MAX_US);
        }
        self.is_first = false;
        self.timestamp_us = timestamp_us;
        START_US + self.elapsed_us
    }

    /// How long to wait until the row is due at `speed` times real time.
    fn wait(&self, speed: f64) -> Duration {
        let due = Duration::from_micros((self.elapsed_us as f64 / speed) as u64);
        due.saturating_sub(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[Option<i64>], expected_us: &[u64]) {
        let mut clock = RecordingClock::new(10);
        let times: Vec<u64> = rows
            .iter()
            .map(|&row| clock.handle_row(row) - START_US)
            .collect();
        assert_eq!(times, expected_us);
    }

    #[test]
    fn a_recording_runs_by_its_timestamps_or_by_its_period() {
        check(&[None, None, None], &[0, 10, 20]);
        check(&[Some(500), Some(700), Some(1000)], &[0, 200, 500]);
        check(&[Some(500), None, Some(900)], &[0, 10, 20]);
    }

    #[test]
    fn time_never_goes_back_nor_leaps_for_ever() {
        check(&[Some(500), Some(100), Some(200)], &[0, 0, 100]);
        check(&[Some(0), Some(i64::MAX)], &[0, GAP_MAX_US]);
        check(&[Some(i64::MIN), Some(i64::MAX)], &[0, GAP_MAX_US]);
    }
}
