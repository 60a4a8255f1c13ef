//! A file that is replaced as a whole: whoever reads it, after a power cut too, finds
//! what it was or what it is to be, and nothing in between.
//!
//! The new content is written beside the file and synced, then takes the file's name,
//! then the folder is synced, for the name is the folder's.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces the file at `path`, or makes it.
///
/// # Errors
/// The system's. The file is as it was, unless only the last step failed: then a
/// power cut may bring back what it was.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    // A cut may have left one there: it is nobody's.
    let mut file = File::create(&beside)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        // It takes room on what may be a full disk.
        fs::remove_file(&beside).ok();
    }
    renamed?;
    sync_folder_of(path)
}

/// Makes the names in the folder of `path` outlive a power cut: that of a file which
/// was made, renamed or removed there.
///
/// # Errors
/// The system's.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(beside(&path), "what a power cut left").unwrap();
        for content in ["first", "second, longer", ""] {
            replace_file(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_cannot_be_replaced_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::create_dir_all(path.join("taken")).unwrap();
        replace_file(&path, b"new").unwrap_err();
        assert!(path.join("taken").is_dir());
        assert!(!beside(&path).exists());
        replace_file(&folder.path().join("no folder/state"), b"new").unwrap_err();
    }
}
