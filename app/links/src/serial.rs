//! Readings from a serial line.

use super::{Retry, SHUTDOWN_POLL, StreamDecoder};
use hark_config::{Parity, SerialLink};
use hark_hal::{DataBits, Received, Rs485, SerialError, SerialLine, SerialSettings, StopBits};
use hark_serve::hot_path::{HotPath, NodeMemories, Receipt};
use hark_serve::{Fed, Feed, NodeRequest};
use hark_threads::shutdown::Shutdown;
use hark_wire::{FRAME_MAX, Message};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// What one read takes at most: a few frames. The kernel keeps the rest.
const READ_BYTES: usize = 4096;
/// What the line does not take is tried again after so long: each try holds up
/// the readings for up to [`hark_hal::WRITE_TIMEOUT`].
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A line that was lost is back with its first byte, or when it has held for so
/// long: a device that opens and fails at once is not.
const UP_AFTER: Duration = Duration::from_secs(2);

/// A serial line, opened anew whenever it is lost.
pub(super) struct SerialFeed {
    settings: SerialSettings,
    line: Option<SerialLine>,
    opened_at: Instant,
    /// That the line is up was told.
    is_up: bool,
    retry: Retry,
    /// What the line has not taken, and when it is tried again.
    unsent: Option<Message>,
    write_at: Option<Instant>,
    decoder: StreamDecoder,
    buffer: Box<[u8; READ_BYTES]>,
    /// What was read, in UTF-8 if it is text.
    text: Vec<u8>,
    /// What is unread of `text`.
    unread: std::ops::Range<usize>,
    receipt: Option<Receipt>,
    /// Of an adapter that is slow to hand over, once.
    has_warned: bool,
}

impl SerialFeed {
    pub(super) fn new(link: &SerialLink, decoder: StreamDecoder) -> Self {
        Self {
            settings: settings(link),
            line: None,
            opened_at: Instant::now(),
            is_up: false,
            unsent: None,
            write_at: None,
            retry: Retry::new(link.reconnect),
            decoder,
            buffer: Box::new([0; READ_BYTES]),
            text: Vec::with_capacity(READ_BYTES),
            unread: 0..0,
            receipt: None,
            has_warned: false,
        }
    }

    fn open(&mut self, hot_path: &mut HotPath) -> Result<(), SerialError> {
        let line = SerialLine::open(&self.settings)?;
        if let Err(error) = line.shorten_latency()
            && !self.has_warned
        {
            self.has_warned = true;
            let port = &self.settings.port;
            tracing::warn!("{port}: its adapter holds readings back for up to 16 ms: {error}");
        }
        self.line = Some(line);
        self.opened_at = Instant::now();
        self.is_up = false;
        if !self.retry.has_failed() {
            self.handle_up(hot_path);
        }
        self.decoder.handle_link_up(true);
        // The node is asked anew for what was on its way.
        self.unsent = None;
        self.write_at = None;
        self.answer(self.opened_at)
    }

    fn handle_up(&mut self, hot_path: &mut HotPath) {
        self.is_up = true;
        self.retry.handle_up();
        hot_path.handle_link_up();
    }

    fn listen(&mut self, hot_path: &mut HotPath) -> Result<(), SerialError> {
        self.answer(hot_path.mark())?;
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        let patience = if hot_path.has_waiting() {
            Duration::ZERO
        } else {
            SHUTDOWN_POLL
        };
        match line.read(&mut self.buffer[..], patience)? {
            Received::Bytes(len) => {
                self.receipt = Some(hot_path.receive());
                self.text.clear();
                let text = self.decoder.widened(&self.buffer[..len]);
                self.text.extend_from_slice(text);
                self.unread = 0..self.text.len();
            }
            Received::Idle => hot_path.handle_idle(),
        }
        let held_for = hot_path.mark().saturating_duration_since(self.opened_at);
        if !self.is_up && (self.has_more() || held_for >= UP_AFTER) {
            self.handle_up(hot_path);
        }
        Ok(())
    }

    /// Says what is to be said, one message at most.
    fn answer(&mut self, now: Instant) -> Result<(), SerialError> {
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        if self.write_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let Some(message) = self.unsent.take().or_else(|| self.decoder.poll_answer()) else {
            return Ok(());
        };
        match write_frame(line, &message) {
            // A node without a receiver is no reason to stop listening to it.
            Err(error @ SerialError::Stalled { .. }) => {
                if self.write_at.is_none() {
                    tracing::warn!("{error}; it is tried again every {WRITE_AGAIN_AFTER:?}");
                }
                self.unsent = Some(message);
                self.write_at = Some(now + WRITE_AGAIN_AFTER);
                Ok(())
            }
            result => {
                self.write_at = None;
                result
            }
        }
    }
}

impl Feed for SerialFeed {
    fn leave_nodes(&mut self) -> Option<NodeMemories> {
        self.decoder.leave_nodes()
    }

