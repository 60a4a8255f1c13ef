//! A serial line that several sources ask on: one of them at a time.
//!
//! Each source has a thread of its own, and units of different kinds are different
//! sources, so the line is lent out for one poll, in the order in which it was asked
//! for. Who has the line alone is the only one that touches it.

use hark_hal::{Received, SerialError, SerialLine, SerialSettings};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Reads of a line that never falls quiet, before a request is made all the same.
const DRAINS_MAX: u32 = 8;

/// The lines in use, so that the sources of one find each other: each is opened by
/// itself, from its own entry of the configuration.
static BUSES: Mutex<Vec<Weak<Bus>>> = Mutex::new(Vec::new());

struct Bus {
    settings: SerialSettings,
    turns: Mutex<Turns>,
    freed: Condvar,
    line: Mutex<Option<SerialLine>>,
    /// Without waiting for whoever reads it.
    is_open: AtomicBool,
}

#[derive(Default)]
struct Turns {
    holder: Option<usize>,
    queue: VecDeque<usize>,
    /// When a living unit of each source is due next; by the source's index.
    due: Vec<Option<Instant>>,
    /// When the line was last in use.
    used_at: Option<Instant>,
}

/// A source's place on a line.
pub(super) struct Member {
    bus: Arc<Bus>,
    index: usize,
    /// An adapter that is slow to hand over was told, once.
    has_warned: bool,
}

impl Member {
    /// The line of these settings, which others may have.
    pub(super) fn join(settings: SerialSettings) -> Self {
        let mut buses = lock(&BUSES);
        buses.retain(|bus| bus.strong_count() > 0);
        let known = buses.iter().filter_map(Weak::upgrade);
        // One that is set otherwise is of a configuration that is being replaced.
        let known = known.into_iter().find(|bus| bus.settings == settings);
        let bus = known.unwrap_or_else(|| {
            let bus = Arc::new(Bus {
                settings,
                turns: Mutex::default(),
                freed: Condvar::new(),
                line: Mutex::new(None),
                is_open: AtomicBool::new(false),
            });
            buses.push(Arc::downgrade(&bus));
            bus
        });
        let mut turns = lock(&bus.turns);
        let index = turns.due.len();
        turns.due.push(None);
        // Each waits at most once: nothing is allocated while it is lent out.
        turns.queue.reserve(index + 1);
        drop(turns);
        Self {
            bus,
            index,
            has_warned: false,
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.bus) > 1
    }

    pub(super) fn is_open(&self) -> bool {
        self.bus.is_open.load(Ordering::Acquire)
    }

