//! What is wrong with a configuration: all of it at once, each with its place.
//!
//! An operator mends a file by hand, often over a slow link, so every error
//! names the file, the line, the key and what would be right, and nothing is
//! held back for the next attempt.

use std::fmt;

use serde::Serialize;

use super::tree::Origin;

/// One thing that is wrong.
///
/// Displays as `gateway.toml:12:3: sources[0].baud: must be 50 to 4000000, found 7`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The file as it was named, `base.toml (compiled in)`, or the environment variable.
    pub file: String,
    /// Line in the file, from 1; none where the whole file or a variable is meant.
    pub line: Option<usize>,
    /// Column in the line in characters, from 1; present exactly when `line` is.
    pub column: Option<usize>,
    /// Path of the key, such as `sources[0].baud`; empty where the whole file is meant.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Every key or word that would be right here, where there are few; else empty.
    pub expected: Vec<String>,
}

impl ConfigError {
    pub(super) fn new(at: &Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: at.file.to_string(),
            line: at.position.map(|position| position.line),
            column: at.position.map(|position| position.column),
            key: key.into(),
            message: message.into(),
            expected: Vec::new(),
        }
    }

    pub(super) fn expecting<T: ToString>(mut self, expected: &[T]) -> Self {
        self.expected = expected.iter().map(ToString::to_string).collect();
        self
    }

    /// Two errors of one place and key are one: a wrong default is met again by
    /// each source that starts from it.
    fn is_repeat_of(&self, earlier: &Self) -> bool {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
        (&self.file, self.line, self.column) == (&earlier.file, earlier.line, earlier.column)
            && last(&self.key) == last(&earlier.key)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration, ordered by file and line; never empty.
///
/// Displays one error a line; serialises as an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Orders `errors`, of which there is at least one, and leaves out repeats.
    pub(super) fn of(errors: Vec<ConfigError>) -> Self {
        assert!(!errors.is_empty());
        let mut kept: Vec<ConfigError> = Vec::new();
        for error in errors {
            if !kept.iter().any(|earlier| error.is_repeat_of(earlier)) {
                kept.push(error);
            }
        }
        kept.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        Self(kept)
    }

    /// The errors, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// The candidate that `wrong` was most likely meant to be, if any is close.
pub(super) fn nearest<'a>(wrong: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // A third of the letters wrong still reads as a slip; more is another word.
    let slips_max = 1 + wrong.chars().count() / 3;
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate), *candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean `x`?`, or else the whole list, or nothing if there is none.
pub(super) fn suggestion(wrong: &str, candidates: &[&str]) -> String {
    match nearest(wrong, candidates) {
        Some(candidate) => format!("; did you mean `{candidate}`?"),
        None if candidates.is_empty() => String::new(),
        None => format!("; known: {}", candidates.join(", ")),
    }
}
