//! A connection by TLS: rustls and its socket.
//!
//! The handshake is made by whoever connects, and waits. After it nothing does:
//! what is read is decrypted as far as there is space, and of what is written no
//! more than one record is ahead of the socket, so that a caller who sees its
//! bytes taken knows that the socket has them. rustls allocates for the records
//! that come and go; its symmetric arithmetic is on the calling thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use crate::Tls;
use crate::transport::now_or_never;

/// What one record holds at most (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Reads of the socket for one of the caller's; rustls takes at most 4 KiB each.
const READS_MAX: usize = 64;
/// The shortest wait for the socket; the system takes no zero.
const WAIT_MIN: Duration = Duration::from_millis(1);

pub(crate) struct Secured {
    connection: ClientConnection,
    stream: TcpStream,
    tls: Tls,
    /// So many of the caller's bytes are encrypted and not yet all with the socket.
    taken: usize,
    /// Plain text that rustls holds.
    waiting: usize,
    /// How reading ends once that is read: by the broker, or by an error.
    end: Option<Option<io::Error>>,
}

impl Secured {
    /// Makes the handshake, until then at the latest; waits.
    pub(crate) fn shake_hands(
        mut connection: ClientConnection,
        mut stream: TcpStream,
        tls: &Tls,
        until: Instant,
    ) -> io::Result<Self> {
        while connection.is_handshaking() || connection.wants_write() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unanswered());
            }
            let left = Some(left.max(WAIT_MIN));
            stream.set_read_timeout(left)?;
            stream.set_write_timeout(left)?;
            let moved = if connection.wants_write() {
                now_or_never(|| connection.write_tls(&mut stream))
            } else {
                now_or_never(|| connection.read_tls(&mut stream))
            };
            match moved {
                Ok(Some(1..)) => {}
                Ok(None) => return Err(unanswered()),
                Ok(Some(0)) => return Err(ended()),
                Err(error) if is_end(&error) => return Err(ended()),
                Err(error) => return Err(error),
            }
            if let Err(error) = connection.process_new_packets() {
                // The broker is told why; it need not listen.
                connection.write_tls(&mut stream).ok();
                return Err(io::Error::other(tls.words(&error)));
            }
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            connection,
            stream,
            tls: tls.clone(),
            taken: 0,
            waiting: 0,
            end: None,
        })
    }

    /// As [`Transport::read`](crate::transport::Transport::read).
    pub(crate) fn read(&mut self, space: &mut [u8]) -> io::Result<Option<usize>> {
        let mut len = self.take(space);
        let mut reads = 0;
        while len < space.len() && self.end.is_none() && reads < READS_MAX {
            match self.fill() {
                Ok(None) => break,
                Ok(Some(0)) => self.end = Some(None),
                Ok(Some(_)) => {}
                Err(error) => self.end = Some(Some(error)),
            }
            len += self.take(&mut space[len..]);
            reads += 1;
        }
        if len > 0 {
            return Ok(Some(len));
        }
        match self.end.take() {
            None => Ok(None),
            Some(None) => Ok(Some(0)),
            Some(Some(error)) => Err(error),
        }
    }

    /// As [`Transport::write`](crate::transport::Transport::write); after `None` the
    /// next call begins with the same bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        if self.taken == 0 {
            if !self.flush()? {
                return Ok(None);
            }
            let len = bytes.len().min(RECORD_BYTES_MAX);
            self.taken = self.connection.writer().write(&bytes[..len])?;
        }
        assert!(self.taken <= bytes.len(), "the same bytes come again");
        if !self.flush()? {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.taken)))
    }

    /// Writes what rustls has to say; whether that was all.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.connection.wants_write() {
            match now_or_never(|| self.connection.write_tls(&mut self.stream)) {
                Ok(Some(0)) => return Err(ErrorKind::WriteZero.into()),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(false),
                Err(error) => return Err(self.reason(error)),
            }
        }
        Ok(true)
    }

    pub(crate) fn has_more(&self) -> bool {
        self.waiting > 0 || self.end.is_some()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    pub(crate) fn has_identity(&self) -> bool {
        self.tls.identity.is_some()
    }

    /// Plain text that is there.
    fn take(&mut self, space: &mut [u8]) -> usize {
        if self.waiting == 0 {
            return 0;
        }
        let len = self.connection.reader().read(space).unwrap_or(0);
        self.waiting -= len;
        len
    }

    /// Reads the socket once: how many bytes, 0 at the end, `None` if there are none.
    fn fill(&mut self) -> io::Result<Option<usize>> {
        let read = now_or_never(|| self.connection.read_tls(&mut self.stream))?;
        if read.is_none_or(|len| len == 0) {
            return Ok(read);
        }
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.waiting = state.plaintext_bytes_to_read();
                Ok(if state.peer_has_closed() {
                    Some(0)
                } else {
                    read
                })
            }
            Err(error) => {
                self.connection.write_tls(&mut self.stream).ok();
                Err(io::Error::other(self.tls.words(&error)))
            }
        }
    }

    /// A broker that does not want this client says why and closes. What it said
    /// explains more than that the next write fails.
    fn reason(&mut self, error: io::Error) -> io::Error {
        while let Ok(Some(1..)) = now_or_never(|| self.connection.read_tls(&mut self.stream)) {
            if let Err(told) = self.connection.process_new_packets() {
                return io::Error::other(self.tls.words(&told));
            }
        }
        error
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.connection.send_close_notify();
        // A socket that takes it later, or never, is not waited for.
        self.connection.write_tls(&mut self.stream).ok();
    }
}

impl AsFd for Secured {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

fn ended() -> io::Error {
    io::Error::other(
        "the broker closed the connection in the TLS handshake: if that port is without TLS, \
         set tls = false, or the port that speaks it, mostly 8883",
    )
}

fn unanswered() -> io::Error {
    io::Error::other(
        "the broker does not answer the TLS handshake: if that port is without TLS, set \
         tls = false, or the port that speaks it, mostly 8883",
    )
}
