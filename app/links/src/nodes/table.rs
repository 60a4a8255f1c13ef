//! Who is known of the nodes of one source, and who is to be asked: bounded in
//! number and bytes, whatever a broker brings.

use super::node::Node;
use std::collections::{HashMap, HashSet, VecDeque};

/// The longest topic of a node, bytes: a table of them stays small.
pub(super) const TOPIC_BYTES_MAX: usize = 512;
/// A node whose readings were valid keeps its place for so long, microseconds.
const KEPT_US: u64 = 60_000_000;
/// Between two looks for places where none was found, microseconds.
const LOOK_AGAIN_US: u64 = 1_000_000;

/// The nodes, by their topics; by "" the one at the end of a line.
pub(super) struct NodeTable {
    nodes: HashMap<Box<str>, Node>,
    max: usize,
    look_again_us: u64,
}

impl NodeTable {
    pub(super) fn new(max: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            max,
            look_again_us: 0,
        }
    }

    /// Leaves an empty table behind.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.max))
    }

    /// Takes in the nodes of another table, as many as there is room for.
    pub(super) fn extend(&mut self, other: Self) {
        let room = self.max.saturating_sub(self.nodes.len());
        self.nodes.extend(other.nodes.into_iter().take(room));
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.nodes.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.nodes.remove(key);
    }

    /// Whether there was a place for it. Those that never sent a valid reading, or
    /// none for long, give theirs back.
    pub(super) fn insert(&mut self, key: &str, node: Node, now_us: u64) -> bool {
        if let Some(known) = self.nodes.get_mut(key) {
            *known = node;
            return true;
        }
        if self.nodes.len() >= self.max {
            if now_us < self.look_again_us {
                return false;
            }
            let is_kept =
                |node: &Node| node.is_proven && now_us.saturating_sub(node.heard_us) < KEPT_US;
            self.nodes.retain(|_, node| is_kept(node));
        }
        if self.nodes.len() >= self.max {
            self.look_again_us = now_us.saturating_add(LOOK_AGAIN_US);
            return false;
        }
        self.nodes.insert(key.into(), node);
        true
    }
}

/// Nodes that are asked within [`ASK_AGAIN_US`]: what a stranger's topics may make
/// the gateway say.
const ASKED_MAX: usize = 1024;
/// A node that does not answer is asked again after so long, microseconds.
const ASK_AGAIN_US: u64 = 10_000_000;
/// Requests that wait to be published.
const WAITING_MAX: usize = 64;

/// The topics whose nodes are asked for their Hello.
#[derive(Default)]
pub(super) struct Asks {
    waiting: VecDeque<Box<str>>,
    asked: HashSet<Box<str>>,
    since_us: u64,
}

impl Asks {
    /// The node of `topic` is not known.
    pub(super) fn ask(&mut self, topic: &str, now_us: u64) {
        if now_us.saturating_sub(self.since_us) >= ASK_AGAIN_US {
            self.since_us = now_us;
            self.asked.clear();
        }
        let has_room = self.waiting.len() < WAITING_MAX && self.asked.len() < ASKED_MAX;
        if has_room && !self.asked.contains(topic) {
            self.asked.insert(topic.into());
            self.waiting.push_back(topic.into());
        }
    }

    /// Its Hello has come; a next time it is asked at once.
    pub(super) fn handle_hello(&mut self, topic: &str) {
        self.asked.remove(topic);
    }

    /// The topic of the next node to be asked.
    pub(super) fn poll(&mut self) -> Option<Box<str>> {
        self.waiting.pop_front()
    }

    /// The connection is another: nobody has heard anything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hark_engine::Schema;
    use hark_wire::Hello;

    const SECOND: u64 = 1_000_000;

    fn node(now_us: u64, is_proven: bool) -> Node {
        let schema = Schema {
            period_ms: 1.0,
            age_max_ms: None,
            channels: Vec::new(),
        };
        let mut node = Node::new(&Hello::default(), &schema, now_us);
        node.is_proven = is_proven;
        node
    }

    #[test]
    fn hellos_alone_take_no_place_from_a_node_that_sends() {
        let mut table = NodeTable::new(8);
        assert!(table.insert("pump", node(0, true), 0));
        for n in 0..10_000 {
            assert!(table.insert(&format!("invented/{n}"), node(n, false), n));
            assert!(table.nodes.len() <= 8);
        }
        assert!(table.get("pump").is_some());
    }

    #[test]
    fn a_full_table_of_nodes_that_send_refuses_until_one_is_silent() {
        let mut table = NodeTable::new(2);
        assert!(table.insert("a", node(0, true), 0));
        assert!(table.insert("b", node(9 * SECOND, true), 9 * SECOND));
        assert!(!table.insert("c", node(0, false), 59 * SECOND));
        assert!(table.insert("b", node(0, true), 59 * SECOND), "it is there");
        assert!(table.insert("c", node(0, false), 61 * SECOND));
        assert!(table.get("a").is_none());
    }

    #[test]
    fn each_node_is_asked_once_in_a_while_and_a_flood_of_topics_in_bounds() {
        let mut asks = Asks::default();
        asks.ask("a", 0);
        asks.ask("a", SECOND);
        asks.ask("b", SECOND);
        assert_eq!(asks.poll().as_deref(), Some("a"));
        assert_eq!(asks.poll().as_deref(), Some("b"));
        assert_eq!(asks.poll(), None);
        asks.handle_hello("b");
        asks.ask("b", 2 * SECOND);
        assert_eq!(asks.poll().as_deref(), Some("b"));
        asks.ask("a", ASK_AGAIN_US);
        assert_eq!(asks.poll().as_deref(), Some("a"));
        let mut said = 0;
        for n in 0..100_000 {
            asks.ask(&format!("invented/{n}"), ASK_AGAIN_US + n);
            said += usize::from(asks.poll().is_some());
        }
        assert!(said < ASKED_MAX && asks.asked.len() <= ASKED_MAX);
    }
}
