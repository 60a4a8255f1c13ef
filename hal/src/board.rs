//! What the machine has, as far as it can be seen without switching anything.
//!
//! [`Board`] reads `/proc`, `/sys` and `/dev` and answers with plain values:
//! who the machine is, its cores, its serial ports, GPIO chips and watchdogs.
//! Nothing is configured, and no watchdog is opened, because opening one starts
//! it. What cannot be read is absent, never an error: a machine without a
//! device tree has no model, and a list that cannot be read is empty. Whether
//! that is good or bad is the caller's to say.

mod devices;
mod ffi;
mod machine;
mod storage;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

pub use devices::{GpioChip, SerialPort, WatchdogState};
pub use ffi::{LineErrors, is_clock_synchronised};
pub use machine::{Core, Identity, Kernel, Memory};
pub use storage::{Storage, storage_of};

/// The most entries of one kind that are listed: an inventory for a person.
const ENTRIES_MAX: usize = 64;

/// The longest file below `/proc` or `/sys` that is read, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// The machine whose `/proc`, `/sys` and `/dev` lie below one folder.
#[derive(Clone, Debug)]
pub struct Board {
    root: PathBuf,
}

impl Board {
    /// The machine that this runs on.
    pub fn this() -> Self {
        Self::below("/")
    }

    /// A machine whose folders lie below `root`, as a test makes them.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether there is a file or device at `path`, which is absolute.
    pub fn has(&self, path: &Path) -> bool {
        self.root
            .join(path.strip_prefix("/").unwrap_or(path))
            .exists()
    }

    /// `path`, which is absolute, below the root.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The trimmed text of a small file; none if it cannot be read or is empty.
    fn text(&self, path: &str) -> Option<String> {
        read_text(&self.path(path))
    }
}

/// The trimmed text of a small file; what is not UTF-8 is replaced.
fn read_text(path: &Path) -> Option<String> {
    use std::io::Read;

    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The names in a folder that start with `prefix` and end in a number, in the
/// order of the numbers.
fn numbered(folder: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let mut found: Vec<(usize, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort_unstable();
    found.truncate(ENTRIES_MAX);
    found
}
