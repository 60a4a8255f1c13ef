//! A machine made of files, and what is seen of it.

use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A machine with `files`, and its folder.
fn machine(files: &[(&str, &str)]) -> (TempDir, Board) {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let board = Board::below(root.path());
    (root, board)
}

#[test]
fn a_device_tree_names_the_board() {
    let (_root, board) = machine(&[
        ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
        (
            "proc/device-tree/compatible",
            "raspberrypi,4-model-b\0brcm,bcm2711\0",
        ),
    ]);
    let identity = board.identity();
    assert_eq!(
        identity.model.as_deref(),
        Some("Raspberry Pi 4 Model B Rev 1.4")
    );
    assert_eq!(identity.names, ["raspberrypi,4-model-b", "brcm,bcm2711"]);
}

#[test]
fn dmi_names_a_machine_without_a_device_tree() {
    let (_root, board) = machine(&[
        ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ("sys/class/dmi/id/product_name", "QEMU Virtual Machine\n"),
    ]);
    let identity = board.identity();
    assert_eq!(identity.model.as_deref(), Some("QEMU QEMU Virtual Machine"));
    assert_eq!(identity.names, ["QEMU Virtual Machine"]);
}

#[test]
fn an_empty_machine_has_nothing_and_nothing_fails() {
    let (_root, board) = machine(&[]);
    assert_eq!(board.identity(), Identity::default());
    assert!(board.cores().is_empty());
    assert_eq!(board.memory(), None);
    assert!(board.gpio_chips().is_empty());
    assert!(board.watchdogs().is_empty());
}

#[test]
fn cores_come_in_order_with_what_tells_big_from_little() {
    let cpu = "sys/devices/system/cpu";
    let files: Vec<(String, &str)> = vec![
        (format!("{cpu}/cpu10/cpu_capacity"), "1024\n"),
        (format!("{cpu}/cpu2/cpu_capacity"), "414\n"),
        (format!("{cpu}/cpu2/cpufreq/cpuinfo_max_freq"), "1800000\n"),
        (format!("{cpu}/cpu2/cpufreq/scaling_governor"), "ondemand\n"),
        (format!("{cpu}/cpufreq/policy0"), ""),
        // It was switched off.
        (format!("{cpu}/cpu3/cpu_capacity"), "414\n"),
        (format!("{cpu}/online"), "0-2,10\n"),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), *t)).collect();
    let (_root, board) = machine(&files);
    let cores = board.cores();
    let [little, big] = &cores[..] else {
        panic!("two cores, found {cores:?}")
    };
    assert_eq!((little.index, big.index), (2, 10));
    assert_eq!((little.capacity, big.capacity), (Some(414), Some(1024)));
    assert_eq!((little.mhz_max, big.mhz_max), (Some(1800), None));
    assert_eq!(little.governor.as_deref(), Some("ondemand"));
}

#[test]
fn a_watchdog_says_what_it_is_without_being_opened() {
    let dog = "sys/class/watchdog/watchdog0";
    let (_root, board) = machine(&[
        (
            &format!("{dog}/identity"),
            "Broadcom BCM2835 Watchdog timer\n",
        ),
        (&format!("{dog}/timeout"), "15\n"),
        (&format!("{dog}/max_timeout"), "0\n"),
        (&format!("{dog}/state"), "inactive\n"),
        (&format!("{dog}/bootstatus"), "32\n"),
    ]);
    let expected = WatchdogState {
        path: "/dev/watchdog0".to_owned(),
        identity: Some("Broadcom BCM2835 Watchdog timer".to_owned()),
        timeout_s: Some(15),
        timeout_s_max: None,
        is_active: false,
        holder: None,
        has_no_way_out: false,
        has_reset_the_machine: true,
    };
    assert_eq!(board.watchdogs(), [expected]);
}

#[test]
fn a_watchdog_says_who_holds_it_and_whether_it_can_be_stopped() {
    let class = "sys/class/watchdog";
    let (root, board) = machine(&[
        (&format!("{class}/watchdog0/state"), "active\n"),
        (&format!("{class}/watchdog0/nowayout"), "1\n"),
        (&format!("{class}/watchdog1/state"), "active\n"),
        (&format!("{class}/watchdog1/nowayout"), "0\n"),
        ("proc/1/comm", "systemd\n"),
        ("proc/1/fd/x", ""),
        ("proc/17/comm", "hark\n"),
        ("proc/17/fd/x", ""),
    ]);
    for (link, target) in [
        ("proc/1/fd/5", "/dev/watchdog"),
        ("proc/17/fd/3", "/dev/null"),
        ("proc/17/fd/4", "/dev/watchdog1"),
    ] {
        symlink(target, root.path().join(link)).unwrap();
    }
    let found = board.watchdogs();
    let [first, second] = &found[..] else {
        panic!("two watchdogs, found {found:?}")
    };
    assert_eq!(first.holder.as_deref(), Some("systemd"));
    assert!(first.has_no_way_out);
    assert_eq!(second.holder.as_deref(), Some("hark"));
    assert!(!second.has_no_way_out);
}

