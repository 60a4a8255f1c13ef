//! The file system that a folder lies on.

use rustix::fs::Access;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file system of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Where it is mounted; empty where `/proc` is not.
    pub mounted_at: PathBuf,
    /// Its type, such as `ext4`; empty where `/proc` is not mounted.
    pub kind: String,
    /// Whether nothing can be written.
    pub is_read_only: bool,
    /// Whether the path, or what there is of it, is a folder.
    pub is_folder: bool,
    /// Whether this user may make files in it.
    pub is_writable: bool,
    /// What an ordinary user may still write, bytes.
    pub free_bytes: u64,
    /// Its size, bytes.
    pub total_bytes: u64,
}

/// The file system that `path` lies on, or would: a path that does not exist
/// yet is looked for from its nearest parent that does.
///
/// # Errors
/// The system's, if not even the root folder can be asked.
pub fn storage_of(path: &Path) -> io::Result<Storage> {
    let path = nearest(path)?;
    let status = rustix::fs::statvfs(&path)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (mounted_at, kind) = mount_of(&mounts, &path).unwrap_or_default();
    Ok(Storage {
        mounted_at,
        kind,
        is_read_only: status
            .f_flag
            .contains(rustix::fs::StatVfsMountFlags::RDONLY),
        is_folder: path.is_dir(),
        is_writable: rustix::fs::access(&path, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        free_bytes: status.f_bavail.saturating_mul(status.f_frsize),
        total_bytes: status.f_blocks.saturating_mul(status.f_frsize),
    })
}

fn nearest(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find_map(|p| fs::canonicalize(p).ok());
    there.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// The mount point and type of the mount that `path` lies on: the longest that
/// begins it, and of equal ones the last, which covers the others.
pub(super) fn mount_of(mounts: &str, path: &Path) -> Option<(PathBuf, String)> {
    let mounts = mounts.lines().filter_map(|line| {
        // proc(5): the fifth field is the mount point; the type follows " - ".
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((PathBuf::from(point), after.split(' ').next()?.to_owned()))
    });
    mounts
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.components().count())
}
