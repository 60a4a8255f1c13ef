//! A sensor node that a test plays itself, at the end of a pseudo terminal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_hal::Pty;
use hark_tests::wait_until;
use hark_wire::{Channel, Config, FRAME_MAX, FrameDecoder, Hello, Message, Reading, encode};

use crate::LIMIT;
use crate::bundle::{HIGH, LOW};

/// One digit of a channel's raw count, in the channel's unit.
const SCALE: f32 = 0.5;
/// How long one look for a request waits.
const READ_WAIT: Duration = Duration::from_millis(20);
/// Readings of one level after the other, or at the start: the last of them
/// changes the alert's state.
pub(crate) const ENOUGH: u32 = 3;
/// Readings in each half of [`Node::swing`].
pub(crate) const SWING: u32 = 10;

/// The node and its line.
pub(crate) struct Node {
    pty: Pty,
    hello: Hello,
    sequence: u32,
}

/// Tells the starts of nodes apart.
static BOOTS: AtomicU32 = AtomicU32::new(1);

/// The `[[sources]]` entry that listens to the node at `link`.
pub(crate) fn source(link: &Path) -> String {
    format!(
        "[[sources]]\nname = \"line\"\nkind = \"serial\"\nport = \"{}\"\nreconnect_ms_max = 200\n",
        link.display()
    )
}

/// A path for a line in a folder that lives as long as the returned guard.
pub(crate) fn link() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().context("making a folder for the line")?;
    let link = folder.path().join("line");
    Ok((folder, link))
}

impl Node {
    /// Plugs a node in at `link`.
    pub(crate) fn plug_in(link: &Path, name: &str) -> Result<Self> {
        Ok(Self {
            pty: Pty::open_at(link).context("opening a pseudo terminal")?,
            hello: Hello {
                boot_id: BOOTS.fetch_add(1, Ordering::Relaxed),
                ..hello(name, "bar")
            },
            sequence: 0,
        })
    }

    /// Waits until hark has opened the line, and says who it is.
    pub(crate) fn meet(&self) -> Result<()> {
        self.wait_for_reader()?;
        self.send_message(&Message::Hello(self.hello.clone()))
    }

    /// Waits until hark has opened the line.
    pub(crate) fn wait_for_reader(&self) -> Result<()> {
        ensure!(self.pty.wait_for_reader(LIMIT)?, "nobody opened the line");
        Ok(())
    }

    /// Sends one reading.
    pub(crate) fn send(&mut self, level: f32) -> Result<()> {
        let message = reading(self.sequence, level);
        self.sequence += 1;
        self.send_message(&message)
    }

    /// Sends [`ENOUGH`] readings.
    pub(crate) fn settle(&mut self, level: f32) -> Result<()> {
        (0..ENOUGH).try_for_each(|_| self.send(level))
    }

    /// Sends the next reading of a level that changes every [`SWING`] readings.
    pub(crate) fn swing(&mut self) -> Result<()> {
        let is_high = self.sequence / SWING % 2 == 1;
        self.send(if is_high { HIGH } else { LOW })
    }

    /// How many readings were sent.
    pub(crate) fn readings(&self) -> u64 {
        self.sequence.into()
    }

    /// Waits for what the gateway asks of the node.
    pub(crate) fn wait_for_request(&self) -> Result<Config> {
        let mut decoder = FrameDecoder::new();
        // One byte at a time: the next request is left for the next call.
        let mut byte = [0];
        wait_until(LIMIT, "a request from the gateway", || {
            while self.pty.read(&mut byte, READ_WAIT).ok()? > 0 {
                if let Some(Ok(Message::Config(config))) = decoder.next_message(&mut &byte[..]) {
                    return Some(config);
                }
            }
            None
        })
    }

    /// Sends whatever bytes.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        let sent = self
            .pty
            .write(bytes, LIMIT)
            .context("writing to the line")?;
        ensure!(sent == bytes.len(), "only {sent} of {} bytes", bytes.len());
        Ok(())
    }

    fn send_message(&self, message: &Message) -> Result<()> {
        self.send_bytes(&frame(message))
    }

    /// Time between two readings of a node that is played in real time.
    pub(crate) fn pause() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One reading's message.
pub(crate) fn reading(sequence: u32, level: f32) -> Message {
    Message::Reading(Reading {
        sequence,
        timestamp_us: u64::from(sequence) * 100_000,
        values: [(level / SCALE) as i32, 0].into_iter().collect(),
    })
}

/// A `Hello` with `level` in this unit.
pub(crate) fn hello(name: &str, unit: &str) -> Hello {
    let channel = |name: &str, unit: &str| Channel {
        name: name.try_into().expect("short"),
        unit: unit.try_into().expect("short"),
        scale: SCALE,
    };
    Hello {
        node: name.try_into().expect("short"),
        firmware: "test".try_into().expect("short"),
        boot_id: 0,
        channels: [channel("level", unit), channel("flow", "l/min")]
            .into_iter()
            .collect(),
    }
}

/// `message` as a frame with its delimiter.
pub(crate) fn frame(message: &Message) -> Vec<u8> {
    encode(message, &mut [0; FRAME_MAX]).to_vec()
}
