//! Folders that are made anew.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Makes `folder` an empty one, whatever it held.
pub(crate) fn recreate(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))
}
