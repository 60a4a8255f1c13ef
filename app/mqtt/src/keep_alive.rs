//! When to ping the broker, and when to give it up.
//!
//! A ping is due when either direction has been silent for half of the
//! keep-alive: outwards because the broker drops a client that is silent for
//! 1.5 times its length (3.1.1, 3.1.2.10), inwards because a client that only
//! publishes would otherwise not notice a broker that is gone. Half, so that
//! a caller who looks at the time every few seconds is still in time.
//!
//! Any byte from the broker proves that it lives; the answer to a ping may
//! wait behind many messages. A broker that takes nothing of what waits for it
//! is as good as gone, whatever it says.

use crate::SessionError;

pub(crate) struct KeepAlive {
    /// Zero for never.
    period_ms: u64,
    received: Direction,
    sent: Direction,
    /// Since when something waits for the socket, and nothing of it has left.
    stuck: Option<Stuck>,
    ping: Option<Ping>,
}

struct Stuck {
    since_ms: u64,
    sent: u64,
}

/// A ping that is not yet answered.
struct Ping {
    at_ms: u64,
    /// What had been received before it: whatever is more answers it. Not a
    /// time, which cannot tell two things apart that happen in a millisecond.
    received: u64,
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
            stuck: None,
            ping: None,
        }
    }

    /// The broker's own wish counts more than the client's (5.0, 3.2.2.3.14);
    /// zero turns it off, as in CONNECT (5.0, 3.1.2.10).
    pub(crate) fn set_period(&mut self, keep_alive_s: u16) {
        self.period_ms = period_ms(keep_alive_s);
    }

    /// Whether a ping is due. `received` and `sent` count bytes since the
    /// start; `unsent` is what waits for the socket.
    pub(crate) fn handle_time(
        &mut self,
        now_ms: u64,
        received: u64,
        sent: u64,
        unsent: usize,
    ) -> Result<bool, SessionError> {
        let received_ms = self.received.silence_ms(now_ms, received);
        let sent_ms = self.sent.silence_ms(now_ms, sent);
        if self.period_ms == 0 {
            return Ok(false);
        }
        self.ping.take_if(|ping| received > ping.received);
        self.stuck.take_if(|stuck| unsent == 0 || sent > stuck.sent);
        if unsent > 0 {
            let now = Stuck {
                since_ms: now_ms,
                sent,
            };
            let stuck = self.stuck.get_or_insert(now);
            let waited_ms = now_ms.saturating_sub(stuck.since_ms);
            if waited_ms >= self.period_ms {
                return Err(SessionError::Deaf { waited_ms });
            }
        }
        if let Some(ping) = &self.ping {
            let waited_ms = now_ms.saturating_sub(ping.at_ms);
            if waited_ms >= self.period_ms {
                return Err(SessionError::Silent { waited_ms });
            }
            return Ok(false);
        }
        Ok(received_ms.max(sent_ms) >= self.period_ms / 2)
    }

    pub(crate) fn handle_ping(&mut self, now_ms: u64, received: u64) {
        self.ping = Some(Ping {
            at_ms: now_ms,
            received,
        });
    }

    /// When [`handle_time`](Self::handle_time) has something to say at the
    /// earliest, if nothing moves until then. Without room for a ping that is
    /// when the broker has taken nothing for too long.
    pub(crate) fn next_timeout_ms(&self, has_room: bool) -> Option<u64> {
        if self.period_ms == 0 {
            return None;
        }
        let moved = [&self.received, &self.sent].map(|way| way.moved_ms.unwrap_or(0));
        let ping_ms = moved[0].min(moved[1]) + self.period_ms / 2;
        let stuck_ms = self.stuck.as_ref().map(|stuck| stuck.since_ms);
        let stuck_ms = stuck_ms.or((!has_room).then_some(moved[1]));
        let pinged_ms = self.ping.as_ref().map(|ping| ping.at_ms);
        let end_ms = stuck_ms.into_iter().chain(pinged_ms).min();
        let end_ms = end_ms.map(|since_ms| since_ms + self.period_ms);
        let ping_ms = (self.ping.is_none() && has_room).then_some(ping_ms);
        ping_ms.into_iter().chain(end_ms).min()
    }
}

fn period_ms(keep_alive_s: u16) -> u64 {
    u64::from(keep_alive_s) * 1000
}
