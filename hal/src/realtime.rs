//! What a hot thread may ask of the kernel: its cores, a real-time priority,
//! memory that stays in RAM, a stack that is there, timers without slack.
//!
//! Each wish can be refused, by the machine or by its permissions. A refusal
//! names the call, its cause and what would allow it; the thread goes on
//! without, and what to do about it is the caller's. Nothing here is undone:
//! a thread keeps what it got until it ends.
//!
//! [`Realtime`] is the set of wishes as a board's config states them:
//! [`Realtime::prepare_process`] once, before the hot threads start, then
//! [`Realtime::prepare_thread`] on each of them.

mod ffi;

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, CpuSet, capabilities, set_current_timer_slack};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use std::hint::black_box;
use std::num::NonZeroU64;

/// The most that [`prefault_stack`] touches: half of the 2 MiB that a Rust
/// thread has by default, so that the caller's own frames fit above it.
pub const PREFAULT_BYTES_MAX: usize = 1 << 20;

/// The least page size of the supported machines; larger pages are touched
/// more than once.
const PAGE_BYTES: usize = 4096;

/// Timer slack of a hot thread; the kernel's default is 50 µs.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// What a board's config wishes for its hot threads. The default wishes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realtime {
    /// Cores to pin hot threads to, in turn; empty: the kernel chooses.
    pub cores: Vec<usize>,
    /// `SCHED_FIFO` priority of hot threads, 1 to 99.
    pub fifo_priority: Option<u8>,
    /// Whether the whole process stays in RAM.
    pub locks_memory: bool,
    /// Stack that each hot thread touches before it starts, bytes, at most
    /// [`PREFAULT_BYTES_MAX`].
    pub prefault_stack_bytes: usize,
}

/// A wish that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RealtimeError {
    /// The machine, or this process's share of it, has no such core.
    #[error(
        "sched_setaffinity: there is no core {core} for this process; taskset or the cpuset of \
         its cgroup says which it has, now {allowed:?}"
    )]
    NoSuchCore {
        /// The core that was named.
        core: usize,
        /// Those that the thread may run on.
        allowed: Vec<usize>,
    },
    /// Not a priority of `SCHED_FIFO`.
    #[error("sched_setscheduler: priority {priority} is outside 1 to 99")]
    Priority {
        /// The priority that was asked for.
        priority: u8,
    },
    /// The process lacks a permission.
    #[error("{call}: no permission; it needs {needs}")]
    PermissionDenied {
        /// The system call.
        call: &'static str,
        /// The capability or limit that would allow it.
        needs: &'static str,
    },
    /// The kernel refused for another reason.
    #[error("{call}: {cause}")]
    Refused {
        /// The system call.
        call: &'static str,
        /// What the kernel says.
        cause: Errno,
    },
}

impl Realtime {
    /// Asks for what the process as a whole shall have.
    ///
    /// # Errors
    /// As [`lock_memory`].
    pub fn prepare_process(&self) -> Result<(), RealtimeError> {
        if self.locks_memory {
            lock_memory()?;
        }
        Ok(())
    }

    /// Asks for what the calling thread, the `index`-th hot one, shall have.
    ///
    /// Returns what was refused; everything else is granted. The priority
    /// comes last, so that nothing here delays others in its name.
    pub fn prepare_thread(&self, index: usize) -> Vec<RealtimeError> {
        prefault_stack(self.prefault_stack_bytes);
        let core = (!self.cores.is_empty()).then(|| self.cores[index % self.cores.len()]);
        let pinned = core.map_or(Ok(()), pin_to);
        let sharpened = sharpen_timers();
        let raised = self.fifo_priority.map_or(Ok(()), be_fifo);
        [pinned, sharpened, raised]
            .into_iter()
            .filter_map(Result::err)
            .collect()
    }
}

