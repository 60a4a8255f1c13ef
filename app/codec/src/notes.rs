//! What the operator is to know of payloads that were read all the same: said
//! once for each subject, and taken by the source's user, who has the log.

use std::collections::VecDeque;

use hark_engine::CHANNELS_MAX;

/// What a note is about. Each is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The unit of a channel is another of its kind.
    Unit(usize),
    /// A field that the mapping names has not come.
    Absent(usize),
    /// A number does not fit the unit of the time, or none.
    TimeUnit,
    /// A time cannot be read.
    Time,
    /// A time has no zone, and none is configured.
    Zone,
    /// A local time that does not exist.
    Gap,
    /// A local time that exists twice.
    Fold,
    /// Numbers have a decimal comma, and nobody has said so.
    DecimalComma,
}

const _: () = assert!(CHANNELS_MAX <= 32);

impl About {
    fn bit(self) -> u32 {
        match self {
            Self::Unit(channel) => channel as u32,
            Self::Absent(which) => 32 + which as u32,
            Self::TimeUnit => 40,
            Self::Time => 41,
            Self::Zone => 42,
            Self::Gap => 43,
            Self::Fold => 44,
            Self::DecimalComma => 45,
        }
    }
}

/// Readings without a named field before that is said.
const ABSENT_TOLD_AT: u32 = 10;

/// The notes of one source, at most one for each subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    told: u64,
    waiting: VecDeque<String>,
    /// Readings in a row without each named field, until it has come once.
    absent: [u32; 4],
    /// The last time that was read by a zone, microseconds.
    pub(crate) zoned_us: Option<i64>,
}

impl Notes {
    /// Tells of `about`, unless that was told.
    pub(crate) fn tell(&mut self, about: About, text: impl FnOnce() -> String) {
        let bit = 1 << about.bit();
        if self.told & bit == 0 {
            self.told |= bit;
            self.waiting.push_back(text());
        }
    }

    /// Whether `about` was told.
    pub(crate) fn has_told(&self, about: About) -> bool {
        self.told >> about.bit() & 1 == 1
    }

    /// The named field `which` has come.
    pub(crate) fn note_present(&mut self, which: usize) {
        self.told |= 1 << About::Absent(which).bit();
    }

    /// The named field `which` is absent once more; whether that is to be told.
    pub(crate) fn note_absent(&mut self, which: usize) -> bool {
        self.absent[which] = self.absent[which].saturating_add(1);
        self.absent[which] == ABSENT_TOLD_AT
    }

    pub(crate) fn take(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }
}
