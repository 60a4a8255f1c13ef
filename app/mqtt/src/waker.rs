//! Ends the wait of another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Something to wait for beside a connection; each copy is the same one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// One that is not yet given.
    ///
    /// # Errors
    /// The system's, if it has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends the wait, or the next one; never waits itself.
    pub fn wake(&self) {
        // It fails only if 2^64 - 2 calls wait to be taken, which is as good.
        rustix::io::write(&*self.0, &1_u64.to_ne_bytes()).ok();
    }

    /// Takes every call so far: the next wait is for the next call.
    pub fn clear(&self) {
        // It fails only if there was none.
        rustix::io::read(&*self.0, &mut [0; 8]).ok();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
