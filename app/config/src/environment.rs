//! Overrides from the environment: `HARK_<SECTION>__<KEY>=value`.
//!
//! Two underscores go one level down: `HARK_DEFAULTS__SERIAL__BAUD=9600`; a
//! number picks an element: `HARK_SOURCES__0__PORT=/dev/ttyUSB1`. The value is
//! TOML where it parses as such, otherwise a string; where the key holds a
//! string already, it is a string as it stands. Whether the key exists is
//! checked later, with all other keys.

use std::ffi::OsString;

use super::{
    error::{ConfigError, nearest},
    tree::{self, Entry, File, Origin, Table, Value},
};

const PREFIX: &str = "HARK_";
const LEVEL: &str = "__";

/// Levels of a key. The deepest that is known has four, `defaults.all.mapping.channels`.
const LEVELS_MAX: usize = 8;

/// Applies the variables among `variables` that are overrides; the others may hold
/// whatever they like.
pub(super) fn apply(
    table: &mut Table,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<ConfigError> {
    let mut overrides: Vec<_> = variables
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        .collect();
    // The order of the environment is arbitrary; that of the errors should not be.
    overrides.sort();
    let mut errors = Vec::new();
    for (name, value) in &overrides {
        let shown = name.to_string_lossy();
        let origin = Origin::of(File::Variable(shown.clone().into_owned()));
        let path = shown[PREFIX.len()..].to_lowercase();
        let applied = match (name.to_str(), value.to_str()) {
            (Some(_), Some(value)) => apply_one(table, &path, value, &origin),
            _ => Err("must be UTF-8".to_owned()),
        };
        if let Err(message) = applied {
            errors.push(ConfigError::new(&origin, path.replace(LEVEL, "."), message));
        }
    }
    errors
}

fn apply_one(table: &mut Table, path: &str, text: &str, origin: &Origin) -> Result<(), String> {
    let levels: Vec<&str> = path.split(LEVEL).collect();
    let (key, sections) = levels
        .split_last()
        .expect("split yields at least one level");
    if sections.is_empty() {
        return check_not_misspelt(table, key);
    }
    if levels.len() > LEVELS_MAX || levels.contains(&"") {
        return Err("must be HARK_<SECTION>__<KEY>".to_owned());
    }
    let inner = descend(table, sections, origin)?;
    let holds_text = matches!(
        inner.get(*key),
        Some(Entry {
            value: Value::Text(_),
            ..
        })
    );
    let parsed = if holds_text {
        None
    } else {
        tree::parse_value(text, origin)
    };
    let value = parsed.unwrap_or_else(|| Value::Text(text.to_owned()));
    let (key_at, at) = (origin.clone(), origin.clone());
    inner.insert((*key).to_owned(), Entry { value, key_at, at });
    Ok(())
}

/// Finds the table that `sections` lead to, creating what is absent: an unknown
/// section is reported with all other unknown keys.
fn descend<'t>(
    table: &'t mut Table,
    sections: &[&str],
    origin: &Origin,
) -> Result<&'t mut Table, String> {
    let Some((first, rest)) = sections.split_first() else {
        return Ok(table);
    };
    let entry = table.entry((*first).to_owned()).or_insert_with(|| Entry {
        value: Value::Table(Table::new()),
        key_at: origin.clone(),
        at: origin.clone(),
    });
    match &mut entry.value {
        Value::Table(inner) => descend(inner, rest, origin),
        Value::Array(items) => descend_array(items, first, rest, origin),
        _ => Err(format!("`{first}` is a value, not a section")),
    }
}

fn descend_array<'t>(
    items: &'t mut [Entry],
    name: &str,
    sections: &[&str],
    origin: &Origin,
) -> Result<&'t mut Table, String> {
    let count = items.len();
    let (index, rest) = sections.split_first().unwrap_or((&"", &[]));
    let item = index
        .parse()
        .ok()
        .and_then(|index: usize| items.get_mut(index));
    match item {
        Some(Entry {
            value: Value::Table(inner),
            ..
        }) => descend(inner, rest, origin),
        _ => Err(format!(
            "`{name}` has {count} elements, counted from 0; `{index}` is none"
        )),
    }
}

/// Other variables may begin with `HARK_`, but `HARK_MQTT_PORT` is surely a slip.
fn check_not_misspelt(table: &Table, word: &str) -> Result<(), String> {
    let split = |section: &str| {
        word.strip_prefix(section)?
            .strip_prefix('_')
            .map(str::to_owned)
    };
    let Some((section, key)) = table
        .keys()
        .find_map(|section| Some((section, split(section)?)))
    else {
        return Ok(());
    };
    let known: Vec<&str> = match &table[section].value {
        Value::Table(inner) => inner.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let likely = nearest(&key, &known).unwrap_or(&key);
    let variable = format!("{PREFIX}{section}{LEVEL}{likely}").to_uppercase();
    Err(format!(
        "two underscores go between section and key; did you mean `{variable}`?"
    ))
}
