//! What a configuration names and a machine lacks, each with the file and line
//! that names it and with what is there instead.

use hark_config::{Config, ConfigError, Link, ModbusReach};
use hark_hal::{Board, GpioChip};
use std::fs;
use std::path::Path;

/// What `board` lacks of what `config` names: the board itself, its cores, ports,
/// GPIO chip with its lines, and watchdog. A delegate is not asked for: no runtime
/// of this build has one.
pub(crate) fn missing(config: &Config, board: &Board) -> Vec<ConfigError> {
    let remarks = [
        wrong_board(config, board),
        missing_core(config, board),
        missing_chip(config, board),
        missing_watchdog(config, board),
    ];
    let ports = config.sources.iter().enumerate();
    let ports = ports.filter_map(|(index, source)| match &source.link {
        Link::Serial(link) => missing_port(config, board, index, &link.port),
        Link::Modbus(link) => match &link.reach {
            ModbusReach::Serial { port, .. } => missing_port(config, board, index, port),
            ModbusReach::Tcp { .. } => None,
        },
        Link::Mqtt(_) | Link::File(_) => None,
    });
    let lines = missing_lines(config, &board.gpio_chips());
    let remarks = remarks.into_iter().flatten();
    remarks.chain(lines).chain(ports).collect()
}

fn wrong_board(config: &Config, board: &Board) -> Option<ConfigError> {
    let wanted = &config.board.compatible;
    let identity = board.identity();
    if wanted.is_empty() || identity.names.iter().any(|name| wanted.contains(name)) {
        return None;
    }
    let (model, names) = (identity.model.as_deref(), identity.names.join(", "));
    let wanted = wanted.join(" or ");
    let message = match model {
        Some(model) => format!("this is {model} ({names}); the file is for {wanted}"),
        None => format!("this machine does not say what board it is; the file is for {wanted}"),
    };
    Some(config.remark("board.compatible", message))
}

fn missing_core(config: &Config, board: &Board) -> Option<ConfigError> {
    let cores: Vec<usize> = board.cores().iter().map(|core| core.index).collect();
    // Without `/sys` nobody knows.
    if cores.is_empty() {
        return None;
    }
    let absent = config
        .threads
        .cores
        .iter()
        .find(|core| !cores.contains(core))?;
    let running: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let message = format!("core {absent} does not run; {}", there_are(&running));
    Some(config.remark("threads.cores", message))
}

/// A chip is named by its path, its label or the device that has it.
fn missing_chip(config: &Config, board: &Board) -> Option<ConfigError> {
    let wanted = config.gpio.chip.as_deref()?;
    let chips = board.gpio_chips();
    let is_there = if wanted.starts_with('/') {
        board.has(Path::new(wanted))
    } else {
        chips.iter().any(|chip| chip.is_called(wanted))
    };
    let names = chips.iter().map(|chip| {
        let label = chip.label.as_deref();
        let label = label.unwrap_or("not to be opened by this user");
        let owner = chip.owner.as_deref().map(|owner| format!(", {owner}"));
        format!("{} ({label}{})", chip.path, owner.unwrap_or_default())
    });
    let there = there_are(&names.collect::<Vec<_>>());
    (!is_there).then(|| config.remark("gpio.chip", format!("no GPIO chip {wanted}; {there}")))
}

/// The lines that are beyond their chip's last. How many it has is not known of a
/// chip that this user may not open.
fn missing_lines(config: &Config, chips: &[GpioChip]) -> Vec<ConfigError> {
    let gpio = &config.gpio;
    let is_wanted = |chip: &&GpioChip| match gpio.chip.as_deref() {
        Some(path) if path.starts_with('/') => is_same_file(path, &chip.path),
        Some(name) => chip.is_called(name),
        None => false,
    };
    let Some((chip, count)) = chips
        .iter()
        .find(is_wanted)
        .and_then(|chip| Some((chip, chip.lines?)))
    else {
        return Vec::new();
    };
    let lines = [
        ("gpio.alarm_line", gpio.alarm_line),
        ("gpio.heartbeat_line", gpio.heartbeat_line),
    ];
    let beyond = lines
        .into_iter()
        .filter_map(|(key, line)| Some((key, line.filter(|line| *line >= count)?)));
    beyond
        .map(|(key, line)| {
            let message = format!("{} has no line {line}; it has {count}, from 0", chip.path);
            config.remark(key, message)
        })
        .collect()
}

/// Whether two paths name the same file or device, one of them by a link perhaps.
pub(super) fn is_same_file(a: &str, b: &str) -> bool {
    let real = |path: &str| fs::canonicalize(path).unwrap_or_else(|_| path.into());
    a == b || real(a) == real(b)
}

fn missing_watchdog(config: &Config, board: &Board) -> Option<ConfigError> {
    let wanted = config.watchdog.device.as_deref()?;
    let dogs = board.watchdogs();
    let Some(dog) = dogs.iter().find(|dog| Path::new(&dog.path) == wanted) else {
        let names = dogs.iter().map(|dog| match &dog.identity {
            Some(identity) => format!("{} ({identity})", dog.path),
            None => dog.path.clone(),
        });
        let there = there_are(&names.collect::<Vec<_>>());
        let message = format!("no watchdog {}; {there}", wanted.display());
        // `/dev/watchdog` is the old name of the first one and has no entry of its own.
        return (!board.has(wanted)).then(|| config.remark("watchdog.device", message));
    };
    let (timeout_s, most) = (config.watchdog.timeout.as_secs(), dog.timeout_s_max?);
    let message = format!("{} has {most} s at most", dog.path);
    (timeout_s > u64::from(most)).then(|| config.remark("watchdog.timeout_s", message))
}

