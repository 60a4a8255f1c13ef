//! Each sentence marked **Invariant:** in ARCHITECTURE.md names a test that
//! holds it: `(test: `crate::name`)`, or `(tests: `one::name`, `other::name`)`.
//!
//! A path begins with the crate and ends with the function; modules between
//! them are for the reader. What is checked is that a `#[test]` of that name
//! exists in that crate; that it passes, the test run shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::{packages, root, rust_files};

const MARK: &str = "**Invariant:**";

#[test]
fn every_invariant_names_a_test_that_exists() {
    let path = root().join("ARCHITECTURE.md");
    let document = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    let named = tests_named(&document).unwrap_or_else(|complaint| panic!("{complaint}"));
    assert!(!named.is_empty(), "ARCHITECTURE.md states no invariant");

    let crates = crates();
    for path in named {
        let (krate, function) = split(&path);
        let folder = crates
            .get(&krate)
            .unwrap_or_else(|| panic!("`{path}` begins with no crate of the house"));
        let exists = rust_files(folder)
            .iter()
            .any(|file| has_test(&fs::read_to_string(file).unwrap(), &function));
        assert!(exists, "`{path}`: {krate} has no test `{function}`");
    }
}

/// The tests that the invariants of `document` name, in order.
///
/// Each invariant reaches to the next one, or to the end of its paragraph.
fn tests_named(document: &str) -> Result<Vec<String>, String> {
    let mut named = Vec::new();
    for paragraph in document.split("\n\n") {
        let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        for sentence in text.split(MARK).skip(1) {
            let tests = tests_of_sentence(sentence);
            if tests.is_empty() {
                return Err(format!("no test is named by: {MARK}{sentence}"));
            }
            named.extend(tests);
        }
    }
    Ok(named)
}

fn tests_of_sentence(sentence: &str) -> Vec<String> {
    let parenthesis = ["(test: ", "(tests: "]
        .iter()
        .find_map(|opening| sentence.split_once(opening));
    let Some((inside, _)) = parenthesis.and_then(|(_, rest)| rest.split_once(')')) else {
        return Vec::new();
    };
    // Between backticks lies every second piece.
    let quoted = inside.split('`').skip(1).step_by(2);
    quoted.map(ToOwned::to_owned).collect()
}

/// The folder of each crate of the house, by its name in Rust.
fn crates() -> BTreeMap<String, PathBuf> {
    let packages = packages().into_iter();
    packages
        .map(|package| {
            let folder = package
                .manifest_path
                .parent()
                .expect("a manifest has a folder");
            (package.name.replace('-', "_"), folder.to_owned())
        })
        .collect()
}

/// The crate and the function of a path, the crate spelled as in Rust.
fn split(path: &str) -> (String, String) {
    let (krate, rest) = path.split_once("::").unwrap_or((path, ""));
    let function = rest.rsplit("::").next().unwrap_or_default();
    (krate.replace('-', "_"), function.to_owned())
}

/// Whether `source` has a function `name` that `cargo test` runs.
fn has_test(source: &str, name: &str) -> bool {
    let signature = format!("fn {name}(");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let above = lines[..at].iter().rev();
        let attributes: Vec<_> = above.take_while(|line| is_attribute_or_doc(line)).collect();
        let is_run = attributes.contains(&&"#[test]")
            && !attributes.iter().any(|line| line.starts_with("#[ignore"));
        line.contains(&signature) && is_run
    })
}

fn is_attribute_or_doc(line: &str) -> bool {
    line.starts_with("#[") || line.starts_with("//")
}

fn check(document: &str, expected: Result<&[&str], &str>) {
    let found = tests_named(document);
    let expected = expected
        .map(|names| names.iter().map(|&name| name.to_owned()).collect())
        .map_err(ToOwned::to_owned);
    assert_eq!(found, expected, "in {document:?}");
}

#[test]
fn invariants_are_found_with_their_tests() {
    check("# hark\n\nNothing is promised.", Ok(&[]));
    check("**Invariant:** it holds (test: `a::b`).", Ok(&["a::b"]));
    check("**Invariant:** it\nholds (test:\n`a::b`).", Ok(&["a::b"]));
    check(
        "- **Invariant:** x (tests: `a::b`, `c::d::e`).\n- **Invariant:** y (test: `f::g`).",
        Ok(&["a::b", "c::d::e", "f::g"]),
    );
}

#[test]
fn an_invariant_without_a_test_is_refused() {
    let complaint = "no test is named by: **Invariant:** it holds.";
    check("**Invariant:** it holds.\n\n(test: `a::b`)", Err(complaint));
    check("**Invariant:** it holds.", Err(complaint));
    check(
        "**Invariant:** it holds. **Invariant:** so does this (test: `a::b`).",
        Err("no test is named by: **Invariant:** it holds. "),
    );
}

#[test]
fn a_test_is_found_by_its_whole_name_if_it_is_run() {
    let source = "#[test]\n#[should_panic]\nfn one() {}\n\nfn two() {}\n\n#[test]\n// why\n\
        fn three_more() {}\n\n#[test]\n#[ignore = \"slow\"]\nfn four() {}\n";
    let found = ["one", "two", "three", "three_more", "four"].map(|name| has_test(source, name));
    assert_eq!(found, [true, false, false, true, false]);
}
