//! A disk that a test mounts, and makes fail.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file system on a file, which can be frozen, and killed.
pub(crate) struct Disk {
    mount: PathBuf,
    image: PathBuf,
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
        let made = make(&image).and_then(|()| attach(&image, mount));
        if let Err(error) = made {
            eprintln!("NOT TESTED: a disk that hangs, since none can be mounted here: {error:#}");
            return Ok(None);
        }
        Ok(Some(Self {
            mount: mount.to_owned(),
            image,
            is_frozen: false,
            _folder: folder,
        }))
    }

    /// Every access fails with EIO from here on, for good.
    pub(crate) fn die(&self) -> Result<()> {
        // EXT4_IOC_SHUTDOWN with NOLOGFLUSH: linux/fs/ext4/ext4.h.
        let shut_down = "open(my $f, '<', $ARGV[0]) or die $!; my $how = pack('L', 2);\
                         ioctl($f, 0x8004587d, $how) or die $!";
        run("perl", &["-e".as_ref(), shut_down.as_ref(), &self.mount])
    }

    /// Another, empty one takes its place. Whoever has a file of the old one open
    /// keeps it.
    pub(crate) fn replace(&mut self) -> Result<()> {
        run("umount", &["-l".as_ref(), &self.mount])?;
        let image = self.image.with_extension("next");
        File::create(&image)?.set_len(8 << 20)?;
        make(&image)?;
        attach(&image, &self.mount)?;
        self.image = image;
        Ok(())
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

/// A disk in memory, of so many bytes.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None, and a loud word, where this is not permitted.
    pub(crate) fn mounted_at(mount: &Path, size: &str) -> Result<Option<Self>> {
        std::fs::create_dir(mount)?;
        let options = format!("size={size}");
        let options = ["-t", "tmpfs", "-o", &options, "tmpfs"].map(Path::new);
        if let Err(error) = run("mount", &[&options[..], &[mount]].concat()) {
            eprintln!("NOT TESTED: a full disk, since none can be mounted here: {error:#}");
            return Ok(None);
        }
        Ok(Some(Self(mount.to_owned())))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = run("umount", &["-l".as_ref(), &self.0]);
    }
}

fn make(image: &Path) -> Result<()> {
    run("mkfs.ext4", &["-q".as_ref(), image])
}

fn attach(image: &Path, mount: &Path) -> Result<()> {
    run("mount", &["-o".as_ref(), "loop".as_ref(), image, mount])
}

fn run(program: &str, args: &[&Path]) -> Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("running {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", stderr.trim());
    Ok(())
}
