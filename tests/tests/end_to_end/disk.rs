//! A disk that a test mounts, and makes fail.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file system on a file, which can be frozen.
pub(crate) struct Disk {
    mount: PathBuf,
    is_frozen: bool,
    _folder: tempfile::TempDir,
}

impl Disk {
    /// None, and a loud word, where this is not permitted.
    pub(crate) fn mounted_at(mount: &Path) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let image = folder.path().join("image");
        File::create(&image)?.set_len(8 << 20)?;
        std::fs::create_dir(mount)?;
        let made = run("mkfs.ext4", &["-q".as_ref(), &image])
            .and_then(|()| run("mount", &["-o".as_ref(), "loop".as_ref(), &image, mount]));
        if let Err(error) = made {
            eprintln!("NOT TESTED: a disk that hangs, since none can be mounted here: {error:#}");
            return Ok(None);
        }
        Ok(Some(Self {
            mount: mount.to_owned(),
            is_frozen: false,
            _folder: folder,
        }))
    }

    pub(crate) fn freeze(&mut self) -> Result<()> {
        run("fsfreeze", &["-f".as_ref(), &self.mount])?;
        self.is_frozen = true;
        Ok(())
    }

    pub(crate) fn thaw(&mut self) -> Result<()> {
        run("fsfreeze", &["-u".as_ref(), &self.mount])?;
        self.is_frozen = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever writes to a frozen disk cannot even be killed.
        if self.is_frozen {
            let _ = self.thaw();
        }
        let _ = run("umount", &["-l".as_ref(), &self.mount]);
    }
}

fn run(program: &str, args: &[&Path]) -> Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("running {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", stderr.trim());
    Ok(())
}
