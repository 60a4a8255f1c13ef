//! Readings from a serial line.

use super::{Fed, NodeRequest, Retry, SHUTDOWN_POLL, StreamDecoder};
use crate::config::{Parity, SerialLink};
use crate::hot_path::{HotPath, Receipt};
use crate::shutdown::Shutdown;
use hark_hal::{DataBits, Received, Rs485, SerialError, SerialLine, SerialSettings, StopBits};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// What one read takes at most: a few frames. The kernel keeps the rest.
const READ_BYTES: usize = 4096;

/// A serial line, opened anew whenever it is lost.
pub struct SerialFeed {
    settings: SerialSettings,
    line: Option<SerialLine>,
    retry: Retry,
    decoder: StreamDecoder,
    buffer: Box<[u8; READ_BYTES]>,
    /// What is unread of `buffer`.
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
            retry: Retry::new(link.reconnect),
            decoder,
            buffer: Box::new([0; READ_BYTES]),
            unread: 0..0,
            receipt: None,
            has_warned: false,
        }
    }

    pub(super) fn node_requests(&self) -> Option<SyncSender<NodeRequest>> {
        self.decoder.node_requests()
    }

    pub(super) fn has_more(&self) -> bool {
        !self.unread.is_empty()
    }

    pub(super) fn advance(&mut self, hot_path: &mut HotPath, shutdown: &Shutdown) -> Fed {
        if let (Some(receipt), true) = (self.receipt, self.has_more()) {
            let mut bytes = &self.buffer[self.unread.clone()];
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
        self.retry.handle_up();
        hot_path.handle_link_up();
        self.decoder.handle_link_up();
        self.answer()
    }

    fn listen(&mut self, hot_path: &mut HotPath) -> Result<(), SerialError> {
        self.answer()?;
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
                self.unread = 0..len;
            }
            Received::Idle => hot_path.handle_idle(),
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<(), SerialError> {
        let (Some(line), Some(message)) = (&mut self.line, self.decoder.poll_answer()) else {
            return Ok(());
        };
        let mut frame = [0; hark_wire::FRAME_MAX];
        match line.write_all(hark_wire::encode(&message, &mut frame)) {
            // A node without a receiver is no reason to stop listening to it.
            Err(SerialError::Stalled { .. }) => Ok(()),
            result => result,
        }
    }
}

fn describe(error: &SerialError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How the line is set, as its configuration says.
pub(crate) fn settings(link: &SerialLink) -> SerialSettings {
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
