//! A client of a broker that comes and goes: one connection after the other,
//! without a socket and without a clock.
//!
//! ```text
//!            retry is due                opened                     taken
//!  Waiting ───────────────▶ Connecting ─────────▶ Greeting ─────────────────▶ Subscribing
//!     ▲                     5 s │                 5 s │ refused               10 s │  │ all answered
//!     │                         ▼                     ▼                            ▼  ▼
//!     └──────────── lost, refused, malformed, silent, too late ◀─────────────────── Up
//!
//!  Subscribing, Up ───────────────── goodbye ──▶ Leaving ── said, or too late ──▶ Gone
//!  Waiting, Connecting, Greeting ─── goodbye ───────────────────────────────────▶ Gone
//! ```
//!
//! "Taken" is the broker's CONNACK, "answered" its SUBACKs. From CONNACK on
//! letters go out, the greeting first.
//!
//! What the caller does at each turn, in this order:
//! 1. [`handle_time`](Client::handle_time) with a clock that does not go back;
//!    whatever follows happens at that time.
//! 2. If [`wants_connection`](Client::wants_connection), open one, and tell how
//!    that went by [`handle_opened`](Client::handle_opened) or
//!    [`handle_lost`](Client::handle_lost). If not [`is_open`](Client::is_open),
//!    close what there is.
//! 3. Send [`output`](Client::output), read into
//!    [`read_space`](Client::read_space).
//! 4. [`poll_event`](Client::poll_event) until there is none.
//! 5. Wait until the connection can be read, or written while there is output,
//!    or for [`next_timeout_ms`](Client::next_timeout_ms); not at all if
//!    [`has_more`](Client::has_more).
//!
//! Every buffer is made once; letters are bounded by their number. A message in
//! either direction at QoS 0 allocates nothing.

mod deliveries;
mod down;
mod event;
mod settings;

use crate::backoff::Backoff;
use crate::session::Incoming;
use crate::{Event, Payload, Session, SessionError, reason};
use deliveries::Deliveries;
pub use down::Down;
use event::Lost;
pub use event::{ClientEvent, Unpublished};
pub use settings::{ClientSettings, Letter};

/// How long a connection may take to be made, name and all.
pub const CONNECT_MS_MAX: u64 = 5_000;
/// How long the broker may take to answer CONNECT.
const GREETING_MS_MAX: u64 = 5_000;
/// How long the broker may take to answer a SUBSCRIBE: it may look rights up
/// elsewhere, and have retained messages to send first.
const SUBSCRIBE_MS_MAX: u64 = 10_000;
/// How long a goodbye may wait for the socket.
const GOODBYE_MS_MAX: u64 = 100;
/// Filters in one SUBSCRIBE. AWS IoT Core takes no more (AWS General Reference,
/// "AWS IoT Core protocol limits": subscriptions per subscribe request).
const FILTERS_MAX: usize = 8;

/// One client, over as many connections as it takes.
pub struct Client {
    session: Session,
    subscriptions: Vec<(String, u8)>,
    needs_every_subscription: bool,
    greeting: Option<Letter>,
    deliveries: Deliveries,
    backoff: Backoff,
    now_ms: u64,
    state: State,
    /// How many filters this connection has asked for, and has had answered.
    asked: usize,
    answered: usize,
    /// The first filter that was refused, and how many.
    refused: Option<(usize, usize)>,
    /// Why the connection is at its end, once what it brought is told.
    ending: Option<Down>,
    /// The loss that is to be told next.
    down: Option<Lost>,
    /// The letter that was told last: its event borrows from it.
    told: Option<Letter>,
}

/// See the module's diagram; times are the latest, on the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until_ms: u64 },
    Connecting { until_ms: u64 },
    Greeting { until_ms: u64 },
    Subscribing { until_ms: u64 },
    Up,
    Leaving { until_ms: u64, has_said: bool },
    Gone,
}

