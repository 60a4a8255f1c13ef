//! Lines on their way to an output that may stand still: a disk that hangs, a
//! pipe that nobody reads.
//!
//! Each output has a bounded queue and a thread of its own that writes
//! ([`LineWriter`]). Whoever posts a line ([`LineSender`]) never waits for the
//! output: what finds no room is left out, the newest first, so that the lines
//! that tell how a fault began stay. Alerts have places that nothing else may
//! take. What was left out is counted, and told at its very place among the
//! lines once the output works again ([`Entry::LeftOut`]).
//!
//! An output that stands still may never let go of its thread. So a stop waits
//! for a bounded time, and leaves such a thread behind.

use hark_threads::{Shutdown, Stage, Threads};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How often an output that failed is told what it missed, while nothing else is
/// left for it: what it lost is known once it works again, and not first with the
/// next line, which may be a long time in coming.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// How much may wait for one output.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Lines.
    pub lines: usize,
    /// Bytes of lines.
    pub bytes: usize,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// An alert, or an error: it finds room as long as there is any.
    Alert,
    /// It may take half the room.
    Other,
}

/// What an output is given to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A line as it was posted.
    Line(&'a [u8]),
    /// So many lines are missing here.
    LeftOut(u64),
}

/// What became of the lines of one output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that the output took.
    pub written: u64,
    /// Lines that found no room, failed, or waited when hark stopped.
    pub lost: u64,
}

/// Where lines are left for the writer.
#[derive(Clone)]
pub struct LineSender {
    queue: SyncSender<Message>,
    ledger: Arc<Ledger>,
}

/// The thread that writes, and its owner's way to end it.
pub struct LineWriter {
    sender: LineSender,
    /// Nothing is ever sent: it is closed by the end of the thread.
    has_ended: Receiver<()>,
}

enum Message {
    Line {
        line: Vec<u8>,
        /// Lines left out since the one before.
        left_out_before: u64,
    },
    End,
}

/// Counts only: the queue hands the lines over and orders what they hold, so
/// every access is `Relaxed`.
struct Ledger {
    room: Room,
    /// In the queue or being written.
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// Lines that found no room, and that no line behind them tells of yet.
    left_out: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
}

impl LineSender {
    /// Leaves a line to be written; never waits. Returns whether it found room.
    pub fn post(&self, line: Vec<u8>, rank: Rank) -> bool {
        let bytes = line.len();
        if !self.ledger.admit(bytes, rank) {
            self.ledger.leave_out();
            return false;
        }
        let left_out_before = self.ledger.left_out.swap(0, Ordering::Relaxed);
        let message = Message::Line {
            line,
            left_out_before,
        };
        let is_sent = self.queue.try_send(message).is_ok();
        if !is_sent {
            let untold = &self.ledger.left_out;
            untold.fetch_add(left_out_before, Ordering::Relaxed);
            self.ledger.release(bytes);
            self.ledger.leave_out();
        }
        is_sent
    }

    /// Leaves a line to be written, and waits for room for as long as it takes.
    pub fn post_patiently(&self, line: Vec<u8>) {
        let bytes = line.len();
        self.ledger.take(bytes);
        let message = Message::Line {
            line,
            left_out_before: 0,
        };
        if self.queue.send(message).is_err() {
            self.ledger.release(bytes);
            self.ledger.leave_out();
        }
    }

    /// What has become of the lines so far; what waits may still be written.
    pub fn counts(&self) -> LineCounts {
        LineCounts {
            written: self.ledger.written.load(Ordering::Relaxed),
            lost: self.ledger.lost.load(Ordering::Relaxed),
        }
    }
}

impl LineWriter {
    /// Starts the thread, which calls `write` with each entry in order. `name` is
    /// what people call the output.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        threads: &Threads,
        name: &'static str,
        room: Room,
        write: impl FnMut(Entry<'_>) -> anyhow::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        // A place more than there are lines: the end must always find one.
        let (queue, messages) = sync_channel(room.lines + 1);
        let (closed_by_the_end, has_ended) = sync_channel(0);
        let ledger = Arc::new(Ledger::new(room));
        let mut output = Output {
            name,
            write,
            ledger: Arc::clone(&ledger),
            untold: 0,
            is_failing: false,
        };
        // Told to end by a message, behind all that waits.
        threads.spawn(name, Stage::Write, move |_: &Shutdown| {
            let _closed_by_the_end: SyncSender<()> = closed_by_the_end;
            output.run(&messages);
        })?;
        Ok(Self {
            sender: LineSender { queue, ledger },
            has_ended,
        })
    }

