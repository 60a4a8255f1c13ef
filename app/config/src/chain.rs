//! A file and all that it inherits, merged into one tree.
//!
//! `inherit = "line-a.toml"` is relative to the file that says it; where no such
//! file lies, the files of `board-configs` are there by their names, compiled in,
//! so that a site's configuration is the same on a desk and on its board. Every
//! chain ends in `base.toml`, also when nothing is inherited. Cycles and chains
//! longer than [`FILES_MAX`] are refused, and so are files too large to be a
//! configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::ConfigError,
    tree::{self, File, Origin, Table, Value},
};

/// The defaults, as compiled in.
pub(super) const BASE: &str = include_str!("../../../board-configs/base.toml");

/// The boards' files, which inherit from [`BASE`] alone: name and text of each.
const BOARDS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// A name that means [`BASE`] where no such file lies beside the inheriting one.
const BASE_NAME: &str = "base.toml";

/// Files in a chain. A board, its product and its site need three; more is a mistake.
const FILES_MAX: usize = 8;

/// Bytes of one file: a thousand sources fit in; a log file given by mistake does not.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// Reads `path` and what it inherits. `Err` holds what stands in the way of a tree:
/// files that cannot be read, their syntax, and what is wrong with the chain itself.
pub(super) fn load(path: &Path) -> Result<Table, Vec<ConfigError>> {
    let mut chain = Chain::default();
    let named_by = Origin::of(File::Disk(path.to_owned()));
    chain.follow(path.to_owned(), &named_by, "");
    chain.merged()
}

/// As [`load`], for a text that is in no file, and so can inherit only from what is
/// compiled in.
pub(super) fn load_text(text: &str) -> Result<Table, Vec<ConfigError>> {
    let mut chain = Chain::default();
    if let Some((parent, at)) = chain.add(text, &Arc::new(File::Text))
        && !chain.add_built_in(&parent)
    {
        let message = format!("a text without a file inherits {}", built_in());
        chain.errors.push(ConfigError::new(&at, "inherit", message));
    }
    chain.merged()
}

/// The names of what is compiled in, for people.
fn built_in() -> String {
    let boards: Vec<_> = BOARDS.iter().map(|(name, _)| *name).collect();
    format!("{BASE_NAME} or one of {}", boards.join(", "))
}

#[derive(Default)]
struct Chain {
    /// Most special first.
    tables: Vec<Table>,
    /// The files so far, canonical, to recognise a cycle.
    visited: Vec<PathBuf>,
    errors: Vec<ConfigError>,
}

impl Chain {
    /// Adds `path` and its ancestors; `named_by` and `key` are the place that names it.
    fn follow(&mut self, path: PathBuf, named_by: &Origin, key: &str) {
        let text = match self.open(&path) {
            Ok(text) => text,
            Err(mut message) => {
                if key == "inherit" && !path.exists() {
                    message += &format!("; without a file there is {}", built_in());
                }
                return self.errors.push(ConfigError::new(named_by, key, message));
            }
        };
        let file = Arc::new(File::Disk(path));
        if let Some((parent, at)) = self.add(&text, &file) {
            let beside = file.folder().join(&parent);
            if beside.exists() || !self.add_built_in(&parent) {
                self.follow(beside, &at, "inherit");
            }
        }
    }

    /// Adds a file that is compiled in; whether there is one of this name.
    fn add_built_in(&mut self, name: &str) -> bool {
        // The base comes last, whoever inherits from it.
        if name == BASE_NAME {
            return true;
        }
        let Some((name, text)) = BOARDS.iter().find(|(known, _)| *known == name) else {
            return false;
        };
        self.add(text, &Arc::new(File::BuiltIn(name)));
        true
    }

    /// Adds one file's table; the result is what it inherits, and where it says so.
    fn add(&mut self, text: &str, file: &Arc<File>) -> Option<(String, Origin)> {
        let (mut table, errors) = tree::parse(text, file);
        self.errors.extend(errors);
        let inherit = table.remove("inherit");
        self.tables.push(table);
        let entry = inherit?;
        match entry.value {
            Value::Text(parent) => Some((parent, entry.at)),
            _ => {
                let message = "must be a string: the path of a file";
                self.errors
                    .push(ConfigError::new(&entry.at, "inherit", message));
                None
            }
        }
    }

    fn open(&mut self, path: &Path) -> Result<String, String> {
        let cannot_open = |error| format!("cannot open {}: {error}", path.display());
        let canonical = fs::canonicalize(path).map_err(cannot_open)?;
        if self.visited.contains(&canonical) {
            return Err(format!("{} inherits from itself", path.display()));
        }
        if self.visited.len() == FILES_MAX {
            return Err(format!(
                "more than {FILES_MAX} files inherit from one another"
            ));
        }
        self.visited.push(canonical);
        let bytes = read_bounded(path).map_err(cannot_open)?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(format!(
                "{} is larger than {FILE_BYTES_MAX} bytes",
                path.display()
            ));
        }
        String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
    }

    fn merged(mut self) -> Result<Table, Vec<ConfigError>> {
        self.add(BASE, &Arc::new(File::BASE));
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let mut merged = Table::new();
        for table in self.tables.into_iter().rev() {
            tree::merge(&mut merged, table);
        }
        Ok(merged)
    }
}

/// At most one byte more than a configuration may have.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
