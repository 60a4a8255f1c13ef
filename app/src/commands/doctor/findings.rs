//! What `hark doctor` says of a machine: one [`Finding`] for each thing, with
//! what would be right where it is not.
//!
//! A problem is what keeps the configuration from running as it says; a note is
//! what an operator may want to know; everything else is in order.

use super::missing::missing;
use crate::config::{Clock, Config};
use hark_hal::{Board, Core, SerialPort, WatchdogState};
use serde::Serialize;
use std::path::Path;

/// Below this a log and a buffer of a day do not fit, bytes.
const FREE_BYTES_FEW: u64 = 256 << 20;
/// Below this even the event log's default bound (six files of 10 MiB) does not fit.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// What hark with a model and its windows takes, with room for the system, bytes.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// An adapter that gathers for longer than this costs a noticeable part of a
/// deadline; the FTDI driver's default is 16 ms.
const LATENCY_MS_MAX: u32 = 2;
/// Where vendors put the libraries that reach an NPU: NXP's eIQ (VX and Neutron),
/// Debian's mesa-teflon-delegate, Google's Edge TPU.
const DELEGATES: &[&str] = &[
    "/usr/lib/libvx_delegate.so",
    "/usr/lib/libneutron_delegate.so",
    "/usr/lib/teflon/libteflon.so",
    "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1",
];

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    Note,
    Problem,
}

/// One thing about the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) topic: &'static str,
    pub(super) state: State,
    pub(super) says: String,
    /// What would be right; none where it is.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(topic: &'static str, says: impl Into<String>) -> Self {
        Self {
            topic,
            state: State::Ok,
            says: says.into(),
            advice: None,
        }
    }

    pub(super) fn note(self, advice: impl Into<String>) -> Self {
        self.worse(State::Note, advice)
    }

    pub(super) fn problem(self, advice: impl Into<String>) -> Self {
        self.worse(State::Problem, advice)
    }

    fn worse(self, state: State, advice: impl Into<String>) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// Everything about `board`, on which `config` is to run.
pub(super) fn findings(config: &Config, board: &Board) -> Vec<Finding> {
    let mut all = vec![identity(board), kernel(config, board), cores(config, board)];
    all.extend(memory(board));
    all.push(realtime(config));
    all.extend(serial(board));
    all.extend(gpio(board));
    all.extend(watchdogs(board));
    all.push(storage(config));
    all.push(clock(config));
    all.push(delegates(config, board));
    all.extend(missing(config, board).iter().map(|remark| {
        Finding::ok("config", remark.to_string())
            .problem("name what is there, or connect what is named")
    }));
    all
}

fn identity(board: &Board) -> Finding {
    let identity = board.identity();
    let model = identity.model.as_deref();
    let says = model.unwrap_or("neither a device tree nor DMI names it");
    match identity.names.as_slice() {
        [] => Finding::ok("board", says),
        names => Finding::ok("board", format!("{says} ({})", names.join(", "))),
    }
}

