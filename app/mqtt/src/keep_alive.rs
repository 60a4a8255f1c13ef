//! When to ping the broker, and when to give it up.
//!
//! A ping is due when either direction has been silent for half of the
//! keep-alive: outwards because the broker drops a client that is silent for
//! 1.5 times its length (3.1.1, 3.1.2.10), inwards because a client that only
//! publishes would otherwise not notice a broker that is gone. Half, so that
//! a caller who looks at the time every few seconds is still in time.
//!
//! Any byte from the broker proves that it lives; the answer to a ping may
//! wait behind many messages.

use crate::SessionError;

pub(crate) struct KeepAlive {
    /// Zero for never.
    period_ms: u64,
    received: Direction,
    sent: Direction,
    /// When the ping that is not yet answered was sent.
    pinged_ms: Option<u64>,
}

/// What was last seen to move in one direction.
#[derive(Default)]
struct Direction {
    bytes: u64,
    moved_ms: Option<u64>,
}

impl Direction {
    /// How long nothing has moved.
    fn silence_ms(&mut self, now_ms: u64, bytes: u64) -> u64 {
        if bytes != self.bytes || self.moved_ms.is_none() {
            self.bytes = bytes;
            self.moved_ms = Some(now_ms);
        }
        now_ms.saturating_sub(self.moved_ms.unwrap_or(now_ms))
    }
}

impl KeepAlive {
    pub(crate) fn new(keep_alive_s: u16) -> Self {
        Self {
            period_ms: period_ms(keep_alive_s),
            received: Direction::default(),
            sent: Direction::default(),
            pinged_ms: None,
        }
    }

    /// The broker's own wish counts more than the client's.
    pub(crate) fn set_period(&mut self, keep_alive_s: u16) {
        self.period_ms = period_ms(keep_alive_s);
    }

    /// Whether a ping is due; the arguments count bytes since the start.
    pub(crate) fn handle_time(
        &mut self,
        now_ms: u64,
        received: u64,
        sent: u64,
    ) -> Result<bool, SessionError> {
        let received_ms = self.received.silence_ms(now_ms, received);
        let sent_ms = self.sent.silence_ms(now_ms, sent);
        if self.period_ms == 0 {
            return Ok(false);
        }
        match self.pinged_ms {
            // Whatever came after the ping answers it.
            Some(pinged_ms) if received_ms < now_ms.saturating_sub(pinged_ms) => {
                self.pinged_ms = None;
                Ok(false)
            }
            Some(pinged_ms) => {
                let waited_ms = now_ms.saturating_sub(pinged_ms);
                if waited_ms >= self.period_ms {
                    return Err(SessionError::Silent { waited_ms });
                }
                Ok(false)
            }
            None => Ok(received_ms.max(sent_ms) >= self.period_ms / 2),
        }
    }

    pub(crate) fn handle_ping(&mut self, now_ms: u64) {
        self.pinged_ms = Some(now_ms);
    }
}

fn period_ms(keep_alive_s: u16) -> u64 {
    u64::from(keep_alive_s) * 1000
}
