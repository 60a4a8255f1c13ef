//! Logs of nodes: pieces of defmt streams go in, lines of hark's log come out.
//!
//! A [`NodeLog`] belongs to a source and is fed on its hot path, so it only
//! copies a piece into a bounded queue; a thread of its own puts lines together,
//! decodes them by the firmware's ELF, and writes them. What does not fit the
//! queue is dropped and counted. Without an ELF it says once which key would
//! help.
//!
//! It trusts neither the line nor the ELF: a line that the ELF does not explain
//! is counted and told of once, and a lost piece costs the line that it was in.

mod decode;
mod lines;
mod render;
mod table;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;
use defmt_parser::Level;
use hark_wire::Log;

use decode::{Explained, explain};
use lines::Lines;
pub use table::LogTable;

/// Pieces on their way to the thread: a second of a line that is full of logs
/// at 115 200 baud. What does not fit is dropped, and its line with it.
const PIECES_MAX: usize = 64;
/// Nodes whose lines are put together at once; with more, lines that are only
/// begun are given up.
const NODES_MAX: usize = 256;

/// The way of a source's log pieces to the thread that reads them.
pub(super) struct NodeLog {
    /// None without an ELF.
    reader: Option<(SyncSender<Piece>, JoinHandle<()>)>,
    pieces_dropped: u64,
    /// Bytes were lost since the last piece that was handed over.
    is_torn: bool,
    is_hint_said: bool,
}

/// What one `Log` frame brought.
struct Piece {
    node: Arc<str>,
    log: Log,
    is_torn: bool,
}

impl NodeLog {
    /// Starts the thread that reads by `elf`. An ELF that cannot be used is a
    /// warning: readings matter more than logs.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(source: &str, elf: Option<&Path>) -> anyhow::Result<Self> {
        let table = elf.and_then(|elf| match LogTable::read(elf) {
            Ok(table) => Some(table),
            Err(error) => {
                tracing::warn!("{source}: its nodes' logs are not read: {error}");
                None
            }
        });
        let start = |table| -> anyhow::Result<_> {
            let (sender, pieces) = sync_channel(PIECES_MAX);
            let source = source.to_owned();
            let thread = std::thread::Builder::new()
                .name("hark-node-log".to_owned())
                .spawn(move || read(&source, table, &pieces))
                .context("starting the thread that reads nodes' logs")?;
            Ok((sender, thread))
        };
        Ok(Self {
            reader: table.map(start).transpose()?,
            pieces_dropped: 0,
            is_torn: false,
            is_hint_said: elf.is_some(),
        })
    }

    /// Takes in a piece of the log of `node`.
    pub(super) fn handle_piece(&mut self, source: &str, node: &Arc<str>, log: &Log) {
        let Some((sender, _)) = &self.reader else {
            self.hint(source, node, log);
            return;
        };
        let piece = Piece {
            node: Arc::clone(node),
            log: log.clone(),
            is_torn: self.is_torn,
        };
        match sender.try_send(piece) {
            Ok(()) => self.is_torn = false,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.is_torn = true;
                self.pieces_dropped += 1;
            }
        }
    }

    /// A frame was lost, which may have been a piece.
    pub(super) fn handle_loss(&mut self) {
        self.is_torn = true;
    }

    fn hint(&mut self, source: &str, node: &str, log: &Log) {
        if std::mem::replace(&mut self.is_hint_said, true) {
            tracing::debug!(
                peer = node,
                "{source}: {} bytes of log from {node}",
                log.bytes.len()
            );
        } else {
            tracing::info!(
                "{source}: node {node} writes a log; to read it, name the ELF file of its \
                 firmware by the key `elf` of this source"
            );
        }
    }
}

impl Drop for NodeLog {
    fn drop(&mut self) {
        let Some((sender, thread)) = self.reader.take() else {
            return;
        };
        // The thread reads what is queued, and ends.
        drop(sender);
        if thread.join().is_err() {
            tracing::error!("the thread that reads nodes' logs panicked");
        }
        if self.pieces_dropped > 0 {
            let dropped = self.pieces_dropped;
            tracing::warn!("{dropped} pieces of nodes' logs came too fast and were dropped");
        }
    }
}

/// The thread: reads pieces until nobody is left to send one.
fn read(source: &str, table: LogTable, pieces: &Receiver<Piece>) {
    let mut nodes: HashMap<Arc<str>, Lines> = HashMap::new();
    let mut unread: u64 = 0;
    for piece in pieces {
        if piece.is_torn {
            nodes.values_mut().for_each(Lines::handle_loss);
        }
        if nodes.len() >= NODES_MAX && !nodes.contains_key(&piece.node) {
            nodes.clear();
        }
        let node = &piece.node;
        let lines = nodes.entry(Arc::clone(node)).or_default();
        lines.handle_bytes(&piece.log.bytes, |line| match explain(&table, line) {
            Ok(explained) => write(node, &explained),
            Err(error) => {
                if unread == 0 {
                    tracing::warn!(
                        "{source}: node {node}: a line of its log cannot be read by {}: {error}; \
                         is that the ELF of this firmware? More such lines are only counted",
                        table.path().display()
                    );
                }
                unread += 1;
            }
        });
    }
    if unread > 0 {
        tracing::warn!("{source}: {unread} lines of nodes' logs could not be read");
    }
}

/// Writes a line into hark's own log.
fn write(node: &str, Explained { level, message }: &Explained) {
    match level {
        Some(Level::Error) => tracing::error!(peer = node, "node {node}: {message}"),
        Some(Level::Warn) => tracing::warn!(peer = node, "node {node}: {message}"),
        Some(Level::Info) | None => tracing::info!(peer = node, "node {node}: {message}"),
        Some(Level::Debug) => tracing::debug!(peer = node, "node {node}: {message}"),
        Some(Level::Trace) => tracing::trace!(peer = node, "node {node}: {message}"),
    }
}

#[cfg(test)]
mod tests;
