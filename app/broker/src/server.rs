//! The thread that moves the broker's bytes and its time.
//!
//! One for all clients: they are few, and what is done for each is short. It waits
//! in one `poll` for the listener, for every client and for the stop; a client that
//! takes nothing costs it nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown as Side, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hark_threads::{Shutdown, Stage, Threads};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::limits::READ_BYTES;
use crate::{Broker, ClientKey, Counts, Login};

/// Connections taken in one turn.
const ACCEPTS_MAX: usize = 16;
/// Without a descriptor left the listener is left alone for so long: it would be
/// ready all the time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Writes to one client in one turn.
const WRITES_MAX: usize = 64;
/// Reads of what nobody wants, before a connection is closed: with bytes unread the
/// system would take back the last that were sent.
const LAST_READS_MAX: usize = 16;
/// A wait without an end still ends now and then.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running broker; dropped, it is told to stop.
pub struct Server {
    threads: Threads,
    stop: Arc<OwnedFd>,
    counts: Arc<Mutex<Counts>>,
    address: SocketAddr,
}

impl Server {
    /// Listens on `listen`, and serves there on a thread of its own. Whoever
    /// connects from now on is let in.
    ///
    /// # Errors
    /// If the address cannot be listened on, or the system gives no thread.
    pub fn start(listen: SocketAddr, login: Login) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let counts = Arc::<Mutex<Counts>>::default();
        let server = Self {
            threads: Threads::new(),
            stop: Arc::clone(&stop),
            counts: Arc::clone(&counts),
            address: listener.local_addr()?,
        };
        let serving = Serving {
            broker: Broker::new(login),
            listener,
            accepts_from: None,
            sockets: BTreeMap::new(),
            started: Instant::now(),
            space: vec![0; READ_BYTES].into_boxed_slice(),
        };
        let run = move |shutdown: &Shutdown| serving.run(&stop, shutdown, &counts);
        server
            .threads
            .spawn("embedded broker", Stage::Publish, run)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it to stop, and waits until `until`; whether it has ended. Its clients
    /// are told first.
    pub fn stop(&self, until: Instant) -> bool {
        self.request_stop();
        self.threads.stop(Stage::Publish, until)
    }

    /// Its thread, for whoever tells of those that panicked.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    fn request_stop(&self) {
        self.threads.request(Stage::Publish);
        // It fails only if as many calls wait as it can count.
        rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).ok();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.request_stop();
    }
}

struct Serving {
    broker: Broker,
    listener: TcpListener,
    /// Until when no connection is taken.
    accepts_from: Option<Instant>,
    sockets: BTreeMap<ClientKey, TcpStream>,
    started: Instant,
    space: Box<[u8]>,
}

/// What a wait has found.
#[derive(Default)]
struct Ready {
    accepts: bool,
    reads: Vec<ClientKey>,
    writes: Vec<ClientKey>,
}

