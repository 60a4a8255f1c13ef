//! A gateway in `qemu-system-aarch64` that boots the disk image, as a board
//! does: EFI firmware, boot loader, one of two slots, systemd, hark's unit.
//!
//! The disk is a file that `flash.sh` writes, with this site's settings and a
//! key for SSH, as an integrator does it. Its
//! serial port is a PCI one and it has the watchdog and the GPIO of
//! `emulated.rs`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::pl061::{self, ALARM_LINE, HEARTBEAT_LINE};
use super::ssh::Ssh;
use super::{Ability, Gateway};
use crate::hil::broker::free_port;
use crate::hil::site::Site;
use crate::hil::wait;
use crate::hil::wire::End;
use crate::process::output;
use crate::qemu::{self, Machine};

/// What `hark.service` reads.
const CONFIG: &str = "/etc/hark/hark.toml";
/// Firmware, boot loader and systemd: half a minute on a quiet host, four times
/// that on a loaded one.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// The image makes its own host key at its first boot, on this host's loopback:
/// there is nobody to be taken for it.
const TRUSTING: [&str; 8] = [
    "-o",
    "IdentitiesOnly=yes",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
];
/// The name of the kept moment within the disk.
const MOMENT: &str = "before";
/// A gateway with a disk of its own, off or on.
pub(crate) struct Disk {
    folder: PathBuf,
    firmware: PathBuf,
    broker_port: u16,
    ssh_port: u16,
    ssh: Ssh,
    machine: Option<Machine>,
    resets_before: usize,
    boot_id: String,
}

impl Disk {
    /// A gateway that is off, and whose disk is yet to be flashed.
    pub(crate) fn new(folder: &Path, firmware: &Path, broker_port: u16) -> Result<Self> {
        let ssh_port = free_port()?;
        make_key(&folder.join("key"))?;
        Ok(Self {
            folder: folder.to_owned(),
            firmware: firmware.to_owned(),
            broker_port,
            ssh_port,
            ssh: Ssh::new("root@127.0.0.1", &ssh_options(folder, ssh_port)),
            machine: None,
            resets_before: 0,
            boot_id: String::new(),
        })
    }

    /// The file to be flashed.
    pub(crate) fn flashed(&self) -> PathBuf {
        self.folder.join("flashed.img")
    }

    /// The public key that may log in.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pub")
    }

    /// This site's settings, as a file.
    pub(crate) fn write_site(&self) -> Result<PathBuf> {
        let site = Site {
            inherit: "/usr/share/hark/board-configs/qemu-virt.toml".to_owned(),
            port: "/dev/ttyS0".to_owned(),
            broker_host: "10.0.2.2".to_owned(),
            broker_port: self.broker_port,
            gpio: Some(("/dev/gpiochip0".to_owned(), ALARM_LINE, HEARTBEAT_LINE)),
            watchdog: Some("/dev/watchdog0".to_owned()),
            ..Site::default()
        };
        let config = self.folder.join("hark.toml");
        fs::write(&config, site.to_toml()).context("writing hark.toml")?;
        Ok(config)
    }

    /// Makes the flashed file the disk: in a format that can keep a moment, and
    /// that forgets at a power cut what was not flushed, as a disk's own cache
    /// does.
    pub(crate) fn insert(&self) -> Result<()> {
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", "qcow2"]);
        convert.arg(self.flashed()).arg(self.disk());
        output(convert).map(drop)
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk.qcow2")
    }

    /// Copies a file of this host to the running gateway.
    pub(crate) fn upload(&self, from: &Path, to: &str) -> Result<()> {
        self.ssh.upload(from, to)
    }

    /// Where SSH reaches it.
    pub(crate) fn host(&self) -> &str {
        self.ssh.host()
    }

    pub(crate) fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// An `ssh` that is let in, from any folder.
    pub(crate) fn ssh_command(&self) -> Result<String> {
        let key = std::path::absolute(self.folder.join("key")).context("naming the key")?;
        Ok(format!("ssh -i {} {}", key.display(), TRUSTING.join(" ")))
    }

    /// Takes note that somebody else has rebooted it.
    pub(crate) fn expect_reboots(&mut self) -> Result<()> {
        let ssh = &self.ssh;
        self.boot_id = wait::until("the gateway's SSH server", || Ok(ssh.boot_id().ok()))?;
        Ok(())
    }

    /// Keeps memory and disk as they are now, for [`Disk::go_back`], and leaves
    /// the machine off.
    pub(crate) fn keep_moment(&mut self) -> Result<()> {
        let said = self
            .machine()?
            .qmp()?
            .monitor(&format!("savevm {MOMENT}"))?;
        ensure!(said.is_empty(), "keeping the moment: {said}");
        self.cut_power()?;
        fs::rename(self.disk(), self.kept()).context("keeping the disk")
    }

    /// Switches it on at the kept moment.
    pub(crate) fn go_back(&mut self) -> Result<()> {
        ensure!(self.machine.is_none(), "the gateway is on");
        fs::copy(self.kept(), self.disk()).context("going back to the kept disk")?;
        self.start(&["-loadvm", MOMENT])?;
        let ssh = &self.ssh;
        wait::until("the gateway's SSH server", || Ok(ssh.boot_id().ok()))?;
        Ok(())
    }

    fn kept(&self) -> PathBuf {
        self.folder.join("kept.qcow2")
    }

    fn start(&mut self, more: &[&str]) -> Result<()> {
        let mut args = self.args();
        args.extend(more.iter().map(OsString::from));
        let machine = Machine::start("gateway", qemu::AARCH64, &args, &self.folder);
        self.machine = Some(machine?);
        Ok(())
    }

    fn wait_for_boot(&mut self) -> Result<()> {
        let machine = self.machine.as_mut().context("the gateway is off")?;
        let (ssh, before) = (&self.ssh, &self.boot_id);
        let booted = wait::until_within(BOOT_LIMIT, "the gateway's SSH server", || {
            machine.qmp()?;
            Ok(ssh.boot_id().ok().filter(|now| now != before))
        });
        self.boot_id = booted?;
        Ok(())
    }

    fn args(&self) -> Vec<OsString> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let log = format!("file,id=log,path={},append=on", file("gateway.log"));
        let net = format!("user,id=net,hostfwd=tcp:127.0.0.1:{}-:22", self.ssh_port);
        let disk = format!(
            "file={},if=none,id=disk,format=qcow2",
            self.disk().display()
        );
        let firmware = self.firmware.display().to_string();
        let line = format!(
            "socket,id=line,path={},server=on,wait=off",
            file("line.sock")
        );
        [
            "-M",
            // The device tree, which names the GPIO as boards do.
            "virt,acpi=off",
            "-cpu",
            "cortex-a53",
            "-smp",
            "2",
            "-m",
            "512",
            "-nic",
            "none",
            "-bios",
            &firmware,
            "-chardev",
            &log,
            "-serial",
            "chardev:log",
            "-netdev",
            &net,
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
            "-drive",
            &disk,
            "-device",
            "virtio-blk-pci,drive=disk",
            "-chardev",
            &line,
            "-device",
            "pci-serial,chardev=line",
            "-device",
            "i6300esb",
            "-action",
            "watchdog=reset",
        ]
        .map(OsString::from)
        .to_vec()
    }

    fn machine(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context("the gateway is off")
    }

    fn resets_of_machine(&mut self) -> Result<usize> {
        let events = self.machine()?.qmp()?.events()?;
        Ok(events.iter().filter(|event| *event == "WATCHDOG").count())
    }
}

