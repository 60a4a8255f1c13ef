//! TOML text as a tree in which every value knows where it was written.
//!
//! The trees of a chain of files are merged into one before anything is
//! checked, so each entry carries its own [`Origin`]: file, line and column. The
//! syntax is the `toml` crate's business; what the keys mean is not known here.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// A file of `board-configs`, as compiled in.
    BuiltIn(&'static str),
    /// A file, by the path that it was opened with.
    Disk(PathBuf),
    /// A text that a program handed over.
    Text,
    /// An environment variable, by its name.
    Variable(String),
}

impl File {
    /// Every default.
    pub(super) const BASE: Self = Self::BuiltIn("base.toml");

    /// The folder that relative paths in this file start from; empty: the working directory.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Disk(path) => path.parent().unwrap_or(Path::new("")),
            Self::BuiltIn(_) | Self::Text | Self::Variable(_) => Path::new(""),
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(name) => write!(f, "{name} (compiled in)"),
            Self::Disk(path) => path.display().fmt(f),
            Self::Text => f.write_str("(text)"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Line and column in characters, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Where a key or a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) file: Arc<File>,
    /// None for a variable and for a file as a whole.
    pub(super) position: Option<Position>,
}

impl Origin {
    pub(super) fn of(file: File) -> Self {
        Self {
            file: Arc::new(file),
            position: None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// A value, the place of its key and its own place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) key_at: Origin,
    pub(super) at: Origin,
}

pub(super) type Table = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Only kept to say that no key wants one.
    Datetime(String),
    Array(Vec<Entry>),
    Table(Table),
}

/// Parses one file. What can be read is returned beside the errors.
pub(super) fn parse(text: &str, file: &Arc<File>) -> (Table, Vec<ConfigError>) {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text, file);
    for error in syntax {
        let at = reader.origin(error.span().map_or(0, |span| span.start));
        reader
            .errors
            .push(ConfigError::new(&at, "", error.message()));
    }
    let table = reader.table(document.get_ref());
    (table, reader.errors)
}

/// Parses what an environment variable holds, if it is a TOML value.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    let mut reader = Reader::new(text, &origin.file);
    let value = reader.value(parsed.get_ref(), origin);
    reader.errors.is_empty().then_some(value)
}

/// Lays `over` on `under`: tables key by key, everything else as a whole.
pub(super) fn merge(under: &mut Table, over: Table) {
    for (key, entry) in over {
        match (under.get_mut(&key), entry) {
            (
                Some(Entry {
                    value: Value::Table(below),
                    ..
                }),
                Entry {
                    value: Value::Table(above),
                    ..
                },
            ) => merge(below, above),
            (_, entry) => {
                under.insert(key, entry);
            }
        }
    }
}

/// The entry at `path`, which is written as in errors: `sources[0].port`.
pub(super) fn find<'t>(root: &'t Table, path: &str) -> Option<&'t Entry> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let (key, index) = match first
        .strip_suffix(']')
        .and_then(|item| item.split_once('['))
    {
        Some((key, index)) => (key, Some(index.parse::<usize>().ok()?)),
        None => (first, None),
    };
    let mut entry = root.get(key)?;
    if let Some(index) = index {
        let Value::Array(items) = &entry.value else {
            return None;
        };
        entry = items.get(index)?;
    }
    match (rest, &entry.value) {
        (None, _) => Some(entry),
        (Some(rest), Value::Table(table)) => find(table, rest),
        (Some(_), _) => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a Arc<File>,
    /// The offset at which each line starts, so that places are found quickly.
    line_starts: Vec<usize>,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, file: &'a Arc<File>) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Self {
            text,
            file,
            line_starts,
            errors: Vec::new(),
        }
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                let key_at = self.origin(key.span().start);
                let at = self.origin(value.span().start);
                let value = self.value(value.get_ref(), &at);
                (key.get_ref().to_string(), Entry { value, key_at, at })
            })
            .collect()
    }

    fn value(&mut self, value: &DeValue<'_>, at: &Origin) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(yes) => Value::Boolean(*yes),
            DeValue::Datetime(time) => Value::Datetime(time.to_string()),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
                Value::Integer(self.number(parsed, at))
            }
            DeValue::Float(number) => Value::Float(self.number(number.as_str().parse().ok(), at)),
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.item(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }

    fn item(&mut self, item: &toml::Spanned<DeValue<'_>>) -> Entry {
        let at = self.origin(item.span().start);
        Entry {
            value: self.value(item.get_ref(), &at),
            key_at: at.clone(),
            at,
        }
    }

    fn number<T: Default>(&mut self, parsed: Option<T>, at: &Origin) -> T {
        parsed.unwrap_or_else(|| {
            self.errors.push(ConfigError::new(
                at,
                "",
                "the number does not fit into 64 bits",
            ));
            T::default()
        })
    }

    fn origin(&self, offset: usize) -> Origin {
        // A variable is one value; its name says enough.
        let position = match **self.file {
            File::Variable(_) => None,
            _ => Some(self.position(offset)),
        };
        Origin {
            file: Arc::clone(self.file),
            position,
        }
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self
            .text
            .get(start..offset)
            .map_or(0, |before| before.chars().count())
            + 1;
        Position { line, column }
    }
}
