//! What does not come: sensors that fell silent, and the source's link.
//!
//! Sensors of which something is awaited queue by when each was last heard, as far as
//! the queue knows. A reading costs a store in its sensor's state, however many there
//! are: only when a sensor's turn comes is its state asked, and the sensor put back
//! if it was heard since.

use super::SensorId;
use super::sensors::{SensorState, Sensors};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

pub(super) struct Silence {
    /// 0: nobody is ever silent.
    after_us: u64,
    /// When a sensor was last heard, or later, and its index: the first to fall
    /// silent on top, each at most once.
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    /// Nobody listened before: what did not come until then says nothing.
    listening_since_us: u64,
}

/// Whether a sensor that is not heard is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Awaited {
    /// No, and it does not stand in the queue.
    #[default]
    No,
    /// Yes, and it stands in the queue.
    Yes,
    /// No, and it leaves the queue when its turn comes.
    NoLonger,
}

impl Awaited {
    /// Nothing is awaited before the sensor is heard again.
    pub(super) fn end(&mut self) {
        if *self == Self::Yes {
            *self = Self::NoLonger;
        }
    }
}

impl Silence {
    pub(super) fn new(after_us: u64) -> Self {
        Self {
            after_us,
            queue: BinaryHeap::new(),
            listening_since_us: 0,
        }
    }

    /// There are so many sensors: none of them is to allocate when it is heard.
    pub(super) fn make_room(&mut self, sensors: usize) {
        self.queue.reserve(sensors.saturating_sub(self.queue.len()));
    }

    /// From when it was heard on the next reading of a sensor is awaited.
    pub(super) fn await_next(&mut self, sensor: SensorId, state: &mut SensorState) {
        // Who still stands in the queue stands there too early, which does no harm.
        if std::mem::replace(&mut state.awaited, Awaited::Yes) == Awaited::No {
            self.queue.push(Reverse((state.heard_us, sensor.0)));
        }
    }

    /// Nobody listened until now.
    pub(super) fn handle_pause(&mut self, now_us: u64) {
        self.listening_since_us = now_us;
    }

    /// When the next sensor may fall silent: not before.
    pub(super) fn next_due_us(&self) -> Option<u64> {
        let Reverse((heard_us, _)) = self.queue.peek()?;
        let since_us = (*heard_us).max(self.listening_since_us);
        (self.after_us > 0).then(|| since_us.saturating_add(self.after_us))
    }

    /// Takes out a sensor that is silent by now; also for how long it was.
    pub(super) fn poll_silent(
        &mut self,
        sensors: &mut Sensors,
        now_us: u64,
    ) -> Option<(SensorId, u64)> {
        while self.next_due_us().is_some_and(|due_us| due_us <= now_us) {
            let mut first = self.queue.peek_mut()?;
            let Reverse((known_us, index)) = *first;
            let state = sensors.get_mut(SensorId(index));
            let is_awaited = state.awaited == Awaited::Yes;
            if is_awaited && state.heard_us > known_us {
                *first = Reverse((state.heard_us, index));
                continue;
            }
            PeekMut::pop(first);
            state.awaited = Awaited::No;
            if is_awaited {
                return Some((SensorId(index), now_us.saturating_sub(state.heard_us)));
            }
        }
        None
    }
}

/// The source's link, as far as its alert goes.
pub(super) struct LinkWatch {
    /// 0: it is never told.
    patience_us: u64,
    down_since_us: Option<u64>,
    is_raised: bool,
}

impl LinkWatch {
    pub(super) fn new(patience_us: u64) -> Self {
        Self {
            patience_us,
            down_since_us: None,
            is_raised: false,
        }
    }

    /// It was raised before hark started.
    pub(super) fn set_raised(&mut self) {
        self.is_raised = true;
    }

    pub(super) fn is_raised(&self) -> bool {
        self.is_raised
    }

    pub(super) fn handle_down(&mut self, now_us: u64) {
        self.down_since_us.get_or_insert(now_us);
    }

    /// The link is there; whether that ends an alert, and how long it was away.
    pub(super) fn handle_up(&mut self, now_us: u64) -> (bool, Option<u64>) {
        let since_us = self.down_since_us.take();
        let down_us = since_us.map(|since_us| now_us.saturating_sub(since_us));
        (std::mem::take(&mut self.is_raised), down_us)
    }

    pub(super) fn next_due_us(&self) -> Option<u64> {
        let since_us = self.down_since_us.filter(|_| !self.is_raised)?;
        (self.patience_us > 0).then(|| since_us.saturating_add(self.patience_us))
    }

    /// For how long it has been away, if that is now to be told.
    pub(super) fn poll_down(&mut self, now_us: u64) -> Option<u64> {
        self.next_due_us().filter(|due_us| *due_us <= now_us)?;
        self.is_raised = true;
        self.down_since_us
            .map(|since_us| now_us.saturating_sub(since_us))
    }
}
