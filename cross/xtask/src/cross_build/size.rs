//! What makes up a binary's size: by kind of section, and code by crate.
//!
//! Code is counted by the symbols of the debug file. A generic function counts
//! for the crate that defines it, not for the one that asked for it: the table
//! says where the code was written.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use object::{Object, ObjectSymbol, SymbolKind};

/// A part of the binary and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Share {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Sections, gathered under what they are for; largest first.
pub(super) fn by_kind(sections: &[(String, u64)]) -> Vec<Share> {
    let mut kinds: HashMap<&str, u64> = HashMap::new();
    for (name, bytes) in sections {
        *kinds.entry(kind_of(name)).or_default() += bytes;
    }
    largest_first(kinds)
}

fn kind_of(section: &str) -> &'static str {
    const KINDS: [(&str, &str); 12] = [
        (".text", "code"),
        (".rodata", "constants"),
        (".eh_frame", "unwinding"),
        (".gcc_except_table", "unwinding"),
        (".ARM.ex", "unwinding"),
        (".rel", "relocations"),
        (".data", "data"),
        (".got", "data"),
        (".init_array", "data"),
        (".dyn", "linking"),
        (".gnu", "linking"),
        (".plt", "linking"),
    ];
    let kind = KINDS.iter().find(|(prefix, _)| section.starts_with(prefix));
    kind.map_or("other", |(_, kind)| kind)
}

/// Code by the crate that defines it, of a file that still has its symbols;
/// largest first.
pub(super) fn by_crate(data: &[u8]) -> Result<Vec<Share>> {
    let file = object::File::parse(data)?;
    // By address, because identical functions share one.
    let mut functions: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    for symbol in file.symbols() {
        if symbol.kind() == SymbolKind::Text && symbol.size() > 0 {
            functions.insert(symbol.address(), (symbol.size(), symbol.name()?));
        }
    }
    let mut crates: HashMap<String, u64> = HashMap::new();
    for (bytes, name) in functions.into_values() {
        *crates.entry(crate_of(name)).or_default() += bytes;
    }
    Ok(largest_first(crates))
}

/// The crate that a mangled name is of, by the first path in it.
pub(super) fn crate_of(mangled: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(mangled));
    if name == mangled {
        return "C and assembler".to_owned();
    }
    let mut word = String::new();
    let mut chars = name.chars().peekable();
    while let Some(char) = chars.next() {
        if char.is_alphanumeric() || char == '_' {
            word.push(char);
        } else if char == ':' && chars.peek() == Some(&':') && !word.is_empty() {
            return word;
        } else {
            word.clear();
        }
    }
    // A symbol of the runtime's own, such as `rust_begin_unwind`.
    "std".to_owned()
}

fn largest_first(shares: HashMap<impl Into<String>, u64>) -> Vec<Share> {
    let mut shares: Vec<_> = shares
        .into_iter()
        .map(|(name, bytes)| Share {
            name: name.into(),
            bytes,
        })
        .collect();
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    shares
}
