//! Every fault of a manifest at once, each with its line.
//!
//! Deserializing stops at the first fault. So what is at fault is taken out of the
//! parsed document, and the rest is tried again, until nothing is left to find.
//! What is then missing because it was taken out is no fault of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

/// Faults that are looked for; whoever has as many mends some first.
pub(super) const FAULTS_MAX: usize = 32;

/// One fault of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line in the file, counted from 1.
    pub line: usize,
    /// What is wrong, with the key, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Where each key stands: its path, as `model.inputs` or `variants[0].file`, to its
/// line. Numbers in a list have no path of their own.
#[derive(Debug, Clone, Default)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    pub(super) fn of(text: &str, document: &DeTable<'_>) -> Self {
        let mut lines = Self::default();
        lines.note_table(text, "", document);
        lines
    }

    /// The line of `path`, or of the nearest table around it that is there.
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 1,
            }
        }
    }

    fn note_table(&mut self, text: &str, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            self.note(text, join(path, key.get_ref()), key.span(), value);
        }
    }

    fn note(&mut self, text: &str, path: String, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.note_table(text, &path, table),
            DeValue::Array(array) => {
                let tables = array.iter().enumerate();
                for (index, element) in tables.filter(|(_, element)| element.get_ref().is_table()) {
                    self.note(text, format!("{path}[{index}]"), element.span(), element);
                }
            }
            _ => {}
        }
        self.0.insert(path, line_at(text.as_bytes(), span.start));
    }
}

/// Deserializes the document; with it, or in its place, every fault that was found.
/// What comes with faults is whole but for keys that nobody knows.
pub(super) fn read<T: DeserializeOwned>(
    text: &str,
    document: &Spanned<DeTable<'_>>,
) -> (Option<T>, Vec<Fault>) {
    let (whole, mut document, mut faults) = (document, document.clone(), BTreeSet::new());
    let mut taken_out = BTreeSet::new();
    for _ in 0..=2 * FAULTS_MAX {
        let error = match T::deserialize(Deserializer::from(document.clone())) {
            Ok(read) => return (Some(read), faults.into_iter().collect()),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let step = Step::of(document.get_ref(), &span);
        let table = step.as_ref().map(|step| step.value_at);
        let is_consequence = missing_field(error.message())
            .is_some_and(|field| taken_out.contains(&(table, field.to_owned())));
        if !is_consequence {
            let mut fault = fault(text, &error);
            // Elements have other numbers once one before them is taken out.
            if let Some(named) = Step::of(whole.get_ref(), &span) {
                fault.message = format!("{}: {}", named.path, fault.message);
            }
            // What was found before would be found for ever.
            if faults.len() == FAULTS_MAX || !faults.insert(fault) {
                break;
            }
        }
        let Some(step) = step else { break };
        taken_out.insert((step.table_at, step.key.clone()));
        if !take_out(document.get_mut(), &step) {
            break;
        }
    }
    (None, faults.into_iter().collect())
}

/// The entry that a span belongs to.
struct Step {
    /// As `variants[0].file`.
    path: String,
    /// Where the table that holds it begins; none for the document.
    table_at: Option<usize>,
    key: String,
    /// The element of the key's list that it is.
    index: Option<usize>,
    /// Where its value begins.
    value_at: usize,
}

impl Step {
    /// The innermost entry whose key or value has exactly this span.
    fn of(document: &DeTable<'_>, span: &Range<usize>) -> Option<Self> {
        Self::within(document, "", None, span)
    }

    fn within(
        table: &DeTable<'_>,
        around: &str,
        table_at: Option<usize>,
        span: &Range<usize>,
    ) -> Option<Self> {
        table.iter().find_map(|(key, value)| {
            let path = join(around, key.get_ref());
            let step = |path: &str, index, value: &Spanned<DeValue<'_>>| Step {
                path: path.to_owned(),
                table_at,
                key: key.get_ref().to_string(),
                index,
                value_at: value.span().start,
            };
            let at = Some(value.span().start);
            let inner = match value.get_ref() {
                DeValue::Table(table) => Self::within(table, &path, at, span),
                DeValue::Array(array) => array.iter().enumerate().find_map(|(index, element)| {
                    let at = Some(element.span().start);
                    let path = format!("{path}[{index}]");
                    let inner = match element.get_ref() {
                        DeValue::Table(table) => Self::within(table, &path, at, span),
                        _ => None,
                    };
                    let is_this = element.span() == *span;
                    inner.or_else(|| is_this.then(|| step(&path, Some(index), element)))
                }),
                _ => None,
            };
            let is_this = key.span() == *span || value.span() == *span;
            inner.or_else(|| is_this.then(|| step(&path, None, value)))
        })
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// Whether the entry was there.
fn take_out(table: &mut DeTable<'_>, step: &Step) -> bool {
    take_out_of(table, None, step)
}

fn take_out_of(table: &mut DeTable<'_>, table_at: Option<usize>, step: &Step) -> bool {
    if table_at == step.table_at {
        let key = table.keys().find(|key| *key.get_ref() == step.key.as_str());
        let Some(key) = key.cloned() else {
            return false;
        };
        let is_here = |value: &Spanned<DeValue<'_>>| value.span().start == step.value_at;
        let Some(value) = table.get_mut(&key) else {
            return false;
        };
        return match (value.get_mut(), step.index) {
            (DeValue::Array(array), Some(index)) if array.get(index).is_some_and(is_here) => {
                let mut rest = DeArray::new();
                let others = array.iter().enumerate().filter(|(at, _)| *at != index);
                others.for_each(|(_, element)| rest.push(element.clone()));
                *array = rest;
                true
            }
            (_, None) => table.remove(&key).is_some(),
            _ => false,
        };
    }
    table.iter_mut().any(|(_, value)| {
        let at = Some(value.span().start);
        match value.get_mut() {
            DeValue::Table(table) => take_out_of(table, at, step),
            DeValue::Array(array) => array.iter_mut().any(|element| {
                let at = Some(element.span().start);
                match element.get_mut() {
                    DeValue::Table(table) => take_out_of(table, at, step),
                    _ => false,
                }
            }),
            _ => false,
        }
    })
}

/// The field in serde's "missing field `…`".
fn missing_field(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("missing field `")?;
    rest.split('`').next()
}

/// A parser's error with its line.
pub(super) fn fault(text: &str, error: &Error) -> Fault {
    let at = error.span().map_or(0, |span| span.start);
    Fault {
        line: line_at(text.as_bytes(), at),
        message: error.message().replace('\n', " "),
    }
}

pub(super) fn line_at(bytes: &[u8], at: usize) -> usize {
    let before = &bytes[..at.min(bytes.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
