//! Reads one table of the merged tree key by key, and collects what is wrong.
//!
//! The code that fills a struct is the only list of keys, types and ranges: a
//! key that nobody asked for by [`Section::finish`] is unknown. Every getter
//! returns a value, on an error a placeholder, so that reading goes on to the
//! next error. A placeholder goes nowhere: one error, and there is no `Config`.

mod values;

use super::{
    error::{ConfigError, suggestion},
    tree::{Entry, File, Origin, Table, Value},
};

static EMPTY: Table = Table::new();

/// One table that is being read.
pub(super) struct Section<'t, 'e> {
    table: &'t Table,
    at: &'t Origin,
    /// Path of the table, `sources[0].mapping`; empty for the root.
    path: String,
    /// What the operator calls it, `[mqtt]` or `[[sources]] "line-1"`.
    title: String,
    /// Absent keys are no error: a table of defaults holds what it likes.
    is_partial: bool,
    asked: Vec<&'static str>,
    errors: &'e mut Vec<ConfigError>,
    /// How many errors there were before this table.
    errors_before: usize,
    /// Nobody can say which keys are right here.
    takes_any_key: bool,
}

impl<'t, 'e> Section<'t, 'e> {
    pub(super) fn root(table: &'t Table, at: &'t Origin, errors: &'e mut Vec<ConfigError>) -> Self {
        Self {
            table,
            at,
            path: String::new(),
            title: "the configuration".to_owned(),
            is_partial: false,
            asked: Vec::new(),
            errors_before: errors.len(),
            errors,
            takes_any_key: false,
        }
    }

    /// Reads the table at `key` by `read`, and reports the keys that `read` left.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let title = format!("[{}]", self.path_of(key));
        let entry = self.get(key);
        let is_partial = self.is_partial;
        self.open(entry, key, title, is_partial, read)
    }

    /// As [`Section::table`], for a table of defaults.
    pub(super) fn partial_table(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_, '_>),
    ) {
        let title = format!("[{}]", self.path_of(key));
        let entry = self.get(key);
        self.open(entry, key, title, true, read);
    }

    /// Reads each table of the array at `key`; `None` for an element that is no table.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, '_>) -> T,
    ) -> Vec<T> {
        let items = match self.get(key) {
            None => return Vec::new(),
            Some(Entry {
                value: Value::Array(items),
                ..
            }) => items,
            Some(entry) => {
                self.wrong_type(entry, key, &format!("tables, each headed [[{key}]]"));
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let title = title_of_item(key, index, item);
            all.push(self.open(
                Some(item),
                &format!("{key}[{index}]"),
                title,
                false,
                &mut read,
            ));
        }
        all
    }

    fn open<T>(
        &mut self,
        entry: Option<&'t Entry>,
        key: &str,
        title: String,
        is_partial: bool,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let (table, is_partial) = match entry {
            Some(Entry {
                value: Value::Table(table),
                ..
            }) => (table, is_partial),
            Some(entry) => {
                self.wrong_type(entry, key, "a table");
                (&EMPTY, true)
            }
            None => (&EMPTY, true),
        };
        let at = entry.map_or(self.at, |entry| &entry.at);
        let path = self.path_of(key);
        let root = Section::root(table, at, self.errors);
        let mut inner = Section {
            path,
            title,
            is_partial,
            ..root
        };
        let read = read(&mut inner);
        inner.finish();
        read
    }

    /// Reports that the value at `key` is wrong.
    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let error = self.error(key, message.into());
        self.errors.push(error);
    }

    /// Reports that one element of the array at `key` is wrong.
    pub(super) fn wrong_item(&mut self, key: &str, index: usize, message: impl Into<String>) {
        let item = match self.table.get(key).map(|entry| &entry.value) {
            Some(Value::Array(items)) => items.get(index),
            _ => None,
        };
        let at = item.map_or(self.at, |item| &item.at);
        let path = self.path_of(&format!("{key}[{index}]"));
        self.errors.push(ConfigError::new(at, path, message));
    }

    /// Whether all of `keys` are there and nothing is wrong with them: then they
    /// may be held against each other.
    pub(super) fn is_sound(&self, keys: &[&str]) -> bool {
        let errors = &self.errors[self.errors_before..];
        keys.iter().all(|key| {
            let path = self.path_of(key);
            let item = format!("{path}[");
            let is_about = |error: &ConfigError| error.key == path || error.key.starts_with(&item);
            self.table.contains_key(*key) && !errors.iter().any(is_about)
        })
    }

    /// Whether the operator may leave keys out: it is a table of defaults.
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Lets every key pass that is not asked for, where the right ones cannot be known.
    pub(super) fn skip_rest(&mut self) {
        self.takes_any_key = true;
    }

    /// Where `key` was set, for a message about another key.
    pub(super) fn place_of(&self, key: &str) -> Option<&'t Origin> {
        self.table.get(key).map(|entry| &entry.at)
    }

    /// Whether no file and no variable of the operator's has set `key`.
    pub(super) fn is_compiled_in(&self, key: &str) -> bool {
        self.place_of(key).is_some_and(|at| *at.file == File::BASE)
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, entry) in self.table {
            if self.takes_any_key || self.asked.contains(&key.as_str()) {
                continue;
            }
            let near = suggestion(key, &self.asked);
            let message = format!("unknown key `{key}` in {}{near}", self.title);
            let path = self.path_of(key);
            self.errors
                .push(ConfigError::new(&entry.key_at, path, message).expecting(&self.asked));
        }
    }

    /// The entry at `key`; its absence is reported unless the table is partial.
    fn get(&mut self, key: &'static str) -> Option<&'t Entry> {
        self.asked.push(key);
        let entry = self.table.get(key);
        if entry.is_none() && !self.is_partial {
            self.wrong(key, format!("missing: {} needs `{key}`", self.title));
        }
        entry
    }

    fn wrong_type(&mut self, entry: &Entry, key: &str, expected: &str) {
        let message = format!("must be {expected}, found {}", describe(&entry.value));
        let error = ConfigError::new(&entry.at, self.path_of(key), message);
        self.errors.push(error);
    }

    fn error(&self, key: &str, message: String) -> ConfigError {
        let at = self.place_of(key).unwrap_or(self.at);
        ConfigError::new(at, self.path_of(key), message)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

fn title_of_item(key: &str, index: usize, item: &Entry) -> String {
    let name = match &item.value {
        Value::Table(table) => table.get("name").map(|name| &name.value),
        _ => None,
    };
    match name {
        Some(Value::Text(name)) => format!("[[{key}]] {name:?}"),
        _ => format!("{key}[{index}]"),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("the string {text:?}"),
        Value::Integer(number) => format!("the integer {number}"),
        Value::Float(number) => format!("the float {number}"),
        Value::Boolean(yes) => format!("the boolean {yes}"),
        Value::Datetime(time) => format!("the time {time}"),
        Value::Array(_) => "an array".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}
