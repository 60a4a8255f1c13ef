//! Messages at QoS 1 that the broker has not acknowledged.

/// How many may be under way at once: enough to keep a link of a second's
/// round trip busy with a hundred alerts a second, and few to send again.
const UNDER_WAY_MAX: usize = 100;

pub(crate) struct PublishedIds {
    /// Zero is free: identifiers begin at one.
    ids: [u16; UNDER_WAY_MAX],
    len: usize,
    /// What the broker allows (5.0, 3.2.2.3.3).
    max: usize,
}

impl PublishedIds {
    pub(crate) fn new() -> Self {
        Self {
            ids: [0; UNDER_WAY_MAX],
            len: 0,
            max: UNDER_WAY_MAX,
        }
    }

    pub(crate) fn set_max(&mut self, max: u16) {
        self.max = usize::from(max).min(UNDER_WAY_MAX);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len < self.max
    }

    pub(crate) fn contains(&self, id: u16) -> bool {
        self.ids.contains(&id)
    }

    pub(crate) fn insert(&mut self, id: u16) {
        let free = self.ids.iter_mut().find(|place| **place == 0);
        *free.expect("room was asked for first") = id;
        self.len += 1;
    }

    /// Whether `id` was under way.
    pub(crate) fn remove(&mut self, id: u16) -> bool {
        let Some(place) = self.ids.iter_mut().find(|place| **place == id) else {
            return false;
        };
        *place = 0;
        self.len -= 1;
        true
    }
}
