//! Which serial ports there are: for the operator who named one that is not.
//!
//! `serialport::available_ports` is not used: it panics where `/sys` is not
//! mounted, and leaves out the UARTs of many ARM boards, whose bus it does
//! not know.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The most ports that are listed: a message for a person, not an inventory.
const PORTS_MAX: usize = 32;

/// How the names of Linux's serial drivers begin, followed by a number:
/// USB adapters, CDC-ACM, PL011 (Raspberry Pi), 8250, i.MX, STM32, Xilinx PS,
/// Xilinx UARTLite, SC16IS7xx, MAX310x, Qualcomm, Samsung, Tegra, OMAP, LPUART,
/// Atmel, Meson, gadget, virtio console, Bluetooth.
const PREFIXES: &[&str] = &[
    "ttyUSB", "ttyACM", "ttyAMA", "ttyS", "ttymxc", "ttySTM", "ttyPS", "ttyUL", "ttySC", "ttyMAX",
    "ttyMSM", "ttySAC", "ttyTHS", "ttyO", "ttyLP", "ttyAT", "ttyAML", "ttyGS", "hvc", "rfcomm",
];

/// The serial ports of this machine, stable names (`/dev/serial/by-id`) first.
///
/// At most 32; empty where none is found or `/dev` cannot be read.
pub fn serial_ports() -> Vec<String> {
    ports_below(Path::new("/dev"), Path::new("/sys/class/tty"))
}

fn ports_below(dev: &Path, class: &Path) -> Vec<String> {
    let by_id = dev.join("serial/by-id");
    let stable = names(&by_id).into_iter().map(|name| by_id.join(name));
    let devices = names(dev)
        .into_iter()
        .filter(|name| is_serial(name) && has_hardware(class, name))
        .map(|name| dev.join(name));
    stable
        .chain(devices)
        .take(PORTS_MAX)
        .map(|path| path.display().to_string())
        .collect()
}

/// The sorted names in a directory; none if it cannot be read.
fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn is_serial(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The 8250 driver has nodes for UARTs that the machine lacks; their type is
/// 0, `PORT_UNKNOWN` in Linux's `serial_core.h`. Without `/sys`, all count.
fn has_hardware(class: &Path, name: &str) -> bool {
    fs::read_to_string(class.join(name).join("type")).map_or(true, |kind| kind.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_names_come_first_and_ports_without_hardware_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let (dev, class) = (root.path().join("dev"), root.path().join("class"));
        let by_id = dev.join("serial/by-id");
        fs::create_dir_all(&by_id).unwrap();
        for name in [
            "ttyUSB1",
            "ttyS0",
            "ttyS9",
            "ttymxc2",
            "tty7",
            "ttyS",
            "ttyprintk",
        ] {
            fs::write(dev.join(name), "").unwrap();
        }
        fs::write(by_id.join("usb-pump"), "").unwrap();
        for (name, kind) in [("ttyS0", "4\n"), ("ttyS9", "0\n")] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::write(class.join(name).join("type"), kind).unwrap();
        }
        let found = ports_below(&dev, &class);
        let expected = ["serial/by-id/usb-pump", "ttyS0", "ttyUSB1", "ttymxc2"]
            .map(|name| dev.join(name).display().to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn a_machine_without_dev_has_no_ports() {
        let root = tempfile::tempdir().unwrap();
        let nowhere = root.path().join("nowhere");
        assert!(ports_below(&nowhere, &nowhere).is_empty());
    }

    #[test]
    fn the_list_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..2 * PORTS_MAX {
            fs::write(root.path().join(format!("ttyUSB{number}")), "").unwrap();
        }
        assert_eq!(ports_below(root.path(), root.path()).len(), PORTS_MAX);
    }
}