    fn handle_nodes(&mut self, nodes: NodeMemories) {
        self.decoder.handle_nodes(nodes);
    }

    fn node_requests(&self) -> Option<SyncSender<NodeRequest>> {
        self.decoder.node_requests()
    }

    fn has_more(&self) -> bool {
        !self.unread.is_empty() || self.decoder.has_waiting()
    }

    fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        if let (Some(receipt), true) = (self.receipt, self.has_more()) {
            let mut bytes = &self.text[self.unread.clone()];
            self.decoder.handle_next(&mut bytes, receipt, hot_path);
            self.unread.start = self.unread.end - bytes.len();
            return Fed::Open;
        }
        if shutdown.is_requested() {
            return Fed::Ended;
        }
        let result = match &self.line {
            Some(_) => self.listen(hot_path),
            None if !self.retry.is_due() => {
                hot_path.handle_idle();
                return Fed::Open;
            }
            None => self.open(hot_path),
        };
        if let Err(error) = result {
            self.line = None;
            self.retry.handle_down(describe(&error), hot_path);
        }
        Fed::Open
    }
}

/// Writes `message` after a delimiter, which ends what noise or a write that was
/// cut off has left on the line.
fn write_frame(line: &mut SerialLine, message: &Message) -> Result<(), SerialError> {
    let mut bytes = [0; 1 + FRAME_MAX];
    let [_delimiter, frame @ ..] = &mut bytes;
    let len = hark_wire::encode(message, frame).len();
    line.write_all(&bytes[..=len])
}

pub(super) fn describe(error: &SerialError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How the line is set, as its configuration says.
pub fn settings(link: &SerialLink) -> SerialSettings {
    SerialSettings {
        parity: match link.parity {
            Parity::None => hark_hal::Parity::None,
            Parity::Even => hark_hal::Parity::Even,
            Parity::Odd => hark_hal::Parity::Odd,
        },
        data_bits: match link.data_bits {
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        },
        stop_bits: match link.stop_bits {
            2 => StopBits::Two,
            _ => StopBits::One,
        },
        rs485: link.rs485.map(|rs485| Rs485 {
            is_rts_on_send: rs485.is_rts_on_send,
            delay_before_ms: rs485.delay_before_ms,
            delay_after_ms: rs485.delay_after_ms,
        }),
        ..SerialSettings::new(&link.port, link.baud)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Nodes};
    use hark_config::{Backoff, NodesConfig};
    use hark_hal::Pty;

    /// Longer than a pseudo terminal takes to hand on what it holds.
    const QUIET: Duration = Duration::from_millis(200);

    fn open(pty: &Pty) -> SerialFeed {
        let nodes = NodesConfig {
            elf: None,
            period_ms: 0,
            running: true,
        };
        let decoder = StreamDecoder {
            kind: Kind::Wire(Box::new(Nodes::new("line", &nodes, 1).unwrap())),
            sensor: None,
        };
        let link = SerialLink {
            port: pty.path().to_str().unwrap().to_owned(),
            baud: 115_200,
            parity: Parity::None,
            data_bits: 8,
            stop_bits: 1,
            rs485: None,
            reconnect: Backoff {
                ms_min: 10,
                ms_max: 10,
            },
        };
        let mut feed = SerialFeed::new(&link, decoder);
        feed.line = Some(SerialLine::open(&feed.settings).unwrap());
        feed
    }

    /// All that the line brings to the node until it is quiet.
    fn read(pty: &Pty) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match pty.read(&mut piece, QUIET).unwrap() {
                0 => return bytes,
                len => bytes.extend_from_slice(&piece[..len]),
            }
        }
    }

    #[test]
    fn what_a_stalled_line_has_not_taken_is_said_later_after_a_delimiter() {
        let pty = Pty::open().unwrap();
        let mut feed = open(&pty);
        let full = feed.line.as_mut().unwrap().write_all(&[7; 1 << 17]);
        assert!(matches!(full, Err(SerialError::Stalled { .. })), "{full:?}");
        feed.decoder.handle_link_up(true);
        let now = Instant::now();
        feed.answer(now).unwrap();
        read(&pty);
        feed.answer(now + WRITE_AGAIN_AFTER / 2).unwrap();
        assert!(read(&pty).is_empty(), "it is left alone for a while");
        feed.answer(now + WRITE_AGAIN_AFTER).unwrap();
        let said = read(&pty);
        let [0, frame @ .., 0] = &said[..] else {
            panic!("{said:?}")
        };
        let message = hark_wire::decode(&mut frame.to_vec());
        assert!(
            matches!(&message, Ok(Message::Config(config)) if config.say_hello),
            "{message:?}"
        );
        feed.answer(now + 2 * WRITE_AGAIN_AFTER).unwrap();
        assert!(read(&pty).is_empty(), "it is said once");
    }
}
