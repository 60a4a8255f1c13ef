//! A local log: JSON lines, synced, rotated.
//!
//! `events.jsonl` grows to a bound, becomes `events.jsonl.1`, which becomes
//! `.2` and so on; the oldest goes. Alerts are rare and must survive a power
//! cut, so each line is synced before the next, and the folder with the first
//! line of a file. A torn last line, left by a cut in the middle of a write, is
//! closed with a newline on the next open.
//!
//! A line is written once it is in the file that the path names. A disk that
//! failed may have another in its place by the next line, and somebody may have
//! moved or removed the file meanwhile: so nothing that failed is kept open, and
//! the path is looked at before and after each line.

use crate::folder;
use anyhow::Context;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A log. A file that cannot be opened, as on a disk that turned read-only, is
/// tried again with each line.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: Option<File>,
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
            bytes_max,
            files_max,
        }
    }

    /// Appends one line and syncs it.
    ///
    /// # Errors
    /// The operation and the path that failed; the next append tries again.
    pub fn append(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let line = [line, b"\n"].concat();
        let appended = self.append_whole(&line);
        if appended.is_err() {
            // What failed once may fail for ever: the disk may be gone.
            self.file = None;
        }
        appended
    }

    fn append_whole(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.close_if_replaced();
        self.open()?;
        let len = self.len().unwrap_or(0);
        if len > 0 && len + line.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        let appending = format!("appending to {}", self.path.display());
        match self.write(line) {
            // The system's limit on the size of files, below ours.
            Err(error) if error.kind() == ErrorKind::FileTooLarge && len > 0 => {
                self.rotate()?;
                self.write(line)
            }
            written => written,
        }
        .context(appending.clone())?;
        // It went between the look and the write, and the line with it.
        if self.close_if_replaced() {
            self.open()?;
            self.write(line).context(appending)?;
        }
        Ok(())
    }

    /// Closes the file if the path names another by now, or none.
    fn close_if_replaced(&mut self) -> bool {
        let is_replaced = self.file.is_some() && self.len().is_none();
        if is_replaced {
            let path = self.path.display();
            tracing::warn!("{path} is not where it was: it is begun anew");
            self.file = None;
        }
        is_replaced
    }

    /// The length of the open file; None if the path names another, or none.
    fn len(&self) -> Option<u64> {
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let open = self.file.as_ref()?.metadata().ok()?;
        let named = fs::metadata(&self.path).ok()?;
        (identity(&open) == identity(&named)).then_some(named.len())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(ErrorKind::NotFound)?;
        let before = file.metadata()?.len();
        file.write_all(line).inspect_err(|_| {
            // Part of the line may be there: what follows must not join it.
            file.set_len(before).ok();
        })?;
        file.sync_data()
    }

    /// Opens or creates the file, unless that is done.
    fn open(&mut self) -> anyhow::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let folder = folder::of(&self.path);
        folder::make(folder)
            .with_context(|| format!("creating the folder {}", folder.display()))?;
        let file = open_for_append(&self.path)
            .with_context(|| format!("opening the log {}", self.path.display()))?;
        folder::sync(folder).with_context(|| format!("syncing {}", folder.display()))?;
        self.file = Some(file);
        Ok(())
    }

    /// Moves the files on by one, and begins another.
    fn rotate(&mut self) -> anyhow::Result<()> {
        let rename = || {
            for n in (1..self.files_max).rev() {
                rename_if_there(&self.rotated(n), &self.rotated(n + 1))?;
            }
            rename_if_there(&self.path, &self.rotated(1))
        };
        rename().with_context(|| format!("rotating {}", self.path.display()))?;
        self.file = None;
        self.open()
    }

    fn rotated(&self, n: usize) -> PathBuf {
        rotated(&self.path, n)
    }
}

/// The files of the log at `path` that are there, the newest first.
pub fn files(path: &Path, files_max: usize) -> Vec<PathBuf> {
    let older = (1..=files_max).map(|n| rotated(path, n));
    let files = std::iter::once(path.to_owned()).chain(older);
    files.filter(|file| file.is_file()).collect()
}

fn rotated(path: &Path, n: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn open_for_append(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
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
        let newest_first = [path.clone(), log.rotated(1), log.rotated(2)];
        assert_eq!(files(&path, 5), newest_first);
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
