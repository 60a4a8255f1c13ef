//! How far a simulation is, for somebody who watches.

use hark_rig::RigReading;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What takes less time needs no progress.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// From one line to the next.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// One line on standard error, drawn over and over; nothing unless that is a
/// terminal. Dropping it clears the line.
pub(super) struct Progress {
    next: Option<Instant>,
    end: Option<Duration>,
    is_shown: bool,
}

impl Progress {
    pub(super) fn new(end: Option<Duration>) -> Self {
        let is_watched = io::stderr().is_terminal();
        Self {
            next: is_watched.then(|| Instant::now() + SHOW_AFTER),
            end,
            is_shown: false,
        }
    }

    pub(super) fn show(&mut self, reading: &RigReading) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + SHOW_EVERY);
        self.is_shown = true;
        // A terminal that has gone is no reason to stop.
        write!(io::stderr(), "\r{}\x1b[K", text(reading, self.end)).ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

fn text(reading: &RigReading, end: Option<Duration>) -> String {
    let at_s = reading.time_us / 1_000_000;
    let of = end.map_or(String::new(), |end| format!(" of {} s", end.as_secs_f64()));
    let fault = match reading.label {
        Some(fault) => format!(", {fault} at {:.2}", reading.severity),
        None => String::new(),
    };
    format!(
        "{at_s} s{of} simulated, {} readings{fault}",
        reading.sequence + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use hark_rig::Fault;

    #[test]
    fn the_line_says_how_far_and_what_is_wrong() {
        let reading = RigReading {
            sequence: 99,
            time_us: 9_900_000,
            values: [0.0; hark_rig::CHANNELS.len()],
            label: None,
            severity: 0.0,
            sent: true,
        };
        assert_eq!(text(&reading, None), "9 s simulated, 100 readings");
        let faulty = RigReading {
            label: Some(Fault::OuterRace),
            severity: 0.5,
            ..reading
        };
        assert_eq!(
            text(&faulty, Some(Duration::from_millis(12_500))),
            "9 s of 12.5 s simulated, 100 readings, outer_race at 0.50"
        );
    }
}
