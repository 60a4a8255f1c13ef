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

/// A log. A file that cannot be opened, as on a disk that turned read-only, is
/// tried again with each line.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    files_max: usize,
}

impl EventLog {
    /// The log at `path`, whose folder is made if need be. Each file holds at most
    /// `bytes_max` bytes and `files_max` rotated ones are kept.
    pub fn new(path: &Path, bytes_max: u64, files_max: usize) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            bytes_max,
            files_max,
        }
    }

    /// Opens or creates the file, unless that is done.
    ///
    /// # Errors
    /// The operation and the path that failed.
    pub fn open(&mut self) -> anyhow::Result<&mut File> {
        if self.file.is_none() {
            let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty());
            if let Some(folder) = folder {
                fs::create_dir_all(folder)
                    .with_context(|| format!("creating the folder {}", folder.display()))?;
            }
            let opening = || format!("opening the event log {}", self.path.display());
            let (file, bytes) = open_for_append(&self.path).with_context(opening)?;
            self.file = Some(file);
            self.bytes = bytes;
        }
        Ok(self.file.as_mut().expect("it was opened above"))
    }

    /// Appends one line and syncs it.
    ///
    /// # Errors
    /// The operation and the path that failed; the next append tries again.
    pub fn append(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        self.open()?;
        if self.bytes > 0 && self.bytes + bytes.len() as u64 > self.bytes_max {
            self.rotate()
                .with_context(|| format!("rotating {}", self.path.display()))?;
        }
        let appending = format!("appending to {}", self.path.display());
        let before = self.bytes;
        let file = self.open()?;
        let written = file.write_all(&bytes);
        if written.is_err() {
            // Part of the line may be there: what follows must not join it.
            file.set_len(before).ok();
        }
        written.with_context(|| appending.clone())?;
        let synced = file.sync_data();
        self.bytes += bytes.len() as u64;
        synced.context(appending)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..self.files_max).rev() {
            rename_if_there(&self.rotated(n), &self.rotated(n + 1))?;
        }
        rename_if_there(&self.path, &self.rotated(1))?;
        self.file = None;
        self.bytes = 0;
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
        let mut log = EventLog::new(&path, 10, 2);
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
        let mut log = EventLog::new(&path, 4, 1);
        log.append(b"0123456789").unwrap();
        assert_eq!(read(&path), "0123456789\n");
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, "{\"whole\":1}\n{\"torn\":").unwrap();
        let mut log = EventLog::new(&path, 1000, 1);
        log.append(b"{\"next\":2}").unwrap();
        assert_eq!(read(&path), "{\"whole\":1}\n{\"torn\":\n{\"next\":2}\n");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let mut log = EventLog::new(&file.join("events.jsonl"), 10, 1);
        let error = log.append(b"lost").unwrap_err();
        assert!(format!("{error:#}").contains("creating the folder"));
        fs::remove_file(&file).unwrap();
        log.append(b"kept").unwrap();
        assert_eq!(read(&log.path), "kept\n");
    }
}
