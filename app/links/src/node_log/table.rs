//! What a firmware's ELF says about the lines of its log: the format strings,
//! by the numbers that the node sends in their place.
//!
//! defmt's linker script leaves them as names of symbols in the section
//! `.defmt`, each a JSON object; the symbol's address is the number.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use defmt_parser::Level;
use object::{Object, ObjectSection, ObjectSymbol};
use serde::Deserialize;

/// The largest ELF that is read: firmware with all of its debug information
/// has a few MiB.
const ELF_BYTES_MAX: u64 = 32 << 20;
/// The versions of defmt's encoding that are known here; they differ only in
/// what symbols say about bit flags.
const VERSIONS: [&str; 2] = ["3", "4"];
const ENCODING: &str = "rzcobs";

/// The format strings of a firmware.
#[derive(Debug)]
pub struct LogTable {
    path: PathBuf,
    strings: BTreeMap<u16, Entry>,
    /// How each line begins: with the node's time.
    timestamp: Option<String>,
}

/// Why an ELF file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It cannot be read.
    #[error("{path}: {error}")]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    /// It is larger than [`ELF_BYTES_MAX`].
    #[error("{0}: larger than {max} MiB, which no firmware is", max = ELF_BYTES_MAX >> 20)]
    Size(PathBuf),
    /// It is no ELF.
    #[error("{path}: {error}")]
    Elf { path: PathBuf, error: object::Error },
    /// It has no log strings.
    #[error("{0}: holds no defmt log strings; is it the ELF file, not a .bin or a stripped one?")]
    NoStrings(PathBuf),
    /// It is of a defmt that is not known here.
    #[error("{path}: its log is of defmt's version {found:?}; known are {VERSIONS:?}")]
    Version { path: PathBuf, found: String },
    /// Lines of another encoding cannot be told apart after a loss.
    #[error("{path}: its log is encoded as {found:?}; build it with defmt's default, {ENCODING}")]
    Encoding { path: PathBuf, found: String },
}

/// A format string.
#[derive(Debug)]
enum Entry {
    /// Of a line; without a level it is defmt's `println`.
    Line(Option<Level>, String),
    /// Of something within a line.
    Part(String),
}

/// The name of a symbol; its other fields tell equal strings apart.
#[derive(Deserialize)]
struct Symbol {
    tag: String,
    data: String,
}

impl LogTable {
    /// Reads the strings of the ELF file at `path`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(path: &Path) -> Result<Self, Unreadable> {
        let path = path.to_owned();
        let file = |error| Unreadable::File {
            path: path.clone(),
            error,
        };
        let mut bytes = Vec::new();
        // What is no plain file has no length to ask for.
        let elf = File::open(&path).map_err(file)?;
        let read = elf.take(ELF_BYTES_MAX + 1).read_to_end(&mut bytes);
        if read.map_err(file)? as u64 > ELF_BYTES_MAX {
            return Err(Unreadable::Size(path));
        }
        match object::File::parse(&*bytes) {
            Ok(elf) => Self::of(path, &elf),
            Err(error) => Err(Unreadable::Elf { path, error }),
        }
    }

    fn of(path: PathBuf, elf: &object::File<'_>) -> Result<Self, Unreadable> {
        let sections = elf.sections();
        let of_log = sections.filter(|section| {
            let is_log = |name: &str| name == ".defmt" || name.starts_with(".defmt.");
            section.name().is_ok_and(is_log)
        });
        let of_log: Vec<_> = of_log.map(|section| section.index()).collect();
        let mut table = Self::empty(path);
        let (mut version, mut encoding) = (String::new(), String::new());
        for symbol in elf.symbols() {
            let Ok(name) = symbol.name() else { continue };
            // One of the linkers keeps the quotes of defmt's linker script.
            let plain = name.trim_matches('"');
            if let Some(found) = plain.strip_prefix("_defmt_version_ = ") {
                found.clone_into(&mut version);
            } else if let Some(found) = plain.strip_prefix("_defmt_encoding_ = ") {
                found.clone_into(&mut encoding);
            } else if let (Some(section), Ok(number)) =
                (symbol.section_index(), u16::try_from(symbol.address()))
                && of_log.contains(&section)
            {
                table.add(number, name);
            }
        }
        let path = || table.path.clone();
        if table.strings.is_empty() {
            return Err(Unreadable::NoStrings(path()));
        }
        if !VERSIONS.contains(&version.as_str()) {
            let (path, found) = (path(), version);
            return Err(Unreadable::Version { path, found });
        }
        if encoding != ENCODING {
            let (path, found) = (path(), encoding);
            return Err(Unreadable::Encoding { path, found });
        }
        Ok(table)
    }

    pub(super) fn empty(path: PathBuf) -> Self {
        Self {
            path,
            strings: BTreeMap::new(),
            timestamp: None,
        }
    }

    /// Takes in the name of a symbol; those of the linker's own are passed over.
    pub(super) fn add(&mut self, number: u16, name: &str) {
        let Ok(Symbol { tag, data }) = serde_json::from_str(name) else {
            return;
        };
        let line = |level| Entry::Line(level, data.clone());
        let entry = match tag.as_str() {
            "defmt_trace" => line(Some(Level::Trace)),
            "defmt_debug" => line(Some(Level::Debug)),
            "defmt_info" => line(Some(Level::Info)),
            "defmt_warn" => line(Some(Level::Warn)),
            "defmt_error" => line(Some(Level::Error)),
            "defmt_println" => line(None),
            "defmt_timestamp" => {
                self.timestamp = Some(data);
                return;
            }
            "defmt_prim" | "defmt_derived" | "defmt_write" | "defmt_str" | "defmt_bitflags" => {
                Entry::Part(data)
            }
            // Such as the values of bit flags, which are shown as numbers.
            _ => return,
        };
        self.strings.insert(number, entry);
    }

    /// Where the strings came from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The format of the node's time, with which each line begins.
    pub(super) fn timestamp(&self) -> Option<&str> {
        self.timestamp.as_deref()
    }

    /// The level and format of a line.
    pub(super) fn line(&self, number: u16) -> Option<(Option<Level>, &str)> {
        match self.strings.get(&number)? {
            Entry::Line(level, format) => Some((*level, format)),
            Entry::Part(_) => None,
        }
    }

    /// The format of something within a line, or a text.
    pub(super) fn part(&self, number: u16) -> Option<&str> {
        match self.strings.get(&number)? {
            Entry::Line(..) => None,
            Entry::Part(format) => Some(format),
        }
    }
}