/// The hardware's driver is found above the kernel's own serial layer.
#[test]
fn a_port_says_its_driver_and_its_latency() {
    let (root, board) = machine(&[
        ("sys/devices/uart/ctrl/port/type", "32"),
        ("sys/devices/usb/ttyUSB0/latency_timer", "16\n"),
        ("sys/drivers/uart-pl011/x", ""),
        ("sys/drivers/port/x", ""),
        ("sys/drivers/ftdi_sio/x", ""),
        ("sys/class/tty/ttyAMA0/x", ""),
        ("sys/class/tty/ttyUSB0/x", ""),
    ]);
    let sys = root.path().join("sys");
    for (link, target) in [
        ("devices/uart/driver", "drivers/uart-pl011"),
        ("devices/uart/ctrl/port/driver", "drivers/port"),
        ("devices/usb/ttyUSB0/driver", "drivers/ftdi_sio"),
        ("class/tty/ttyAMA0/device", "devices/uart/ctrl/port"),
        ("class/tty/ttyUSB0/device", "devices/usb/ttyUSB0"),
    ] {
        symlink(sys.join(target), sys.join(link)).unwrap();
    }
    let uart = board.serial_port("/dev/ttyAMA0");
    assert_eq!(uart.driver.as_deref(), Some("uart-pl011"));
    assert_eq!(uart.latency_ms, None);
    let adapter = board.serial_port("/dev/ttyUSB0");
    assert_eq!(adapter.driver.as_deref(), Some("ftdi_sio"));
    assert_eq!(adapter.latency_ms, Some(16));
}

#[test]
fn a_folder_that_is_not_there_yet_has_its_parents_file_system() {
    let root = TempDir::new().unwrap();
    let storage = storage_of(&root.path().join("not/yet")).unwrap();
    assert!(storage.total_bytes >= storage.free_bytes);
    assert!(!storage.is_read_only);
    assert!(storage.is_folder);
    assert!(storage.is_writable);
}

#[test]
fn a_file_is_no_folder_and_a_closed_folder_is_not_writable() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(!storage_of(&file).unwrap().is_folder);
    // Even root may make no files below `/proc/self`.
    let closed = storage_of(Path::new("/proc/self")).unwrap();
    assert!(closed.is_folder);
    assert!(!closed.is_writable);
}

#[test]
fn the_longest_mount_point_that_begins_a_path_is_its_mount() {
    let mounts = "21 1 8:1 / / ro,relatime - ext4 /dev/root ro\n\
                  30 21 8:3 / /var/lib rw - ext4 /dev/sda3 rw\n\
                  31 21 8:4 / /var/li rw - vfat /dev/sda4 rw\n\
                  32 21 8:5 / /my\\040disk rw shared:1 - xfs /dev/sdb rw\n\
                  not a mount";
    let check = |path: &str, point: &str, kind: &str| {
        let found = storage::mount_of(mounts, Path::new(path));
        assert_eq!(found, Some((point.into(), kind.to_owned())), "{path}");
    };
    check("/var/lib/hark", "/var/lib", "ext4");
    check("/var/log", "/", "ext4");
    check("/my disk/x", "/my disk", "xfs");
    assert_eq!(storage::mount_of("", Path::new("/")), None);
}

#[test]
fn a_pseudo_terminal_counts_no_errors() {
    let pty = crate::Pty::open().unwrap();
    let line = fs::File::open(pty.path()).unwrap();
    assert_eq!(LineErrors::of(&line), None);
}

#[test]
fn counters_that_wrap_still_tell_what_was_added() {
    let earlier = LineErrors {
        framing: u32::MAX,
        ..LineErrors::default()
    };
    let now = LineErrors {
        framing: 2,
        parity: 1,
        ..LineErrors::default()
    };
    assert_eq!(now.since(earlier).of_setting(), 4);
}

#[test]
fn the_kernels_consoles_are_named() {
    let (_root, board) = machine(&[("sys/class/tty/console/active", "tty0 ttyAMA0\n")]);
    assert_eq!(board.consoles(), ["/dev/tty0", "/dev/ttyAMA0"]);
    assert!(board.has(Path::new("/sys/class/tty/console/active")));
    assert!(!board.has(Path::new("/dev/watchdog0")));
}
