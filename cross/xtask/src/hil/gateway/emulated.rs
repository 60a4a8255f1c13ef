//! A gateway in `qemu-system-aarch64`: Debian's kernel and the RAM disk.
//!
//! Its serial port is a USB adapter, so that it can be unplugged; its watchdog
//! an i6300esb, which resets the machine; its alarm output a line of the
//! machine's PL061, read from outside through the device's registers, so that
//! not hark's word but the pin is believed. The broker on the host's loopback
//! is 10.0.2.2 in it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::pl061::{self, ALARM_LINE, HEARTBEAT_LINE};
use super::{Ability, Gateway};
use crate::hil::console::Console;
use crate::hil::initramfs::System;
use crate::hil::site::Site;
use crate::hil::wait;
use crate::hil::wire::End;
use crate::qemu::{self, Machine};

/// The data disk: hark's events and configuration take less than one.
const DATA_MIB: u64 = 32;

/// An emulated gateway, off or on.
pub(crate) struct Emulated {
    folder: PathBuf,
    system: System,
    machine: Option<Running>,
    resets_before: usize,
}

struct Running {
    machine: Machine,
    console: Console,
}

impl Emulated {
    /// A gateway that is off, with its data disk in `folder`.
    pub(crate) fn new(folder: &Path, system: &System, broker_port: u16) -> Result<Self> {
        let gateway = Self {
            folder: folder.to_owned(),
            system: system.clone(),
            machine: None,
            resets_before: 0,
        };
        let content = folder.join("data");
        fs::create_dir_all(&content).context("creating the data disk's folder")?;
        let site = Self::site(broker_port).to_toml();
        fs::write(content.join("hark.toml"), site).context("writing hark.toml")?;
        make_disk(&gateway.data_disk(), &content)?;
        Ok(gateway)
    }

    fn site(broker_port: u16) -> Site {
        Site {
            port: "/dev/ttyUSB0".to_owned(),
            broker_host: "10.0.2.2".to_owned(),
            broker_port,
            node_elf: "/lib/hark-node".to_owned(),
            gpio: Some(("/dev/gpiochip0".to_owned(), ALARM_LINE, HEARTBEAT_LINE)),
            watchdog: Some("/dev/watchdog0".to_owned()),
            ..Site::default()
        }
    }

    fn data_disk(&self) -> PathBuf {
        self.folder.join("data.img")
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.machine.as_mut().context("the gateway is off")
    }

    fn args(&self) -> Vec<OsString> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let socket =
            |id: &str, name: &str| format!("socket,id={id},path={},server=on,wait=off", file(name));
        let kernel = self.system.kernel.display().to_string();
        let ram_disk = self.system.ram_disk.display().to_string();
        let data = format!(
            "file={},if=none,id=data,format=raw",
            self.data_disk().display()
        );
        let log = format!("file,id=log,path={},append=on", file("gateway.log"));
        let console = socket("shell", "shell.sock");
        let line = socket("line", "line.sock");
        [
            "-M",
            "virt",
            "-cpu",
            "cortex-a53",
            "-smp",
            "2",
            "-m",
            "512",
            "-nic",
            "none",
            "-kernel",
            &kernel,
            "-initrd",
            &ram_disk,
            "-append",
            "console=ttyAMA0 quiet panic=1",
            "-chardev",
            &log,
            "-serial",
            "chardev:log",
            "-netdev",
            "user,id=net",
            "-device",
            "virtio-net-pci,netdev=net",
            "-chardev",
            &console,
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtconsole,chardev=shell",
            "-drive",
            &data,
            "-device",
            "virtio-blk-pci,drive=data",
            "-device",
            "i6300esb",
            "-action",
            "watchdog=reset",
            "-device",
            "qemu-xhci,id=usb",
            "-chardev",
            &line,
            "-device",
            "usb-serial,id=adapter,chardev=line,always-plugged=on",
        ]
        .map(OsString::from)
        .to_vec()
    }

    /// Watchdog events of the machine that runs now.
    fn resets_of_machine(&mut self) -> Result<usize> {
        let events = self.running()?.machine.qmp()?.events()?;
        Ok(events.iter().filter(|event| *event == "WATCHDOG").count())
    }
}

