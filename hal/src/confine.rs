//! Limits that a process sets itself before it does what may go wrong, and what
//! memory is left to it.
//!
//! They are for good, and hold for all of the process: whoever wants to live on
//! does the risky part in another one.

use crate::usage::{meminfo_kib, status_kib};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, nice, set_parent_process_death_signal, setrlimit,
};
use std::io;
use std::time::Duration;

/// Steps down among ordinary processes: what is tried delays nobody who serves.
const NICENESS: i32 = 10;

/// What a process may still use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Address space beyond what it has now, bytes.
    pub memory_bytes: u64,
    /// CPU time of all its threads beyond what they have used, in whole seconds.
    pub cpu: Duration,
}

impl Confinement {
    /// Confines this process. Beyond the memory an allocation fails, which ends a
    /// Rust program by SIGABRT; beyond the time SIGXCPU ends it. It leaves no core
    /// file, goes before others where the machine runs out of memory, and ends with
    /// the thread that started it.
    ///
    /// # Errors
    /// If a limit cannot be set.
    pub fn enter(self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let used = status_kib("VmSize:").unwrap_or(0) * 1024;
        let memory = used.saturating_add(self.memory_bytes);
        lower(Resource::As, memory, memory)?;
        let cpu = (crate::cpu_time() + self.cpu).as_secs().max(1);
        // At the hard limit the kernel kills as it does for want of memory.
        lower(Resource::Cpu, cpu, cpu + 1)?;
        lower(Resource::Core, 0, 0)?;
        // Neither is needed for the limits to hold.
        nice(NICENESS).ok();
        std::fs::write("/proc/self/oom_score_adj", "1000").ok();
        Ok(())
    }
}

/// Both limits, for what was there may be lower already.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let lowered = |limit: Option<u64>, to: u64| Some(limit.map_or(to, |limit| limit.min(to)));
    let limits = Rlimit {
        current: lowered(current, soft),
        maximum: lowered(maximum, hard),
    };
    Ok(setrlimit(resource, limits)?)
}

/// The memory that this process can still get, bytes: what its limit on address
/// space leaves, and what the machine has available. As if without bounds where
/// `/proc` is not mounted.
pub fn memory_left_bytes() -> u64 {
    let limit = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    let used = status_kib("VmSize:").unwrap_or(0) * 1024;
    let available = meminfo_kib("MemAvailable:").map_or(u64::MAX, |kib| kib * 1024);
    limit.saturating_sub(used).min(available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_no_more_than_the_machine_has() {
        let total = meminfo_kib("MemTotal:").expect("/proc is there") * 1024;
        let left = memory_left_bytes();
        assert!(left > 0);
        assert!(left < total);
    }
}
