//! The serial line between node and gateway, with a hand on it.
//!
//! One thread carries bytes between two ends, each a socket of a QEMU machine
//! or a serial device of this host, and reconnects either end whenever it comes
//! back. What the node says can be disturbed from a seed: bytes lost, flipped
//! or put in between. What the gateway says is left alone, because a node that
//! ignores noise is the node's own matter.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// From one look at both ends to the next; 115200 baud bring 23 bytes in it.
const PERIOD: Duration = Duration::from_millis(2);
/// From one attempt to reach an end to the next.
const RECONNECT: Duration = Duration::from_millis(200);
/// What waits for an end that does not read; more is lost, as on a real line.
const PENDING_MAX: usize = 64 * 1024;
/// `O_NONBLOCK | O_NOCTTY` (Linux, include/uapi/asm-generic/fcntl.h).
const NONBLOCK_NOCTTY: i32 = 0o4000 | 0o400;
/// Speed of a serial device of this host; the firmware's and the configuration's.
const BAUD: &str = "115200";

/// One end of the line.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// A character device of a QEMU machine, listening on a Unix socket.
    Socket(PathBuf),
    /// A serial device of this host.
    Device(PathBuf),
}

/// What happens to the bytes of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Clear,
    Noisy,
}

/// The line, carried until it is dropped.
pub(crate) struct Wire {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    condition: Mutex<Condition>,
    stop: AtomicBool,
    from_node: AtomicU64,
    disturbed: AtomicU64,
}

impl Wire {
    /// Joins the two ends; neither need be there yet.
    pub(crate) fn join(node: End, gateway: End, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            condition: Mutex::new(Condition::Clear),
            stop: AtomicBool::new(false),
            from_node: AtomicU64::new(0),
            disturbed: AtomicU64::new(0),
        });
        let carried = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            carry(
                &carried,
                &mut Port::new(node),
                &mut Port::new(gateway),
                Noise::new(seed),
            );
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Disturbs what the node says, until [`Wire::clear`].
    pub(crate) fn disturb(&self) {
        self.set(Condition::Noisy);
    }

    /// Lets everything pass again.
    pub(crate) fn clear(&self) {
        self.set(Condition::Clear);
    }

    /// Bytes that the node has sent, and how many of them were disturbed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.from_node), count(&self.shared.disturbed))
    }

    fn set(&self, condition: Condition) {
        *self.shared.condition.lock().expect("no holder panics") = condition;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no panic to report that its scenario did not see.
            thread.join().ok();
        }
    }
}

fn carry(shared: &Shared, node: &mut Port, gateway: &mut Port, mut noise: Noise) {
    let mut buffer = [0; 4096];
    while !shared.stop.load(Ordering::Relaxed) {
        let said = node.receive(&mut buffer);
        shared.from_node.fetch_add(said as u64, Ordering::Relaxed);
        let condition = *shared.condition.lock().expect("no holder panics");
        match condition {
            Condition::Clear => gateway.send(&buffer[..said]),
            Condition::Noisy => {
                let before = noise.disturbed;
                gateway.send(&noise.disturb(&buffer[..said]));
                let disturbed = noise.disturbed - before;
                shared.disturbed.fetch_add(disturbed, Ordering::Relaxed);
            }
        }
        let answered = gateway.receive(&mut buffer);
        node.send(&buffer[..answered]);
        if said == 0 && answered == 0 {
            thread::sleep(PERIOD);
        }
    }
}

/// An end, connected or to be connected again.
struct Port {
    end: End,
    open: Option<File>,
    tried: Option<Instant>,
    pending: Vec<u8>,
}

impl Port {
    fn new(end: End) -> Self {
        Self {
            end,
            open: None,
            tried: None,
            pending: Vec::new(),
        }
    }

