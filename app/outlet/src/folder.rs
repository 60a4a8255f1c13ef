//! Folders whose entries outlive a power cut: a file's own sync does not always
//! bring its name to the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

/// The folder that `path` is in.
pub(crate) fn of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a folder and those that it is in, as far as they are missing, to last.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(folder)?;
    let synced = missing.iter().try_for_each(|made| sync(of(made)));
    if synced.is_err() {
        // So that the next try finds them missing again.
        missing
            .iter()
            .for_each(|made| fs::remove_dir(made).unwrap_or_default());
    }
    synced
}

/// Makes the entries of a folder last.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot, and some folders may be written and not read:
        // no reason to write nothing.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}
