//! The one system call of real-time scheduling that rustix does not offer.
#![allow(unsafe_code, reason = "a foreign function, named as such")]

use rustix::io::Errno;

/// Puts the calling thread under `SCHED_FIFO` at `priority`, 1 to 99.
///
/// By pthread and not by `sched_setscheduler`, which musl refuses for every
/// thread. What this thread starts is scheduled as usual again: a child that
/// inherited the priority could starve the machine.
///
/// # Errors
/// The system's.
pub(super) fn set_fifo(priority: u8) -> Result<(), Errno> {
    // SAFETY: `sched_param` is a C structure of integers (musl's has reserved
    // ones), for which zero is a value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority.into();
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `pthread_self` names a thread that is alive during the call, and
    // `param` is a local that the call only reads.
    let code =
        unsafe { libc::pthread_setschedparam(libc::pthread_self(), policy, &raw const param) };
    match code {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code)),
    }
}
