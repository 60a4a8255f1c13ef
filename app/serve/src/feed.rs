//! Where the readings of one source come from.

use crate::hot_path::{HotPath, NodeMemories};
use hark_threads::shutdown::Shutdown;
use std::sync::mpsc::SyncSender;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Something, or nothing within a moment: go on.
    Open,
    /// There is no more: the file has ended, or the shutdown was requested.
    Ended,
}

/// What an operator asks of the nodes of a source; what is `None` stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRequest {
    /// Milliseconds between two readings.
    pub period_ms: Option<u32>,
    /// Whether they shall send readings.
    pub running: Option<bool>,
}

/// A link and its decoder, a step at a time.
///
/// A feed belongs to the thread that serves its source, and may be handed to
/// another between two steps. A step handles at most one reading, so that a
/// model can be run between any two.
pub trait Feed: Send {
    /// Whether more readings are at hand, so that waiting for them costs
    /// nothing.
    fn has_more(&self) -> bool;

    /// Handles what is next. It waits for a moment only if no reading is at
    /// hand and none waits for a model.
    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed;

    /// The way of an operator's requests to the nodes of this source; None if
    /// nothing can be said to them.
    fn node_requests(&self) -> Option<SyncSender<NodeRequest>> {
        None
    }

    /// Leaves what its nodes are known by, at its end, for
    /// [`Feed::handle_nodes`] of the feed that takes its place.
    fn leave_nodes(&mut self) -> Option<NodeMemories> {
        None
    }

    /// Takes in what a feed of the same source left. One of another kind means
    /// nothing.
    fn handle_nodes(&mut self, _nodes: NodeMemories) {}
}