impl Gateway for Disk {
    fn describe(&self) -> String {
        let line = self.machine.as_ref().map(Machine::line);
        line.unwrap_or("off").to_owned()
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::Watchdog | Ability::Alarm | Ability::Slots => None,
            Ability::Unplug => Some("its serial port is a PCI card"),
            Ability::NodeLog => Some("the node's ELF is not on the image"),
        }
    }

    fn line_end(&self) -> End {
        End::Socket(self.folder.join("line.sock"))
    }

    fn power_on(&mut self) -> Result<()> {
        ensure!(self.machine.is_none(), "the gateway is on already");
        self.start(&[])?;
        self.wait_for_boot()
    }

    fn cut_power(&mut self) -> Result<()> {
        self.resets_before += self.resets_of_machine()?;
        let machine = self.machine.take().context("the gateway is off")?;
        machine.cut_power();
        Ok(())
    }

    fn shell(&mut self, script: &str) -> Result<String> {
        self.machine()?.qmp()?;
        self.ssh.run(script)
    }

    fn restart_hark(&mut self, options: &str) -> Result<()> {
        self.ssh.restart_hark(CONFIG, options)
    }

    fn log(&mut self) -> Result<String> {
        self.ssh.log_of_hark()
    }

    fn is_alarm_active(&mut self) -> Result<bool> {
        pl061::is_driven_high(self.machine()?.qmp()?, ALARM_LINE)
    }

    fn watchdog_resets(&mut self) -> Result<usize> {
        Ok(self.resets_before + self.resets_of_machine()?)
    }

    fn set_plugged(&mut self, _: bool) -> Result<()> {
        bail!("its serial port is a PCI card")
    }

    fn as_disk(&mut self) -> Option<&mut Disk> {
        Some(self)
    }
}

fn ssh_options(folder: &Path, port: u16) -> Vec<String> {
    let key = folder.join("key").display().to_string();
    let port = port.to_string();
    let mut options = vec!["-i".to_owned(), key, "-p".to_owned(), port];
    options.extend(TRUSTING.map(str::to_owned));
    options
}

fn make_key(key: &Path) -> Result<()> {
    let mut make = Command::new("ssh-keygen");
    make.args(["-q", "-t", "ed25519", "-N", "", "-C", "hark-hil", "-f"]);
    make.arg(key);
    output(make).map(drop)
}