    /// What has arrived, as far as it fits; 0 also if the end is away.
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        self.connect();
        let Some(open) = &mut self.open else { return 0 };
        match open.read(buffer) {
            Ok(0) => self.lose(),
            Ok(length) => return length,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.lose(),
        }
        0
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(open) = &mut self.open else { return };
        if self.pending.len() + bytes.len() <= PENDING_MAX {
            self.pending.extend_from_slice(bytes);
        }
        if self.pending.is_empty() {
            return;
        }
        match open.write(&self.pending) {
            Ok(written) => drop(self.pending.drain(..written)),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.lose(),
        }
    }

    fn lose(&mut self) {
        self.open = None;
        self.pending.clear();
    }

    fn connect(&mut self) {
        let is_due = self.tried.is_none_or(|tried| tried.elapsed() >= RECONNECT);
        if self.open.is_none() && is_due {
            self.tried = Some(Instant::now());
            // An end that is away is tried again; a scenario that never hears
            // from it fails by its own deadline.
            self.open = open(&self.end).ok();
        }
    }
}

fn open(end: &End) -> Result<File> {
    match end {
        End::Socket(path) => {
            let stream = UnixStream::connect(path).context("connecting")?;
            stream.set_nonblocking(true).context("never waiting")?;
            Ok(File::from(std::os::fd::OwnedFd::from(stream)))
        }
        End::Device(path) => open_device(path),
    }
}

/// Opens a serial device as raw bytes, at [`BAUD`].
pub(crate) fn open_device(path: &Path) -> Result<File> {
    let device = File::options()
        .read(true)
        .write(true)
        .custom_flags(NONBLOCK_NOCTTY)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let set = Command::new("stty")
        .arg("-F")
        .arg(path)
        .args([BAUD, "raw", "-echo", "cs8", "-parenb", "-cstopb", "clocal"])
        .output()
        .context("starting stty")?;
    let said = String::from_utf8_lossy(&set.stderr);
    ensure!(
        set.status.success(),
        "setting up {}: {said}",
        path.display()
    );
    Ok(device)
}

/// Disturbances of a line, all from a seed.
struct Noise {
    state: u64,
    /// Bytes of the node that were changed or lost, and bytes put in.
    disturbed: u64,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            disturbed: 0,
        }
    }

    /// One byte in forty is flipped in a bit, lost, or followed by a random one:
    /// most frames of some dozen bytes are hit, and some pass.
    fn disturb(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() * 2);
        for &byte in bytes {
            let draw = self.next();
            if !draw.is_multiple_of(40) {
                out.push(byte);
                continue;
            }
            self.disturbed += 1;
            match draw >> 32 & 3 {
                0 => out.push(byte ^ (1 << (draw >> 40 & 7))),
                1 => {}
                _ => out.extend([byte, (draw >> 48) as u8]),
            }
        }
        out
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): every seed gives another stream.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hil::wait;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_same_seed_disturbs_in_the_same_way_and_counts_it() {
        let bytes: Vec<u8> = (0..4000).map(|i| i as u8).collect();
        let mut first = Noise::new(7);
        let out = first.disturb(&bytes);
        assert_eq!(out, Noise::new(7).disturb(&bytes));
        assert_ne!(out, bytes);
        assert!((50..200).contains(&first.disturbed), "{}", first.disturbed);
    }

    #[test]
    fn the_line_carries_both_ways_and_takes_up_an_end_that_went_and_came_back() {
        let folder = std::env::temp_dir().join(format!("hark-xtask-wire-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let listen = |name: &str| {
            let path = folder.join(name);
            std::fs::remove_file(&path).ok();
            let listener = UnixListener::bind(&path).expect("a free path");
            (End::Socket(path), listener)
        };
        let (node_end, node) = listen("node");
        let (gateway_end, gateway) = listen("gateway");
        let wire = Wire::join(node_end, gateway_end, 1);
        let (mut node, _) = node.accept().expect("the wire comes");
        for _ in 0..2 {
            let (mut stream, _) = gateway.accept().expect("the wire comes");
            let seen = wait::until("a byte", || {
                node.write_all(b"x").expect("it is carried");
                stream.set_nonblocking(true).expect("a socket");
                let mut byte = [0];
                Ok(stream.read(&mut byte).ok().map(|_| byte[0]))
            });
            assert_eq!(seen.expect("it arrives"), b'x');
            stream.write_all(b"y").expect("it is carried");
            let mut byte = [0];
            node.read_exact(&mut byte).expect("it arrives");
            assert_eq!(byte, *b"y");
        }
        drop(wire);
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
