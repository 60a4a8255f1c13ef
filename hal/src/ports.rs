//! Which serial ports there are: for the operator who named one that is not.
//!
//! `serialport::available_ports` is not used: it panics where `/sys` is not
//! mounted, and leaves out the UARTs of many ARM boards, whose bus it does
//! not know.

use std::collections::BTreeSet;
use std::fs;
use std::io;
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
/// A port that has a stable name is listed by it alone.
///
/// At most 32; empty where none is found or `/dev` cannot be read.
pub fn serial_ports() -> Vec<String> {
    ports_below(Path::new("/dev"), Path::new("/sys/class/tty"))
}

fn ports_below(dev: &Path, class: &Path) -> Vec<String> {
    let by_id = dev.join("serial/by-id");
    let stable: Vec<_> = names(&by_id)
        .into_iter()
        .map(|name| by_id.join(name))
        .collect();
    let named: Vec<_> = stable
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let devices = names(dev)
        .into_iter()
        .filter(|name| is_serial(name) && has_hardware(class, name))
        .map(|name| dev.join(name))
        .filter(|path| !path.canonicalize().is_ok_and(|path| named.contains(&path)));
    stable
        .iter()
        .cloned()
        .chain(devices)
        .take(PORTS_MAX)
        .map(|path| path.display().to_string())
        .collect()
}

/// Sets the latency timer of a port that has one, FTDI's alone, to its least:
/// 1 ms (Linux's `drivers/usb/serial/ftdi_sio.c`; its default is 16 ms).
pub(crate) fn shorten_latency(port: &Path, class: &Path) -> io::Result<()> {
    const LEAST_MS: &str = "1";
    let device = port.canonicalize()?;
    let Some(name) = device.file_name() else {
        return Ok(());
    };
    let timer = class.join(name).join("device/latency_timer");
    match fs::read_to_string(&timer) {
        Ok(value) if value.trim() != LEAST_MS => fs::write(&timer, LEAST_MS),
        // It is short already, or another driver's port.
        _ => Ok(()),
    }
}

/// The sorted names in a directory; none if it cannot be read.
pub(crate) fn names(directory: &Path) -> BTreeSet<String> {
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
    fn stable_names_come_first_and_alone_and_ports_without_hardware_are_left_out() {
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
        std::os::unix::fs::symlink("../../ttyUSB1", by_id.join("usb-pump")).unwrap();
        for (name, kind) in [("ttyS0", "4\n"), ("ttyS9", "0\n")] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::write(class.join(name).join("type"), kind).unwrap();
        }
        let found = ports_below(&dev, &class);
        let expected = ["serial/by-id/usb-pump", "ttyS0", "ttymxc2"]
            .map(|name| dev.join(name).display().to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn an_adapter_that_waits_for_more_is_asked_not_to() {
        let root = tempfile::tempdir().unwrap();
        let (dev, class) = (root.path().join("dev"), root.path().join("class"));
        for name in ["ttyUSB0", "ttyUSB1"] {
            fs::create_dir_all(class.join(name).join("device")).unwrap();
            fs::create_dir_all(&dev).unwrap();
            fs::write(dev.join(name), "").unwrap();
        }
        let timer = class.join("ttyUSB0/device/latency_timer");
        fs::write(&timer, "16\n").unwrap();
        std::os::unix::fs::symlink("ttyUSB0", dev.join("pump")).unwrap();
        shorten_latency(&dev.join("pump"), &class).unwrap();
        assert_eq!(fs::read_to_string(&timer).unwrap(), "1");
        // Another driver's port has no such file, and gets none.
        shorten_latency(&dev.join("ttyUSB1"), &class).unwrap();
        assert!(!class.join("ttyUSB1/device/latency_timer").exists());
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
