//! A client on the network: its clock and its connections, and no policy.

use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::CONNECT_MS_MAX;
use crate::transport::Transport;
use crate::{Address, Client, ClientEvent, Down, Letter, Waker};

/// The longest single wait; a longer timeout is cut to it. No caller has a
/// use for longer, and every duration up to here is a valid `Timespec`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A client and the connection that it has, if any. It never blocks but in
/// [`wait`](Self::wait). Dropping it closes the connection without a goodbye.
///
/// ```no_run
/// # use std::time::Duration;
/// # use hark_mqtt::{Address, Client, ClientEvent, ClientSettings, Endpoint};
/// # fn serve(settings: ClientSettings) -> Result<(), Box<dyn std::error::Error>> {
/// let address = Address::plain("127.0.0.1", 1883);
/// let mut endpoint = Endpoint::new(Client::new(settings)?, address);
/// loop {
///     endpoint.wait(None, Duration::from_secs(1));
///     endpoint.fill();
///     while let Some(event) = endpoint.poll_event() {
///         if let ClientEvent::Message { topic, payload, .. } = event {
///             println!("{topic}: {} bytes", payload.len());
///         }
///     }
/// }
/// # }
/// ```
pub struct Endpoint {
    client: Client,
    address: Address,
    transport: Option<Transport>,
    connector: Option<Connector>,
    started: Instant,
}

impl Endpoint {
    /// An endpoint that connects with the first [`wait`](Self::wait).
    pub fn new(client: Client, address: Address) -> Self {
        Self {
            client,
            address,
            transport: None,
            connector: None,
            started: Instant::now(),
        }
    }