fn missing_port(config: &Config, board: &Board, index: usize, port: &str) -> Option<ConfigError> {
    if board.has(Path::new(port)) {
        return None;
    }
    let ports: Vec<String> = board.serial_ports().into_iter().map(|p| p.path).collect();
    let message = format!("no serial port {port}; {}", there_are(&ports));
    Some(config.remark(&format!("sources[{index}].port"), message))
}

fn there_are(names: &[String]) -> String {
    if names.is_empty() {
        "this machine has none".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A machine of four cores with one watchdog that lasts 15 s.
    fn pi() -> (TempDir, Board) {
        let root = TempDir::new().unwrap();
        let sys = "sys/devices/system/cpu";
        let files = [
            ("proc/device-tree/model", "Raspberry Pi 4 Model B\0"),
            (
                "proc/device-tree/compatible",
                "raspberrypi,4-model-b\0brcm,bcm2711\0",
            ),
            (
                "sys/class/watchdog/watchdog0/identity",
                "Broadcom BCM2835\n",
            ),
            ("sys/class/watchdog/watchdog0/max_timeout", "15\n"),
            ("dev/watchdog", ""),
            ("dev/serial0", ""),
            (&format!("{sys}/cpu0/x"), ""),
            (&format!("{sys}/cpu3/x"), ""),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let board = Board::below(root.path());
        (root, board)
    }

    /// The key and the message of each remark.
    fn check(text: &str, expected: &[(&str, &str)]) {
        let (_root, board) = pi();
        let config = Config::of_text(text).unwrap();
        let found = missing(&config, &board);
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (remark, (key, message)) in found.iter().zip(expected) {
            assert_eq!(remark.key, *key);
            assert!(remark.message.contains(message), "{remark}");
            assert!(remark.line.is_some(), "{remark} has no line");
        }
    }

    #[test]
    fn what_is_there_is_not_missing() {
        check("", &[]);
        check(
            "board.compatible = [\"brcm,bcm2711\"]\nboard.delegate = \"/usr/lib/no.so\"\n\
             threads.cores = \"3\"\nwatchdog.device = \"/dev/watchdog0\"\n\
             [[sources]]\nname = \"a\"\nkind = \"serial\"\nport = \"/dev/serial0\"\n",
            &[],
        );
        check("watchdog.device = \"/dev/watchdog\"", &[]);
    }

    #[test]
    fn a_machine_without_a_name_says_so() {
        let root = TempDir::new().unwrap();
        let config = Config::of_text("board.compatible = [\"radxa,rock-5b\"]").unwrap();
        let found = missing(&config, &Board::below(root.path()));
        assert_eq!(
            found[0].message,
            "this machine does not say what board it is; the file is for radxa,rock-5b"
        );
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        check(
            "board.compatible = [\"radxa,rock-5b\"]",
            &[(
                "board.compatible",
                "this is Raspberry Pi 4 Model B (raspberrypi,4-model-b, ",
            )],
        );
        check(
            "threads.cores = \"3,4-7\"",
            &[("threads.cores", "core 4 does not run; there are: 0, 3")],
        );
        check(
            "gpio.chip = \"pinctrl-rp1\"",
            &[(
                "gpio.chip",
                "no GPIO chip pinctrl-rp1; this machine has none",
            )],
        );
        check(
            "watchdog.device = \"/dev/watchdog1\"",
            &[(
                "watchdog.device",
                "there are: /dev/watchdog0 (Broadcom BCM2835)",
            )],
        );
        check(
            "watchdog = { device = \"/dev/watchdog0\", timeout_s = 60 }",
            &[("watchdog.timeout_s", "/dev/watchdog0 has 15 s at most")],
        );
        check(
            "[[sources]]\nname = \"m\"\nkind = \"mqtt\"\ntopics = [\"s/{sensor}\"]\n\
             [[sources]]\nname = \"a\"\nkind = \"serial\"\nport = \"/dev/ttyUSB7\"\n",
            &[("sources[1].port", "no serial port /dev/ttyUSB7; ")],
        );
    }

    #[test]
    fn a_line_beyond_its_chips_last_is_named() {
        let chips = [("gpiochip0", 8), ("pinctrl-bcm2711", 58)].map(|(label, lines)| GpioChip {
            path: format!("/dev/{label}"),
            owner: Some(format!("{lines}.gpio")),
            label: Some(label.to_owned()),
            lines: Some(lines),
        });
        let check = |text: &str, expected: &[&str]| {
            let config = Config::of_text(text).unwrap();
            let found = missing_lines(&config, &chips);
            let keys: Vec<&str> = found.iter().map(|remark| remark.key.as_str()).collect();
            assert_eq!(keys, expected, "{text}: {found:?}");
        };
        let gpio = |chip: &str, alarm: u32, heartbeat: i32| {
            format!(
                "[gpio]\nchip = \"{chip}\"\nalarm_line = {alarm}\nheartbeat_line = {heartbeat}\n"
            )
        };
        check(&gpio("pinctrl-bcm2711", 57, -1), &[]);
        check(&gpio("pinctrl-bcm2711", 200, 57), &["gpio.alarm_line"]);
        let both = ["gpio.alarm_line", "gpio.heartbeat_line"];
        check(&gpio("/dev/gpiochip0", 8, 9), &both);
        check(&gpio("58.gpio", 58, 57), &["gpio.alarm_line"]);
        check(&gpio("another", 200, -1), &[]);
    }

    #[test]
    fn a_device_is_the_same_by_its_name_and_by_a_link() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (device, other, link) = (path("ttyUSB0"), path("ttyUSB1"), path("by-id"));
        fs::write(&device, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&device, &link).unwrap();
        assert!(is_same_file(&link, &device));
        assert!(!is_same_file(&link, &other));
        assert!(is_same_file("/dev/ttyGONE", "/dev/ttyGONE"));
    }
}
