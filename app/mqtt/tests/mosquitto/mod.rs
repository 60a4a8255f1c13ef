//! A mosquitto on a free port of the loopback, killed when dropped.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::TempDir;

/// Between the choice of a free port and its use another process may take it.
const PORT_ATTEMPTS: u32 = 5;

pub(crate) struct Mosquitto {
    child: Child,
    port: u16,
    home: TempDir,
    /// Kept open, so that the broker can go on logging; it says little.
    log: Option<BufReader<ChildStderr>>,
}

impl Mosquitto {
    /// A broker with these lines in its configuration, or nothing, loudly, if
    /// there is no mosquitto on this machine.
    pub(crate) fn start(lines: &str) -> Option<Self> {
        Self::start_in(&tempfile::tempdir, |_| lines.to_owned())
    }

    /// A broker that knows one user.
    pub(crate) fn start_with_login(user: &str, password: &str) -> Option<Self> {
        Self::start_in(&tempfile::tempdir, |home| {
            let file = home.join("passwords");
            let made = Command::new("mosquitto_passwd")
                .args(["-b", "-c"])
                .arg(&file)
                .args([user, password])
                .status();
            let is_made = made.is_ok_and(|status| status.success());
            assert!(is_made, "mosquitto_passwd comes with mosquitto");
            format!("allow_anonymous false\npassword_file {}", file.display())
        })
    }

    fn start_in(
        home: &dyn Fn() -> io::Result<TempDir>,
        lines: impl Fn(&Path) -> String,
    ) -> Option<Self> {
        if !is_installed() {
            // Written past the test harness, which keeps back what a passing
            // test prints.
            let skipped = b"SKIPPED, AND NOTHING PROVED: mosquitto is not installed\n";
            io::stderr().write_all(skipped).unwrap();
            return None;
        }
        for _ in 0..PORT_ATTEMPTS {
            let mut broker = Self::spawn(home().unwrap(), &lines);
            if broker.is_listening() {
                return Some(broker);
            }
        }
        panic!("mosquitto did not start {PORT_ATTEMPTS} times");
    }

    fn spawn(home: TempDir, lines: impl Fn(&Path) -> String) -> Self {
        let port = free_port();
        // As root mosquitto would become a user who may not enter the folder.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nlog_dest stderr\nlog_type information\n{}\n",
            lines(home.path())
        );
        let configuration = home.path().join("mosquitto.conf");
        fs::write(&configuration, text).unwrap();
        let mut child = Command::new(program())
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = child.stderr.take().map(BufReader::new);
        Self {
            child,
            port,
            home,
            log,
        }
    }

    /// Reads the log until it says that the broker runs, or the broker ends.
    fn is_listening(&mut self) -> bool {
        let log = self.log.as_mut().unwrap();
        let mut lines = log.lines().map_while(Result::ok);
        lines.any(|line| line.ends_with(" running"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends the broker as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(self.home.path().exists(), "its folder outlives it");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
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

/// Debian keeps the broker out of an ordinary user's PATH.
fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/mosquitto");
    if debian.is_file() {
        debian
    } else {
        Path::new("mosquitto")
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
