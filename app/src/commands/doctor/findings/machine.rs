//! The machine itself: who it is, cores, memory, real time, storage, the clock.

use super::Finding;
use hark_config::{Clock, Config};
use hark_hal::{Board, Core, RealtimeError};

/// Below this a log and a buffer of a day do not fit, bytes.
const FREE_BYTES_FEW: u64 = 256 << 20;
/// Below this even the event log's default bound (six files of 10 MiB) does not fit.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// What hark with a model and its windows takes, with room for the system, bytes.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

pub(super) fn identity(board: &Board) -> Finding {
    let identity = board.identity();
    let model = identity.model.as_deref();
    let says = model.unwrap_or("neither a device tree nor DMI names it");
    match identity.names.as_slice() {
        [] => Finding::ok("board", says),
        names => Finding::ok("board", format!("{says} ({})", names.join(", "))),
    }
}

pub(super) fn kernel(config: &Config, board: &Board) -> Finding {
    let kernel = board.kernel();
    let kind = if kernel.is_realtime {
        ", PREEMPT_RT"
    } else {
        ""
    };
    let finding = Finding::ok(
        "kernel",
        format!("Linux {} on {}{kind}", kernel.release, kernel.machine),
    );
    match &config.board.target {
        Some(target) if !runs(&kernel.machine, target) => {
            finding.problem(format!("the configuration is for {target}"))
        }
        _ => finding,
    }
}

/// Whether a kernel on `machine`, as `uname -m` says it, runs programs for `target`.
fn runs(machine: &str, target: &str) -> bool {
    let architecture = target.split('-').next().unwrap_or_default();
    let is_arm_32 = |name: &str| name.starts_with("armv");
    architecture == machine
        || (is_arm_32(architecture) && (is_arm_32(machine) || machine == "aarch64"))
}

pub(super) fn cores(config: &Config, board: &Board) -> Finding {
    let cores = board.cores();
    let groups: Vec<String> = cores
        .chunk_by(|a, b| (a.capacity, a.mhz_max) == (b.capacity, b.mhz_max))
        .map(group_text)
        .collect();
    let finding = Finding::ok("cores", format!("{}: {}", cores.len(), groups.join("; ")));
    let governors = cores.iter().filter_map(|core| core.governor.as_deref());
    let slow = governors.into_iter().find(|name| *name != "performance");
    match (fast_cores(&cores), slow) {
        (Some(fast), _) if config.threads.cores.is_empty() => finding.note(format!(
            "the fast cores are {fast}; `threads.cores` keeps the hot path on some of them"
        )),
        (_, Some(governor)) => finding.note(format!(
            "governor {governor}: a core that must clock up first answers late; \
             `performance` does not"
        )),
        _ => finding,
    }
}

fn group_text(cores: &[Core]) -> String {
    let (first, last) = (&cores[0], &cores[cores.len() - 1]);
    let mut text = match cores.len() {
        1 => first.index.to_string(),
        _ => format!("{}-{}", first.index, last.index),
    };
    if let Some(mhz) = first.mhz_max {
        text += &format!(" up to {mhz} MHz");
    }
    if let Some(capacity) = first.capacity {
        text += &format!(", capacity {capacity}");
    }
    text
}

/// The cores of the highest capacity, where not all have it.
fn fast_cores(cores: &[Core]) -> Option<String> {
    let most = cores.iter().filter_map(|core| core.capacity).max()?;
    let (fast, slow): (Vec<&Core>, Vec<&Core>) =
        cores.iter().partition(|core| core.capacity == Some(most));
    let indices: Vec<String> = fast.iter().map(|core| core.index.to_string()).collect();
    (!slow.is_empty()).then(|| indices.join(","))
}

pub(super) fn memory(board: &Board) -> Option<Finding> {
    let memory = board.memory()?;
    let (total, available) = (memory.total_bytes >> 20, memory.available_bytes >> 20);
    let finding = Finding::ok("memory", format!("{total} MiB, {available} available"));
    Some(if memory.available_bytes < MEMORY_BYTES_MIN {
        finding.problem(format!("hark needs about {} MiB", MEMORY_BYTES_MIN >> 20))
    } else {
        finding
    })
}

/// Asks for what `[threads]` wishes, on a thread of its own that then ends. What
/// this user is not permitted hark's service may be: its unit grants it.
pub(super) fn realtime(config: &Config) -> Finding {
    let wishes = config.threads.clone();
    if wishes == hark_hal::Realtime::default() {
        return Finding::ok("realtime", "`[threads]` asks for nothing");
    }
    let asked = std::thread::spawn(move || {
        let mut refused: Vec<_> = wishes.prepare_process().err().into_iter().collect();
        refused.extend(wishes.prepare_thread(0));
        refused
    });
    let refused = asked.join().expect("asking the kernel does not panic");
    judge_realtime(&refused, &hark_hal::user_name())
}

fn judge_realtime(refused: &[RealtimeError], user: &str) -> Finding {
    let advice: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let advice = advice.join("; ");
    let is_permission =
        |error: &RealtimeError| matches!(error, RealtimeError::PermissionDenied { .. });
    if refused.is_empty() {
        return Finding::ok(
            "realtime",
            format!("everything that `[threads]` wishes is granted to {user}"),
        );
    }
    let finding = Finding::ok(
        "realtime",
        format!("not all that `[threads]` wishes is granted to {user}"),
    );
    if refused.iter().all(is_permission) {
        finding.note(format!(
            "{advice}. The unit hark.service grants it to its own user (LimitRTPRIO=, \
             LimitMEMLOCK=), whoever asks here"
        ))
    } else {
        finding.problem(advice)
    }
}

