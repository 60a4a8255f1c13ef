//! How many log lines each peer may cause.
//!
//! Whoever can reach hark can make it log: a node that starts again and again, a
//! client that sends what is refused. Of each message a peer has so many lines a
//! [`WINDOW`], and all peers together so many; what is left out is counted, and
//! told at the end of the window with its first line. Peers beyond
//! [`PEERS_MAX`] are not told apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Over which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of one message by one peer in a window: a link that flaps is seen to.
const PEER_LINES_MAX: u64 = 20;
/// Lines of one message by all peers in a window: every node of a large site
/// that starts at once, and less than a kilobyte a second for ever.
const LINES_MAX: u64 = 500;
/// Pairs of message and peer that are told apart in a window.
const PEERS_MAX: usize = 1024;
/// What is kept of the first line that was left out, bytes.
const EXAMPLE_BYTES_MAX: usize = 200;

/// The counts of a window. `M` tells messages apart.
pub(super) struct RateLimit<M> {
    since: Option<Instant>,
    of_all: HashMap<M, u64>,
    of_peers: HashMap<(M, Box<str>), Lines>,
    /// Those of peers that are not told apart, or beyond the lines of all.
    of_others: HashMap<M, LeftOut>,
}

#[derive(Default)]
struct Lines {
    admitted: u64,
    left_out: Option<LeftOut>,
}

/// Lines of one message that were not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// How many.
    pub(super) count: u64,
    /// The first of them, perhaps cut.
    pub(super) example: String,
}

impl<M: Clone + Eq + Hash> RateLimit<M> {
    pub(super) fn new() -> Self {
        Self {
            since: None,
            of_all: HashMap::new(),
            of_peers: HashMap::new(),
            of_others: HashMap::new(),
        }
    }

    /// Whether the line `text`, which `peer` caused, may be written. Windows that
    /// are over are to be ended before, by [`RateLimit::end_window`].
    pub(super) fn admit(&mut self, message: M, peer: &str, text: &str, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let of_all = self.of_all.entry(message.clone()).or_default();
        let has_room = self.of_peers.len() < PEERS_MAX;
        let of_peer = match self.of_peers.entry((message.clone(), peer.into())) {
            Entry::Occupied(lines) => Some(lines.into_mut()),
            Entry::Vacant(vacant) if has_room => Some(vacant.insert(Lines::default())),
            Entry::Vacant(_) => None,
        };
        match of_peer {
            Some(lines) if lines.admitted < PEER_LINES_MAX && *of_all < LINES_MAX => {
                lines.admitted += 1;
                *of_all += 1;
                return true;
            }
            Some(lines) if lines.admitted >= PEER_LINES_MAX => {
                lines
                    .left_out
                    .get_or_insert_with(|| LeftOut::of(text))
                    .count += 1;
            }
            _ => {
                let others = self.of_others.entry(message);
                others.or_insert_with(|| LeftOut::of(text)).count += 1;
            }
        }
        false
    }

    /// Ends a window that is over, or any if `is_last`; what it left out, by message.
    pub(super) fn end_window(&mut self, now: Instant, is_last: bool) -> Vec<(M, LeftOut)> {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if !is_last && !self.since.is_some_and(is_over) {
            return Vec::new();
        }
        self.since = None;
        self.of_all.clear();
        let of_peers = self.of_peers.drain();
        let of_peers =
            of_peers.filter_map(|((message, _), lines)| Some((message, lines.left_out?)));
        of_peers.chain(self.of_others.drain()).collect()
    }
}

impl LeftOut {
    fn of(text: &str) -> Self {
        let end = text.floor_char_boundary(EXAMPLE_BYTES_MAX);
        let cut = if end < text.len() { "…" } else { "" };
        Self {
            count: 0,
            example: format!("{}{cut}", &text[..end]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many lines of message 1 each peer may write.
    fn admitted(limit: &mut RateLimit<u8>, peer: &str, lines: u64, now: Instant) -> u64 {
        let mut admit = |n| limit.admit(1, peer, &format!("{peer} {n}"), now);
        (0..lines).filter(|n| admit(*n)).count() as u64
    }

    #[test]
    fn a_peer_that_floods_leaves_the_others_their_lines_and_what_it_lost_is_told() {
        let (mut limit, now) = (RateLimit::new(), Instant::now());
        assert_eq!(admitted(&mut limit, "a", 1_000, now), PEER_LINES_MAX);
        assert_eq!(admitted(&mut limit, "b", 2, now), 2);
        assert!(limit.admit(2, "a", "another message", now));
        assert!(limit.end_window(now, false).is_empty(), "it is not over");
        let later = now + WINDOW;
        let told = limit.end_window(later, false);
        let expected = LeftOut {
            count: 1_000 - PEER_LINES_MAX,
            example: format!("a {PEER_LINES_MAX}"),
        };
        assert_eq!(told, [(1, expected)]);
        assert_eq!(admitted(&mut limit, "a", 1_000, later), PEER_LINES_MAX);
    }

    #[test]
    fn peers_that_change_their_names_share_a_bound_in_lines_and_in_memory() {
        let (mut limit, now) = (RateLimit::new(), Instant::now());
        let names = (0..10_000).map(|n| format!("node-{n}"));
        let written: u64 = names.map(|name| admitted(&mut limit, &name, 1, now)).sum();
        assert_eq!(written, LINES_MAX);
        assert!(limit.of_peers.len() <= PEERS_MAX);
        let told = limit.end_window(now, true);
        let left_out: u64 = told.iter().map(|(_, left_out)| left_out.count).sum();
        assert_eq!((told.len(), left_out), (1, 10_000 - LINES_MAX));
    }

    #[test]
    fn a_line_that_is_told_as_an_example_is_cut_at_a_character() {
        let example = LeftOut::of(&"ä".repeat(EXAMPLE_BYTES_MAX)).example;
        assert_eq!(example.chars().count(), EXAMPLE_BYTES_MAX / 2 + 1);
    }
}