impl Gateway for Emulated {
    fn describe(&self) -> String {
        let line = self.machine.as_ref().map(|running| running.machine.line());
        line.unwrap_or("off").to_owned()
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::Unplug | Ability::Watchdog | Ability::Alarm | Ability::NodeLog => None,
            Ability::Slots => Some("it boots from a RAM disk"),
        }
    }

    fn line_end(&self) -> End {
        End::Socket(self.folder.join("line.sock"))
    }

    fn power_on(&mut self) -> Result<()> {
        ensure!(self.machine.is_none(), "the gateway is on already");
        let mut machine = Machine::start("gateway", qemu::AARCH64, &self.args(), &self.folder)?;
        let mut console = Console::new(&self.folder.join("shell.sock"));
        wait::until("the gateway's shell", || {
            machine.qmp()?;
            Ok(console.run("true").ok())
        })?;
        self.machine = Some(Running { machine, console });
        Ok(())
    }

    fn cut_power(&mut self) -> Result<()> {
        self.resets_before += self.resets_of_machine()?;
        let running = self.machine.take().context("the gateway is off")?;
        running.machine.cut_power();
        Ok(())
    }

    fn shell(&mut self, script: &str) -> Result<String> {
        let running = self.running()?;
        running.machine.qmp()?;
        running.console.run(script)
    }

    fn restart_hark(&mut self, options: &str) -> Result<()> {
        let before = self.shell("pidof hark")?;
        let stop = format!("echo '{options}' > /run/hark.options; kill -TERM {before}");
        self.shell(&stop)?;
        wait::until("hark to be started again", || {
            let now = self.shell("pidof hark || true")?;
            Ok((!now.is_empty() && now != before).then_some(()))
        })
    }

    fn log(&mut self) -> Result<String> {
        let log = fs::read(self.folder.join("gateway.log")).context("reading gateway.log")?;
        Ok(plain(&String::from_utf8_lossy(&log)))
    }

    fn is_alarm_active(&mut self) -> Result<bool> {
        let qmp = self.running()?.machine.qmp()?;
        pl061::is_driven_high(qmp, ALARM_LINE)
    }

    fn watchdog_resets(&mut self) -> Result<usize> {
        Ok(self.resets_before + self.resets_of_machine()?)
    }

    fn set_plugged(&mut self, is_plugged: bool) -> Result<()> {
        let qmp = self.running()?.machine.qmp()?;
        if is_plugged {
            let adapter = json!({
                "driver": "usb-serial", "id": "adapter", "chardev": "line", "always-plugged": true,
            });
            qmp.execute("device_add", adapter)?;
        } else {
            qmp.execute("device_del", json!({"id": "adapter"}))?;
        }
        Ok(())
    }
}

/// `log` without carriage returns and without colours, which hark uses on a
/// console.
fn plain(log: &str) -> String {
    let mut pieces = log.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, text)| text));
    }
    plain.replace('\r', "")
}

/// An ext4 file system with the files of `content`, without mounting anything.
fn make_disk(disk: &Path, content: &Path) -> Result<()> {
    fs::remove_file(disk).ok();
    let file = fs::File::create(disk).with_context(|| format!("creating {}", disk.display()))?;
    file.set_len(DATA_MIB << 20)
        .context("sizing the data disk")?;
    let made = Command::new("/usr/sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .args([content, disk])
        .output()
        .context("starting mke2fs")?;
    if !made.status.success() {
        bail!(
            "making the data disk: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_without_its_colours() {
        let log = "\x1b[2m12:36\x1b[0m \x1b[33m WARN\x1b[0m line-1: gone\r\n";
        assert_eq!(plain(log), "12:36  WARN line-1: gone\n");
    }
}