pub(super) fn storage(config: &Config) -> Finding {
    let folder = &config.device.data_dir;
    let storage = match hark_hal::storage_of(folder) {
        Ok(storage) => storage,
        Err(error) => {
            return Finding::ok("storage", format!("{}: {error}", folder.display()))
                .problem("`device.data_dir` must be a folder that can be written to");
        }
    };
    let user = hark_hal::user_name();
    let (free, total) = (storage.free_bytes >> 20, storage.total_bytes >> 20);
    let finding = Finding::ok(
        "storage",
        format!(
            "{} on {} ({}), {free} of {total} MiB free, asked as {user}",
            folder.display(),
            storage.mounted_at.display(),
            storage.kind
        ),
    );
    if !storage.is_folder {
        finding.problem("`device.data_dir` must be a folder, and there is something else")
    } else if storage.is_read_only {
        finding.problem("it is mounted read-only: point `device.data_dir` to a data partition")
    } else if !storage.is_writable {
        finding.problem(format!(
            "{user} may not write to it; if hark runs as another user, ask as that one: `sudo -u \
             hark hark doctor`"
        ))
    } else if storage.free_bytes < FREE_BYTES_MIN {
        finding.problem(format!("hark needs {} MiB", FREE_BYTES_MIN >> 20))
    } else if storage.free_bytes < FREE_BYTES_FEW {
        finding.note("little room for the event log and the buffer")
    } else if matches!(storage.kind.as_str(), "tmpfs" | "ramfs") {
        finding.note("it is lost at a restart: point `device.data_dir` to a data partition")
    } else {
        finding
    }
}

pub(super) fn clock(config: &Config) -> Finding {
    let uses_utc = config
        .sources
        .iter()
        .any(|source| source.clock == Clock::Utc);
    match hark_hal::is_clock_synchronised() {
        Some(true) => Finding::ok("clock", "synchronised"),
        Some(false) if uses_utc => Finding::ok("clock", "not synchronised").problem(
            "sources with `clock = \"utc\"` judge ages by it: start a time service, such as \
             systemd-timesyncd",
        ),
        Some(false) => Finding::ok("clock", "not synchronised")
            .note("alerts carry its time, and nothing else depends on it"),
        None => Finding::ok(
            "clock",
            "the kernel does not say whether it is synchronised",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::findings::State;

    fn core(index: usize, capacity: u32) -> Core {
        Core {
            index,
            capacity: Some(capacity),
            mhz_max: Some(1800),
            governor: None,
        }
    }

    #[test]
    fn the_fast_cores_are_named_only_where_some_are_slow() {
        let rk3588: Vec<Core> = (0..8)
            .map(|index| core(index, if index < 4 { 414 } else { 1024 }))
            .collect();
        assert_eq!(fast_cores(&rk3588).as_deref(), Some("4,5,6,7"));
        assert_eq!(fast_cores(&rk3588[..4]), None);
        assert_eq!(fast_cores(&[]), None);
        assert_eq!(group_text(&rk3588[..4]), "0-3 up to 1800 MHz, capacity 414");
    }

    #[test]
    fn a_64_bit_kernel_runs_32_bit_arm_and_not_the_other_way() {
        assert!(runs("aarch64", "aarch64-unknown-linux-gnu"));
        assert!(runs("aarch64", "armv7-unknown-linux-gnueabihf"));
        assert!(runs("armv7l", "armv7-unknown-linux-gnueabihf"));
        assert!(!runs("armv7l", "aarch64-unknown-linux-gnu"));
        assert!(!runs("x86_64", "aarch64-unknown-linux-gnu"));
    }

    #[test]
    fn a_permission_is_a_note_that_names_the_user_and_a_core_is_a_problem() {
        let denied = RealtimeError::PermissionDenied {
            call: "mlockall",
            needs: "LimitMEMLOCK=",
        };
        let absent = RealtimeError::NoSuchCore {
            core: 7,
            allowed: vec![0],
        };
        let check = |refused: &[RealtimeError], state| {
            let finding = judge_realtime(refused, "pi");
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.says.ends_with("granted to pi"), "{}", finding.says);
        };
        check(&[], State::Ok);
        check(std::slice::from_ref(&denied), State::Note);
        check(&[denied, absent], State::Problem);
    }

    #[test]
    fn a_data_folder_that_is_a_file_or_closed_is_a_problem() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = |folder: &std::path::Path, advice: &str| {
            let text = format!("device.data_dir = {:?}", folder.display().to_string());
            let finding = storage(&Config::of_text(&text).unwrap());
            assert_eq!(finding.state, State::Problem, "{finding:?}");
            let said = finding.advice.unwrap();
            assert!(said.contains(advice), "{said}");
        };
        check(&file, "must be a folder");
        check(std::path::Path::new("/proc/self"), "may not write to it");
    }

    #[test]
    fn a_clock_that_sources_judge_by_is_a_problem_if_it_is_free() {
        let text = "[[sources]]\nname = \"a\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\nclock = \"utc\"\n";
        let config = Config::of_text(text).unwrap();
        let state = clock(&config).state;
        match hark_hal::is_clock_synchronised() {
            Some(false) => assert_eq!(state, State::Problem),
            _ => assert_eq!(state, State::Ok),
        }
    }
}
