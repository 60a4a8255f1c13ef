//! What does not come: sensors that fell silent, and the source's link.
//!
//! Sensors stand in the order in which they were last heard, so the front is
//! always the next that may fall silent: a reading costs a few stores, whatever
//! their number, and a look one comparison. One that is silent leaves the order
//! until it is heard again.

use super::SensorId;

/// No place.
const NOBODY: u32 = u32::MAX;

pub(super) struct Silence {
    /// 0: nobody is ever silent.
    after_us: u64,
    /// By [`SensorId::index`].
    places: Vec<Place>,
    oldest: u32,
    newest: u32,
    /// Nobody listened before: what did not come until then says nothing.
    listening_since_us: u64,
}

#[derive(Clone, Copy)]
struct Place {
    older: u32,
    newer: u32,
    heard_us: u64,
    /// Whether it stands in the order.
    is_awaited: bool,
}

impl Silence {
    pub(super) fn new(after_us: u64) -> Self {
        Self {
            after_us,
            places: Vec::new(),
            oldest: NOBODY,
            newest: NOBODY,
            listening_since_us: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// One more sensor, from which nothing is awaited before it was heard.
    pub(super) fn add(&mut self) {
        self.places.push(Place {
            older: NOBODY,
            newer: NOBODY,
            heard_us: 0,
            is_awaited: false,
        });
    }

    /// Something came from `sensor`; returns when it was last heard before.
    pub(super) fn hear(&mut self, sensor: SensorId, now_us: u64) -> u64 {
        let index = sensor.index() as u32;
        if self.newest != index {
            self.take_out(index);
            let place = &mut self.places[sensor.index()];
            (place.older, place.newer, place.is_awaited) = (self.newest, NOBODY, true);
            match self.places.get_mut(self.newest as usize) {
                Some(newest) => newest.newer = index,
                None => self.oldest = index,
            }
            self.newest = index;
        }
        std::mem::replace(&mut self.places[sensor.index()].heard_us, now_us)
    }

    /// Nobody listened until now.
    pub(super) fn handle_pause(&mut self, now_us: u64) {
        self.listening_since_us = now_us;
    }

    /// When the next sensor falls silent, if none of them is heard before.
    pub(super) fn next_due_us(&self) -> Option<u64> {
        let oldest = self.places.get(self.oldest as usize)?;
        let since_us = oldest.heard_us.max(self.listening_since_us);
        (self.after_us > 0).then(|| since_us.saturating_add(self.after_us))
    }

    /// Takes out a sensor that is silent by now; also for how long it was.
    pub(super) fn poll_silent(&mut self, now_us: u64) -> Option<(SensorId, u64)> {
        self.next_due_us().filter(|due_us| *due_us <= now_us)?;
        let index = self.oldest;
        self.take_out(index);
        let heard_us = self.places[index as usize].heard_us;
        Some((SensorId(index), now_us.saturating_sub(heard_us)))
    }

    /// Nothing is awaited from `sensor` before it is heard again.
    pub(super) fn forget(&mut self, sensor: SensorId) {
        self.take_out(sensor.index() as u32);
    }

    fn take_out(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        if !std::mem::take(&mut place.is_awaited) {
            return;
        }
        let Place { older, newer, .. } = *place;
        match self.places.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.places.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
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
