//! A real mosquitto, of which a test may ask anything: stop, crash, come back.
//!
//! It speaks MQTT 3.1.1 and 5 on a free port of the loopback, from a
//! configuration of its own, and leaves nothing behind.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{Issued, Subscription, terminate, wait_until};

/// Starting takes some 20 ms; the rest is for a machine busy with other builds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Stopping writes the persistent state, if any.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Between the choice of a free port and its use another process may take it.
const PORT_ATTEMPTS: u32 = 5;

/// The file of who may log in, in the broker's folder.
const PASSWORDS: &str = "passwords";

/// Whether sessions, queued messages and retained messages outlive the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Everything is forgotten when it stops.
    #[default]
    Off,
    /// Everything is written as soon as it changes and when the broker stops,
    /// and read when it starts again.
    On,
}

/// What a test asks of its broker; by default nothing is kept and all may log in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// What outlives a stop.
    pub persistence: Persistence,
    /// The only name and password that it takes.
    pub login: Option<(&'a str, &'a str)>,
    /// Takes nothing but TLS.
    pub tls: Option<Tls<'a>>,
    /// More lines for its configuration.
    pub lines: &'a str,
}

/// How a broker speaks TLS, with files that it reads at each start.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// Its own certificate, and the key.
    pub own: &'a Issued,
    /// The authorities that the test's own clients trust in, and the broker, too,
    /// if it wants certificates.
    pub ca_file: &'a Path,
    /// Whether it wants a certificate of each client: then what the test's own
    /// clients show.
    pub client: Option<&'a Issued>,
}

/// A running, or stopped, broker; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    child: Option<Child>,
    port: u16,
    home: TempDir,
    /// What the test's own clients are to say.
    client_args: Vec<String>,
}

impl Tls<'_> {
    fn lines(&self) -> String {
        let own = format!(
            "certfile {}\nkeyfile {}\n",
            self.own.certificate.display(),
            self.own.key.display()
        );
        match self.client {
            None => own,
            Some(_) => format!(
                "{own}cafile {}\nrequire_certificate true\n",
                self.ca_file.display()
            ),
        }
    }
}

fn client_args(settings: &Settings) -> Vec<String> {
    let mut args = Vec::new();
    if let Some((user, password)) = settings.login {
        args.extend(["-u", user, "-P", password].map(str::to_owned));
    }
    if let Some(tls) = &settings.tls {
        let mut add = |option: &str, path: &Path| {
            args.extend([option.to_owned(), path.display().to_string()]);
        };
        add("--cafile", tls.ca_file);
        if let Some(client) = tls.client {
            add("--cert", &client.certificate);
            add("--key", &client.key);
        }
    }
    args
}

impl Mosquitto {
    /// Starts a broker without persistence and waits until it accepts.
    ///
    /// # Errors
    /// If mosquitto is not installed (the message says how to), or does not start.
    pub fn start() -> Result<Self> {
        Self::start_configured(&Settings::default())
    }

    /// Starts a broker and waits until it accepts.
    ///
    /// # Errors
    /// As [`Mosquitto::start`].
    pub fn start_with(persistence: Persistence) -> Result<Self> {
        Self::start_configured(&Settings {
            persistence,
            ..Settings::default()
        })
    }

    /// As [`Mosquitto::start_configured`]; without mosquitto on this machine
    /// nothing, loudly.
    ///
    /// # Errors
    /// If mosquitto does not start.
    pub fn start_or_skip(settings: &Settings) -> Result<Option<Self>> {
        if is_installed() {
            return Self::start_configured(settings).map(Some);
        }
        // Written past the test harness, which keeps back what a passing test
        // prints.
        let skipped = b"SKIPPED, AND NOTHING PROVED: mosquitto is not installed\n";
        io::stderr()
            .write_all(skipped)
            .context("telling of a skipped test")?;
        Ok(None)
    }

    /// Starts a broker with `settings` and waits until it accepts.
    ///
    /// # Errors
    /// As [`Mosquitto::start`].
    pub fn start_configured(settings: &Settings) -> Result<Self> {
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            let mut broker = Self {
                child: None,
                port: free_port()?,
                home: tempfile::tempdir().context("making a folder for the broker")?,
                client_args: client_args(settings),
            };
            broker.configure(settings)?;
            match broker.restart_on_same_port() {
                Ok(()) => return Ok(broker),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("at least one attempt was made"))
    }

    /// The TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address as hark's configuration wants it: `mqtt://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("mqtt://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Ends the broker in good order; persistent state is written.
    ///
    /// # Errors
    /// If it is not running, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the broker is not running")?;
        let terminated = terminate(&mut child);
        let ended = wait_until(STOP_LIMIT, "mosquitto to end", || {
            child.try_wait().transpose()
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        terminated?;
        ended?.context("waiting for mosquitto")?;
        Ok(())
    }

    /// Ends the broker as a power cut would: at once, with nothing written.
    ///
    /// # Errors
    /// If it is not running, or cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the broker is not running")?;
        child.kill().context("killing mosquitto")?;
        child.wait().context("waiting for mosquitto")?;
        Ok(())
    }

