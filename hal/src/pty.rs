//! A pseudo terminal that stands in for a serial adapter with a node on it.
//!
//! `hark simulate --pty` and the tests hold the [`Pty`] and play the node;
//! hark opens [`Pty::path`] like any port. Dropping the `Pty` unplugs the
//! adapter: the reader sees a hang-up, and what it has not yet read is lost,
//! as with a real one. A path of the caller's choice, a symbolic link, stays
//! the same when the next one is plugged in.
//!
//! Bytes written while nobody has the port open would wait in the kernel and
//! reach the next reader as stale data. They are refused instead.

use crate::fd::{self, Arrival};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often [`Pty::wait_for_reader`] looks: the kernel has no event for it.
const READER_POLL: Duration = Duration::from_millis(2);

/// The node's end of a pseudo terminal in raw mode.
#[derive(Debug)]
pub struct Pty {
    node: OwnedFd,
    device: PathBuf,
    link: Option<PathBuf>,
}

impl Pty {
    /// Plugs in an adapter under a path that the system chooses.
    ///
    /// # Errors
    /// The system's, if it has no pseudo terminals (left).
    pub fn open() -> io::Result<Self> {
        let node = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&node)?;
        unlockpt(&node)?;
        fcntl_setfl(&node, OFlags::RDWR | OFlags::NONBLOCK)?;
        let mut termios = tcgetattr(&node)?;
        termios.make_raw();
        tcsetattr(&node, OptionalActions::Now, &termios)?;
        let device = OsString::from_vec(ptsname(&node, Vec::new())?.into_bytes());
        // The kernel reports "nobody there" only after somebody has left. Opened
        // by its path, because user-mode emulation knows no TIOCGPTPEER.
        drop(rustix::fs::open(
            &device,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        Ok(Self {
            node,
            device: device.into(),
            link: None,
        })
    }

    /// Plugs in an adapter under `link`, a symbolic link that is made now and
    /// removed when the `Pty` is dropped. An old symbolic link is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if `link` is there and no symbolic
    /// link; else the system's.
    pub fn open_at(link: impl Into<PathBuf>) -> io::Result<Self> {
        let link = link.into();
        let mut pty = Self::open()?;
        if link.is_symlink() {
            std::fs::remove_file(&link)?;
        }
        symlink(&pty.device, &link)?;
        pty.link = Some(link);
        Ok(pty)
    }

    /// The path under which a reader opens the port: the link if there is one.
    pub fn path(&self) -> &Path {
        self.link.as_deref().unwrap_or(&self.device)
    }

    /// Whether somebody has the port open.
    ///
    /// # Errors
    /// The system's.
    pub fn has_reader(&self) -> io::Result<bool> {
        Ok(!fd::is_hung_up(&self.node)?)
    }

    /// Waits until somebody has the port open; `false` at the timeout.
    ///
    /// # Errors
    /// The system's.
    pub fn wait_for_reader(&self, timeout: Duration) -> io::Result<bool> {
        let start = Instant::now();
        while !self.has_reader()? {
            if start.elapsed() >= timeout {
                return Ok(false);
            }
            std::thread::sleep(READER_POLL);
        }
        Ok(true)
    }

    /// Sends `bytes` to the reader, waiting for room for at most `timeout`.
    ///
    /// Returns how many were sent: fewer than all if the reader is slow, none
    /// if there is no reader.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, bytes: &[u8], timeout: Duration) -> io::Result<usize> {
        if !self.has_reader()? {
            return Ok(0);
        }
        Ok(fd::write(&self.node, bytes, timeout)?)
    }

    /// Takes what the reader has sent, waiting for at most `timeout`.
    ///
    /// Returns how many bytes came; 0 if none did, at once if there is no
    /// reader.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// If `buffer` is empty.
    pub fn read(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        match fd::read(&self.node, buffer, timeout)? {
            Arrival::Bytes(len) => Ok(len),
            Arrival::Idle | Arrival::HungUp => Ok(0),
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Another Pty may have taken the link over.
        if let Some(link) = &self.link
            && std::fs::read_link(link).is_ok_and(|target| target == self.device)
        {
            // A link that cannot be removed is stale, which the next
            // `open_at` mends.
            let _ = std::fs::remove_file(link);
        }
    }
}
