//! A real board: a serial device of this host, wired to the board's port, and
//! SSH.
//!
//! hark is installed on it and runs as `hark.service`. Its configuration is
//! replaced for the time of the test and put back afterwards. The node stays
//! emulated, on this host, and speaks through the serial device. The power
//! cannot be cut from here; the nearest is the kernel's own instant restart,
//! which writes nothing back first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::ssh::Ssh;
use super::{Ability, Gateway};
use crate::hil::site::Site;
use crate::hil::wait;
use crate::hil::wire::End;

/// What `hark.service` reads.
const CONFIG: &str = "/etc/hark/hark.toml";
/// The site's own, meanwhile; not in /etc, which an image may have read-only.
const KEPT: &str = "/var/lib/hark-before-hil.toml";

/// A vendor's system with all its services, off an SD card.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// A board that is reached by SSH.
pub(crate) struct Real {
    line: PathBuf,
    ssh: Ssh,
    site: Site,
    boot_id: String,
    is_cut: bool,
    resets: usize,
}

impl Real {
    /// `line` is the serial device of this host, `port` the board's own.
    ///
    /// # Errors
    /// If the board is not reached, or does not say how it sees this host.
    pub(crate) fn new(line: &Path, host: &str, port: &str, broker_port: u16) -> Result<Self> {
        let ssh = Ssh::new(host, &[]);
        // Its first word is the address of this host as the board sees it.
        let client = ssh.run("echo $SSH_CLIENT")?;
        let broker_host = client.split(' ').next().unwrap_or_default().to_owned();
        ensure!(!broker_host.is_empty(), "{host} sets no SSH_CLIENT");
        println!(
            "{host}: its {CONFIG} is kept as {KEPT}, and put back at the end or by the next run"
        );
        Ok(Self {
            line: line.to_owned(),
            boot_id: ssh.boot_id()?,
            ssh,
            site: Site {
                port: port.to_owned(),
                broker_host,
                broker_port,
                ..Site::default()
            },
            is_cut: false,
            resets: 0,
        })
    }
}

impl Gateway for Real {
    fn describe(&self) -> String {
        format!("{} at {}", self.ssh.host(), self.line.display())
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::Unplug => Some("nobody is there to pull its serial cable"),
            Ability::Alarm => Some("no instrument of this host reads its alarm output"),
            Ability::Watchdog => Some("which watchdog it has is its own configuration's matter"),
            Ability::NodeLog => Some("the node's ELF is not on the board"),
            Ability::Slots => Some("its disk is not put at risk"),
        }
    }

    fn line_end(&self) -> End {
        End::Device(self.line.clone())
    }

    fn power_on(&mut self) -> Result<()> {
        // After a cut it comes up by itself.
        if !std::mem::take(&mut self.is_cut) {
            self.ssh
                .run(&format!("test -e {KEPT} || cp {CONFIG} {KEPT}"))?;
            self.ssh.write(&self.site.to_toml(), CONFIG)?;
            self.ssh.run("systemctl reboot").ok();
        }
        let (ssh, before) = (&self.ssh, &self.boot_id);
        let now = wait::until_within(BOOT_LIMIT, "the board to boot", || {
            Ok(ssh.boot_id().ok().filter(|now| now != before))
        })?;
        self.boot_id = now;
        // For its summary, which the board's own unit does not ask for.
        self.ssh.restart_hark(CONFIG, "")
    }

    fn cut_power(&mut self) -> Result<()> {
        self.is_cut = true;
        // The connection dies with the board, so its end says nothing.
        self.ssh.run("echo b > /proc/sysrq-trigger").ok();
        Ok(())
    }

    fn shell(&mut self, script: &str) -> Result<String> {
        self.ssh.run(script)
    }

    fn restart_hark(&mut self, options: &str) -> Result<()> {
        self.ssh.restart_hark(CONFIG, options)
    }

    fn log(&mut self) -> Result<String> {
        self.ssh.log_of_hark()
    }

    fn is_alarm_active(&mut self) -> Result<bool> {
        bail!("no instrument of this host reads its alarm output")
    }

    fn watchdog_resets(&mut self) -> Result<usize> {
        let now = self.ssh.boot_id()?;
        if now != self.boot_id {
            self.boot_id = now;
            self.resets += 1;
        }
        Ok(self.resets)
    }

    fn set_plugged(&mut self, _: bool) -> Result<()> {
        bail!("nobody is there to pull its serial cable")
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let restore = format!(
            "test ! -e {KEPT} || {{ cat {KEPT} > {CONFIG}; rm {KEPT}; }}; systemctl restart hark"
        );
        let restored = self
            .ssh
            .forget_options()
            .and_then(|()| self.ssh.run(&restore));
        if let Err(error) = restored {
            let host = self.ssh.host();
            eprintln!("{host}: its configuration is still {KEPT}: {error:#}");
        }
    }
}
