//! The folder of what outlives a restart belongs to one hark at a time.
//!
//! Two that wrote there would each take the other's files for its own. The hold
//! is on the folder itself, so that a disk that takes no writes can be held, and
//! ends with the process, however that ends. A folder that cannot be made or
//! opened stops nobody: what would lie there is lost and counted by whoever
//! writes it.

use crate::folder;
use anyhow::{Context, bail};
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// How long a disk may take: one that hangs costs what it was to hold, and not
/// the start.
const PATIENCE: Duration = Duration::from_secs(2);

/// A folder that no other hark may use meanwhile.
#[derive(Debug)]
pub struct DataDir {
    /// None if it could not be held.
    _hold: Option<File>,
}

impl DataDir {
    /// Holds `folder`, which is made if need be.
    ///
    /// # Errors
    /// If another hark holds it, or the system gives no thread.
    pub fn hold(folder: &Path) -> anyhow::Result<Self> {
        let (held, outcome) = sync_channel(1);
        let shown = folder.display();
        let asked = folder.to_owned();
        std::thread::Builder::new()
            .name("data dir".into())
            .spawn(move || held.try_send(try_hold(&asked)))
            .context("starting the thread that opens device.data_dir")?;
        let hold = match outcome.recv_timeout(PATIENCE) {
            Ok(Ok(hold)) => Some(hold),
            Ok(Err(TryLockError::WouldBlock)) => {
                bail!("another hark writes to {shown}: give each a `device.data_dir` of its own")
            }
            Ok(Err(TryLockError::Error(error))) => {
                tracing::warn!("{shown} is not held against another hark: {error}");
                None
            }
            Err(_) => {
                tracing::warn!(
                    "{shown} is not held against another hark: its disk does not answer"
                );
                None
            }
        };
        Ok(Self { _hold: hold })
    }
}

fn try_hold(folder: &Path) -> Result<File, TryLockError> {
    let open = || -> io::Result<File> {
        folder::make(folder)?;
        File::open(folder)
    };
    let folder = open().map_err(TryLockError::Error)?;
    folder.try_lock()?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er");
        let held = DataDir::hold(&path).unwrap();
        let refused = DataDir::hold(&path).unwrap_err().to_string();
        assert!(refused.contains("another hark"), "{refused}");
        drop(held);
        DataDir::hold(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_stops_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        DataDir::hold(&file.path().join("data")).unwrap();
    }
}
