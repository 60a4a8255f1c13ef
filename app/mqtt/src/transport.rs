//! The one place through which every byte to and from a broker passes.
//!
//! Which kind a connection is of is said by [`Address::tls`]. Two things are true
//! of TLS alone: plain text may wait inside after a read, so that a caller must
//! not wait for the socket then ([`Transport::has_more`]); and there may be
//! something to write although nothing is to be sent
//! ([`Transport::wants_write`]).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::Tls;
use crate::secured::Secured;

/// The shortest attempt at one address; the system takes no zero.
const CONNECT_MIN: Duration = Duration::from_millis(1);
/// A handshake that has no answer ends so long before the time is over, so that
/// what is told is that, and not that time is over.
const TELL_BEFORE: Duration = Duration::from_millis(250);

/// What a TLS record begins with that says what is wrong (RFC 8446, 5.1: alert).
/// No packet of a broker does: 1 is CONNECT.
const TLS_ALERT: u8 = 0x15;

/// Where a broker is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address of either family without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// None: in the clear.
    pub tls: Option<Tls>,
}

impl Address {
    /// One that is spoken to in the clear.
    pub fn plain(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            tls: None,
        }
    }
}

pub(crate) enum Transport {
    Plain {
        stream: TcpStream,
        /// Something has come.
        is_answered: bool,
    },
    Secured(Box<Secured>),
}

impl Transport {
    /// Looks the name up and connects. Each of its addresses gets an equal part
    /// of what finding them leaves of `timeout`; the system's name resolution
    /// has timeouts of its own, of many seconds where the network is gone. The
    /// handshake of TLS gets the rest.
    pub(crate) fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        let until = Instant::now() + timeout;
        let secured = address.tls.as_ref().map(|tls| {
            let connection = tls.connection(&address.host);
            let connection = connection.map_err(|error| io::Error::other(chain(&error)))?;
            io::Result::Ok((tls, connection))
        });
        let secured = secured.transpose()?;
        let stream = Self::connect_stream(address, until)?;
        // Batches are written whole: holding back the last segment would
        // only delay it.
        stream.set_nodelay(true)?;
        let Some((tls, connection)) = secured else {
            stream.set_nonblocking(true)?;
            return Ok(Self::Plain {
                stream,
                is_answered: false,
            });
        };
        let until = until.checked_sub(TELL_BEFORE).unwrap_or(until);
        let secured = Secured::shake_hands(connection, stream, tls, until)?;
        Ok(Self::Secured(Box::new(secured)))
    }

    fn connect_stream(address: &Address, until: Instant) -> io::Result<TcpStream> {
        let host = (address.host.as_str(), address.port);
        let addresses: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in &addresses {
            match TcpStream::connect_timeout(address, share.max(CONNECT_MIN)) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Reads once; 0 at the end, `None` if there is nothing now.
    pub(crate) fn read(&mut self, space: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain {
                stream,
                is_answered,
            } => {
                let read = now_or_never(|| stream.read(space))?;
                if !*is_answered && read.is_some_and(|len| len > 0) {
                    *is_answered = true;
                    if space[0] == TLS_ALERT {
                        return Err(io::Error::other("the broker speaks TLS: set tls = true"));
                    }
                }
                Ok(read)
            }
            Self::Secured(secured) => secured.read(space),
        }
    }

    /// Writes once; `None` if nothing is taken now, and the next write is to
    /// begin with the same bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain { stream, .. } => match now_or_never(|| stream.write(bytes)) {
                Ok(Some(0)) => Err(ErrorKind::WriteZero.into()),
                result => result,
            },
            Self::Secured(secured) => secured.write(bytes),
        }
    }

    /// Writes what is not the caller's.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain { .. } => Ok(()),
            Self::Secured(secured) => secured.flush().map(drop),
        }
    }

    /// Whether a read has something without waiting for the socket.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Self::Plain { .. } => false,
            Self::Secured(secured) => secured.has_more(),
        }
    }

    /// Whether there is something to write that is not the caller's.
    pub(crate) fn wants_write(&self) -> bool {
        match self {
            Self::Plain { .. } => false,
            Self::Secured(secured) => secured.wants_write(),
        }
    }

    /// What may be the matter with a broker that closes without a word.
    pub(crate) fn hint_of_silence(&self) -> &'static str {
        match self {
            Self::Plain { .. } => ": if that port is for TLS, set tls = true",
            Self::Secured(secured) if !secured.has_identity() => {
                ": if it wants a certificate of this client, set cert_file and key_file"
            }
            Self::Secured(_) => "",
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain { stream, .. } => stream.as_fd(),
            Self::Secured(secured) => secured.as_fd(),
        }
    }
}

pub(crate) fn now_or_never(
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    loop {
        match attempt() {
            Ok(len) => return Ok(Some(len)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The error with what it comes from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
