//! Readings from a recording: CSV or JSON lines.
//!
//! The engine is shown the time of the recording, so that a replay decides as
//! the live run did, however fast it goes.

use super::{Kind, StreamDecoder, handle_payload, sleep};
use crate::config::{FileLink, SensorTemplate, SourceConfig};
use crate::hot_path::HotPath;
use crate::shutdown::Shutdown;
use hark_codec::{Decoder, Oversize};
use hark_engine::Rejection;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;
/// Where a recording's clock starts: far enough from 0 that times may be
/// subtracted. Microseconds.
const START_US: u64 = 1_000_000_000;
/// The longest gap in a recording that is kept; a day, microseconds.
const GAP_MAX_US: u64 = 86_400_000_000;

/// Plays the recording to its end, or until the shutdown.
pub(super) fn run(
    link: &FileLink,
    config: &SourceConfig,
    hot_path: &mut HotPath,
    decoder: &mut StreamDecoder,
    shutdown: &Shutdown,
) {
    let period_ms = link.period_ms.unwrap_or(hot_path.schema().period_ms);
    let mut player = Player {
        link,
        sensor: config.sensor.clone(),
        payload_bytes_max: config.payload_bytes_max,
        clock: RecordingClock::new((period_ms * 1e3) as u64),
    };
    loop {
        hot_path.handle_link_up();
        decoder.handle_link_up();
        if let Err(error) = player.play(hot_path, decoder, shutdown) {
            let reason = format!("reading {}: {error}", link.path.display());
            return hot_path.handle_link_down(&reason);
        }
        if !link.repeat || shutdown.is_requested() {
            return;
        }
    }
}

struct Player<'a> {
    link: &'a FileLink,
    sensor: Option<SensorTemplate>,
    payload_bytes_max: usize,
    clock: RecordingClock,
}

impl Player<'_> {
    fn play(
        &mut self,
        hot_path: &mut HotPath,
        decoder: &mut StreamDecoder,
        shutdown: &Shutdown,
    ) -> io::Result<()> {
        let Kind::Payloads { decoder, lines } = &mut decoder.kind else {
            return Err(io::Error::other("a file holds lines, not wire frames"));
        };
        let mut file = File::open(&self.link.path)?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let len = file.read(&mut buffer)?;
            let mut handle = |line: Result<&[u8], Oversize>| {
                if !shutdown.is_requested() {
                    self.handle_line(line, decoder, hot_path, shutdown);
                }
            };
            if len == 0 {
                lines.finish(handle);
                return Ok(());
            }
            lines.push(&buffer[..len], &mut handle);
            if shutdown.is_requested() {
                return Ok(());
            }
        }
    }

    fn handle_line(
        &mut self,
        line: Result<&[u8], Oversize>,
        decoder: &mut Decoder,
        hot_path: &mut HotPath,
        shutdown: &Shutdown,
    ) {
        let line = match line {
            Ok(line) => line,
            Err(oversize) => {
                return hot_path.handle_rejection(Rejection::Oversize, &oversize, &[]);
            }
        };
        let sensor = self.sensor.as_ref().and_then(SensorTemplate::fixed);
        let clock = &mut self.clock;
        let speed = self.link.speed;
        let receive = |hot_path: &mut HotPath, timestamp_us: Option<i64>| {
            let recorded_us = clock.handle_row(timestamp_us);
            if speed > 0.0 {
                sleep(clock.wait(speed), shutdown);
            }
            hot_path.receive_recorded(recorded_us, timestamp_us)
        };
        let bytes_max = self.payload_bytes_max;
        handle_payload(decoder, line, bytes_max, sensor, receive, hot_path);
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
