//! A TCP connection to a broker around one session.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::Session;

/// The longest single wait; a longer timeout is cut to it. No caller has a
/// use for longer, and every duration up to here is a valid `Timespec`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The shortest attempt at one address; the system takes no zero.
const CONNECT_MIN: Duration = Duration::from_millis(1);

/// What a connection is ready for; in error or hung up it is ready for both,
/// so that the next read or write tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// [`Link::fill`] has something to say.
    pub to_read: bool,
    /// [`Link::flush`] makes progress.
    pub to_write: bool,
}

/// A connection to a broker. Dropping it closes it without a goodbye.
///
/// ```no_run
/// # use std::time::Duration;
/// # use hark_mqtt::{Event, Link, Session};
/// # fn serve(session: Session, now_ms: fn() -> u64) -> Result<(), Box<dyn std::error::Error>> {
/// let mut link = Link::connect("127.0.0.1:1883", session, Duration::from_secs(5))?;
/// loop {
///     let is_written = link.flush()?;
///     if !link.session().is_blocked() || !is_written {
///         link.wait(true, !is_written, Duration::from_secs(1))?;
///     }
///     link.fill()?;
///     link.session().handle_time(now_ms())?;
///     while let Some(event) = link.session().poll_event()? {
///         if let Event::Message { topic, payload } = event {
///             println!("{topic}: {} bytes", payload.len());
///         }
///     }
/// }
/// # }
/// ```
pub struct Link {
    stream: TcpStream,
    session: Session,
}

impl Link {
    /// Connects to `address`, `host:port`, and tries each of its addresses
    /// for an equal part of what finding them leaves of `timeout`.
    ///
    /// # Errors
    /// The last address's, or that there is none.
    pub fn connect(address: &str, session: Session, timeout: Duration) -> io::Result<Self> {
        let until = Instant::now() + timeout;
        let addresses = resolve(address, timeout)?;
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in &addresses {
            match TcpStream::connect_timeout(address, share.max(CONNECT_MIN)) {
                Ok(stream) => return Self::new(stream, session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn new(stream: TcpStream, session: Session) -> io::Result<Self> {
        // Batches are written whole: holding back the last segment would
        // only delay it.
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, session })
    }

    /// The session of this connection.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Waits until the connection can be read, if `read`, or written, if
    /// `write`, for at most `timeout`. A signal ends the wait early. While
    /// the session has no space, reading is not waited for.
    ///
    /// # Errors
    /// The system's, for want of memory.
    pub fn wait(&self, read: bool, write: bool, timeout: Duration) -> io::Result<Ready> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, read && !self.session.is_read_full());
        wanted.set(PollFlags::OUT, write);
        let timeout = Timespec::try_from(timeout.min(WAIT_MAX)).expect("an hour fits");
        let mut fds = [PollFd::new(&self.stream, wanted)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let seen = fds[0].revents();
        let is_broken = seen.intersects(PollFlags::ERR | PollFlags::HUP);
        Ok(Ready {
            to_read: is_broken || seen.contains(PollFlags::IN),
            to_write: is_broken || seen.contains(PollFlags::OUT),
        })
    }

    /// Reads once into the session: how many bytes, 0 if there are none now
    /// or the session has no space for them.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the broker closed the connection, else
    /// the system's.
    pub fn fill(&mut self) -> io::Result<usize> {
        let space = self.session.read_space();
        if space.is_empty() {
            return Ok(0);
        }
        loop {
            match self.stream.read(space) {
                Ok(0) => {
                    let closed = "the broker closed the connection";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, closed));
                }
                Ok(len) => {
                    self.session.handle_read(len);
                    return Ok(len);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much of the session's output as the socket takes now;
    /// whether that was all.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.session.handle_written(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// For a caller who waits for more than this connection.
impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The addresses of `address`, `host:port`, if they are found within `timeout`.
///
/// The system's name resolution has timeouts of its own, of many seconds where
/// the network is gone. So it runs on a thread of its own, which is left behind
/// if it takes longer; the system's timeouts end it.
fn resolve(address: &str, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let (sender, found) = sync_channel(1);
    let name = address.to_owned();
    let look_up = move || {
        let addresses = name.to_socket_addrs().map(Iterator::collect);
        // Nobody waits for it any more if this fails.
        sender.send(addresses).ok();
    };
    thread::Builder::new()
        .name("resolver".into())
        .spawn(look_up)?;
    found
        .recv_timeout(timeout)
        .map_err(|_| io::Error::new(ErrorKind::TimedOut, "the name is not resolved in time"))?
}
