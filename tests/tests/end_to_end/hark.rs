//! A running hark, and what it leaves behind: its output, its event log and
//! its summary.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hark_tests::{Mosquitto, hark_command, send_signal, terminate, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::{LIMIT, bundle};

/// A folder with a configuration and the bundle [`bundle`]; hark runs in it.
pub(crate) struct Site {
    folder: TempDir,
}

/// A running hark; killed when dropped.
pub(crate) struct Hark {
    child: Option<Child>,
    folder: PathBuf,
}

/// What a hark that has ended left.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// A site without `[mqtt]`; its events go to `data/events.jsonl`.
    pub(crate) fn new(sources: &str) -> Result<Self> {
        Self::with("[mqtt]\nenabled = false\n", sources)
    }

    /// A site whose alerts go to `broker`, under `hark/v1/gateway/`.
    pub(crate) fn at(broker: &Mosquitto, sources: &str) -> Result<Self> {
        let port = broker.port();
        Self::with(&format!("[mqtt]\nport = {port}\n"), sources)
    }

    /// A site with this `[mqtt]` table and whatever follows it.
    pub(crate) fn with(mqtt: &str, sources: &str) -> Result<Self> {
        let site = Self {
            folder: tempfile::tempdir().context("making a folder")?,
        };
        bundle::write(site.path())?;
        let name = bundle::NAME;
        let config = format!(
            "inherit = \"base.toml\"\ndevice = {{ name = \"gateway\", data_dir = \"data\" }}\n\
             models = [{{ name = \"{name}\", path = \"{name}\" }}]\n{mqtt}\n{sources}"
        );
        fs::write(site.path().join("hark.toml"), config)?;
        Ok(site)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts `hark run` with the site's configuration.
    pub(crate) fn run(&self) -> Result<Hark> {
        self.start(&["run", "--config", "hark.toml", "--json"])
    }

    /// Starts any command in the site's folder.
    pub(crate) fn start(&self, args: &[&str]) -> Result<Hark> {
        self.start_with(args, &[])
    }

    /// As [`Site::start`], with these variables in the environment.
    pub(crate) fn start_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<Hark> {
        let mut command = hark_command()?;
        command.args(args).envs(variables.iter().copied());
        self.spawn(command, self.keep("stdout")?, self.keep("stderr")?)
    }

    /// A file of its folder for what hark writes to `stdout` or `stderr`.
    pub(crate) fn keep(&self, name: &str) -> Result<Stdio> {
        Ok(File::create(self.path().join(name))?.into())
    }

    /// Starts `command` in the site's folder, with its output wherever.
    pub(crate) fn spawn(&self, mut command: Command, stdout: Stdio, stderr: Stdio) -> Result<Hark> {
        let child = command
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .context("starting hark")?;
        Ok(Hark {
            child: Some(child),
            folder: self.path().to_owned(),
        })
    }

    /// Runs a command in the site's folder to its end.
    pub(crate) fn finish(&self, args: &[&str]) -> Result<Ended> {
        self.start(args)?.wait()
    }
}

impl Hark {
    /// Waits until the log holds an event for which `wanted` holds, and
    /// returns it.
    pub(crate) fn wait_for_event(
        &self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait_until(LIMIT, what, || self.events().into_iter().find(&wanted))
            .with_context(|| self.said())
    }

    /// Waits until `count` alerts, raised or cleared, are in the log.
    pub(crate) fn wait_for_alerts(&self, count: usize) -> Result<Vec<Value>> {
        wait_until(LIMIT, &format!("{count} alerts in the log"), || {
            Some(self.alerts()).filter(|alerts| alerts.len() >= count)
        })
        .with_context(|| self.said())
    }

    /// Waits until this source is connected.
    pub(crate) fn wait_for_link(&self, source: &str) -> Result<Value> {
        self.wait_for_event("the source's link", |event| {
            event["event"] == "link_up" && event["source"] == source
        })
    }

    /// Waits until `text` stands on standard error.
    pub(crate) fn wait_for_stderr(&self, text: &str) -> Result<String> {
        wait_until(LIMIT, &format!("{text:?} on standard error"), || {
            let stderr = self.read("stderr");
            let line = stderr.lines().find(|line| line.contains(text))?;
            Some(line.to_owned())
        })
        .with_context(|| self.said())
    }

    /// Waits until a file of its folder holds `text`.
    pub(crate) fn wait_for_file(&self, name: &str, text: &str) -> Result<()> {
        wait_until(LIMIT, &format!("{text:?} in {name}"), || {
            self.read(name).contains(text).then_some(())
        })
        .with_context(|| self.said())
    }

