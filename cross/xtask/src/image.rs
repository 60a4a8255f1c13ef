//! `cargo xtask image --board B`: what is flashed, under `target/images/<board>`.
//!
//! For qemu-virt that is a bootable disk with two root slots, and a RAUC bundle
//! that updates one of them; for boards that keep their vendor's system it is a
//! Debian package and a tarball. Either way `SHA256SUMS` covers all of it and
//! `SHA256SUMS.sig` is its detached signature, which `flash.sh` checks.
//!
//! hark itself is not built here: `cargo xtask cross-build` comes first.

mod board;
mod contents;
mod disk;
#[cfg(test)]
mod flash_board_tests;
#[cfg(test)]
mod flash_held_tests;
#[cfg(test)]
mod flash_settings_tests;
#[cfg(test)]
mod flash_tests;
mod initramfs;
#[cfg(test)]
mod install_tests;
mod rootfs;
mod signing;
mod tools;
mod vendor;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::{command, output, target_dir, workspace_root};
use board::{Board, Kind};
use signing::Signer;

/// Build what is flashed: a disk image with two slots, or install bundles
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The board, as in board-configs
    #[arg(long, value_parser = board::find)]
    board: Board,
    /// The cross-built hark [default: target/<target>/shipped/hark]
    #[arg(long, value_name = "FILE")]
    hark: Option<PathBuf>,
    /// What this build calls itself [default: the version and the commit]
    #[arg(long)]
    version: Option<String>,
    /// Where to put it [default: target/images/<board>]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The key that signs, PEM; needs --cert [default: one for development, made once]
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The certificate of --key, PEM; boards trust it, or the authority in --ca
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The authority that boards trust, PEM [default: the certificate itself]
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Option<PathBuf>,
}

/// One build: what goes in, and where it comes out.
struct Build {
    board: Board,
    hark: PathBuf,
    version: String,
    out: PathBuf,
    signer: Signer,
}

pub(crate) fn handle(args: &Args) -> Result<()> {
    let build = Build::new(args)?;
    match build.board.kind {
        Kind::Disk => disk::build(&build)?,
        Kind::Package => vendor::build(&build)?,
    }
    println!("\nin {}:", build.out.display());
    for file in sorted_files(&build.out)? {
        let bytes = fs::metadata(build.out.join(&file))?.len();
        println!("  {file:<32} {:>8.1} MB", bytes as f64 / 1e6);
    }
    println!(
        "next: ./flash.sh --board {} --target … --dry-run",
        build.board.name
    );
    Ok(())
}

impl Build {
    fn new(args: &Args) -> Result<Self> {
        let board = args.board.clone();
        let images = target_dir().join("images");
        let hark = args.hark.clone().unwrap_or_else(|| {
            target_dir()
                .join(board.architecture.target())
                .join("shipped/hark")
        });
        let hark = std::path::absolute(hark)?;
        ensure!(
            hark.is_file(),
            "no hark at {}; build it with `cargo xtask cross-build --target {}`",
            hark.display(),
            board.architecture.target()
        );
        let out = args.out.clone().unwrap_or_else(|| images.join(&board.name));
        let build = Self {
            board,
            hark,
            version: args.version.clone().map_or_else(version, Ok)?,
            out: std::path::absolute(out)?,
            signer: Signer::new(args, &images.join("keys"))?,
        };
        fs::create_dir_all(&build.out)
            .with_context(|| format!("creating {}", build.out.display()))?;
        Ok(build)
    }

    /// Writes the description and the signed sums of `files`, which lie in `out`.
    fn seal(&self, files: &[&str]) -> Result<()> {
        const DESCRIPTION: &str = "image.txt";
        let description = format!("board={}\nversion={}\n", self.board.name, self.version);
        fs::write(self.out.join(DESCRIPTION), description).context("writing image.txt")?;
        let mut sums = command("sha256sum");
        sums.current_dir(&self.out).arg(DESCRIPTION).args(files);
        let sums = output(sums)? + "\n";
        fs::write(self.out.join("SHA256SUMS"), sums).context("writing SHA256SUMS")?;
        self.signer.sign(&self.out.join("SHA256SUMS"))
    }

    /// The board's configuration and all that it inherits, as files of `folder`.
    fn copy_board_configs(&self, folder: &Path) -> Result<()> {
        let source = workspace_root().join("board-configs");
        let own = format!("{}.toml", self.board.name);
        fs::create_dir_all(folder)?;
        for name in ["base.toml", &own] {
            fs::copy(source.join(name), folder.join(name))
                .with_context(|| format!("copying board-configs/{name}"))?;
        }
        Ok(())
    }
}

/// The version of the workspace and the commit that it is built from.
fn version() -> Result<String> {
    let mut describe = command("git");
    describe.args(["describe", "--always", "--dirty", "--abbrev=10"]);
    let commit = output(describe).context("asking git for the commit; or give --version")?;
    Ok(format!("{}+{commit}", env!("CARGO_PKG_VERSION")))
}

/// A file of `cross/image`.
fn source(name: &str) -> PathBuf {
    workspace_root().join("cross/image").join(name)
}

fn sorted_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
