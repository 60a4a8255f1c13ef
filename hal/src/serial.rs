//! A serial line: opened with its settings, read as soon as a byte is there.
//!
//! The serialport crate opens the port, applies the settings and locks it
//! against other programs; reads and writes go through a second, non-blocking
//! descriptor of the same port.
//!
//! A line that hangs up (unplugged, its driver gone, the other end of a
//! pseudo terminal closed) is [`SerialError::Gone`] for good: drop it and open
//! the port again. Silence is not an error.

use crate::fd::{self, Arrival};
use crate::ioctl;
use crate::ports::{self, serial_ports};
use crate::settings::{Rs485, SerialSettings};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serialport::SerialPort;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// How long [`SerialLine::write_all`] waits for room in all.
///
/// What a gateway sends is a request of a few bytes, and the kernel holds
/// 4 KiB of them, so a line without room is stuck. The wait is short because
/// the thread that writes is the one that reads and scores.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(50);

/// What went wrong with a serial port, by what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum SerialError {
    /// There is no such device.
    #[error("no serial port {port}; {}", listed(available))]
    NotFound {
        /// The port that was named.
        port: String,
        /// The ports that there are, see [`serial_ports`].
        available: Vec<String>,
    },
    /// The path names something else, a file perhaps.
    #[error("{port} is not a serial port; {}", listed(available))]
    NotSerial {
        /// The path that was named.
        port: String,
        /// The ports that there are, see [`serial_ports`].
        available: Vec<String>,
    },
    /// This user may not open the device.
    #[error("no permission to open {port}: add the user to the group that owns it (often dialout)")]
    Denied {
        /// The port.
        port: String,
    },
    /// Another program has locked the port.
    #[error("{port} is in use by another program")]
    Busy {
        /// The port.
        port: String,
    },
    /// The port cannot be set as asked.
    #[error("cannot set {settings}: {reason}")]
    Settings {
        /// The port and its settings.
        settings: SerialSettings,
        /// What the system says.
        reason: String,
    },
    /// The port's driver has no RS-485 mode, or not this one.
    #[error(
        "the driver of {port} cannot switch an RS-485 transceiver ({cause}): set `rs485 = false` \
         for an adapter that switches by itself, as most with USB do"
    )]
    Rs485 {
        /// The port.
        port: String,
        /// What the system says.
        cause: Errno,
    },
    /// The port's driver has an RS-485 mode, and waits for other times in it.
    #[error(
        "the driver of {port} waits for {} ms before and {} ms after sending on RS-485, not for \
         {} and {}: set `rs485_delay_before_ms` and `rs485_delay_after_ms` to what it does",
        made.0, made.1, wanted.0, wanted.1
    )]
    Rs485Delays {
        /// The port.
        port: String,
        /// What was asked for: before and after sending, ms.
        wanted: (u32, u32),
        /// What the driver has made of it.
        made: (u32, u32),
    },
    /// The line hung up: unplugged, or its driver is gone.
    #[error("{port} is gone")]
    Gone {
        /// The port.
        port: String,
    },
    /// The line took no more bytes within [`WRITE_TIMEOUT`].
    #[error("{port} takes no bytes: {written} of {len} written in {WRITE_TIMEOUT:?}")]
    Stalled {
        /// The port.
        port: String,
        /// Bytes that were taken.
        written: usize,
        /// Bytes that were to be written.
        len: usize,
    },
    /// Anything else.
    #[error("cannot use {port}")]
    Io {
        /// The port.
        port: String,
        /// The system's error.
        source: io::Error,
    },
}

impl SerialError {
    fn from_errno(port: &str, errno: Errno) -> Self {
        let port = port.to_owned();
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound {
                port,
                available: serial_ports(),
            },
            Errno::ACCESS | Errno::PERM => Self::Denied { port },
            Errno::BUSY => Self::Busy { port },
            Errno::ISDIR | Errno::NOTTY => Self::NotSerial {
                port,
                available: serial_ports(),
            },
            errno if fd::is_hang_up(errno) => Self::Gone { port },
            errno => Self::Io {
                port,
                source: errno.into(),
            },
        }
    }
}

fn listed(available: &[String]) -> String {
    if available.is_empty() {
        "this machine has none".to_owned()
    } else {
        format!("there are: {}", available.join(", "))
    }
}

/// What a read of a line brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes are at the front of the buffer; at least one.
    Bytes(usize),
    /// Nothing came within the timeout.
    Idle,
}