    /// The whole lines of the event log so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let log = self.read("data/events.jsonl");
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let parse = |line| serde_json::from_str(line).expect("each line of the log is JSON");
        whole.lines().map(parse).collect()
    }

    /// The alerts of the log so far.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| event["event"] == "alert");
        events
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("hark has ended")?.id())
    }

    /// Leaves it so much address space beyond what it has, bytes.
    pub(crate) fn limit_memory(&self, bytes: u64) -> Result<()> {
        let pid = self.child.as_ref().context("hark has ended")?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let size = size.and_then(|size| size.trim().strip_suffix(" kB"));
        let kib: u64 = size.context("no VmSize")?.parse()?;
        let limit = format!("--as={}", kib * 1024 + bytes);
        let pid = pid.to_string();
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, &limit])
            .status();
        ensure!(
            limited.context("starting prlimit (util-linux)")?.success(),
            "no limit"
        );
        Ok(())
    }

    /// Sends it the signal of this name, such as `HUP`.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<()> {
        send_signal(self.child.as_mut().context("hark has ended")?, signal)
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("hark has ended")?;
        Ok(child.try_wait()?.is_none())
    }

    /// Stops it as systemd would, and waits for its end.
    pub(crate) fn terminate(mut self) -> Result<Ended> {
        let child = self.child.as_mut().context("hark has ended")?;
        terminate(child)?;
        self.wait()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) -> Result<()> {
        let mut child = self.child.take().context("hark has ended")?;
        child.kill().context("killing hark")?;
        child.wait().context("waiting for hark")?;
        Ok(())
    }

    /// As [`Hark::terminate`], in so long.
    pub(crate) fn terminate_within(mut self, limit: Duration) -> Result<Ended> {
        self.signal("TERM")?;
        self.wait_within(limit)
    }

    /// Waits for its own end.
    pub(crate) fn wait(self) -> Result<Ended> {
        self.wait_within(LIMIT)
    }

    /// Waits for its own end, for so long.
    pub(crate) fn wait_within(mut self, limit: Duration) -> Result<Ended> {
        Ok(Ended {
            status: self.wait_for_status(limit)?,
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
        })
    }

    /// As [`Hark::wait_within`], for one whose output goes elsewhere.
    pub(crate) fn wait_for_status(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("hark has ended")?;
        let status = wait_until(limit, "hark to end", || child.try_wait().transpose())
            .with_context(|| self.said())??;
        self.child = None;
        Ok(status)
    }

    /// Waits for its own end; what its log holds then comes along.
    pub(crate) fn wait_with_events(self) -> Result<(Vec<Value>, Ended)> {
        let log = Self {
            child: None,
            folder: self.folder.clone(),
        };
        let ended = self.wait()?;
        Ok((log.events(), ended))
    }

    /// What stands on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// A file of its folder; empty if it is not there yet.
    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn said(&self) -> String {
        format!("hark said:\n{}{}", self.read("stderr"), self.read("stdout"))
    }
}

impl Drop for Hark {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which is no concern here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ended {
    /// The summary, after a check of what holds for each.
    ///
    /// # Errors
    /// If hark failed, or its last line is no summary, or the outcomes do not
    /// add up, in total or for a source.
    pub(crate) fn summary(&self) -> Result<Value> {
        let Self { stdout, stderr, .. } = self;
        ensure!(self.status.success(), "{}:\n{stderr}{stdout}", self.status);
        let last = stdout.lines().last().context("no output")?;
        let summary: Value =
            serde_json::from_str(last).with_context(|| format!("the last line is {last:?}"))?;
        check_sum(&summary).context("in total")?;
        let sources = summary["sources"].as_object().context("sources")?;
        for (name, source) in sources {
            check_sum(source).with_context(|| format!("source {name}"))?;
        }
        Ok(summary)
    }
}

/// Promise 1: every reading has exactly one outcome.
fn check_sum(counts: &Value) -> Result<()> {
    let outcomes = ["scored", "fallback", "filling", "rejected", "shed"];
    let sum: u64 = outcomes.iter().map(|name| count(counts, name)).sum();
    let readings = count(counts, "readings");
    if sum != readings {
        bail!("{readings} readings and {sum} outcomes: {counts}");
    }
    Ok(())
}

/// The number at a `.`-separated path.
///
/// # Panics
/// If there is no such number.
pub(crate) fn count(value: &Value, path: &str) -> u64 {
    let found = path.split('.').fold(value, |value, key| &value[key]);
    found
        .as_u64()
        .unwrap_or_else(|| panic!("no count {path} in {value}"))
}
