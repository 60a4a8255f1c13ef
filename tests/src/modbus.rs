//! Modbus servers that are not ours, and the line between them and hark.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hark_hal::Pty;

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// How long the bus looks for bytes at one end.
const LOOK: Duration = Duration::from_millis(1);

/// A running server; killed when dropped.
pub struct ModbusServer {
    child: Child,
}

impl ModbusServer {
    /// libmodbus with every unit behind a TCP port of its own, which is returned.
    ///
    /// # Errors
    /// If it cannot be built or started.
    pub fn tcp() -> Result<(Self, u16)> {
        let port = free_port()?;
        let mut command = Command::new(libmodbus()?);
        command.args(["tcp", &port.to_string()]);
        Ok((Self::start(command)?, port))
    }

    /// libmodbus as one unit on a serial line.
    ///
    /// # Errors
    /// As [`ModbusServer::tcp`].
    pub fn rtu(path: &Path, baud: u32, unit: u8) -> Result<Self> {
        let mut command = Command::new(libmodbus()?);
        command.arg("rtu").arg(path);
        command.args([baud.to_string(), unit.to_string()]);
        Self::start(command)
    }

    /// pymodbus' simulator with these units behind a TCP port of its own, which is
    /// returned; none if it is not installed, which is said.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn simulator(units: &[u8]) -> Result<Option<(Self, u16)>> {
        let test = std::env::current_exe().context("finding the running test")?;
        let target = test
            .ancestors()
            .nth(3)
            .context("it lies in a target folder")?;
        let python = target.join("pymodbus/bin/python");
        if !python.is_file() {
            let python = python.display();
            eprintln!(
                "SKIPPED: {python} is missing; `cargo xtask test --only pymodbus` installs it"
            );
            return Ok(None);
        }
        let port = free_port()?;
        let mut command = Command::new(python);
        command.arg(root().join("tests/modbus/simulator.py"));
        command.arg(port.to_string());
        command.args(units.iter().map(u8::to_string));
        Ok(Some((Self::start(command)?, port)))
    }

    fn start(mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().context("its output")?;
        let server = Self { child };
        let (sender, ready) = std::sync::mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).ok();
            sender.send(line).ok();
        });
        let line = ready.recv_timeout(START).unwrap_or_default();
        ensure!(line.trim() == "ready", "{command:?} said {line:?}");
        Ok(server)
    }
}

impl Drop for ModbusServer {
    fn drop(&mut self) {
        // It may have ended with its line.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs mbpoll, another's client, with these arguments, and returns what it says.
///
/// # Errors
/// If it is not installed or fails.
pub fn mbpoll(args: &[&str]) -> Result<String> {
    let output = Command::new("mbpoll")
        .args(args)
        .output()
        .context("starting mbpoll: `cargo xtask test` or `apt-get install mbpoll` brings it")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "mbpoll {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// A half-duplex line at which each unit is a libmodbus of its own. It carries each
/// byte no faster than its baud rate, so that it is as busy as a real one.
pub struct ModbusBus {
    shared: Arc<Shared>,
    carrier: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    garbles: AtomicBool,
    /// When each unit was asked.
    asked: Mutex<Vec<(u8, Instant)>>,
}

impl ModbusBus {
    /// A line at `link` with these units on it, eight data bits, no parity.
    ///
    /// # Errors
    /// If there is no pseudo terminal or server.
    pub fn start(link: &Path, baud: u32, units: &[u8]) -> Result<Self> {
        let line = Pty::open_at(link).context("opening a pseudo terminal")?;
        let mut devices = Vec::new();
        for unit in units {
            let pty = Pty::open().context("opening a pseudo terminal")?;
            let server = ModbusServer::rtu(pty.path(), baud, *unit)?;
            devices.push(Device {
                unit: *unit,
                pty,
                _server: server,
            });
        }
        let shared = Arc::new(Shared::default());
        let carrier = Carrier {
            line,
            devices,
            character: Duration::from_secs(10) / baud,
            shared: Arc::clone(&shared),
        };
        Ok(Self {
            shared,
            carrier: Some(thread::spawn(move || carrier.carry())),
        })
    }

    /// Whether answers arrive with a flipped bit from now on.
    pub fn garble(&self, garbles: bool) {
        self.shared.garbles.store(garbles, Ordering::Relaxed);
    }

    /// Which unit was asked when, so far.
    pub fn asked(&self) -> Vec<(u8, Instant)> {
        self.shared.asked().clone()
    }
}

impl Drop for ModbusBus {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Its panic has been told where it was.
        self.carrier.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn asked(&self) -> MutexGuard<'_, Vec<(u8, Instant)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Device {
    unit: u8,
    pty: Pty,
    _server: ModbusServer,
}

struct Carrier {
    line: Pty,
    devices: Vec<Device>,
    character: Duration,
    shared: Arc<Shared>,
}

impl Carrier {
    fn carry(self) {
        let mut bytes = [0; 512];
        let mut asked = None;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            if let Ok(len @ 1..) = self.line.read(&mut bytes, LOOK) {
                self.shared.asked().push((bytes[0], Instant::now()));
                self.pass(len);
                for device in &self.devices {
                    // A server that has ended takes none, as a unit without power.
                    device.pty.write(&bytes[..len], LOOK).ok();
                }
                let is_asked = |device: &&Device| device.unit == bytes[0];
                asked = self.devices.iter().find(is_asked);
            }
            let Some(device) = asked else {
                continue;
            };
            if let Ok(len @ 1..) = device.pty.read(&mut bytes, LOOK) {
                self.pass(len);
                // Each unit hears the others' answers, and libmodbus waits for them.
                let others = self
                    .devices
                    .iter()
                    .filter(|other| other.unit != device.unit);
                for other in others {
                    other.pty.write(&bytes[..len], LOOK).ok();
                }
                if self.shared.garbles.load(Ordering::Relaxed) {
                    bytes[len / 2] ^= 0x10;
                }
                self.line.write(&bytes[..len], LOOK).ok();
            }
        }
    }

    /// So long so many characters are on the line.
    fn pass(&self, characters: usize) {
        thread::sleep(self.character * characters as u32);
    }
}

/// The server of libmodbus, built once.
fn libmodbus() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_libmodbus().map_err(|error| format!("{error:#}")));
    match built {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

fn build_libmodbus() -> Result<PathBuf> {
    let test = std::env::current_exe().context("finding the running test")?;
    let folder = test.parent().context("it lies in a folder")?;
    let server = folder.join(format!("modbus-server-{}", std::process::id()));
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-I/usr/include/modbus", "-o"])
        .arg(&server)
        .arg(root().join("tests/modbus/server.c"))
        .arg("-lmodbus")
        .output()
        .context("starting cc")?;
    ensure!(
        output.status.success(),
        "building the Modbus server failed; `cargo xtask test` or `apt-get install libmodbus-dev` \
         brings its library: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Under one name for all: another test that builds it meanwhile makes the same.
    let shared = folder.join("modbus-server");
    std::fs::rename(&server, &shared).context("putting the Modbus server in its place")?;
    Ok(shared)
}

/// A port that nobody has now.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("looking for a port")?;
    Ok(listener.local_addr()?.port())
}

/// The repository's folder.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