/// An open serial line. Dropping it closes and unlocks the port.
#[derive(Debug)]
pub struct SerialLine {
    port: String,
    fd: OwnedFd,
    /// Keeps the lock; its own reads and writes are not used.
    _lock: serialport::TTYPort,
}

impl SerialLine {
    /// Opens a port in raw mode, locked against other programs.
    ///
    /// Bytes that the system has received before are kept. Nothing waits for
    /// a carrier.
    ///
    /// # Errors
    /// [`SerialError`]; a wrong name lists the ports that there are.
    pub fn open(settings: &SerialSettings) -> Result<Self, SerialError> {
        let port = &settings.port;
        // Before the lock: serialport's flag keeps out every later open.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(port.as_str(), flags, Mode::empty())
            .map_err(|errno| SerialError::from_errno(port, errno))?;
        if !rustix::termios::isatty(&fd) {
            return Err(SerialError::from_errno(port, Errno::NOTTY));
        }
        let lock = lock_and_set(settings)?;
        // serialport sets this flag beside its file lock. The lock ends with
        // its process however that ends; the flag stays on a pseudo terminal
        // after a SIGKILL and would shut out the restart.
        rustix::termios::ioctl_tiocnxcl(&fd)
            .map_err(|errno| SerialError::from_errno(port, errno))?;
        if let Some(rs485) = &settings.rs485 {
            set_rs485(port, &fd, rs485)?;
        }
        Ok(Self {
            port: port.clone(),
            fd,
            _lock: lock,
        })
    }

    /// Changes how the open line is set, and drops what has arrived so far.
    ///
    /// The port stays open: closing it would drop its DTR line, which resets
    /// many a node. `settings.port` is not looked at.
    ///
    /// # Errors
    /// [`SerialError::Settings`].
    pub fn change(&mut self, settings: &SerialSettings) -> Result<(), SerialError> {
        let lock = &mut self._lock;
        lock.set_baud_rate(settings.baud)
            .and_then(|()| lock.set_parity(settings.parity.into()))
            .and_then(|()| lock.set_stop_bits(settings.stop_bits.into()))
            .and_then(|()| lock.set_data_bits(settings.data_bits.into()))
            .and_then(|()| lock.clear(serialport::ClearBuffer::Input))
            .map_err(|error| SerialError::Settings {
                settings: settings.clone(),
                reason: error.description,
            })
    }

    /// Lowers RTS, which opening a port raises.
    ///
    /// Where RTS switches the transceiver of a half-duplex line and the driver does
    /// not know, a raised RTS keeps everybody else from speaking.
    ///
    /// # Errors
    /// The system's: a pseudo terminal has no RTS.
    pub fn lower_rts(&mut self) -> io::Result<()> {
        let lowered = self._lock.write_request_to_send(false);
        lowered.map_err(io::Error::from)
    }

    /// The path under which the port was opened.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// Asks a USB adapter of FTDI's to hand over what it has at once. Its own
    /// way is to wait for 16 ms for more, which a deadline cannot spare. Other
    /// ports have nothing to be asked.
    ///
    /// # Errors
    /// The system's: only root may write the setting, unless a udev rule says
    /// otherwise.
    pub fn shorten_latency(&self) -> io::Result<()> {
        ports::shorten_latency(Path::new(&self.port), Path::new("/sys/class/tty"))
    }

    /// Reads what is there, waiting for the first byte for at most `timeout`.
    ///
    /// Returns at the first byte and does not wait for `buffer` to fill, so
    /// the end of a frame is seen when it arrives.
    ///
    /// # Errors
    /// [`SerialError::Gone`] after a hang-up, [`SerialError::Io`] else.
    ///
    /// # Panics
    /// If `buffer` is empty.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, SerialError> {
        match fd::read(&self.fd, buffer, timeout) {
            Ok(Arrival::Bytes(len)) => Ok(Received::Bytes(len)),
            Ok(Arrival::Idle) => Ok(Received::Idle),
            Ok(Arrival::HungUp) => Err(SerialError::Gone {
                port: self.port.clone(),
            }),
            Err(errno) => Err(SerialError::from_errno(&self.port, errno)),
        }
    }

    /// Hands all of `bytes` to the line.
    ///
    /// After [`SerialError::Stalled`] the first `written` bytes are on their
    /// way: a sender of frames starts the next with a delimiter.
    ///
    /// # Errors
    /// [`SerialError::Stalled`] if the line has not taken them within
    /// [`WRITE_TIMEOUT`], [`SerialError::Gone`] after a hang-up,
    /// [`SerialError::Io`] else.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), SerialError> {
        let written = fd::write(&self.fd, bytes, WRITE_TIMEOUT)
            .map_err(|errno| SerialError::from_errno(&self.port, errno))?;
        if written < bytes.len() {
            return Err(SerialError::Stalled {
                port: self.port.clone(),
                written,
                len: bytes.len(),
            });
        }
        Ok(())
    }
}