impl Client {
    /// A client that wants to connect at once.
    ///
    /// # Errors
    /// [`SessionError::TooLong`] if a setting is longer than 65,535 bytes.
    pub fn new(settings: ClientSettings) -> Result<Self, SessionError> {
        let ClientSettings {
            session,
            will,
            subscriptions,
            needs_every_subscription,
            greeting,
            letters_max,
            backoff_ms,
            read_buffer_bytes,
            write_buffer_bytes,
        } = settings;
        let longest = subscriptions.iter().map(|(filter, _)| filter.len()).max();
        let longest = longest.unwrap_or(0);
        if longest > usize::from(u16::MAX) {
            return Err(SessionError::TooLong {
                what: "topic filter",
                bytes: longest,
            });
        }
        // Room for any one filter, beside the reserve for acknowledgements.
        let write_bytes = write_buffer_bytes.max(2048 + longest);
        let will = will.as_ref();
        Ok(Self {
            session: Session::with_will(&session, will, read_buffer_bytes, write_bytes)?,
            subscriptions,
            needs_every_subscription,
            greeting,
            deliveries: Deliveries::new(letters_max),
            backoff: Backoff::new(backoff_ms),
            now_ms: 0,
            state: State::Waiting { until_ms: 0 },
            asked: 0,
            answered: 0,
            refused: None,
            ending: None,
            down: None,
            told: None,
        })
    }