    /// Where lines are left.
    pub fn sender(&self) -> &LineSender {
        &self.sender
    }

    /// Lets the thread end once everything that waits is written.
    pub fn end(&self) {
        // It has its own place, unless the thread has gone or patient lines took it.
        self.sender.queue.try_send(Message::End).ok();
    }

    /// Ends the thread once everything that waits is written. Waits for that, for
    /// `within` at most; without a limit, for as long as it takes. What is not
    /// written then counts as lost.
    pub fn finish(self, within: Option<Duration>) -> LineCounts {
        // Closed, by the end of the thread, is as good as late: all is counted.
        match within {
            Some(within) => {
                self.end();
                self.has_ended.recv_timeout(within).ok();
            }
            None => {
                self.sender.queue.send(Message::End).ok();
                self.has_ended.recv().ok();
            }
        }
        let LineCounts { written, lost } = self.sender.counts();
        let unwritten = self.sender.ledger.lines.load(Ordering::Relaxed);
        LineCounts {
            written,
            lost: lost + unwritten as u64,
        }
    }
}

impl Ledger {
    fn new(room: Room) -> Self {
        Self {
            room,
            lines: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Takes room for a line if there is any. Two that come at once for the last
    /// place may both be refused.
    fn admit(&self, bytes: usize, rank: Rank) -> bool {
        let share = match rank {
            Rank::Alert => 1,
            Rank::Other => 2,
        };
        let (lines_before, bytes_before) = self.take(bytes);
        let fits = lines_before < self.room.lines / share
            && bytes_before + bytes <= self.room.bytes / share;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn take(&self, bytes: usize) -> (usize, usize) {
        (
            self.lines.fetch_add(1, Ordering::Relaxed),
            self.bytes.fetch_add(bytes, Ordering::Relaxed),
        )
    }

    fn release(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn leave_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The writing end, on its thread.
struct Output<W> {
    name: &'static str,
    write: W,
    ledger: Arc<Ledger>,
    /// Lines left out or failed that the output has not been told of.
    untold: u64,
    /// No line was taken since one failed.
    is_failing: bool,
}

impl<W: FnMut(Entry<'_>) -> anyhow::Result<()>> Output<W> {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match self.next(messages) {
                Ok(Message::Line {
                    line,
                    left_out_before,
                }) => self.handle_line(&line, left_out_before),
                Err(RecvTimeoutError::Timeout) => drop(self.tell()),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The last that can be said.
        self.tell();
    }

    fn next(&self, messages: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        if self.untold > 0 {
            return messages.recv_timeout(TELL_AGAIN);
        }
        messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    fn handle_line(&mut self, line: &[u8], left_out_before: u64) {
        self.untold += left_out_before;
        // What does not take the word of what is missing takes no line.
        if self.tell() && self.write(Entry::Line(line)) {
            self.ledger.written.fetch_add(1, Ordering::Relaxed);
        } else {
            self.untold += 1;
            self.ledger.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.ledger.release(line.len());
        // A gap at the end is told now: the next line may be long in coming.
        if !self.is_failing && self.ledger.lines.load(Ordering::Relaxed) == 0 {
            self.untold += self.ledger.left_out.swap(0, Ordering::Relaxed);
            self.tell();
        }
    }

    fn tell(&mut self) -> bool {
        if self.untold > 0 && self.write(Entry::LeftOut(self.untold)) {
            self.untold = 0;
        }
        self.untold == 0
    }

    fn write(&mut self, entry: Entry<'_>) -> bool {
        let written = (self.write)(entry);
        let was_failing = self.is_failing;
        // Only a line proves that lines are taken again.
        match (&written, entry) {
            (Err(_), _) => self.is_failing = true,
            (Ok(()), Entry::Line(_)) => self.is_failing = false,
            (Ok(()), Entry::LeftOut(_)) => {}
        }
        // Once, and not for every line: it may be the log's own disk that is full. A
        // reader that has gone has seen enough.
        if let Err(error) = &written
            && !was_failing
            && !is_closed_pipe(error)
        {
            let name = self.name;
            tracing::error!("{name}: {error:#}; what it does not take is counted");
        }
        written.is_ok()
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const ROOMY: Room = Room {
        lines: 100,
        bytes: 1000,
    };

    /// An output that writes an entry for each leave that it is given, and the
    /// rest once nobody gives any more.
    struct Gate {
        writer: LineWriter,
        written: Arc<Mutex<Vec<String>>>,
        leave: SyncSender<bool>,
    }

    fn gate(room: Room) -> Gate {
        let written = Arc::new(Mutex::new(Vec::new()));
        let (leave, is_given) = sync_channel(0);
        let file = Arc::clone(&written);
        let writer = LineWriter::start(&Threads::new(), "test", room, move |entry| {
            anyhow::ensure!(is_given.recv().unwrap_or(true), "refused");
            let text = match entry {
                Entry::Line(line) => String::from_utf8_lossy(line).into_owned(),
                Entry::LeftOut(count) => format!("-{count}"),
            };
            file.lock().unwrap().push(text);
            Ok(())
        });
        Gate {
            writer: writer.unwrap(),
            written,
            leave,
        }
    }

    impl Gate {
        fn post(&self, line: &str) -> bool {
            let rank = if line.starts_with('a') {
                Rank::Alert
            } else {
                Rank::Other
            };
            self.writer.sender().post(line.into(), rank)
        }

        /// Posts each of `lines`; returns those that found room.
        fn post_all<'a>(&self, lines: &'a str) -> Vec<&'a str> {
            let lines = lines.split(' ');
            lines.filter(|line| self.post(line)).collect()
        }

        /// Opens the gate, and returns what was written and the counts.
        fn finish(self) -> (String, LineCounts) {
            drop(self.leave);
            let counts = self.writer.finish(None);
            let written = self.written.lock().unwrap().join(" ");
            (written, counts)
        }
    }

    fn counts(written: u64, lost: u64) -> LineCounts {
        LineCounts { written, lost }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told_in_its_place() {
        let gate = gate(Room { lines: 4, ..ROOMY });
        assert_eq!(gate.post_all("1 2 3 4"), ["1", "2"]);
        assert_eq!(
            gate.post_all("a5 6"),
            ["a5"],
            "3 and 4 are missing before it"
        );
        gate.leave.send(true).unwrap();
        let (written, counted) = gate.finish();
        assert_eq!(written, "1 2 -2 a5 -1");
        assert_eq!(counted, counts(3, 3));
    }

    #[test]
    fn alerts_find_room_where_nothing_else_does() {
        let gate = gate(Room { lines: 4, ..ROOMY });
        assert_eq!(gate.post_all("1 2 3 a1 a2 a3 4"), ["1", "2", "a1", "a2"]);
    }

    #[test]
    fn bytes_are_bounded_as_lines_are() {
        let gate = gate(Room { bytes: 20, ..ROOMY });
        let posted = gate.post_all("12345678 123 12 a2345678 a23 a2");
        assert_eq!(posted, ["12345678", "12", "a2345678", "a2"]);
        assert_eq!(gate.finish().1, counts(4, 2));
    }

    #[test]
    fn an_output_that_stands_still_is_left_behind_and_what_waits_is_lost() {
        let gate = gate(ROOMY);
        assert_eq!(gate.post_all("1 2 3").len(), 3);
        gate.leave.send(true).unwrap();
        while gate.writer.sender().counts().written == 0 {
            std::thread::yield_now();
        }
        let counted = gate.writer.finish(Some(Duration::ZERO));
        assert_eq!(counted, counts(1, 2));
    }

    #[test]
    fn the_end_finds_its_place_in_a_full_queue() {
        let gate = gate(Room { lines: 2, ..ROOMY });
        assert_eq!(gate.post_all("a1 a2 a3"), ["a1", "a2"]);
        let (written, counted) = gate.finish();
        assert_eq!((written.as_str(), counted), ("a1 a2 -1", counts(2, 1)));
    }

    #[test]
    fn what_failed_is_told_once_the_output_works_again() {
        let gate = gate(ROOMY);
        assert_eq!(gate.post_all("1 2 3 4").len(), 4);
        // The first line, then twice the word of what is missing, which it takes
        // at last.
        for is_taken in [false, false, true] {
            gate.leave.send(is_taken).unwrap();
        }
        let (written, counted) = gate.finish();
        assert_eq!((written.as_str(), counted), ("-2 3 4", counts(2, 2)));
    }

    #[test]
    fn who_is_patient_loses_nothing() {
        let gate = gate(Room { lines: 1, ..ROOMY });
        let sender = gate.writer.sender().clone();
        let patient = std::thread::spawn(move || {
            for n in 0..10 {
                sender.post_patiently(n.to_string().into());
            }
        });
        for _ in 0..5 {
            gate.leave.send(true).unwrap();
        }
        drop(gate.leave);
        patient.join().unwrap();
        assert_eq!(gate.writer.finish(None), counts(10, 0));
        assert_eq!(gate.written.lock().unwrap().join(""), "0123456789");
    }
}
