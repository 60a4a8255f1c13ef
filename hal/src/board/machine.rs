//! Who the machine is: its names, its kernel, its cores and its memory.

use super::{Board, ENTRIES_MAX, numbered, read_text};

/// What the firmware calls the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// For a person: the device tree's `model`, or the maker and product of DMI.
    pub model: Option<String>,
    /// For a program, the most special first: the device tree's `compatible`
    /// strings, then DMI's product name.
    pub names: Vec<String>,
}

/// The running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// As `uname -m` says it, such as `aarch64`.
    pub machine: String,
    /// Whether it is built with `PREEMPT_RT`.
    pub is_realtime: bool,
}

/// One core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub index: usize,
    /// How much it does against the machine's fastest, which has 1024; ARM only.
    pub capacity: Option<u32>,
    /// The most that it is clocked at, MHz.
    pub mhz_max: Option<u32>,
    /// What decides its clock, such as `schedutil`.
    pub governor: Option<String>,
}

/// The memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel has.
    pub total_bytes: u64,
    /// What a program could still have without swapping.
    pub available_bytes: u64,
}

impl Board {
    /// What the firmware calls the machine.
    pub fn identity(&self) -> Identity {
        let product = self.text("/sys/class/dmi/id/product_name");
        let maker = self.text("/sys/class/dmi/id/sys_vendor");
        let dmi = product
            .as_ref()
            .map(|product| [maker.as_deref().unwrap_or(""), product].join(" "));
        // Device-tree strings end in a zero byte, also the last one.
        let strings = |path| self.text(path).unwrap_or_default();
        let model = strings("/proc/device-tree/model");
        let compatible = strings("/proc/device-tree/compatible");
        let names = compatible.split('\0').filter(|name| !name.is_empty());
        Identity {
            model: Some(model.trim_end_matches('\0').to_owned())
                .filter(|model| !model.is_empty())
                .or(dmi.map(|dmi| dmi.trim().to_owned())),
            names: names.map(str::to_owned).chain(product).collect(),
        }
    }

    /// The kernel that runs this process.
    pub fn kernel(&self) -> Kernel {
        let uname = rustix::system::uname();
        Kernel {
            release: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            is_realtime: self.text("/sys/kernel/realtime").as_deref() == Some("1"),
        }
    }

    /// The cores that run, in order; where the kernel does not say which do, those
    /// that there are.
    pub fn cores(&self) -> Vec<Core> {
        let online = self.text("/sys/devices/system/cpu/online");
        let online = online.as_deref().and_then(indices);
        let runs = |index: &usize| online.as_ref().is_none_or(|online| online.contains(index));
        let folders = numbered(&self.path("/sys/devices/system/cpu"), "cpu");
        let core = |(index, folder): (usize, std::path::PathBuf)| {
            let number = |name: &str| read_text(&folder.join(name))?.parse().ok();
            let khz_max: Option<u32> = number("cpufreq/cpuinfo_max_freq");
            Core {
                index,
                capacity: number("cpu_capacity"),
                mhz_max: khz_max.map(|khz| khz / 1000),
                governor: read_text(&folder.join("cpufreq/scaling_governor")),
            }
        };
        let folders = folders.into_iter().filter(|(index, _)| runs(index));
        folders.map(core).collect()
    }

    /// The memory; none where `/proc` is not mounted.
    pub fn memory(&self) -> Option<Memory> {
        let text = self.text("/proc/meminfo")?;
        let bytes = |label: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(label))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib * 1024)
        };
        Some(Memory {
            total_bytes: bytes("MemTotal:")?,
            available_bytes: bytes("MemAvailable:")?,
        })
    }

    /// The devices that the kernel's console speaks on, such as `/dev/ttyAMA0`.
    pub fn consoles(&self) -> Vec<String> {
        let active = self.text("/sys/class/tty/console/active");
        let names = active.unwrap_or_default();
        names
            .split_whitespace()
            .map(|name| format!("/dev/{name}"))
            .collect()
    }
}

/// The numbers in a list of the kernel's, such as `0-2,4`; none if it is no such list.
fn indices(list: &str) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        found.extend((first..=last).take(ENTRIES_MAX));
    }
    Some(found)
}
