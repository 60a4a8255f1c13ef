//! Waiting reads and writes on a non-blocking file descriptor.
//!
//! Both ends of a line use these. The serialport crate's own are not fit:
//! its write blocks for as long as the other end does not read, and its read
//! drops bytes that arrive together with the hang-up.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The longest single wait; a longer timeout is cut to it. No caller has a
/// use for longer, and every duration up to here is a valid `Timespec`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What a read brought.
pub(crate) enum Arrival {
    /// This many bytes.
    Bytes(usize),
    /// Nothing within the timeout, or a signal came first.
    Idle,
    /// The other end hung up, and all that it sent is read.
    HungUp,
}

/// Reads what is there, waiting for the first byte for at most `timeout`.
pub(crate) fn read(fd: &OwnedFd, buffer: &mut [u8], timeout: Duration) -> Result<Arrival, Errno> {
    assert!(
        !buffer.is_empty(),
        "a read of no bytes looks like a hang-up"
    );
    if !wait(fd, PollFlags::IN, timeout)? {
        return Ok(Arrival::Idle);
    }
    match rustix::io::read(fd, buffer) {
        Ok(0) => Ok(Arrival::HungUp),
        Ok(len) => Ok(Arrival::Bytes(len)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Arrival::Idle),
        Err(errno) if is_hang_up(errno) => Ok(Arrival::HungUp),
        Err(errno) => Err(errno),
    }
}

/// Writes `bytes`, waiting for room for at most `timeout` in all.
///
/// Returns how many were written: all of them, or fewer at the timeout.
pub(crate) fn write(fd: &OwnedFd, bytes: &[u8], timeout: Duration) -> Result<usize, Errno> {
    let deadline = Instant::now() + timeout.min(WAIT_MAX);
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(fd, &bytes[written..]) {
            Ok(len) => written += len,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                wait(fd, PollFlags::OUT, left)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(written)
}

/// Whether `errno` says that the device is no longer there.
pub(crate) fn is_hang_up(errno: Errno) -> bool {
    matches!(errno, Errno::IO | Errno::NXIO | Errno::NODEV | Errno::PIPE)
}

/// Whether the other end is closed at this moment.
pub(crate) fn is_hung_up(fd: &OwnedFd) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

/// Waits until `fd` is ready or in error; `false` at the timeout.
fn wait(fd: &OwnedFd, ready: PollFlags, timeout: Duration) -> Result<bool, Errno> {
    let timeout = Timespec::try_from(timeout.min(WAIT_MAX)).expect("an hour fits");
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), ready)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}
