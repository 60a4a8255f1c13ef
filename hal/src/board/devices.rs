//! The devices that hark uses: serial ports, GPIO chips, watchdogs.

use super::{Board, numbered, read_text};
use crate::gpio::gpio_owner;
use crate::ports::serial_ports;
use std::fs;
use std::path::Path;

/// A serial port that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// The name to put into a configuration: `/dev/serial/by-id/…` where there
    /// is one, because it survives another adapter being plugged in.
    pub path: String,
    /// The device behind that name, such as `/dev/ttyUSB0`; often the same.
    pub device: String,
    /// The kernel's driver, such as `ftdi_sio` or `uart-pl011`.
    pub driver: Option<String>,
    /// For how long an adapter gathers bytes before it hands them over, ms.
    pub latency_ms: Option<u32>,
}

/// A GPIO chip that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpioChip {
    /// `/dev/gpiochip0`; the number may differ at the next start.
    pub path: String,
    /// What its driver calls it, such as `pinctrl-bcm2711`; none if this user
    /// may not open it.
    pub label: Option<String>,
    /// The device that it belongs to, such as `4804c000.gpio`.
    pub owner: Option<String>,
    /// How many lines it has.
    pub lines: Option<u32>,
}

impl GpioChip {
    /// Whether `name` is its label or its device's name.
    pub fn is_called(&self, name: &str) -> bool {
        [&self.label, &self.owner]
            .into_iter()
            .any(|known| known.as_deref() == Some(name))
    }
}

/// A hardware (or the kernel's soft) watchdog that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogState {
    /// `/dev/watchdog0`
    pub path: String,
    /// What its driver calls it.
    pub identity: Option<String>,
    /// The timeout that it is set to, s.
    pub timeout_s: Option<u32>,
    /// The longest that it can be set to, s; none where the driver has no limit
    /// or the kernel (before 5.17) does not tell.
    pub timeout_s_max: Option<u32>,
    /// Whether somebody feeds it now.
    pub is_active: bool,
    /// The program that has it open, such as `systemd`; none if nobody has, or if
    /// it is another user's.
    pub holder: Option<String>,
    /// Whether it cannot be stopped any more once it runs.
    pub has_no_way_out: bool,
    /// Whether the last start was its doing.
    pub has_reset_the_machine: bool,
}

/// `WDIOF_CARDRESET` of Linux's `watchdog.h`: the card reset the machine.
const BOOT_STATUS_CARD_RESET: u32 = 0x20;

/// The drivers of the kernel's own layer between a UART and its tty (6.6 and
/// later); the hardware's driver is further up.
const SERIAL_LAYER_DRIVERS: &[&str] = &["port", "ctrl"];

/// Folders between a tty and its hardware, with the kernel's own layer.
const PARENTS_MAX: usize = 4;

impl Board {
    /// The serial ports, each once, stable names first.
    pub fn serial_ports(&self) -> Vec<SerialPort> {
        let mut ports: Vec<SerialPort> = Vec::new();
        for path in serial_ports() {
            let port = self.serial_port(&path);
            if ports.iter().all(|known| known.device != port.device) {
                ports.push(port);
            }
        }
        ports
    }

    /// What is known of the port at `path`, whether it is there or not.
    pub fn serial_port(&self, path: &str) -> SerialPort {
        let device = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let name = device.file_name().unwrap_or_default();
        let tty = self.path("/sys/class/tty").join(name).join("device");
        SerialPort {
            path: path.to_owned(),
            device: device.display().to_string(),
            driver: hardware_driver(&tty),
            latency_ms: read_text(&tty.join("latency_timer")).and_then(|ms| ms.parse().ok()),
        }
    }

    /// The GPIO chips, in the order of their numbers.
    pub fn gpio_chips(&self) -> Vec<GpioChip> {
        let chips = numbered(&self.path("/dev"), "gpiochip").into_iter();
        chips
            .map(|(_, path)| {
                // Opening a chip changes nothing on its lines.
                let chip = gpiocdev::Chip::from_path(&path);
                let known = chip.and_then(|chip| chip.info()).ok();
                GpioChip {
                    path: path.display().to_string(),
                    owner: gpio_owner(&path),
                    label: known.as_ref().map(|known| known.label.clone()),
                    lines: known.map(|known| known.num_lines),
                }
            })
            .collect()
    }

    /// The watchdogs, in the order of their numbers. None is opened.
    pub fn watchdogs(&self) -> Vec<WatchdogState> {
        let folders = numbered(&self.path("/sys/class/watchdog"), "watchdog");
        let watchdog = |(number, folder): (usize, std::path::PathBuf)| {
            let text = |name: &str| read_text(&folder.join(name));
            let seconds = |name: &str| text(name)?.parse().ok().filter(|s| *s > 0);
            let boot_status = text("bootstatus").and_then(|status| status.parse::<u32>().ok());
            let path = format!("/dev/watchdog{number}");
            let old_name = (number == 0).then_some("/dev/watchdog");
            let names: Vec<&str> = [path.as_str()].into_iter().chain(old_name).collect();
            WatchdogState {
                holder: self.holder(&names),
                has_no_way_out: text("nowayout").as_deref() == Some("1"),
                path,
                identity: text("identity"),
                timeout_s: seconds("timeout"),
                timeout_s_max: seconds("max_timeout"),
                is_active: text("state").as_deref() == Some("active"),
                has_reset_the_machine: boot_status
                    .is_some_and(|status| status & BOOT_STATUS_CARD_RESET != 0),
            }
        };
        folders.into_iter().map(watchdog).collect()
    }
}

/// The most processes, and open files of one, that are looked through.
const PROCESSES_MAX: usize = 4096;

impl Board {
    /// The program that has a device of these names open.
    fn holder(&self, names: &[&str]) -> Option<String> {
        let is_one = |file: &fs::DirEntry| {
            let target = fs::read_link(file.path());
            target.is_ok_and(|target| names.iter().any(|name| target == Path::new(name)))
        };
        let processes = fs::read_dir(self.path("/proc")).ok()?.flatten();
        let mut processes = processes.take(PROCESSES_MAX).map(|process| process.path());
        let holder = processes.find(|process| {
            let files = fs::read_dir(process.join("fd")).into_iter().flatten();
            files
                .flatten()
                .take(PROCESSES_MAX)
                .any(|file| is_one(&file))
        })?;
        read_text(&holder.join("comm"))
    }
}

/// The name of the driver of the hardware behind a tty's `device`.
fn hardware_driver(device: &Path) -> Option<String> {
    let mut folder = fs::canonicalize(device).ok()?;
    for _ in 0..PARENTS_MAX {
        if let Ok(driver) = fs::read_link(folder.join("driver")) {
            let name = driver.file_name()?.to_str()?;
            if !SERIAL_LAYER_DRIVERS.contains(&name) {
                return Some(name.to_owned());
            }
        }
        folder.pop();
    }
    None
}
