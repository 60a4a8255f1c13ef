//! What the service manager hears, on a datagram socket of the test's own.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::LIMIT;
use crate::hark::{Hark, Site};
use crate::node::{self, Node};

/// Longer than any notification.
const NOTIFICATION_MAX: usize = 4096;

/// The other end of `NOTIFY_SOCKET`.
pub(crate) struct Manager {
    socket: UnixDatagram,
    path: String,
    /// Assignments of a message that are not looked at yet.
    heard: VecDeque<String>,
    _folder: tempfile::TempDir,
}

impl Manager {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).context("binding the manager's socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let path = path.to_str().context("a path in UTF-8")?.to_owned();
        Ok(Self {
            socket,
            path,
            heard: VecDeque::new(),
            _folder: folder,
        })
    }

    /// Starts `hark run` under this manager, which has a watchdog of 3 s.
    pub(crate) fn run(&self, site: &Site, args: &[&str]) -> Result<Hark> {
        self.run_with(site, args, &[("WATCHDOG_USEC", "3000000")])
    }

    fn run_with(&self, site: &Site, args: &[&str], variables: &[(&str, &str)]) -> Result<Hark> {
        let mut all = vec!["run", "--config", "hark.toml", "--json"];
        all.extend(args);
        let mut environment = vec![("NOTIFY_SOCKET", self.path.as_str())];
        environment.extend(variables);
        site.start_with(&all, &environment)
    }

    /// The next assignment, such as `READY=1`.
    pub(crate) fn next(&mut self) -> Result<String> {
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(heard);
            }
            self.receive()?;
        }
        bail!("the manager heard nothing for {LIMIT:?}")
    }

    /// Waits for an assignment that begins so; returns those before it, and it.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> Result<Vec<String>> {
        let mut heard = Vec::new();
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            let next = self.next()?;
            let is_wanted = next.starts_with(wanted);
            heard.push(next);
            if is_wanted {
                return Ok(heard);
            }
        }
        bail!("no {wanted} in {heard:?}")
    }

    /// Forgets what came until now.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.heard.clear();
        self.socket.set_nonblocking(true)?;
        while self.receive()? {}
        self.socket.set_nonblocking(false)?;
        self.heard.clear();
        Ok(())
    }

    fn receive(&mut self) -> Result<bool> {
        let mut buffer = [0; NOTIFICATION_MAX];
        match self.socket.recv(&mut buffer) {
            Ok(len) => {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                self.heard.extend(text.lines().map(str::to_owned));
                Ok(true)
            }
            // A receive with a timeout is not resumed after a signal.
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(false),
                _ => Err(error.into()),
            },
        }
    }
}

#[test]
fn the_manager_hears_of_start_progress_reload_and_stop() -> Result<()> {
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = Site::new(&(node::source(&link) + "silent_after_ms = 0\n"))?;
    let mut node = Node::plug_in(&link, "press-1")?;
    let mut hark = manager.run(&site, &[])?;
    let heard = manager.wait_for("READY=1")?;
    ensure!(!heard.contains(&"STOPPING=1".to_owned()), "{heard:?}");
    // Once to open the one model, once to load it for the one source.
    let asks = heard
        .iter()
        .filter(|said| *said == "EXTEND_TIMEOUT_USEC=60000000");
    assert_eq!(asks.count(), 2, "{heard:?}");
    manager.wait_for("WATCHDOG=1")?;
    node.meet()?;
    node.settle(9.0)?;
    manager.wait_for("STATUS=3 readings, 1 of 1 alerts stand, by the model")?;

    let config = site.path().join("hark.toml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, format!("{good}\nbaud = 9600\n"))?;
    hark.signal("HUP")?;
    manager.wait_for("RELOADING=1")?;
    let stamp = manager.next()?;
    ensure!(stamp.starts_with("MONOTONIC_USEC="), "{stamp}");
    manager.wait_for("READY=1")?;
    hark.wait_for_stderr("serving by the new configuration")?;

    // What is wrong leaves hark as it is, and is said.
    fs::write(&config, format!("{good}\nbuad = 9600\n"))?;
    hark.signal("HUP")?;
    manager.wait_for("RELOADING=1")?;
    manager.wait_for("READY=1")?;
    hark.wait_for_stderr("buad")?;
    manager.wait_for("WATCHDOG=1")?;

    let starts = hark.events();
    let starts = starts.iter().filter(|event| event["event"] == "started");
    assert_eq!(starts.count(), 2, "one start, one reload");
    let ended = hark.terminate()?;
    manager.wait_for("STOPPING=1")?;
    ended.summary().map(drop)
}

#[test]
fn a_sound_configuration_that_does_not_start_gives_way_to_the_old_one() -> Result<()> {
    let mut manager = Manager::new()?;
    let (_folder, link) = node::link()?;
    let site = Site::new(&node::source(&link))?;
    let mut hark = manager.run(&site, &[])?;
    manager.wait_for("READY=1")?;
    let config = site.path().join("hark.toml");
    let good = fs::read_to_string(&config)?;
    fs::write(&config, format!("watchdog.device = \"/dev/null\"\n{good}"))?;
    hark.signal("HUP")?;
    manager.wait_for("RELOADING=1")?;
    manager.wait_for("READY=1")?;
    hark.wait_for_stderr("/dev/null is not a watchdog")?;
    manager.wait_for("WATCHDOG=1")?;
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_manager_that_does_not_watch_is_not_fed() -> Result<()> {
    // Of another process, as for a child of the service's main process.
    let of_another = [("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")];
    for variables in [&[][..], &of_another[..]] {
        let mut manager = Manager::new()?;
        let (_folder, link) = node::link()?;
        let site = Site::new(&node::source(&link))?;
        let _hark = manager.run_with(&site, &[], variables)?;
        // The first status comes with the first feeding, the second 5 s later.
        manager.wait_for("STATUS=")?;
        let heard = manager.wait_for("STATUS=")?;
        ensure!(!heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");
    }
    Ok(())
}
