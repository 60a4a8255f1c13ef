//! The local event log: JSON lines, synced, rotated.
//!
//! `events.jsonl` grows to a bound, becomes `events.jsonl.1`, which becomes
//! `.2` and so on; the oldest goes. Alerts are rare and must survive a power
//! cut, so each line is synced before the next. A torn last line, left by a
//! cut in the middle of a write, is closed with a newline on the next open.

use anyhow::Context;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An open log.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: usize,
}

impl EventLog {
    /// Opens or creates the log at `path`, and its folder. Each file holds at
    /// most `bytes_max` bytes and `files_max` rotated ones are kept.
    ///
    /// # Errors
    /// The operation and the path that failed.
    pub fn open(path: &Path, bytes_max: u64, files_max: usize) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            fs::create_dir_all(folder)
                .with_context(|| format!("creating the folder {}", folder.display()))?;
        }
        let opening = || format!("opening the event log {}", path.display());
        let (file, bytes) = open_for_append(path).with_context(opening)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
            files_max,
        })
    }

    /// Appends one line and syncs it.
    ///
    /// # Errors
    /// The operation and the path that failed; the next append tries again.
    pub fn append(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        if self.bytes > 0 && self.bytes + bytes.len() as u64 > self.bytes_max {
            self.rotate()
                .with_context(|| format!("rotating {}", self.path.display()))?;
        }
        let appending = || format!("appending to {}", self.path.display());
        let written = self.file.write_all(&bytes);
        if written.is_err() {
            // Part of the line may be there: what follows must not join it.
            self.file.set_len(self.bytes).ok();
        }
        written.with_context(appending)?;
        self.bytes += bytes.len() as u64;
        self.file.sync_data().with_context(appending)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..self.files_max).rev() {
            rename_if_there(&self.rotated(n), &self.rotated(n + 1))?;
        }
        rename_if_there(&self.path, &self.rotated(1))?;
        (self.file, self.bytes) = open_for_append(&self.path)?;
        Ok(())
    }

    fn rotated(&self, n: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }
}

fn open_for_append(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_rotate_and_the_oldest_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/events.jsonl");
        let mut log = EventLog::open(&path, 10, 2).unwrap();
        for line in ["1111", "2222", "3333", "4444", "5555", "6666", "7777"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "7777\n");
        assert_eq!(read(&log.rotated(1)), "5555\n6666\n");
        assert_eq!(read(&log.rotated(2)), "3333\n4444\n");
        assert!(!log.rotated(3).exists());
    }

    #[test]
    fn a_line_longer_than_the_file_is_still_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::open(&path, 4, 1).unwrap();
        log.append(b"0123456789").unwrap();
        assert_eq!(read(&path), "0123456789\n");
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, "{\"whole\":1}\n{\"torn\":").unwrap();
        let mut log = EventLog::open(&path, 1000, 1).unwrap();
        log.append(b"{\"next\":2}").unwrap();
        assert_eq!(read(&path), "{\"whole\":1}\n{\"torn\":\n{\"next\":2}\n");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = EventLog::open(&file.join("events.jsonl"), 10, 1).unwrap_err();
        assert!(format!("{error:#}").contains("creating the folder"));
    }
}