    /// The client.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The client's next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent<'_>> {
        self.client.poll_event()
    }

    /// Writes what waits, then waits until there is something to read, the
    /// socket takes more of what waits, `waker` is given, the client has
    /// something due, or `timeout` is over.
    ///
    /// What the socket takes nothing of is waited for; it is never asked again
    /// and again.
    pub fn wait(&mut self, waker: Option<&Waker>, timeout: Duration) {
        self.flush();
        // What there is no space for does not count: waiting for it would be a spin.
        let has_more =
            self.transport.as_ref().is_some_and(Transport::has_more) && !self.client.is_read_full();
        if has_more || self.client.has_more() {
            return;
        }
        let due = self.client.next_timeout_ms().map(|due_ms| {
            // A clock in milliseconds passes `due_ms` up to one later.
            let due = Duration::from_millis(due_ms.saturating_add(1));
            due.saturating_sub(self.started.elapsed())
        });
        let timeout = due.map_or(timeout, |due| due.min(timeout));
        let waker = waker.map(AsFd::as_fd);
        match (self.own(), waker) {
            (Some(own), Some(waker)) => {
                sleep(
                    &mut [own, PollFd::from_borrowed_fd(waker, PollFlags::IN)],
                    timeout,
                );
            }
            (Some(own), None) => sleep(&mut [own], timeout),
            (None, Some(waker)) => {
                sleep(
                    &mut [PollFd::from_borrowed_fd(waker, PollFlags::IN)],
                    timeout,
                );
            }
            (None, None) => sleep(&mut [], timeout),
        }
    }

    /// Reads once: how many bytes, 0 if there are none now, or no connection,
    /// or no space.
    pub fn fill(&mut self) -> usize {
        self.advance();
        let Some(transport) = &mut self.transport else {
            return 0;
        };
        let space = self.client.read_space();
        if space.is_empty() {
            return 0;
        }
        match transport.read(space) {
            Ok(None) => 0,
            Ok(Some(0)) => {
                self.lose(None);
                0
            }
            Ok(Some(len)) => {
                self.client.handle_read(len);
                len
            }
            Err(error) => {
                self.lose(Some(&error));
                0
            }
        }
    }

    /// Writes as much as the socket takes now; whether that was all.
    pub fn flush(&mut self) -> bool {
        self.advance();
        let Some(transport) = &mut self.transport else {
            return true;
        };
        if let Err(error) = transport.flush() {
            self.lose(Some(&error));
            return true;
        }
        while !self.client.output().is_empty() {
            match transport.write(self.client.output()) {
                Ok(None) => return false,
                Ok(Some(len)) => self.client.handle_written(len),
                Err(error) => {
                    self.lose(Some(&error));
                    return true;
                }
            }
        }
        true
    }

    /// As [`Client::leave`], for at most `timeout` from now.
    pub fn leave(&mut self, farewell: Option<Letter>, timeout: Duration) {
        let until = self.started.elapsed() + timeout;
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.client.leave(farewell, until_ms);
    }

    fn advance(&mut self) {
        let now_ms = self.started.elapsed().as_millis();
        self.client
            .handle_time(u64::try_from(now_ms).unwrap_or(u64::MAX));
        if !self.client.is_open() {
            self.transport = None;
        }
        if self.client.wants_connection() {
            self.connect();
        }
    }

    /// Looks after the connecting thread. One that a try before has left in the
    /// resolver serves this one: there is never a second.
    fn connect(&mut self) {
        let connector = match self.connector.take() {
            Some(connector) => connector,
            None => match Connector::start(&self.address) {
                Ok(connector) => connector,
                Err(error) => return self.client.handle_lost(unreachable(&error)),
            },
        };
        match connector.made.try_recv() {
            Ok(Ok(transport)) => {
                self.transport = Some(transport);
                self.client.handle_opened();
            }
            Ok(Err(error)) => self.client.handle_lost(unreachable(&error)),
            Err(TryRecvError::Empty) => self.connector = Some(connector),
            Err(TryRecvError::Disconnected) => {
                let why = "the connecting thread has ended".to_owned();
                self.client.handle_lost(Down::Unreachable(why));
            }
        }
    }

    /// The connection is at its end, by `error` or by the broker.
    fn lose(&mut self, error: Option<&io::Error>) {
        let lost = self.transport.take();
        let why = error.map_or(Down::Closed, |error| Down::Broken(error.to_string()));
        // What is not the system's error has words that explain it.
        let is_bare = error.is_none_or(|error| error.raw_os_error().is_some());
        let why = if is_bare && self.client.received() == 0 {
            Down::Unanswered {
                how: why.to_string(),
                hint: lost.map_or("", |transport| transport.hint_of_silence()),
            }
        } else {
            why
        };
        self.client.handle_lost(why);
    }

    /// What to wait for on this side. Not for bytes that there is no space for.
    fn own(&self) -> Option<PollFd<'_>> {
        if let Some(transport) = &self.transport {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, !self.client.is_read_full());
            let has_output = !self.client.output().is_empty() || transport.wants_write();
            wanted.set(PollFlags::OUT, has_output);
            return Some(PollFd::from_borrowed_fd(transport.as_fd(), wanted));
        }
        let connector = self.connector.as_ref()?;
        let is_wanted = self.client.wants_connection();
        is_wanted.then(|| PollFd::from_borrowed_fd(connector.done.as_fd(), PollFlags::IN))
    }
}

/// A thread that looks a name up and connects: both may take long, and a
/// serving thread in them would look stalled. Its own limit ends the second;
/// the system's timeouts end the first.
struct Connector {
    made: Receiver<io::Result<Transport>>,
    done: Waker,
}

impl Connector {
    fn start(address: &Address) -> io::Result<Self> {
        let (sender, made) = sync_channel(1);
        let done = Waker::new()?;
        let waker = done.clone();
        let address = address.clone();
        let connect = move || {
            let timeout = Duration::from_millis(CONNECT_MS_MAX);
            // Nobody waits for it any more if this fails.
            sender.send(Transport::connect(&address, timeout)).ok();
            waker.wake();
        };
        thread::Builder::new()
            .name("connector".into())
            .spawn(connect)?;
        Ok(Self { made, done })
    }
}

fn unreachable(error: &io::Error) -> Down {
    Down::Unreachable(error.to_string())
}

fn sleep(fds: &mut [PollFd<'_>], timeout: Duration) {
    let timeout = Timespec::try_from(timeout.min(WAIT_MAX)).expect("an hour fits");
    // It ends early for a signal, and for want of memory: the caller's next
    // turn comes sooner then.
    poll(fds, Some(&timeout)).ok();
}
