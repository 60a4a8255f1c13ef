//! The getters of a [`Section`]: one for each type that a key can have.

use std::{
    collections::BTreeMap,
    fmt::Display,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::Section;
use crate::tree::{Entry, Value};

impl<'t> Section<'t, '_> {
    /// A string, as it stands.
    pub(crate) fn text(&mut self, key: &'static str) -> String {
        match self.get(key) {
            None => String::new(),
            Some(Entry {
                value: Value::Text(text),
                ..
            }) => text.clone(),
            Some(entry) => {
                self.wrong_type(entry, key, "a string");
                String::new()
            }
        }
    }

    /// The value as it stands, of any type.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<&'t Value> {
        self.get(key).map(|entry| &entry.value)
    }

    /// A string where `""` means none.
    pub(crate) fn text_or_none(&mut self, key: &'static str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// A string that may be absent, which is as good as empty.
    pub(crate) fn text_or_absent(&mut self, key: &'static str) -> String {
        if self.table.contains_key(key) {
            return self.text(key);
        }
        self.asked.push(key);
        String::new()
    }

    /// A string that `parse` accepts; its error says what would be right.
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key);
        if !self.is_sound(&[key]) {
            return None;
        }
        parse(&text)
            .map_err(|message| self.wrong(key, message.to_string()))
            .ok()
    }

    /// A path, relative to the file that names it; not empty.
    pub(crate) fn path(&mut self, key: &'static str) -> PathBuf {
        let path = self.path_or_none(key);
        if path.is_none() && self.is_sound(&[key]) {
            self.wrong(key, "must not be empty");
        }
        path.unwrap_or_default()
    }

    /// A path, relative to the file that names it; `""` means none.
    pub(crate) fn path_or_none(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text_or_none(key)?;
        Some(self.folder_of(key).join(text))
    }

    /// The folder of the file that set `key`; empty for the working directory.
    pub(crate) fn folder_of(&self, key: &str) -> &'t Path {
        self.table
            .get(key)
            .map_or(Path::new(""), |entry| entry.at.file.folder())
    }

    pub(crate) fn boolean(&mut self, key: &'static str) -> bool {
        match self.get(key) {
            None => false,
            Some(Entry {
                value: Value::Boolean(yes),
                ..
            }) => *yes,
            Some(entry) => {
                self.wrong_type(entry, key, "true or false");
                false
            }
        }
    }

    /// A boolean for which absence has a meaning of its own.
    pub(crate) fn boolean_or_none(&mut self, key: &'static str) -> Option<bool> {
        if self.table.contains_key(key) {
            return Some(self.boolean(key));
        }
        self.asked.push(key);
        None
    }

    pub(crate) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Copy + Display,
    {
        let (least, most) = (*range.start(), *range.end());
        match self.get(key) {
            None => least,
            Some(Entry {
                value: Value::Integer(number),
                ..
            }) => {
                match T::try_from(*number)
                    .ok()
                    .filter(|number| range.contains(number))
                {
                    Some(number) => number,
                    None => {
                        self.wrong(key, format!("must be {least} to {most}, found {number}"));
                        least
                    }
                }
            }
            Some(entry) => {
                self.wrong_type(entry, key, &format!("a whole number, {least} to {most}"));
                least
            }
        }
    }

    /// Whole numbers without repeats: one, an array of them, or ranges as text, such
    /// as "1-3,7".
    pub(crate) fn numbers(&mut self, key: &'static str, range: RangeInclusive<u8>) -> Vec<u8> {
        let (least, most) = (*range.start(), *range.end());
        let Some(entry) = self.get(key) else {
            return Vec::new();
        };
        let found = match &entry.value {
            Value::Integer(number) => Some(vec![*number]),
            Value::Text(text) => ranges_of(text),
            Value::Array(items) => items
                .iter()
                .map(|item| match item.value {
                    Value::Integer(number) => Some(number),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let Some(found) = found.filter(|found| !found.is_empty()) else {
            let expected = "a whole number, an array of them, or text such as \"1-3,7\"";
            self.wrong_type(entry, key, expected);
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for number in found {
            match u8::try_from(number).ok().filter(|n| range.contains(n)) {
                None => self.wrong(key, format!("must be {least} to {most}, found {number}")),
                Some(number) if numbers.contains(&number) => {
                    self.wrong(key, format!("{number} is named twice"));
                }
                Some(number) => numbers.push(number),
            }
        }
        numbers
    }

    /// Whether `key` is there with a string, or with anything else.
    pub(crate) fn is_text(&self, key: &str) -> Option<bool> {
        let entry = self.table.get(key)?;
        Some(matches!(entry.value, Value::Text(_)))
    }

    pub(crate) fn float(&mut self, key: &'static str, range: RangeInclusive<f64>) -> f64 {
        let (least, most) = (*range.start(), *range.end());
        let number = match self.get(key) {
            None => return least,
            Some(Entry {
                value: Value::Float(number),
                ..
            }) => *number,
            // Beyond 2^53 a float is inexact, and far beyond any range here.
            Some(Entry {
                value: Value::Integer(number),
                ..
            }) => *number as f64,
            Some(entry) => {
                self.wrong_type(entry, key, &format!("a number, {least} to {most}"));
                return least;
            }
        };
        if !range.contains(&number) {
            self.wrong(key, format!("must be {least} to {most}, found {number}"));
        }
        number
    }

    /// One of a few words, each with its meaning.
    pub(crate) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> T {
        self.word_or_none(key, words).unwrap_or(words[0].1)
    }

    /// As `word`, and none instead of a placeholder.
    pub(crate) fn word_or_none<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let entry = self.get(key)?;
        let Value::Text(text) = &entry.value else {
            self.wrong_type(entry, key, &format!("one of {}", list(words)));
            return None;
        };
        let found = words.iter().find(|(word, _)| word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("must be one of {}, found {text:?}", list(words));
            let error = self.error(key, message).expecting(&known);
            self.errors.push(error);
        }
        found.map(|(_, meaning)| *meaning)
    }

    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let expected = "an array of strings";
        match self.get(key) {
            None => Vec::new(),
            Some(Entry {
                value: Value::Array(items),
                ..
            }) => {
                let mut texts = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    match &item.value {
                        Value::Text(text) => texts.push(text.clone()),
                        _ => self.wrong_type(item, &format!("{key}[{index}]"), "a string"),
                    }
                }
                texts
            }
            Some(entry) => {
                self.wrong_type(entry, key, expected);
                Vec::new()
            }
        }
    }

    /// Whether an array stands at `key`, where something else may.
    pub(crate) fn is_array(&self, key: &str) -> bool {
        let value = self.table.get(key).map(|entry| &entry.value);
        matches!(value, Some(Value::Array(_)))
    }

    /// A finite number that may be absent.
    pub(crate) fn float_or(&mut self, key: &'static str, absent: f64) -> f64 {
        if self.table.contains_key(key) {
            return self.float(key, f64::MIN..=f64::MAX);
        }
        self.asked.push(key);
        absent
    }

    /// Under keys of the operator's own, each a string or a table, which `read` reads.
    pub(crate) fn by_name<T: for<'a> From<&'a str>>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&mut Section<'_, '_>) -> T,
    ) -> BTreeMap<String, T> {
        let mut by_name = BTreeMap::new();
        match self.get(key) {
            None => {}
            Some(Entry {
                value: Value::Table(table),
                ..
            }) => {
                for (name, entry) in table {
                    let path = format!("{key}.{name}");
                    match &entry.value {
                        Value::Text(text) => {
                            by_name.insert(name.clone(), T::from(text));
                        }
                        Value::Table(_) => {
                            let title = format!("[{}]", self.path_of(&path));
                            let value = self.open(Some(entry), &path, title, true, &read);
                            by_name.insert(name.clone(), value);
                        }
                        _ => self.wrong_type(entry, &path, expected),
                    }
                }
            }
            Some(entry) => self.wrong_type(entry, key, "a table of channels"),
        }
        by_name
    }
}

fn list<T>(words: &[(&str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    quoted.join(", ")
}

/// The numbers of `1-3,7`.
fn ranges_of(text: &str) -> Option<Vec<i64>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u8, u8) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        numbers.extend((first..=last).map(i64::from));
    }
    Some(numbers)
}