fn kernel(config: &Config, board: &Board) -> Finding {
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

fn cores(config: &Config, board: &Board) -> Finding {
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

fn memory(board: &Board) -> Option<Finding> {
    let memory = board.memory()?;
    let (total, available) = (memory.total_bytes >> 20, memory.available_bytes >> 20);
    let finding = Finding::ok("memory", format!("{total} MiB, {available} available"));
    Some(if memory.available_bytes < MEMORY_BYTES_MIN {
        finding.problem(format!("hark needs about {} MiB", MEMORY_BYTES_MIN >> 20))
    } else {
        finding
    })
}

/// Asks for what `[threads]` wishes, on a thread of its own that then ends.
fn realtime(config: &Config) -> Finding {
    let wishes = config.threads.clone();
    if wishes == hark_hal::Realtime::default() {
        return Finding::ok("realtime", "`[threads]` wishes nothing");
    }
    let asked = std::thread::spawn(move || {
        let mut refused: Vec<_> = wishes.prepare_process().err().into_iter().collect();
        refused.extend(wishes.prepare_thread(0));
        refused
    });
    let refused = asked.join().expect("asking the kernel does not panic");
    let advice: Vec<String> = refused.iter().map(ToString::to_string).collect();
    if advice.is_empty() {
        Finding::ok("realtime", "everything that `[threads]` wishes is granted")
    } else {
        Finding::ok("realtime", "not all that `[threads]` wishes is granted")
            .problem(advice.join("; "))
    }
}

fn serial(board: &Board) -> Vec<Finding> {
    let (ports, consoles) = (board.serial_ports(), board.consoles());
    if ports.is_empty() {
        return vec![Finding::ok("serial", "no port")];
    }
    ports
        .iter()
        .map(|port| serial_port(port, &consoles))
        .collect()
}

pub(super) fn serial_port(port: &SerialPort, consoles: &[String]) -> Finding {
    let mut says = port.path.clone();
    if port.device != port.path {
        says += &format!(" ({})", port.device);
    }
    if let Some(driver) = &port.driver {
        says += &format!(", {driver}");
    }
    if let Some(latency) = port.latency_ms {
        says += &format!(", latency {latency} ms");
    }
    let finding = Finding::ok("serial", says);
    if consoles.contains(&port.device) {
        return finding.note(
            "the kernel's console speaks on it: a node there needs `console=` off the kernel's \
             command line, and no getty",
        );
    }
    match port.latency_ms {
        // hark asks for 1 ms itself when it opens the port, if it may.
        Some(latency) if latency > LATENCY_MS_MAX => finding.note(format!(
            "the adapter holds bytes back for {latency} ms unless hark may write to \
             /sys/class/tty/{}/device/latency_timer; a udev rule sets it for good",
            port.device.trim_start_matches("/dev/")
        )),
        _ => finding,
    }
}

fn gpio(board: &Board) -> Vec<Finding> {
    let chips = board.gpio_chips();
    if chips.is_empty() {
        return vec![Finding::ok("gpio", "no chip")];
    }
    let chip = |chip: &hark_hal::GpioChip| match (&chip.label, chip.lines) {
        (Some(label), Some(lines)) => {
            Finding::ok("gpio", format!("{} {label:?}, {lines} lines", chip.path))
        }
        _ => Finding::ok("gpio", chip.path.clone())
            .note("this user may not open it: add the user to the group that owns it (often gpio)"),
    };
    chips.iter().map(chip).collect()
}

fn watchdogs(board: &Board) -> Vec<Finding> {
    let dogs = board.watchdogs();
    if dogs.is_empty() {
        let finding = Finding::ok("watchdog", "none");
        return vec![finding.note(
            "nothing resets the machine when it hangs; `modprobe softdog` \
             helps against a hung hark, not against a hung kernel",
        )];
    }
    dogs.iter().map(watchdog).collect()
}

fn watchdog(dog: &WatchdogState) -> Finding {
    let mut says = dog.path.clone();
    if let Some(identity) = &dog.identity {
        says += &format!(" {identity:?}");
    }
    if let Some(timeout) = dog.timeout_s {
        says += &format!(", set to {timeout} s");
    }
    if let Some(most) = dog.timeout_s_max {
        says += &format!(" of at most {most} s");
    }
    let finding = Finding::ok("watchdog", says);
    if dog.has_reset_the_machine {
        finding.note("the last start was its doing: something hung")
    } else if dog.is_active {
        finding
            .note("somebody feeds it already, systemd perhaps (RuntimeWatchdogSec=): only one can")
    } else {
        finding
    }
}

fn storage(config: &Config) -> Finding {
    let folder = &config.device.data_dir;
    let storage = match hark_hal::storage_of(folder) {
        Ok(storage) => storage,
        Err(error) => {
            return Finding::ok("storage", format!("{}: {error}", folder.display()))
                .problem("`device.data_dir` must be a folder that can be written to");
        }
    };
    let (free, total) = (storage.free_bytes >> 20, storage.total_bytes >> 20);
    let finding = Finding::ok(
        "storage",
        format!(
            "{} on {} ({}), {free} of {total} MiB free",
            folder.display(),
            storage.mounted_at.display(),
            storage.kind
        ),
    );
    if storage.is_read_only {
        finding.problem("it is mounted read-only: point `device.data_dir` to a data partition")
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

fn clock(config: &Config) -> Finding {
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

fn delegates(config: &Config, board: &Board) -> Finding {
    let own = config
        .board
        .delegate
        .iter()
        .map(|path| path.display().to_string());
    let known = DELEGATES.iter().map(|path| (*path).to_owned());
    let mut found: Vec<String> = own
        .chain(known)
        .filter(|path| board.has(Path::new(path)))
        .collect();
    found.dedup();
    if found.is_empty() {
        Finding::ok("delegate", "no library: models run on the CPU")
    } else {
        Finding::ok("delegate", found.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_adapter_that_gathers_and_a_console_are_noted() {
        let mut port = SerialPort {
            path: "/dev/serial/by-id/usb-FTDI".to_owned(),
            device: "/dev/ttyUSB0".to_owned(),
            driver: Some("ftdi_sio".to_owned()),
            latency_ms: Some(16),
        };
        let slow = serial_port(&port, &[]);
        assert_eq!(slow.state, State::Note);
        assert_eq!(
            slow.says,
            "/dev/serial/by-id/usb-FTDI (/dev/ttyUSB0), ftdi_sio, latency 16 ms"
        );
        let advice = slow.advice.unwrap();
        assert!(
            advice.contains("/sys/class/tty/ttyUSB0/device/latency_timer"),
            "{advice}"
        );
        port.latency_ms = Some(1);
        assert_eq!(serial_port(&port, &[]).state, State::Ok);
        let console = serial_port(&port, &["/dev/ttyUSB0".to_owned()]);
        assert_eq!(console.state, State::Note);
    }

    #[test]
    fn a_watchdog_that_has_reset_the_machine_says_so() {
        let mut dog = WatchdogState {
            path: "/dev/watchdog0".to_owned(),
            identity: Some("i6300ESB timer".to_owned()),
            timeout_s: Some(30),
            timeout_s_max: Some(2046),
            is_active: false,
            has_reset_the_machine: false,
        };
        let quiet = watchdog(&dog);
        assert_eq!(quiet.state, State::Ok);
        assert_eq!(
            quiet.says,
            "/dev/watchdog0 \"i6300ESB timer\", set to 30 s of at most 2046 s"
        );
        dog.has_reset_the_machine = true;
        assert_eq!(watchdog(&dog).state, State::Note);
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
