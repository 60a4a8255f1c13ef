//! A TCP connection, read and written as a serial line is: waiting for so long at
//! most, and gone for good once it is closed.

use crate::fd::{self, Arrival};
use crate::serial::{Received, WRITE_TIMEOUT};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The shortest attempt at one address; the system takes no zero.
const CONNECT_MIN: Duration = Duration::from_millis(1);

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub struct TcpLine {
    fd: OwnedFd,
}

impl TcpLine {
    /// Looks `host` up and connects; each of its addresses gets an equal part of
    /// `timeout`. The system's name resolution has timeouts of its own, of many
    /// seconds where the network is gone: a thread that must pass leaves this to
    /// another.
    ///
    /// # Errors
    /// The system's, of the last address that was tried.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        let until = Instant::now() + timeout;
        let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in &addresses {
            match TcpStream::connect_timeout(address, share.max(CONNECT_MIN)) {
                Ok(stream) => {
                    // What is written is a whole request, and is waited for.
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    return Ok(Self { fd: stream.into() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads what is there, waiting for the first byte for at most `timeout`.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the other end has closed it; else the
    /// system's.
    ///
    /// # Panics
    /// If `buffer` is empty.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Received> {
        match fd::read(&self.fd, buffer, timeout)? {
            Arrival::Bytes(len) => Ok(Received::Bytes(len)),
            Arrival::Idle => Ok(Received::Idle),
            Arrival::HungUp => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Hands all of `bytes` to the connection, within
    /// [`WRITE_TIMEOUT`](crate::WRITE_TIMEOUT).
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it does not take them, else the system's; it is of
    /// no use then.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = fd::write(&self.fd, bytes, WRITE_TIMEOUT)?;
        if written < bytes.len() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn what_the_other_end_sends_is_read_and_its_end_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_secs(10);
        let mut line = TcpLine::connect("127.0.0.1", port, limit).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut buffer = [0; 8];
        let idle = line.read(&mut buffer, Duration::ZERO).unwrap();
        assert_eq!(idle, Received::Idle);
        line.write_all(b"ask").unwrap();
        peer.read_exact(&mut buffer[..3]).unwrap();
        peer.write_all(b"said").unwrap();
        let said = line.read(&mut buffer, limit).unwrap();
        assert_eq!(said, Received::Bytes(4));
        drop(peer);
        let end = line.read(&mut buffer, limit).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = TcpLine::connect("127.0.0.1", port, Duration::from_secs(10));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
