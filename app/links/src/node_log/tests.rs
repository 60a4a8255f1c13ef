use super::decode::Malformed;
use super::lines::LINE_BYTES_MAX;
use super::table::Unreadable;
use super::*;

/// Lines 1 to 6, and the parts 10 to 12, as a firmware's symbols name them.
fn table() -> LogTable {
    let mut table = LogTable::empty("node.elf".into());
    let mut add = |number, tag: &str, data: &str| {
        let symbol = serde_json::json!({ "package": "p", "tag": tag, "data": data });
        table.add(number, &symbol.to_string());
    };
    add(1, "defmt_warn", "level {=u8}");
    add(2, "defmt_info", "says {=str}");
    add(
        3,
        "defmt_error",
        "hex {0=u16:#06x} signed {1=i8}, {1=i8:x}, again {0=u16}",
    );
    add(4, "defmt_debug", "is {}");
    add(5, "defmt_println", "all {=[?]} of {=[u8]}");
    add(6, "defmt_trace", "shown {=__internal_Display} at {=u32:us}");
    add(10, "defmt_derived", "Off|On({=bool})");
    add(11, "defmt_prim", "{=u8}");
    add(12, "defmt_derived", "Deep {=?}");
    table.add(7, "$d");
    table
}

/// rzCOBS of a line without long runs: for each seven bytes those that are not
/// zero, and a mask of those that are.
fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for group in bytes.chunks(7) {
        let mut padded = [0; 7];
        padded[..group.len()].copy_from_slice(group);
        let mask = |(bit, byte): (usize, &u8)| u8::from(*byte == 0) << bit;
        encoded.extend(padded.iter().filter(|byte| **byte != 0));
        encoded.push(padded.iter().enumerate().map(mask).sum());
    }
    encoded
}

fn check(bytes: &[u8], expected: Result<(Option<Level>, &str), Malformed>) {
    let found = explain(&table(), &encode(bytes));
    let found = found
        .as_ref()
        .map(|explained| (explained.level, explained.message.as_str()))
        .map_err(|error| *error);
    assert_eq!(found, expected, "{bytes:?}");
}

#[test]
fn a_line_is_explained_by_its_strings() {
    check(&[1, 0, 42], Ok((Some(Level::Warn), "level 42")));
    check(&[2, 0, 1, 0, 0, 0, b'x'], Ok((Some(Level::Info), "says x")));
    check(
        &[3, 0, 0x2c, 1, 0xfe],
        Ok((Some(Level::Error), "hex 0x012c signed -2, fe, again 300")),
    );
    check(&[4, 0, 11, 0, 7], Ok((Some(Level::Debug), "is 7")));
    check(&[4, 0, 10, 0, 0], Ok((Some(Level::Debug), "is Off")));
    check(
        &[4, 0, 10, 0, 1, 1],
        Ok((Some(Level::Debug), "is On(true)")),
    );
    check(
        &[5, 0, 2, 0, 0, 0, 11, 0, 8, 9, 1, 0, 0, 0, 3],
        Ok((None, "all [8, 9] of [3]")),
    );
    check(
        &[6, 0, b'o', b'k', 0xff, 0x40, 0x42, 0x0f],
        Ok((Some(Level::Trace), "shown ok at 1.000000")),
    );
}

#[test]
fn what_the_elf_does_not_explain_is_an_error() {
    let malformed = Err(Malformed);
    // No such string; a part in place of a line; text beyond the line; a length
    // that would take all memory; an element without end; bytes after the line.
    check(&[9, 0, 42], malformed);
    check(&[11, 0, 42], malformed);
    check(&[2, 0, 9, 0, 0, 0, b'x'], malformed);
    check(&[5, 0, 255, 255, 255, 255, 12, 0], malformed);
    check(&[4, 0, 12, 0, 12, 0, 12, 0, 12, 0], malformed);
    check(&[1, 0, 42, 43], malformed);
    check(&[2, 0, 1, 0, 0, 0, 0xff], malformed);
}

#[test]
fn a_nodes_text_cannot_end_the_line() {
    let info = Some(Level::Info);
    check(&[2, 0, 1, 0, 0, 0, b'\n'], Ok((info, "says \\n")));
    check(&[2, 0, 1, 0, 0, 0, 0x1b], Ok((info, "says \\u{1b}")));
}

#[test]
fn whatever_bytes_are_explained_or_refused() {
    let table = table();
    // Numerical Recipes' generator: the same bytes in every run.
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut explained = 0;
    for round in 0..200_000 {
        let len = usize::from(byte() % 24);
        let mut line: Vec<u8> = (0..len).map(|_| byte()).collect();
        if let (Some(first), true) = (line.first_mut(), round % 2 == 0) {
            *first = 1 + *first % 12;
            explained += usize::from(explain(&table, &encode(&line)).is_ok());
        } else {
            explained += usize::from(explain(&table, &line).is_ok());
        }
    }
    assert!(explained > 100, "only {explained} were lines");
}

#[test]
fn files_that_are_no_firmware_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.elf");
    let refuse = |path: &Path| LogTable::read(path).unwrap_err().to_string();
    assert!(refuse(&path).contains("node.elf"));
    for content in [&b""[..], b"no ELF", b"\x7fELF\x01\x01\x01"] {
        std::fs::write(&path, content).unwrap();
        assert!(refuse(&path).contains("node.elf"));
    }
    // Our own test program is an ELF, without a log of defmt's.
    let own = std::env::current_exe().unwrap();
    let refused = LogTable::read(&own).unwrap_err();
    assert!(
        matches!(refused, Unreadable::NoStrings(_) | Unreadable::Size(_)),
        "{refused}"
    );
}

/// What is made of `pieces`; `None` is a loss.
fn check_lines(pieces: &[Option<&[u8]>], expected: &[&[u8]]) {
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in pieces {
        match piece {
            Some(bytes) => lines.handle_bytes(bytes, |line| found.push(line.to_owned())),
            None => lines.handle_loss(),
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn pieces_of_any_size_make_the_same_lines() {
    check_lines(&[Some(b"one\0two\0")], &[b"one", b"two"]);
    check_lines(
        &[Some(b"o"), Some(b"ne"), Some(b"\0tw"), Some(b"o\0")],
        &[b"one", b"two"],
    );
    check_lines(&[Some(b"\0\0one\0\0")], &[b"one"]);
}

#[test]
fn a_loss_costs_the_line_that_it_was_in() {
    check_lines(&[Some(b"on"), None, Some(b"rest\0two\0")], &[b"two"]);
    check_lines(&[Some(b"one\0"), None, Some(b"two\0")], &[b"one", b"two"]);
}

#[test]
fn a_line_that_never_ends_costs_fixed_memory() {
    let endless = [7; LINE_BYTES_MAX];
    check_lines(
        &[Some(&endless), Some(&endless), Some(b"7\0two\0")],
        &[b"two"],
    );
}