    /// Starts the stopped broker again, with its configuration and its state.
    ///
    /// # Errors
    /// If it runs already, is not installed, or does not accept in time; the
    /// message holds what it logged.
    pub fn restart_on_same_port(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the broker is running already");
        let log = File::create(self.log()).context("creating the broker's log")?;
        let child = Command::new(program())
            .arg("-c")
            .arg(self.configuration())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing("mosquitto", "mosquitto"),
            _ => anyhow::Error::new(error).context("starting mosquitto"),
        })?;
        self.child = Some(child);
        self.wait_for_accept()
    }

    /// Subscribes to `topic`, a filter of MQTT, at QoS 1.
    ///
    /// # Errors
    /// If `mosquitto_sub` is not installed, or the broker does not answer.
    pub fn subscribe(&self, topic: &str) -> Result<Subscription> {
        Subscription::open(self, topic)
    }

    /// As [`Mosquitto::subscribe`], with a session of the name `client_id` at
    /// the broker, which keeps for it what comes while the connection is lost.
    ///
    /// # Errors
    /// As [`Mosquitto::subscribe`].
    pub fn subscribe_with_session(&self, topic: &str, client_id: &str) -> Result<Subscription> {
        Subscription::open_with(self, topic, &["-c", "-i", client_id])
    }

    /// Publishes `payload` to `topic` at QoS 1; returns once acknowledged.
    ///
    /// # Errors
    /// If `mosquitto_pub` is not installed, or the broker does not acknowledge.
    pub fn publish(&self, topic: &str, payload: &str) -> Result<()> {
        self.run_publisher(topic, &["-m", payload])
    }

    /// As [`Mosquitto::publish`], retained; an empty `payload` clears the topic.
    ///
    /// # Errors
    /// As [`Mosquitto::publish`].
    pub fn publish_retained(&self, topic: &str, payload: &str) -> Result<()> {
        self.run_publisher(topic, &["-r", "-m", payload])
    }

    /// As [`Mosquitto::publish`], for a payload that is not text.
    ///
    /// # Errors
    /// As [`Mosquitto::publish`].
    pub fn publish_bytes(&self, topic: &str, payload: &[u8]) -> Result<()> {
        // With `-s` it takes an empty standard input for a mistake.
        if payload.is_empty() {
            return self.run_publisher(topic, &["-n"]);
        }
        let mut child = self
            .client("mosquitto_pub")
            .args(["-q", "1", "-t", topic, "-s"])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| client_error("mosquitto_pub", error))?;
        let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
        let written = stdin.write_all(payload);
        drop(stdin);
        let status = child.wait().context("waiting for mosquitto_pub")?;
        written.context("writing to mosquitto_pub")?;
        ensure!(status.success(), "mosquitto_pub failed: {status}");
        Ok(())
    }

    fn run_publisher(&self, topic: &str, args: &[&str]) -> Result<()> {
        let output = self
            .client("mosquitto_pub")
            .args(["-q", "1", "-t", topic])
            .args(args)
            .output()
            .map_err(|error| client_error("mosquitto_pub", error))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mosquitto_pub failed: {stderr}");
        Ok(())
    }

    /// A command of mosquitto-clients, pointed at this broker.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(&self.client_args)
            .stdin(Stdio::null());
        client
    }

    fn configure(&self, settings: &Settings) -> Result<()> {
        let home = self.home.path().display();
        let persistence = match settings.persistence {
            Persistence::Off => "persistence false".to_owned(),
            Persistence::On => format!(
                "persistence true\npersistence_location {home}/\n\
                 autosave_interval 1\nautosave_on_changes true"
            ),
        };
        let login = match settings.login {
            None => "allow_anonymous true".to_owned(),
            Some((user, password)) => {
                self.write_password(user, password)?;
                format!("allow_anonymous false\npassword_file {home}/{PASSWORDS}")
            }
        };
        let tls = settings.tls.map_or(String::new(), |tls| tls.lines());
        // As root mosquitto would become a user who may not enter the folder;
        // any other user it ignores the line for.
        let text = format!(
            "listener {} 127.0.0.1\nuser root\nlog_dest stderr\n{login}\n{persistence}\n{tls}{}\n",
            self.port, settings.lines
        );
        fs::write(self.configuration(), text).context("writing the broker's configuration")
    }

    fn write_password(&self, user: &str, password: &str) -> Result<()> {
        let status = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(self.home.path().join(PASSWORDS))
            .args([user, password])
            .status()
            .map_err(|error| client_error("mosquitto_passwd", error))?;
        ensure!(status.success(), "mosquitto_passwd failed: {status}");
        Ok(())
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("mosquitto.conf")
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("mosquitto.log")
    }

    fn wait_for_accept(&mut self) -> Result<()> {
        let port = self.port;
        let child = self.child.as_mut().expect("the broker was just spawned");
        let accepted = wait_until(START_LIMIT, "mosquitto to accept", || {
            // Look for its end first: whoever accepts after that is not ours.
            match child.try_wait() {
                Ok(Some(status)) => Some(Err(anyhow::anyhow!("mosquitto ended: {status}"))),
                _ => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(Ok),
            }
        });
        if let Err(error) = accepted.and_then(|accepted| accepted) {
            let _ = self.kill();
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            bail!("{error:#}; it said: {}", log.trim());
        }
        Ok(())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself, which is no concern here.
            let _ = self.kill();
        }
    }
}

fn is_installed() -> bool {
    let started = Command::new(program())
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !started.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// What to say when a program of mosquitto's packages cannot be started.
pub(crate) fn client_error(program: &str, error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => missing(program, "mosquitto-clients"),
        _ => anyhow::Error::new(error).context(format!("starting {program}")),
    }
}

fn missing(program: &str, package: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{program} is not installed; run `cargo xtask test`, which installs it, \
         or `sudo apt-get install {package}`"
    )
}

/// Debian keeps the broker out of an ordinary user's PATH.
fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/mosquitto");
    if debian.is_file() {
        debian
    } else {
        Path::new("mosquitto")
    }
}

fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener
        .local_addr()
        .context("reading the free port")?
        .port())
}