impl AsFd for SerialLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_rs485(port: &str, fd: &OwnedFd, rs485: &Rs485) -> Result<(), SerialError> {
    let wanted = rs485_mode(rs485);
    let mut made = wanted;
    ioctl::serial_set_rs485(fd, &mut made).map_err(|cause| SerialError::Rs485 {
        port: port.to_owned(),
        cause,
    })?;
    check_rs485(port, &wanted, &made)
}

fn rs485_mode(rs485: &Rs485) -> ioctl::SerialRs485 {
    let rts = if rs485.is_rts_on_send {
        ioctl::SER_RS485_RTS_ON_SEND
    } else {
        ioctl::SER_RS485_RTS_AFTER_SEND
    };
    ioctl::SerialRs485 {
        flags: ioctl::SER_RS485_ENABLED | rts,
        delay_rts_before_send: rs485.delay_before_ms,
        delay_rts_after_send: rs485.delay_after_ms,
        ..ioctl::SerialRs485::default()
    }
}

/// Holds what the driver has made of a mode against what was wanted: one that
/// knows only one polarity takes the other for its own, and one without timers
/// makes the delays zero.
fn check_rs485(
    port: &str,
    wanted: &ioctl::SerialRs485,
    made: &ioctl::SerialRs485,
) -> Result<(), SerialError> {
    let port = port.to_owned();
    if made.flags & wanted.flags != wanted.flags {
        let cause = Errno::OPNOTSUPP;
        return Err(SerialError::Rs485 { port, cause });
    }
    let delays = |mode: &ioctl::SerialRs485| {
        let after = mode.delay_rts_after_send;
        (mode.delay_rts_before_send, after)
    };
    let (wanted, made) = (delays(wanted), delays(made));
    if made != wanted {
        return Err(SerialError::Rs485Delays { port, wanted, made });
    }
    Ok(())
}

fn lock_and_set(settings: &SerialSettings) -> Result<serialport::TTYPort, SerialError> {
    let refused = |reason: String| SerialError::Settings {
        settings: settings.clone(),
        reason,
    };
    // A baud rate of 0 tells the driver to hang up.
    if settings.baud == 0 {
        return Err(refused("the baud rate must not be 0".to_owned()));
    }
    serialport::new(&settings.port, settings.baud)
        .parity(settings.parity.into())
        .stop_bits(settings.stop_bits.into())
        .data_bits(settings.data_bits.into())
        .open_native()
        .map_err(|error| match error.kind() {
            // The port was opened a moment ago, so it exists: this is the lock.
            serialport::ErrorKind::NoDevice => SerialError::Busy {
                port: settings.port.clone(),
            },
            _ => refused(error.description),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_makes_of_an_rs485_mode_is_held_against_what_was_wanted() {
        let wanted = rs485_mode(&Rs485 {
            is_rts_on_send: true,
            delay_before_ms: 2,
            delay_after_ms: 5,
        });
        let check = |made: ioctl::SerialRs485| {
            let checked = check_rs485("/dev/ttyS1", &wanted, &made);
            checked.err().map(|error| error.to_string())
        };
        assert_eq!(check(wanted), None);
        let other = check(ioctl::SerialRs485 {
            flags: ioctl::SER_RS485_ENABLED | ioctl::SER_RS485_RTS_AFTER_SEND,
            ..wanted
        });
        assert!(other.unwrap().contains("`rs485 = false`"));
        let dropped = check(ioctl::SerialRs485 {
            delay_rts_after_send: 0,
            ..wanted
        });
        let said = dropped.unwrap();
        assert!(said.contains("2 ms before and 0 ms after"), "{said}");
        assert!(said.contains("not for 2 and 5"), "{said}");
        let shorter = check(ioctl::SerialRs485 {
            delay_rts_before_send: 1,
            ..wanted
        });
        assert!(shorter.unwrap().contains("1 ms before"));
    }
}
