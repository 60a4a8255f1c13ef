//! Prints a merged tree as TOML, each key with the place that set it.

use std::fmt::Write;

use super::tree::{Entry, Table, Value};

/// The column at which the places start, where the keys leave room.
const PLACE_COLUMN: usize = 40;

pub(super) fn to_toml(root: &Table) -> String {
    let mut out = String::new();
    write_table(&mut out, "", root);
    out
}

/// Writes the plain keys first, then the tables under their headings, as TOML wants it.
fn write_table(out: &mut String, path: &str, table: &Table) {
    for (key, entry) in table.iter().filter(|(_, entry)| !has_heading(entry)) {
        let line = format!("{} = {}", quote_key(key), to_value(&entry.value));
        push_line(out, &format!("{line:<PLACE_COLUMN$} # {}", entry.at));
    }
    for (key, entry) in table.iter().filter(|(_, entry)| has_heading(entry)) {
        let path = if path.is_empty() {
            quote_key(key)
        } else {
            format!("{path}.{}", quote_key(key))
        };
        match &entry.value {
            Value::Table(inner) => {
                // A heading over nothing but headings says nothing.
                if inner.is_empty() || !inner.values().all(has_heading) {
                    push_line(out, &format!("\n[{path}]"));
                }
                write_table(out, &path, inner);
            }
            Value::Array(items) => write_tables(out, &path, items),
            _ => unreachable!("only tables and arrays of tables have headings"),
        }
    }
}

fn write_tables(out: &mut String, path: &str, items: &[Entry]) {
    for item in items {
        if let Value::Table(inner) = &item.value {
            push_line(out, &format!("\n[[{path}]]"));
            write_table(out, path, inner);
        }
    }
}

fn has_heading(entry: &Entry) -> bool {
    match &entry.value {
        Value::Table(_) => true,
        Value::Array(items) => {
            !items.is_empty()
                && items
                    .iter()
                    .all(|item| matches!(item.value, Value::Table(_)))
        }
        _ => false,
    }
}

fn to_value(value: &Value) -> String {
    match value {
        Value::Text(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Integer(number) => number.to_string(),
        // Debug keeps the point of a whole number: 50.0.
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(yes) => yes.to_string(),
        Value::Datetime(time) => time.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| to_value(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let pairs = table.iter();
            let pairs = pairs
                .map(|(key, entry)| format!("{} = {}", quote_key(key), to_value(&entry.value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quote_key(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_bare) {
        return key.to_owned();
    }
    toml::Value::from(key).to_string()
}

fn push_line(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("a string can always be written to");
}
