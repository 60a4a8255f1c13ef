//! What hark uses of the machine: serial ports, GPIO chips, watchdogs, delegates.

use super::Finding;
use hark_config::Config;
use hark_hal::{Board, SerialPort, WatchdogState};
use std::path::Path;

/// An adapter that gathers for longer than this costs a noticeable part of a
/// deadline; the FTDI driver's default is 16 ms.
const LATENCY_MS_MAX: u32 = 2;
/// What the kernel calls a running hark.
const OWN_NAME: &str = "hark";
/// What to do about a watchdog that another program feeds, mostly systemd.
const ONE_FEEDS: &str = "if it is systemd, either leave it that watchdog (`watchdog.device = \"\"`; hark \
    is watched by systemd then) or put `[Manager]` and `RuntimeWatchdogSec=0` into \
    /etc/systemd/system.conf.d/hark.conf and restart";
/// Where vendors put the libraries that reach an NPU: NXP's eIQ (VX and Neutron),
/// Debian's mesa-teflon-delegate, Google's Edge TPU.
const DELEGATES: &[&str] = &[
    "/usr/lib/libvx_delegate.so",
    "/usr/lib/libneutron_delegate.so",
    "/usr/lib/teflon/libteflon.so",
    "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1",
];

pub(super) fn serial(board: &Board) -> Vec<Finding> {
    let (ports, consoles) = (board.serial_ports(), board.consoles());
    if ports.is_empty() {
        return vec![Finding::ok("serial", "no port")];
    }
    ports
        .iter()
        .map(|port| serial_port(port, &consoles))
        .collect()
}

pub(in crate::commands::doctor) fn serial_port(port: &SerialPort, consoles: &[String]) -> Finding {
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

pub(super) fn gpio(board: &Board) -> Vec<Finding> {
    let chips = board.gpio_chips();
    if chips.is_empty() {
        return vec![Finding::ok("gpio", "no chip")];
    }
    let chip = |chip: &hark_hal::GpioChip| match (&chip.label, chip.lines) {
        (Some(label), Some(lines)) => {
            let owner = chip.owner.as_deref().map(|owner| format!(" of {owner}"));
            let owner = owner.unwrap_or_default();
            Finding::ok(
                "gpio",
                format!("{} {label:?}{owner}, {lines} lines", chip.path),
            )
        }
        _ => Finding::ok("gpio", chip.path.clone())
            .note("this user may not open it: add the user to the group that owns it (often gpio)"),
    };
    chips.iter().map(chip).collect()
}

pub(super) fn watchdogs(config: &Config, board: &Board) -> Vec<Finding> {
    let dogs = board.watchdogs();
    if dogs.is_empty() {
        let finding = Finding::ok("watchdog", "none");
        return vec![finding.note(
            "nothing resets the machine when it hangs; `modprobe softdog` \
             helps against a hung hark, not against a hung kernel",
        )];
    }
    let wanted = config.watchdog.device.as_deref();
    dogs.iter()
        .map(|dog| watchdog(dog, wanted.is_some_and(|device| is_named(dog, device))))
        .collect()
}

/// `/dev/watchdog` is the old name of the first one.
fn is_named(dog: &WatchdogState, device: &Path) -> bool {
    let is_first = dog.path == "/dev/watchdog0";
    device == Path::new(&dog.path) || (is_first && device == Path::new("/dev/watchdog"))
}

fn watchdog(dog: &WatchdogState, is_configured: bool) -> Finding {
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
    if let Some(holder) = &dog.holder {
        says += &format!(", fed by {holder}");
    }
    let finding = Finding::ok("watchdog", says);
    let holder = dog.holder.as_deref();
    if is_configured && holder.is_some_and(|holder| holder != OWN_NAME) {
        finding.problem(format!("only one program can feed it; {ONE_FEEDS}"))
    } else if dog.has_reset_the_machine {
        finding.note("the last start was its doing: something hung")
    } else if dog.is_active && holder.is_none() {
        finding.note(format!(
            "it runs, and this user does not see who feeds it (root does). If it is not hark: only \
             one program can; {ONE_FEEDS}"
        ))
    } else if dog.has_no_way_out {
        finding.note(
            "nothing stops it once it runs (`nowayout`): the board is reset, too, when hark is \
             stopped and not started again in time",
        )
    } else {
        finding
    }
}

pub(super) fn delegates(config: &Config, board: &Board) -> Finding {
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
            .note("no runtime of this build has a delegate yet: models run on the CPU")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::findings::State;

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
            holder: None,
            has_no_way_out: false,
            has_reset_the_machine: false,
        };
        let quiet = watchdog(&dog, true);
        assert_eq!(quiet.state, State::Ok);
        assert_eq!(
            quiet.says,
            "/dev/watchdog0 \"i6300ESB timer\", set to 30 s of at most 2046 s"
        );
        dog.has_no_way_out = true;
        let advice = watchdog(&dog, true).advice.unwrap();
        assert!(advice.contains("nowayout"), "{advice}");
        dog.has_reset_the_machine = true;
        let advice = watchdog(&dog, true).advice.unwrap();
        assert!(advice.contains("the last start"), "{advice}");
    }

    #[test]
    fn a_configured_watchdog_that_another_feeds_is_a_problem() {
        let mut dog = WatchdogState {
            path: "/dev/watchdog0".to_owned(),
            identity: None,
            timeout_s: None,
            timeout_s_max: None,
            is_active: true,
            holder: Some("systemd".to_owned()),
            has_no_way_out: false,
            has_reset_the_machine: false,
        };
        let held = watchdog(&dog, true);
        assert_eq!(held.state, State::Problem);
        assert!(held.says.ends_with("fed by systemd"), "{}", held.says);
        let advice = held.advice.unwrap();
        assert!(advice.contains("RuntimeWatchdogSec=0"), "{advice}");
        assert_eq!(watchdog(&dog, false).state, State::Ok);
        dog.holder = Some("hark".to_owned());
        assert_eq!(watchdog(&dog, true).state, State::Ok);
        // Who it is nobody but root sees: hark, perhaps.
        dog.holder = None;
        assert_eq!(watchdog(&dog, true).state, State::Note);
        for (device, is_its_name) in [
            ("/dev/watchdog0", true),
            ("/dev/watchdog", true),
            ("/dev/watchdog1", false),
        ] {
            assert_eq!(is_named(&dog, Path::new(device)), is_its_name, "{device}");
        }
    }

    #[test]
    fn a_delegate_is_no_problem_whether_it_is_there_or_not() {
        let root = tempfile::tempdir().unwrap();
        let config = Config::of_text("board.delegate = \"/lib.so\"").unwrap();
        let board = Board::below(root.path());
        assert_eq!(delegates(&config, &board).state, State::Ok);
        std::fs::write(root.path().join("lib.so"), "").unwrap();
        let there = delegates(&config, &board);
        assert_eq!(there.state, State::Note);
        assert!(there.advice.unwrap().contains("on the CPU"));
    }
}