    /// Opens the line, unless another source has.
    pub(super) fn open(&mut self) -> Result<(), SerialError> {
        let mut line = lock(&self.bus.line);
        if line.is_some() {
            return Ok(());
        }
        let opened = SerialLine::open(&self.bus.settings)?;
        if let Err(error) = opened.shorten_latency()
            && !std::mem::replace(&mut self.has_warned, true)
        {
            let port = &self.bus.settings.port;
            tracing::warn!("{port}: its adapter holds answers back for up to 16 ms: {error}");
        }
        *line = Some(opened);
        self.bus.is_open.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn close(&mut self) {
        *lock(&self.bus.line) = None;
        self.bus.is_open.store(false, Ordering::Release);
    }

    /// Takes the line, waiting for it for at most `patience`; whether it is this
    /// source's now. Who has asked keeps the place among those that wait.
    pub(super) fn take(&self, patience: Duration) -> bool {
        let mut turns = lock(&self.bus.turns);
        if turns.holder == Some(self.index) {
            return true;
        }
        if !turns.queue.contains(&self.index) {
            turns.queue.push_back(self.index);
        }
        if !turns.grant(self.index) && !patience.is_zero() {
            let waited = self.bus.freed.wait_timeout(turns, patience);
            (turns, _) = waited.unwrap_or_else(PoisonError::into_inner);
            turns.grant(self.index);
        }
        turns.holder == Some(self.index)
    }

    /// Gives the line back, if it is this source's; whose next unit is due then.
    pub(super) fn release(&self, due: Option<Instant>) {
        let mut turns = lock(&self.bus.turns);
        turns.due[self.index] = due;
        turns.queue.retain(|index| *index != self.index);
        if turns.holder == Some(self.index) {
            turns.holder = None;
            turns.used_at = Some(Instant::now());
        }
        drop(turns);
        self.bus.freed.notify_all();
    }

    /// When another source wants the line.
    pub(super) fn others_due(&self) -> Option<Instant> {
        let turns = lock(&self.bus.turns);
        let others = turns.due.iter().enumerate();
        let others = others.filter(|(index, _)| *index != self.index);
        others.filter_map(|(_, due)| *due).min()
    }

    /// Waits until the line has been quiet for `silence`; what comes before is
    /// nobody's answer.
    pub(super) fn settle(&self, silence: Duration) -> Result<(), SerialError> {
        let used_at = lock(&self.bus.turns).used_at;
        let mut left = used_at.map_or(Duration::ZERO, |at| silence.saturating_sub(at.elapsed()));
        let mut dropped = [0; 256];
        for _ in 0..DRAINS_MAX {
            match self.read(&mut dropped, left)? {
                0 => break,
                _ => left = silence,
            }
        }
        Ok(())
    }

    /// Reads what is there, waiting for at most `patience`; 0 if nothing came.
    pub(super) fn read(&self, space: &mut [u8], patience: Duration) -> Result<usize, SerialError> {
        let mut line = lock(&self.bus.line);
        // Another source has found it gone, and opens it again.
        let Some(line) = &mut *line else {
            return Ok(0);
        };
        let received = line.read(space, patience)?;
        match received {
            Received::Bytes(len) => {
                lock(&self.bus.turns).used_at = Some(Instant::now());
                Ok(len)
            }
            Received::Idle => Ok(0),
        }
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> Result<(), SerialError> {
        match &mut *lock(&self.bus.line) {
            Some(line) => line.write_all(bytes),
            None => Ok(()),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.release(None);
    }
}

impl Turns {
    /// Lends the line to `index` if it is free and nobody has waited for longer.
    fn grant(&mut self, index: usize) -> bool {
        if self.holder.is_none() && self.queue.front() == Some(&index) {
            self.queue.pop_front();
            self.holder = Some(index);
        }
        self.holder == Some(index)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sound: each change is one store, or the line, which is opened again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(port: &str) -> [Member; 3] {
        [(); 3].map(|()| Member::join(SerialSettings::new(port, 9600)))
    }

    #[test]
    fn a_line_is_lent_to_one_at_a_time_in_the_order_of_asking() {
        let [a, b, c] = members("lent");
        assert!(a.take(Duration::ZERO));
        assert!(!c.take(Duration::ZERO));
        assert!(!b.take(Duration::ZERO));
        assert!(a.take(Duration::ZERO), "it has it already");
        a.release(None);
        assert!(!a.take(Duration::ZERO), "two have waited");
        assert!(!b.take(Duration::ZERO), "one has waited for longer");
        assert!(c.take(Duration::ZERO));
        c.release(None);
        drop(b);
        assert!(a.take(Duration::ZERO), "who left waits no more");
    }

    #[test]
    fn who_ends_with_the_line_in_hand_gives_it_back() {
        let [a, b, _c] = members("ended");
        assert!(a.take(Duration::ZERO));
        drop(a);
        assert!(b.take(Duration::ZERO));
    }

    #[test]
    fn each_knows_when_the_others_want_the_line() {
        let [a, b, c] = members("wanted");
        let now = Instant::now();
        assert_eq!(a.others_due(), None);
        b.release(Some(now + Duration::from_secs(2)));
        c.release(Some(now + Duration::from_secs(1)));
        assert_eq!(a.others_due(), Some(now + Duration::from_secs(1)));
        assert_eq!(c.others_due(), Some(now + Duration::from_secs(2)));
        drop(c);
        assert_eq!(a.others_due(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn another_line_is_another_bus() {
        let [a, _, _] = members("one");
        let [b, _, _] = members("another");
        assert!(a.take(Duration::ZERO) && b.take(Duration::ZERO));
    }
}