/// The cores that the calling thread may run on, ascending.
///
/// A pinned thread has one: ask before, on the thread that starts the others.
pub fn allowed_cores() -> Vec<usize> {
    // The call fails only where the kernel's set of cores is larger than
    // rustix's 1024; then nobody pins anything.
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// [`RealtimeError::NoSuchCore`] if the machine has no such core or the
/// process's cpuset leaves it out.
pub fn pin_to(core: usize) -> Result<(), RealtimeError> {
    let absent = || RealtimeError::NoSuchCore {
        core,
        allowed: allowed_cores(),
    };
    if core >= CpuSet::MAX_CPU {
        return Err(absent());
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|cause| match cause {
        Errno::INVAL => absent(),
        cause => refused("sched_setaffinity", "CAP_SYS_NICE", cause),
    })
}

/// Runs the calling thread before every ordinary one, at `priority`, 1 to 99.
///
/// Threads and processes that it starts are ordinary again. A FIFO thread that
/// never waits starves its core; the kernel leaves the others 5 % of it unless
/// `sched_rt_runtime_us` says otherwise.
///
/// # Errors
/// [`RealtimeError::Priority`] for a priority out of range,
/// [`RealtimeError::PermissionDenied`] without `CAP_SYS_NICE` and with a lower
/// `RLIMIT_RTPRIO`.
pub fn be_fifo(priority: u8) -> Result<(), RealtimeError> {
    if !(1..=99).contains(&priority) {
        return Err(RealtimeError::Priority { priority });
    }
    let needs = "CAP_SYS_NICE, or RLIMIT_RTPRIO (systemd: LimitRTPRIO=) of at least the priority";
    ffi::set_fifo(priority).map_err(|cause| refused("sched_setscheduler", needs, cause))
}

/// Keeps every page of the process in RAM, those to come included.
///
/// Pages that are mapped and not used count too: each thread's whole stack,
/// above all, is resident from then on.
///
/// # Errors
/// [`RealtimeError::PermissionDenied`] unless the process has `CAP_IPC_LOCK`
/// or no `RLIMIT_MEMLOCK`. A finite limit is refused even where it would do
/// today: the first allocation past it would fail, and end the process.
pub fn lock_memory() -> Result<(), RealtimeError> {
    const CALL: &str = "mlockall";
    let needs = "CAP_IPC_LOCK, or RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=) of infinity";
    let is_limited = getrlimit(Resource::Memlock).current.is_some();
    if is_limited && !may_lock_without_limit() {
        return Err(RealtimeError::PermissionDenied { call: CALL, needs });
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|cause| refused(CALL, needs, cause))
}

fn may_lock_without_limit() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// Touches the next `bytes` of the calling thread's stack, at most
/// [`PREFAULT_BYTES_MAX`], so that no page of it is first used, and waited
/// for, under a deadline.
///
/// The thread must have that much stack left.
pub fn prefault_stack(bytes: usize) {
    let pages = bytes.min(PREFAULT_BYTES_MAX).div_ceil(PAGE_BYTES);
    if pages > 0 {
        touch_pages(pages);
    }
}

/// One page a call. The page is looked at after the call below it too, or the
/// compiler would make a loop of it that touches the same page again.
#[inline(never)]
fn touch_pages(pages: usize) {
    let mut page = [0_u8; PAGE_BYTES];
    black_box(&mut page);
    if pages > 1 {
        touch_pages(pages - 1);
    }
    black_box(&mut page);
}

/// Lets the calling thread's timed waits end when they are due, and not up to
/// 50 µs later, as the kernel may to save wake-ups.
///
/// # Errors
/// [`RealtimeError::Refused`] where the kernel does not know timer slack.
pub fn sharpen_timers() -> Result<(), RealtimeError> {
    set_current_timer_slack(Some(TIMER_SLACK_NS)).map_err(|cause| RealtimeError::Refused {
        call: "prctl PR_SET_TIMERSLACK",
        cause,
    })
}

fn refused(call: &'static str, needs: &'static str, cause: Errno) -> RealtimeError {
    match cause {
        Errno::PERM | Errno::ACCESS => RealtimeError::PermissionDenied { call, needs },
        cause => RealtimeError::Refused { call, cause },
    }
}

#[cfg(test)]
mod tests;
