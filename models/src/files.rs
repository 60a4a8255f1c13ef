//! Where a bundle's files come from: a folder, or the binary itself.
//!
//! Names are single plain components, so that no manifest reaches outside its
//! folder; sizes are bounded before a byte is read, for each kind of file by what
//! it may need.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::bundle::BundleError;

/// The largest model file. Gateways have a few hundred megabytes of memory, and a
/// file is held whole while it is checked.
pub(crate) const MODEL_BYTES_MAX: usize = 64 << 20;

/// The longest file name. Common file systems take 255; this leaves room for a path.
const NAME_MAX: usize = 64;

/// The files of one bundle.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// A folder on storage.
    Folder(PathBuf),
    /// Names and contents, compiled into the binary.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// Reads one file, of at most `bytes_max` bytes.
    pub(crate) fn read(
        &self,
        name: &str,
        bytes_max: usize,
    ) -> Result<Cow<'static, [u8]>, BundleError> {
        check_name(name)?;
        match self {
            Files::Folder(folder) => read_file(&folder.join(name), bytes_max).map(Cow::Owned),
            Files::Embedded(files) => {
                let mut files = files.iter();
                let found = files.find(|(known, _)| *known == name);
                let found = found.map(|(_, bytes)| Cow::Borrowed(*bytes));
                found.ok_or_else(|| BundleError::Read {
                    file: self.describe(name),
                    cause: io::Error::new(io::ErrorKind::NotFound, "not embedded"),
                })
            }
        }
    }

    /// Reads one file and checks its digest (64 lower-case hex digits).
    pub(crate) fn read_verified(
        &self,
        name: &str,
        sha256: &str,
        bytes_max: usize,
    ) -> Result<Cow<'static, [u8]>, BundleError> {
        let bytes = self.read(name, bytes_max)?;
        let found = sha256_hex(&bytes);
        if found != sha256 {
            return Err(BundleError::Digest {
                file: self.describe(name),
                expected: sha256.to_owned(),
                found,
            });
        }
        Ok(bytes)
    }

    /// The file as an operator would look for it.
    pub(crate) fn describe(&self, name: &str) -> String {
        match self {
            Files::Folder(folder) => folder.join(name).display().to_string(),
            Files::Embedded(_) => format!("{name} (in the binary)"),
        }
    }
}

/// Reads one file, of at most `bytes_max` bytes.
pub(crate) fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, BundleError> {
    let file = || path.display().to_string();
    let bytes = read_bounded(path, bytes_max).map_err(|cause| BundleError::Read {
        file: file(),
        cause,
    })?;
    if bytes.len() > bytes_max {
        return Err(BundleError::TooLarge {
            file: file(),
            bytes_max,
        });
    }
    Ok(bytes)
}

/// Reads at most one byte more than is allowed, whatever the file's size says, into
/// no more room than that. What is not a regular file is refused before it is
/// opened: a pipe would hang.
fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let limit = bytes_max as u64 + 1;
    // One more, or the read that finds the end would ask for more room.
    let room = metadata.len().saturating_add(1).min(limit);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(room as usize)?;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check_name(name: &str) -> Result<(), BundleError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_good = !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('.')
        && name.chars().all(is_plain);
    if is_good {
        Ok(())
    } else {
        Err(BundleError::FileName {
            name: name.chars().take(NAME_MAX).collect(),
        })
    }
}

/// SHA-256 of `bytes` as 64 lower-case hex digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
