//! What the process has used so far: the figures of benches and summaries.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU time of all threads of the process, those that have ended included.
pub fn cpu_time() -> Duration {
    elapsed(ClockId::ProcessCPUTime)
}

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    elapsed(ClockId::ThreadCPUTime)
}

fn elapsed(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("CPU clocks start at zero and never go back")
}

/// The most memory that the process has had in RAM at once, bytes (`VmHWM`);
/// `None` where `/proc` is not mounted.
pub fn peak_rss_bytes() -> Option<u64> {
    Some(status_kib("VmHWM:")? * 1024)
}

/// A size in `/proc/self/status`, KiB, by its label with the colon.
pub(crate) fn status_kib(label: &str) -> Option<u64> {
    size_kib("/proc/self/status", label)
}

/// A size in `/proc/meminfo`, as [`status_kib`].
pub(crate) fn meminfo_kib(label: &str) -> Option<u64> {
    size_kib("/proc/meminfo", label)
}

fn size_kib(file: &str, label: &str) -> Option<u64> {
    let sizes = std::fs::read_to_string(file).ok()?;
    let line = sizes.lines().find_map(|line| line.strip_prefix(label))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::thread;

    /// Works until the calling thread has used `time` more.
    fn burn(time: Duration) {
        let start = thread_cpu_time();
        while thread_cpu_time() - start < time {
            black_box(0);
        }
    }

    #[test]
    fn the_process_pays_for_its_threads_and_a_thread_only_for_itself() {
        const WORK: Duration = Duration::from_millis(20);
        let (process, own) = (cpu_time(), thread_cpu_time());
        thread::spawn(|| burn(WORK)).join().unwrap();
        assert!(cpu_time() - process >= WORK);
        assert!(thread_cpu_time() - own < WORK);
    }

    #[test]
    fn the_peak_stays_after_the_memory_is_returned() {
        const BYTES: u64 = 64 << 20;
        let before = peak_rss_bytes().unwrap();
        drop(black_box(vec![1_u8; BYTES as usize]));
        let peak = peak_rss_bytes().unwrap();
        assert!(peak >= before);
        assert!(peak >= BYTES);
    }

    #[test]
    fn a_label_that_is_not_there_has_no_size() {
        assert_eq!(status_kib("VmNothing:"), None);
    }
}
