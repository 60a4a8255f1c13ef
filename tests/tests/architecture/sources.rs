//! What the pure core asks of the world: nothing.
//!
//! A scan of the text, because the standard library does not show in a
//! dependency tree. It sees imports, groups of imports and full paths. The
//! core's own tests are free to ask.

use std::collections::BTreeSet;
use std::fs;

use crate::{root, rust_files};

/// Modules of `std` that reach outside the process or start threads.
const MODULES: [&str; 7] = ["env", "fs", "io", "net", "os", "process", "thread"];

/// Words that ask for the time or write to the terminal, however imported.
const WORDS: [&str; 6] = [
    "Instant::now",
    "SystemTime",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
];

#[test]
fn engine_asks_the_world_nothing() {
    let of_crate = |folder| {
        let files = rust_files(&root().join(folder));
        assert!(!files.is_empty(), "{folder} has no source");
        files
    };
    let files = ["app/engine/src", "app/ladder/src"].map(of_crate).concat();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let source = fs::read_to_string(file).unwrap();
        let found = worldly_uses(&source);
        assert!(found.is_empty(), "{} uses {found:?}", file.display());
    }
}

/// What `source` uses of [`MODULES`] and [`WORDS`], outside comments and tests.
fn worldly_uses(source: &str) -> BTreeSet<String> {
    let code = code_of(source);
    let mut found: BTreeSet<String> = WORDS
        .iter()
        .filter(|word| has_word(&code, word))
        .map(|&word| word.to_owned())
        .collect();
    for (at, prefix) in code.match_indices("std::") {
        let is_other_name = code[..at].ends_with(is_name_character);
        if !is_other_name {
            found.extend(modules_named(&code[at + prefix.len()..]));
        }
    }
    found
}

/// `source` without comments, white space and the tests at its end.
fn code_of(source: &str) -> String {
    let lines: String = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let words: Vec<_> = lines.split_whitespace().collect();
    let code = words.join(" ");
    let before_tests = code
        .split("#[cfg(test)] mod tests {")
        .next()
        .unwrap_or_default();
    // `std :: fs` and `{ fs` are as good as `std::fs` and `{fs`.
    before_tests
        .replace(" ::", "::")
        .replace(":: ", "::")
        .replace("{ ", "{")
        .replace(", ", ",")
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_name_character))
}

/// Those of [`MODULES`] at the start of `path`, the text after `std::`.
fn modules_named(path: &str) -> Vec<String> {
    let heads = match path.strip_prefix('{') {
        Some(group) => heads_of_group(group),
        None => vec![path],
    };
    heads
        .into_iter()
        .map(|head| {
            head.split(|c| !is_name_character(c))
                .next()
                .unwrap_or_default()
        })
        .filter(|head| MODULES.contains(head))
        .map(|head| format!("std::{head}"))
        .collect()
}

/// The items of a group of imports, without those of the groups inside it.
fn heads_of_group(group: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                heads.push(&group[start..at]);
                break;
            }
            ',' if depth == 0 => {
                heads.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn check(source: &str, expected: &[&str]) {
    let found = worldly_uses(source);
    let expected: BTreeSet<_> = expected.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, expected, "in {source:?}");
}

#[test]
fn the_scan_sees_imports_groups_and_full_paths() {
    check("use std::fs;", &["std::fs"]);
    check("use std::fs::{self, File};", &["std::fs"]);
    check(
        "use std::{collections::BTreeMap, net, thread as t};",
        &["std::net", "std::thread"],
    );
    check(
        "use std::{\n    fmt::{self, Write},\n    io::Read,\n};",
        &["std::io"],
    );
    check("let x = std::env::var(\"X\");", &["std::env"]);
    check("let x = ::std :: process :: id();", &["std::process"]);
    check("let now = Instant::now();", &["Instant::now"]);
    check(
        "let now = std::time::Instant\n    ::now();",
        &["Instant::now"],
    );
    check("use std::time::{Duration, SystemTime};", &["SystemTime"]);
    check("println!(\"x\");", &["println!"]);
}

#[test]
fn the_scan_leaves_the_innocent_alone() {
    check("use std::time::{Duration, Instant};", &[]);
    check(
        "use core::fmt; use std::{collections::{BTreeMap, fs_like}, fmt};",
        &[],
    );
    check(
        "// std::fs is not for us\n/// `Instant::now` neither\nfn f() {}",
        &[],
    );
    check("use nonstd::fs; fn environment() {}", &[]);
    check(
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
        &[],
    );
}

#[test]
fn the_scan_goes_on_after_a_test_module_in_another_file() {
    check("#[cfg(test)]\nmod tests;\nuse std::fs;", &["std::fs"]);
}
