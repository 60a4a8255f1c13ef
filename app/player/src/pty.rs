//! The pump at the end of a serial line: readings into a pseudo terminal.
//!
//! The line has no flow control, as most have none: while nobody has the port
//! open, or whoever has it is behind, readings are lost and counted. Every
//! reader that opens the port is greeted, and a gateway that has missed the
//! greeting asks for it with a `Config`.

use super::encoding::{Beat, frame};
use super::{Counts, Due, Encoding, SHUTDOWN_POLL, Schedule};
use hark_hal::Pty;
use hark_rig::RigReading;
use hark_threads::shutdown::Shutdown;
use hark_wire::{Config, FrameDecoder, Message};
use std::io;
use std::time::{Duration, Instant};

/// What one read takes: a request is a frame of some ten bytes.
const READ_BYTES: usize = 256;

/// Plays `schedule` into `pty`: frames with `Health` every ten seconds of simulated
/// time, or lines. A schedule without a pace waits for a reader, and for a slow one.
///
/// What the reader has not read yet is lost if `pty` is dropped at once.
///
/// # Errors
/// The system's, if the pseudo terminal fails. A missing reader is none.
pub fn play_pty(
    pty: &Pty,
    encoding: &Encoding,
    mut schedule: Schedule,
    shutdown: &Shutdown,
    on_reading: &mut dyn FnMut(&RigReading),
) -> io::Result<Counts> {
    let start = Instant::now();
    let mut line = Line::new(pty, encoding, shutdown, schedule.pace().is_unlimited());
    let mut counts = Counts::default();
    let mut beat = Beat::new();
    while !shutdown.is_requested() {
        line.meet_reader()?;
        if line.is_patient && !line.has_reader {
            line.listen(SHUTDOWN_POLL)?;
            continue;
        }
        match schedule.poll(start.elapsed()) {
            Due::Play(reading) => {
                on_reading(&reading);
                line.listen(Duration::ZERO)?;
                if beat.is_due(reading.time_us) {
                    line.send_health(reading.time_us, &counts)?;
                }
                line.play(&reading, &mut counts)?;
            }
            Due::Wait(wait) => line.listen(wait.min(SHUTDOWN_POLL))?,
            Due::End => break,
        }
    }
    Ok(counts)
}

/// The node's end of the line.
struct Line<'a> {
    pty: &'a Pty,
    encoding: &'a Encoding,
    shutdown: &'a Shutdown,
    /// Whether to wait until a slow reader has made room.
    is_patient: bool,
    has_reader: bool,
    /// What was sent last may be incomplete, so that a delimiter comes first.
    is_torn: bool,
    requests: FrameDecoder,
}

impl<'a> Line<'a> {
    fn new(pty: &'a Pty, encoding: &'a Encoding, shutdown: &'a Shutdown, is_patient: bool) -> Self {
        Self {
            pty,
            encoding,
            shutdown,
            is_patient,
            has_reader: false,
            is_torn: false,
            requests: FrameDecoder::new(),
        }
    }

    /// Greets whoever has opened the port since the last call.
    fn meet_reader(&mut self) -> io::Result<()> {
        let had_reader = std::mem::replace(&mut self.has_reader, self.pty.has_reader()?);
        if self.has_reader && !had_reader {
            self.is_torn = true;
            self.requests.forget_partial();
            self.greet()?;
        }
        Ok(())
    }

    fn greet(&mut self) -> io::Result<()> {
        match self.encoding.greeting() {
            Some(greeting) => self.send(&greeting).map(|_| ()),
            None => Ok(()),
        }
    }

    fn play(&mut self, reading: &RigReading, counts: &mut Counts) -> io::Result<()> {
        counts.readings += 1;
        if !reading.sent {
            counts.dropped += 1;
        } else if self.send(&self.encoding.reading(reading))? {
            counts.sent += 1;
        } else {
            counts.lost += 1;
        }
        Ok(())
    }

    /// Of lines, the header is all the health there is.
    fn send_health(&mut self, time_us: u64, counts: &Counts) -> io::Result<()> {
        let Encoding::Frames(node) = self.encoding else {
            return self.greet();
        };
        let rejected = self.requests.counts().rejected();
        let health = node.health(time_us, counts.lost, rejected);
        self.send(&frame(&health)).map(|_| ())
    }

    /// Waits for what the gateway asks, for at most `wait`.
    fn listen(&mut self, wait: Duration) -> io::Result<()> {
        if !self.has_reader {
            std::thread::sleep(wait);
            return Ok(());
        }
        let mut buffer = [0; READ_BYTES];
        let len = self.pty.read(&mut buffer, wait)?;
        let mut bytes = &buffer[..len];
        let mut is_asked = false;
        while let Some(message) = self.requests.next_message(&mut bytes) {
            is_asked |= matches!(message, Ok(Message::Config(config)) if can_follow(&config));
        }
        if is_asked { self.greet() } else { Ok(()) }
    }

    /// Sends `message` with its end. False: not all of it.
    fn send(&mut self, message: &[u8]) -> io::Result<bool> {
        let (before, after): (&[u8], &[u8]) = match self.encoding {
            Encoding::Frames(_) => (b"\0", b""),
            Encoding::Lines(_) => (b"\n", b"\n"),
        };
        let before = if self.is_torn { before } else { b"" };
        let bytes = [before, message, after].concat();
        let mut written = self.pty.write(&bytes, SHUTDOWN_POLL)?;
        while self.is_patient
            && written < bytes.len()
            && !self.shutdown.is_requested()
            && self.pty.has_reader()?
        {
            written += self.pty.write(&bytes[written..], SHUTDOWN_POLL)?;
        }
        let is_whole = written == bytes.len();
        self.is_torn = !is_whole && (self.is_torn || written > 0);
        Ok(is_whole)
    }
}

/// The simulated node keeps its period and never stops, and a node does all of
/// what it is told or none of it.
fn can_follow(config: &Config) -> bool {
    config.say_hello && config.running && config.period_ms == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_can_be_met_in_full_is_met() {
        for (period_ms, running, say_hello, expected) in [
            (0, true, true, true),
            (0, true, false, false),
            (0, false, true, false),
            (50, true, true, false),
        ] {
            let config = Config {
                period_ms,
                running,
                say_hello,
            };
            assert_eq!(can_follow(&config), expected, "{config:?}");
        }
    }
}
