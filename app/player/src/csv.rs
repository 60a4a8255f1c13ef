//! The recording: readings with what was wrong with the machine at the time.

use super::text::{append, csv_header, write_cells};
use super::{Counts, Due, SHUTDOWN_POLL, Schedule};
use hark_rig::{Fault, RigReading};
use hark_threads::shutdown::Shutdown;
use std::io::{self, Write};
use std::time::Instant;

/// Writes the readings of `schedule` to `out`: a header, then `seq`, `ts` in µs,
/// the channels, `label` and `severity`, 0 to 1.
///
/// The label is the fault's name, empty while there is none. A reading that a
/// `dropout` keeps back is left out. `out` should be buffered; it is flushed
/// whenever the schedule waits, and at the end.
///
/// # Errors
/// Those of `out`; [`io::ErrorKind::BrokenPipe`] if its reader has gone.
pub fn write_csv(
    out: &mut impl Write,
    mut schedule: Schedule,
    shutdown: &Shutdown,
    on_reading: &mut dyn FnMut(&RigReading),
) -> io::Result<Counts> {
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut line = Vec::new();
    writeln!(out, "{}", csv_header(&["label", "severity"]))?;
    while !shutdown.is_requested() {
        match schedule.poll(start.elapsed()) {
            Due::Play(reading) => {
                on_reading(&reading);
                counts.readings += 1;
                if !reading.sent {
                    counts.dropped += 1;
                    continue;
                }
                line.clear();
                write_line(&reading, &mut line);
                out.write_all(&line)?;
                counts.sent += 1;
            }
            Due::Wait(wait) => {
                out.flush()?;
                std::thread::sleep(wait.min(SHUTDOWN_POLL));
            }
            Due::End => break,
        }
    }
    out.flush()?;
    Ok(counts)
}

fn write_line(reading: &RigReading, line: &mut Vec<u8>) {
    write_cells(reading, line);
    let label = reading.label.map_or("", Fault::name);
    append(line, format_args!(",{label},{}\n", reading.severity));
}