impl Serving {
    fn run(mut self, stop: &OwnedFd, shutdown: &Shutdown, counts: &Mutex<Counts>) {
        while !shutdown.is_requested() {
            let now_ms = self.now_ms();
            self.broker.handle_time(now_ms);
            self.finish_turn(counts);
            let ready = self.wait(stop);
            if ready.accepts {
                self.accept();
            }
            for key in ready.reads {
                self.read(key);
            }
            for key in ready.writes {
                self.write(key);
            }
            self.finish_turn(counts);
        }
        let now_ms = self.now_ms();
        self.broker.handle_stop(now_ms);
        self.finish_turn(counts);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends what is to be sent, closes what is to be closed, and tells.
    fn finish_turn(&mut self, counts: &Mutex<Counts>) {
        let listed: Vec<ClientKey> = std::iter::from_fn(|| self.broker.poll_output()).collect();
        for key in listed {
            self.write(key);
        }
        while let Some(key) = self.broker.poll_closing() {
            self.close(key);
        }
        while let Some(notice) = self.broker.poll_notice() {
            tracing::warn!("embedded broker: {notice}");
        }
        *counts.lock().unwrap_or_else(PoisonError::into_inner) = self.broker.counts();
    }

    fn wait(&self, stop: &OwnedFd) -> Ready {
        let keys: Vec<ClientKey> = self.sockets.keys().copied().collect();
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        let accepts = self.accepts_from.is_none_or(|at| at <= Instant::now());
        let listens = if accepts {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        fds.push(PollFd::new(&self.listener, listens));
        for (key, socket) in &self.sockets {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, self.broker.wants_read(*key));
            wanted.set(PollFlags::OUT, !self.broker.output(*key).is_empty());
            fds.push(PollFd::from_borrowed_fd(socket.as_fd(), wanted));
        }
        let mut ready = Ready::default();
        // It fails where it is interrupted; then the next turn asks again.
        if poll(&mut fds, Some(&self.patience(accepts))).is_err() {
            return ready;
        }
        ready.accepts = !fds[1].revents().is_empty();
        let failed = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        for (key, fd) in keys.iter().zip(&fds[2..]) {
            if fd.revents().intersects(PollFlags::IN | failed) {
                ready.reads.push(*key);
            }
            if fd.revents().contains(PollFlags::OUT) {
                ready.writes.push(*key);
            }
        }
        ready
    }

    /// How long nothing is due.
    fn patience(&self, accepts: bool) -> Timespec {
        let due_ms = self.broker.next_timeout_ms();
        let due = due_ms.map(|at| Duration::from_millis(at.saturating_sub(self.now_ms())));
        let mut patience = due.unwrap_or(WAIT_MAX).min(WAIT_MAX);
        if !accepts {
            patience = patience.min(ACCEPT_PAUSE);
        }
        Timespec::try_from(patience).expect("a minute is a time")
    }

    fn accept(&mut self) {
        self.accepts_from = None;
        for _ in 0..ACCEPTS_MAX {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    // Without it a message waits for the acknowledgement of the last.
                    let is_ready = socket.set_nodelay(true).is_ok()
                        && socket.set_nonblocking(true).is_ok()
                        // A peer whose power was cut is found out, whatever its
                        // keep-alive.
                        && rustix::net::sockopt::set_socket_keepalive(&socket, true).is_ok();
                    if is_ready {
                        let key = self.broker.handle_opened(peer.to_string(), self.now_ms());
                        self.sockets.insert(key, socket);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Of a connection that is gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!("embedded broker: a connection cannot be taken: {error}");
                    self.accepts_from = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn read(&mut self, key: ClientKey) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        match socket.read(&mut self.space) {
            Ok(0) => self.lose(key),
            Ok(len) => {
                let now_ms = self.now_ms();
                self.broker.handle_read(key, &self.space[..len], now_ms);
            }
            Err(error) if is_later(&error) => {}
            Err(_) => self.lose(key),
        }
    }

    fn write(&mut self, key: ClientKey) {
        let Some(socket) = self.sockets.get_mut(&key) else {
            return;
        };
        for _ in 0..WRITES_MAX {
            let output = self.broker.output(key);
            if output.is_empty() {
                return;
            }
            match socket.write(output) {
                Ok(len) if len > 0 => self.broker.handle_written(key, len),
                Err(error) if is_later(&error) => return,
                _ => return self.lose(key),
            }
        }
    }

    /// The connection is over; whoever was there is gone.
    fn lose(&mut self, key: ClientKey) {
        self.sockets.remove(&key);
        let now_ms = self.now_ms();
        self.broker.handle_closed(key, now_ms);
    }

    /// Sends the last bytes, as far as they are taken at once.
    fn close(&mut self, key: ClientKey) {
        self.write(key);
        if let Some(socket) = self.sockets.get_mut(&key) {
            // It is closed in any case.
            socket.shutdown(Side::Write).ok();
            for _ in 0..LAST_READS_MAX {
                if !matches!(socket.read(&mut self.space), Ok(len) if len > 0) {
                    break;
                }
            }
        }
        self.lose(key);
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
