//! What `cargo xtask cross-build` prints, and what it insists on.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Serialize, Serializer};

use super::elf::Elf;
use super::size::{self, Share};
use super::{Args, Binary, GLIBC_MAX, Version, bytes_max, shown};

/// Libraries that every glibc system has: its own. The loader's name differs
/// from one architecture to the next.
const SYSTEM_LIBRARIES: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
];
const LOADER: &str = "ld-linux-";

/// Crates named in the text; the JSON has all of them.
const CRATES_SHOWN: usize = 12;

/// The facts of one binary.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) target: String,
    pub(super) profile: String,
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Only where a size is promised.
    pub(super) bytes_max: Option<u64>,
    /// None of a static binary.
    #[serde(serialize_with = "version")]
    pub(super) glibc: Option<Version>,
    pub(super) needed: Vec<String>,
    pub(super) build_id: Option<String>,
    pub(super) debug: String,
    pub(super) debug_bytes: u64,
    pub(super) sections: Vec<Share>,
    pub(super) crates: Vec<Share>,
}

impl Report {
    /// Reads what was built.
    pub(super) fn of(args: &Args, binary: &Binary) -> Result<Self> {
        let stripped = read(&binary.path)?;
        let elf = Elf::parse(&stripped)?;
        let debug = read(&binary.debug)?;
        Ok(Self {
            target: args.target.clone(),
            profile: args.profile.clone(),
            path: shown(&binary.path),
            bytes: stripped.len() as u64,
            bytes_max: bytes_max(&args.target, &args.profile),
            glibc: elf.glibc,
            needed: elf.needed,
            build_id: elf.build_id,
            debug: shown(&binary.debug),
            debug_bytes: debug.len() as u64,
            sections: size::by_kind(&elf.sections),
            crates: size::by_crate(&debug)?,
        })
    }

    /// Whether every board could load it, and has room for it.
    ///
    /// # Errors
    /// Names everything that is wrong.
    pub(super) fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let is_foreign = |library: &&String| {
            !SYSTEM_LIBRARIES.contains(&library.as_str()) && !library.starts_with(LOADER)
        };
        for library in self.needed.iter().filter(is_foreign) {
            wrong.push(format!("it needs {library}, which is no part of glibc"));
        }
        if let Some(glibc) = self.glibc.filter(|&glibc| glibc > GLIBC_MAX) {
            wrong.push(format!("it needs glibc {glibc}; at most {GLIBC_MAX}"));
        }
        if self.target.ends_with("-musl") && !self.needed.is_empty() {
            wrong.push("it is not static".to_owned());
        }
        if self.build_id.is_none() {
            wrong.push("it has no build id".to_owned());
        }
        if let Some(max) = self.bytes_max.filter(|&max| self.bytes > max) {
            wrong.push(format!("it has {} bytes; at most {max}", self.bytes));
        }
        if !wrong.is_empty() {
            bail!("{}: {}", self.path, wrong.join("; "));
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path)?;
        write!(
            f,
            "  size        {} ({} bytes)",
            megabytes(self.bytes),
            self.bytes
        )?;
        match self.bytes_max {
            Some(max) => writeln!(f, ", at most {}", megabytes(max))?,
            None => writeln!(f)?,
        }
        match self.glibc {
            Some(glibc) => writeln!(f, "  needs       glibc {glibc}: {}", self.needed.join(", "))?,
            None => writeln!(f, "  needs       nothing: it is static")?,
        }
        let build_id = self.build_id.as_deref().unwrap_or("none");
        writeln!(f, "  build id    {build_id}")?;
        let debug_bytes = megabytes(self.debug_bytes);
        writeln!(f, "  debug info  {}, {debug_bytes}", self.debug)?;
        writeln!(f, "\n  what the file is made of")?;
        for share in &self.sections {
            writeln!(f, "{}", row(share, self.bytes))?;
        }
        let code: u64 = self.crates.iter().map(|share| share.bytes).sum();
        write!(f, "\n  code by the crate that it was written in")?;
        for share in self.crates.iter().take(CRATES_SHOWN) {
            write!(f, "\n{}", row(share, code))?;
        }
        let rest = self.crates.iter().skip(CRATES_SHOWN);
        let rest = Share {
            name: format!("{} more", rest.len()),
            bytes: rest.map(|share| share.bytes).sum(),
        };
        write!(f, "\n{}", row(&rest, code))
    }
}

fn row(share: &Share, whole: u64) -> String {
    let percent = 100.0 * share.bytes as f64 / whole.max(1) as f64;
    let bytes = megabytes(share.bytes);
    format!("    {:<18} {bytes:>9} {percent:>5.1} %", share.name)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

// By reference, because serde calls it so.
#[allow(clippy::ref_option)]
fn version<S: Serializer>(version: &Option<Version>, serializer: S) -> Result<S::Ok, S::Error> {
    match version {
        Some(version) => serializer.collect_str(version),
        None => serializer.serialize_none(),
    }
}
