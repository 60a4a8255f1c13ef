//! What the broker has to tell an operator, no faster than it can be read.
//!
//! A peer can cause as many notices as it likes. So of each kind there are a few
//! in each while, and what was left out is counted and said with the next.
//! Whatever a peer chose is escaped.

use std::collections::VecDeque;
use std::fmt::Write;

/// Notices of one kind within [`WHILE_MS`].
const BURST: u64 = 5;
const WHILE_MS: u64 = 10_000;
/// Of a text from outside so much is shown.
const SHOWN_CHARS: usize = 64;
/// More cannot wait: every kind's burst.
const WAITING_MAX: usize = KINDS * BURST as usize;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection that was not let in.
    Refused,
    /// A client that was let go.
    LetGo,
    /// A subscription that was refused.
    Subscription,
    /// A message that was not kept, or not taken.
    Message,
    /// Messages that a slow client did not get.
    Slow,
}

const KINDS: usize = Kind::Slow as usize + 1;

#[derive(Debug, Default)]
pub(crate) struct Notices {
    kinds: [State; KINDS],
    waiting: VecDeque<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    began_at_ms: u64,
    told: u64,
    left_out: u64,
}

impl Notices {
    /// Tells `text`, or counts it.
    pub(crate) fn tell(&mut self, kind: Kind, now_ms: u64, text: impl FnOnce() -> String) {
        let state = &mut self.kinds[kind as usize];
        if now_ms.saturating_sub(state.began_at_ms) >= WHILE_MS {
            state.began_at_ms = now_ms;
            state.told = 0;
        }
        if state.told >= BURST || self.waiting.len() >= WAITING_MAX {
            state.left_out += 1;
            return;
        }
        state.told += 1;
        let mut text = text();
        let left_out = std::mem::take(&mut state.left_out);
        if left_out > 0 {
            // Writing to a text does not fail.
            let _ = write!(text, " ({left_out} more like it were not told)");
        }
        self.waiting.push_back(text);
    }

    pub(crate) fn poll(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }
}

/// A text from outside: escaped, quoted, and no longer than can be read.
pub(crate) fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("{shown:?}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_notices_is_counted_and_not_told() {
        let mut notices = Notices::default();
        for _ in 0..1000 {
            notices.tell(Kind::LetGo, 0, || "a".to_owned());
        }
        assert_eq!(std::iter::from_fn(|| notices.poll()).count(), 5);
        notices.tell(Kind::Slow, 0, || "another kind".to_owned());
        assert_eq!(notices.poll().as_deref(), Some("another kind"));
        notices.tell(Kind::LetGo, WHILE_MS, || "b".to_owned());
        let told = notices.poll().unwrap();
        assert_eq!(told, "b (995 more like it were not told)");
    }

    #[test]
    fn what_a_peer_chose_stays_on_its_line() {
        assert_eq!(shown("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert!(shown(&"x".repeat(1000)).chars().count() < 80);
    }
}
