//! What a root slot holds and what it does without: lists only, each with its
//! reason. `rootfs` acts on them.

/// Debian's packages, with all that they depend on: an init, an updater, a network
/// and a way in. hark itself needs a C library only.
pub(super) const PACKAGES: [&str; 22] = [
    "base-files",
    "base-passwd",
    "coreutils",
    "dash",
    "dbus",
    "dropbear-bin",
    "e2fsprogs",
    "grep",
    "iproute2",
    "kmod",
    "mount",
    "netbase",
    "rauc",
    "rauc-service",
    "sed",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "util-linux",
    "zstd",
];

/// What those bring that nothing here reads: documents, translations, and what
/// only maintainer scripts call.
pub(super) const PRUNED: [&str; 26] = [
    "boot",
    "etc/cron.daily",
    "etc/init.d",
    "etc/pam.d",
    "etc/perl",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/perl",
    "usr/lib/aarch64-linux-gnu/perl-base",
    "usr/lib/python3",
    "usr/lib/systemd/boot",
    "usr/lib/udev/hwdb.d",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/debconf",
    "usr/share/doc",
    "usr/share/gcc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "usr/share/perl5",
    "usr/share/zsh",
    "var/cache",
    "var/lib",
];

/// The same by the beginning of a file's name.
pub(super) const PRUNED_PREFIXES: [(&str, &str); 4] = [
    ("usr/bin", "perl"),
    ("usr/bin", "dpkg"),
    ("usr/lib/aarch64-linux-gnu", "libperl"),
    ("usr/lib/aarch64-linux-gnu", "libdb-5"),
];

/// The udev rules that stay: names of disks, serial lines and interfaces, groups,
/// and loading drivers. Each other costs time for each device at each boot.
pub(super) const UDEV_RULES: [&str; 9] = [
    "50-firmware.rules",
    "50-udev-default.rules",
    "60-block.rules",
    "60-hark.rules",
    "60-persistent-storage.rules",
    "60-serial.rules",
    "80-drivers.rules",
    "80-net-setup-link.rules",
    "99-systemd.rules",
];

/// Units that systemd's package starts by links of its own, and that have nothing
/// to do here: nobody logs in on a console, users are fixed, no disk is encrypted.
pub(super) const UNWANTED_UNITS: [&str; 20] = [
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-initctl.socket",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-sysusers.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// Modules for what may be plugged in or lie beneath; with what they need. The
/// rest of Debian's 250 MB stays out.
pub(super) const MODULES: [&str; 25] = [
    "autofs4",
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "squashfs",
    "loop",
    "dm_verity",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "efivarfs",
    "i6300esb",
    "gpio_pl061",
    "gpio_keys",
    "xhci_pci",
    "ehci_pci",
    "cdc_acm",
    "ftdi_sio",
    "pl2303",
    "cp210x",
    "ch341",
    "usb_storage",
    "sd_mod",
];