    /// Tells what time it is, moves on what is due, and puts what waits into
    /// the output.
    pub fn handle_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        match self.state {
            State::Waiting { until_ms } if now_ms >= until_ms => {
                // From here on and not from the socket's own try: a resolver that
                // hangs is part of the time that a connection may take.
                let until_ms = now_ms + CONNECT_MS_MAX;
                self.state = State::Connecting { until_ms };
            }
            State::Connecting { until_ms } if now_ms >= until_ms => self.fail(Down::NoConnection {
                waited_ms: CONNECT_MS_MAX,
            }),
            State::Greeting { until_ms } if now_ms >= until_ms => self.fail(Down::NoConnAck {
                waited_ms: GREETING_MS_MAX,
            }),
            State::Subscribing { until_ms } if now_ms >= until_ms => {
                let filter = self.subscriptions.get(self.answered);
                self.fail(Down::NoSubAck {
                    filter: filter.map_or(String::new(), |(filter, _)| filter.clone()),
                    waited_ms: SUBSCRIBE_MS_MAX,
                });
            }
            State::Subscribing { .. } | State::Up => self.keep_alive(),
            State::Leaving { until_ms, has_said } if now_ms >= until_ms => {
                if has_said {
                    self.state = State::Gone;
                } else {
                    // Letters still wait, and have to: without a DISCONNECT the broker
                    // would take this for a loss and publish the will.
                    self.say_goodbye();
                }
            }
            _ => {}
        }
        self.hand_over();
    }

    /// When [`handle_time`](Self::handle_time) has something to do at the
    /// latest, if nothing else happens; `None` for never.
    pub fn next_timeout_ms(&self) -> Option<u64> {
        match self.state {
            State::Waiting { until_ms }
            | State::Connecting { until_ms }
            | State::Greeting { until_ms }
            | State::Leaving { until_ms, .. } => Some(until_ms),
            State::Subscribing { until_ms } => {
                let keep_alive = self.session.next_timeout_ms();
                Some(keep_alive.map_or(until_ms, |at_ms| at_ms.min(until_ms)))
            }
            State::Up => self.session.next_timeout_ms(),
            State::Gone => None,
        }
    }

    /// Whether [`poll_event`](Self::poll_event) may have something to tell
    /// although nothing more arrives.
    pub fn has_more(&self) -> bool {
        self.down.is_some()
            || self.ending.is_some()
            || self.deliveries.has_answered()
            || (self.is_taken() && (self.session.is_stopped() || self.answered_all()))
    }

    /// Whether messages wait for room for their acknowledgements.
    pub fn is_blocked(&self) -> bool {
        self.session.is_blocked()
    }

    /// Whether a connection is to be opened.
    pub fn wants_connection(&self) -> bool {
        matches!(self.state, State::Connecting { .. })
    }

    /// A connection is open.
    pub fn handle_opened(&mut self) {
        if self.wants_connection() {
            // With it go the bytes and the identifiers of the connection before.
            self.session.restart();
            self.asked = 0;
            self.answered = 0;
            self.refused = None;
            let until_ms = self.now_ms + GREETING_MS_MAX;
            self.state = State::Greeting { until_ms };
        }
    }

    /// The connection could not be made, or is lost. What it brought before is
    /// still told.
    pub fn handle_lost(&mut self, why: Down) {
        if self.wants_connection() {
            self.fail(why);
        } else if self.is_open() {
            self.end(why);
        }
    }

    /// Whether the connection is to be kept open.
    pub fn is_open(&self) -> bool {
        self.ending.is_none() && (self.is_taken() || matches!(self.state, State::Greeting { .. }))
    }

    /// Whether the broker has taken the connection and answered every
    /// subscription.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether a goodbye has ended everything.
    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Where the next bytes from the broker go; empty if the buffer is full.
    pub fn read_space(&mut self) -> &mut [u8] {
        self.session.read_space()
    }

    /// Takes the first `len` bytes of the space as received.
    ///
    /// # Panics
    /// If the space is smaller.
    pub fn handle_read(&mut self, len: usize) {
        self.session.handle_read(len);
    }

    /// Whether there is no space to read into.
    pub fn is_read_full(&self) -> bool {
        self.session.is_read_full()
    }

    /// Bytes received on this connection.
    pub fn received(&self) -> u64 {
        self.session.received()
    }

    /// Bytes of them that [`poll_event`](Self::poll_event) is done with; an
    /// event's last byte is the last of these.
    pub fn consumed(&self) -> u64 {
        self.session.consumed()
    }

    /// What is to be sent, in order.
    pub fn output(&self) -> &[u8] {
        if self.is_open() {
            self.session.output()
        } else {
            &[]
        }
    }

    /// Takes the first `len` bytes of the output as sent.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn handle_written(&mut self, len: usize) {
        self.session.handle_written(len);
        self.leave_if_said();
    }

    /// The next thing to tell, or `None` until more bytes come or time passes.
    pub fn poll_event(&mut self) -> Option<ClientEvent<'_>> {
        // Before a loss is told: what the broker answered before it is settled, and
        // would be sent again if it counted as unanswered.
        if self.deliveries.has_answered() {
            return self.poll_answered();
        }
        loop {
            if self.down.is_some() {
                return self.down.take().map(Lost::told);
            }
            if !self.is_taken() && !matches!(self.state, State::Greeting { .. }) {
                return None;
            }
            // Not in `handle_subscribed`: a client without a subscription gets
            // here by CONNACK alone, and each refusal is told before.
            if self.answered_all() {
                if let Some(why) = self.refusal() {
                    self.fail(why);
                    continue;
                }
                self.state = State::Up;
                self.backoff.handle_up(self.now_ms);
                return Some(ClientEvent::Up);
            }
            match self.session.poll_step() {
                Err(error) => self.fail(Down::Protocol(error)),
                // Nothing whole is left of what came before the end.
                Ok(None) => match self.ending.take() {
                    Some(why) => self.fail(why),
                    None => return None,
                },
                Ok(Some(Incoming::Connected)) => self.handle_taken(),
                Ok(Some(Incoming::Subscribed { code })) => {
                    if let Some(index) = self.handle_subscribed(code) {
                        return Some(ClientEvent::SubscriptionRefused {
                            filter: &self.subscriptions[index].0,
                            code,
                            reason: reason::of_reason_code(code),
                        });
                    }
                }
                Ok(Some(Incoming::Acknowledged { id, code })) => {
                    self.deliveries.handle_acknowledged(id, code);
                    if self.deliveries.has_answered() {
                        return self.poll_answered();
                    }
                }
                Ok(Some(Incoming::Oversize { bytes })) => {
                    return Some(ClientEvent::Oversize { bytes });
                }
                Ok(Some(Incoming::Other)) => {}
                Ok(Some(Incoming::Message(place))) => {
                    let is_retained = place.is_retained;
                    // A topic that is no text ends the session, which says so
                    // at the next call: see `has_more`.
                    let Ok(Event::Message { topic, payload }) = self.session.message(place) else {
                        return None;
                    };
                    return Some(ClientEvent::Message {
                        topic,
                        payload,
                        is_retained,
                    });
                }
            }
        }
    }

    /// Publishes at QoS 0, now or never, on the topic that the parts of `topic`
    /// make together; `write` puts the payload right into the output.
    ///
    /// # Errors
    /// [`Unpublished`]; nothing of it was written.
    pub fn publish_with(
        &mut self,
        topic: &[&str],
        write: impl FnOnce(&mut Payload<'_>),
    ) -> Result<(), Unpublished> {
        let has_said = matches!(self.state, State::Leaving { has_said: true, .. });
        if !self.is_taken() || !self.is_open() || has_said {
            return Err(Unpublished::Down);
        }
        Ok(self.session.publish_with(topic, write)?)
    }

    /// As [`publish_with`](Self::publish_with), with a payload that is there.
    ///
    /// # Errors
    /// [`Unpublished`]; nothing of it was written.
    pub fn publish(&mut self, topic: &[&str], payload: &[u8]) -> Result<(), Unpublished> {
        self.publish_with(topic, |room| room.push(payload))
    }

    /// Takes in a letter to be published at QoS 1, whenever that is.
    ///
    /// Returns the letter that gives way: the oldest that is not with the
    /// connection; or this one, if all are, or if it can never be sent.
    pub fn post(&mut self, letter: Letter) -> Option<Letter> {
        // It fits into no packet at all: kept, it would hold up all behind it.
        if self
            .session
            .room_needed(&letter.topic, &letter.payload)
            .is_none()
        {
            return Some(letter);
        }
        let gone = self.deliveries.post(letter);
        self.hand_over();
        gone
    }

    /// Letters posted that the broker has not answered for.
    pub fn waiting(&self) -> usize {
        self.deliveries.waiting()
    }

    /// Takes leave: sends `farewell` before what waits and is not under way,
    /// waits for every acknowledgement up to `until_ms`, and says goodbye.
    pub fn leave(&mut self, farewell: Option<Letter>, until_ms: u64) {
        if self.is_taken() && self.is_open() {
            let has_said = false;
            self.state = State::Leaving { until_ms, has_said };
            if let Some(letter) = farewell {
                self.deliveries.put_next(letter);
            }
            self.hand_over();
        } else {
            self.state = State::Gone;
        }
    }

    /// Whether the broker has taken the connection, which is not over yet.
    fn is_taken(&self) -> bool {
        matches!(
            self.state,
            State::Subscribing { .. } | State::Up | State::Leaving { .. }
        )
    }

    fn answered_all(&self) -> bool {
        matches!(self.state, State::Subscribing { .. }) && self.answered == self.subscriptions.len()
    }

    fn handle_taken(&mut self) {
        let until_ms = self.now_ms + SUBSCRIBE_MS_MAX;
        self.state = State::Subscribing { until_ms };
        // On every connection: while it was away the broker has published the will,
        // and only this takes it back.
        if let Some(greeting) = &self.greeting {
            self.deliveries.put_next(greeting.clone());
        }
        self.hand_over();
    }

    /// Notes the answer to the next filter; which, if it was refused.
    fn handle_subscribed(&mut self, code: u8) -> Option<usize> {
        let index = self.answered;
        self.answered += 1;
        if self.answered == self.asked {
            self.ask_for_more();
        }
        if !reason::is_refusal(code) {
            return None;
        }
        let (first, count) = self.refused.unwrap_or((index, 0));
        self.refused = Some((first, count + 1));
        Some(index)
    }

    /// Why the connection is of no use, if it is not.
    fn refusal(&self) -> Option<Down> {
        let (first, count) = self.refused.filter(|_| self.needs_every_subscription)?;
        Some(Down::SubscriptionsRefused {
            filter: self.subscriptions[first].0.clone(),
            others: count - 1,
        })
    }

    fn keep_alive(&mut self) {
        if let Err(error) = self.session.handle_time(self.now_ms) {
            self.end(Down::Protocol(error));
        }
    }

    /// Ends the connection once what it brought is told: readings may have been
    /// received that nobody has polled yet, and each is to have its outcome. The
    /// first reason is the one that is told.
    fn end(&mut self, why: Down) {
        self.ending.get_or_insert(why);
    }

    /// Puts into the output what waits and finds room.
    fn hand_over(&mut self) {
        if !self.is_taken() || !self.is_open() {
            return;
        }
        self.ask_for_more();
        self.deliveries.hand_over(&mut self.session);
        if let State::Leaving {
            has_said: false, ..
        } = self.state
            && self.deliveries.is_empty()
        {
            self.say_goodbye();
        }
    }

    /// Asks for the next filters once those before are answered: one SUBSCRIBE
    /// at a time, so that none can be too large and answers have an order.
    fn ask_for_more(&mut self) {
        let is_due = matches!(self.state, State::Subscribing { .. })
            && self.answered == self.asked
            && self.asked < self.subscriptions.len();
        if !is_due {
            return;
        }
        let rest = &self.subscriptions[self.asked..];
        let mut count = rest.len().min(FILTERS_MAX);
        // One filter always finds room once the output is sent: `new` made it
        // large enough. Until then the next turn tries again.
        while count > 0 {
            let filters = rest[..count].iter();
            let filters: Vec<_> = filters
                .map(|(filter, qos)| (filter.as_str(), *qos))
                .collect();
            if self.session.subscribe(&filters).is_ok() {
                self.asked += count;
                let until_ms = self.now_ms + SUBSCRIBE_MS_MAX;
                self.state = State::Subscribing { until_ms };
                return;
            }
            count /= 2;
        }
    }

    fn say_goodbye(&mut self) {
        if let State::Leaving { until_ms, .. } = self.state {
            self.session.disconnect();
            // A goodbye in time still needs a moment for the socket.
            let until_ms = until_ms.max(self.now_ms + GOODBYE_MS_MAX);
            self.state = State::Leaving {
                until_ms,
                has_said: true,
            };
            self.leave_if_said();
        }
    }

    fn leave_if_said(&mut self) {
        if let State::Leaving { has_said: true, .. } = self.state
            && self.session.output().is_empty()
        {
            self.state = State::Gone;
        }
    }

    fn poll_answered(&mut self) -> Option<ClientEvent<'_>> {
        let (letter, code) = self.deliveries.poll_answered()?;
        let handle = letter.handle;
        if !reason::is_refusal(code) {
            return Some(ClientEvent::Published { handle });
        }
        let letter = self.told.insert(letter);
        Some(ClientEvent::Refused {
            handle,
            topic: &letter.topic,
            code,
            reason: reason::of_reason_code(code),
        })
    }

    /// Ends the connection, or the try to make one.
    fn fail(&mut self, why: Down) {
        self.ending = None;
        // Before the next connection can hand anything over.
        self.deliveries.handle_down();
        let is_young = self.backoff.is_young(self.now_ms);
        let retry_in_ms = self.backoff.handle_down(self.now_ms);
        let until_ms = self.now_ms + retry_in_ms;
        self.state = match self.state {
            // Whoever leaves does not come back in order to leave better.
            State::Leaving { .. } | State::Gone => State::Gone,
            _ => State::Waiting { until_ms },
        };
        self.down = Some(Lost {
            why,
            is_young,
            retry_in_ms,
        });
    }
}
