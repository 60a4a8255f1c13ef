//! A board that is reached by SSH and runs hark as `hark.service`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Settings of this boot only.
const DROP_IN: &str = "/run/systemd/system/hark.service.d";
/// Includes the exchange of keys, for which an emulated core takes seconds.
const CONNECT_S: &str = "ConnectTimeout=30";
/// A connection that says nothing for three of these is given up.
const ALIVE_S: &str = "ServerAliveInterval=5";

/// Where a board is reached, and how.
#[derive(Clone)]
pub(crate) struct Ssh {
    host: String,
    options: Vec<String>,
}

impl Ssh {
    /// `host` as ssh takes it; its keys and port are those of ssh's own
    /// configuration, and of `options`.
    pub(crate) fn new(host: &str, options: &[String]) -> Self {
        Self {
            host: host.to_owned(),
            options: options.to_vec(),
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What `script` prints; it never asks for a password.
    ///
    /// # Errors
    /// If the board is not reached, or the script's exit status is not 0.
    pub(crate) fn run(&self, script: &str) -> Result<String> {
        self.run_with(script, Stdio::null(), |_| {})
    }

    /// Writes `text` to the file `to` of the board.
    pub(crate) fn write(&self, text: &str, to: &str) -> Result<()> {
        self.run_with(&format!("cat > '{to}'"), Stdio::piped(), |ssh| {
            let mut stdin = ssh.stdin.take().expect("piped");
            // A connection that broke is told by ssh's status.
            stdin.write_all(text.as_bytes()).ok();
        })
        .map(drop)
    }

    /// Copies a file of this host to the board.
    pub(crate) fn upload(&self, from: &Path, to: &str) -> Result<()> {
        let file = File::open(from).with_context(|| format!("opening {}", from.display()))?;
        let script = format!("cat > '{to}' && sync '{to}'");
        self.run_with(&script, Stdio::from(file), |_| {}).map(drop)
    }

    /// Differs at every boot.
    pub(crate) fn boot_id(&self) -> Result<String> {
        self.run("cat /proc/sys/kernel/random/boot_id")
    }

    /// What hark has logged since the board's last boot.
    pub(crate) fn log_of_hark(&self) -> Result<String> {
        self.run("journalctl --unit hark --output cat --no-pager")
    }

    /// Stops hark and starts it with `options`, until the next boot.
    pub(crate) fn restart_hark(&self, config: &str, options: &str) -> Result<()> {
        self.run(&format!("mkdir -p {DROP_IN}"))?;
        let unit = format!(
            "[Service]\nExecStart=\nExecStart=/usr/bin/hark run --json --config {config} {options}\n"
        );
        self.write(&unit, &format!("{DROP_IN}/hil.conf"))?;
        self.run("systemctl daemon-reload && systemctl restart hark")
            .map(drop)
    }

    /// Undoes [`Ssh::restart_hark`]'s options.
    pub(crate) fn forget_options(&self) -> Result<()> {
        let script = format!("rm -f {DROP_IN}/hil.conf; systemctl daemon-reload");
        self.run(&script).map(drop)
    }

    fn run_with(
        &self,
        script: &str,
        input: Stdio,
        feed: impl FnOnce(&mut std::process::Child),
    ) -> Result<String> {
        let mut ssh = Command::new("ssh");
        ssh.args(["-o", "BatchMode=yes", "-o", CONNECT_S, "-o", ALIVE_S])
            .args(&self.options)
            .args([&self.host, script])
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut ssh = ssh.spawn().context("starting ssh")?;
        feed(&mut ssh);
        let output = ssh.wait_with_output().context("waiting for ssh")?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{script}` on {}: {}: {said} {}",
            self.host,
            output.status,
            complaint.trim()
        );
        Ok(said)
    }
}
