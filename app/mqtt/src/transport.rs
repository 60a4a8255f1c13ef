//! The one place through which every byte to and from a broker passes.
//!
//! TLS belongs here and nowhere else: a second kind beside `Plain` that holds
//! rustls's `ClientConnection` with its stream, reads and writes through it,
//! and is chosen by what [`Address`] then says of certificates. Two things to
//! mind: plain text may wait inside rustls after a read, so that a caller must
//! not wait for the socket then ([`Transport::has_more`]); and a handshake may
//! have to write although nothing is to be sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The shortest attempt at one address; the system takes no zero.
const CONNECT_MIN: Duration = Duration::from_millis(1);

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address of either family without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

pub(crate) enum Transport {
    Plain(TcpStream),
}

impl Transport {
    /// Looks the name up and connects. Each of its addresses gets an equal part
    /// of what finding them leaves of `timeout`; the system's name resolution
    /// has timeouts of its own, of many seconds where the network is gone.
    pub(crate) fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        let until = Instant::now() + timeout;
        let host = (address.host.as_str(), address.port);
        let addresses: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in &addresses {
            match TcpStream::connect_timeout(address, share.max(CONNECT_MIN)) {
                Ok(stream) => return Self::plain(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn plain(stream: TcpStream) -> io::Result<Self> {
        // Batches are written whole: holding back the last segment would
        // only delay it.
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Plain(stream))
    }

    /// Reads once; 0 at the end, `None` if there is nothing now.
    pub(crate) fn read(&mut self, space: &mut [u8]) -> io::Result<Option<usize>> {
        let Self::Plain(stream) = self;
        now_or_never(|| stream.read(space))
    }

    /// Writes once; `None` if nothing is taken now.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Self::Plain(stream) = self;
        match now_or_never(|| stream.write(bytes)) {
            Ok(Some(0)) => Err(ErrorKind::WriteZero.into()),
            result => result,
        }
    }

    /// Whether a read has something without waiting for the socket.
    pub(crate) fn has_more(&self) -> bool {
        let Self::Plain(_) = self;
        false
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let Self::Plain(stream) = self;
        stream.as_fd()
    }
}

fn now_or_never(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match attempt() {
            Ok(len) => return Ok(Some(len)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
