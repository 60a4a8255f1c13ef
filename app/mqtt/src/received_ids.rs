//! The QoS 2 messages that were handed out and are not yet released.

/// One bit for each packet identifier, 8 KiB: a broker may have all of them
/// under way, and each message must be told once.
const WORDS: usize = (u16::MAX as usize + 1) / 64;

pub(crate) struct ReceivedIds {
    words: Box<[u64]>,
}

impl ReceivedIds {
    pub(crate) fn new() -> Self {
        Self {
            words: vec![0; WORDS].into_boxed_slice(),
        }
    }

    /// Whether `id` is new; from now on it is not.
    pub(crate) fn insert(&mut self, id: u16) -> bool {
        let (word, bit) = place(id);
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
    }

    pub(crate) fn remove(&mut self, id: u16) {
        let (word, bit) = place(id);
        self.words[word] &= !bit;
    }
}

fn place(id: u16) -> (usize, u64) {
    (usize::from(id) / 64, 1 << (id % 64))
}
