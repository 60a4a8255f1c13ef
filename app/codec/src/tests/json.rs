//! JSON payloads.

use super::{check, render};
use crate::{Format, PAYLOAD_MAX};

fn check_json(mapping: &str, cases: &[(&str, &str)]) {
    let cases: Vec<_> = cases.iter().map(|(p, e)| (p.as_bytes(), *e)).collect();
    check(Format::Json, mapping, &cases);
}

#[test]
fn every_shape_gives_the_same_reading() {
    let expected = "seq=7 ts=9 [1.5, -2.0]";
    check_json(
        "{}",
        &[
            (r#"{"seq":7,"ts":9,"values":[1.5,-2]}"#, expected),
            (r#"{"values":[1.5,-2],"ts":9,"seq":7}"#, expected),
            (
                r#"{"seq":7,"ts":9,"values":{"pressure":1.5,"flow":-2}}"#,
                expected,
            ),
            (
                r#"{"seq":7,"ts":9,"values":{"flow":-2,"pressure":1.5}}"#,
                expected,
            ),
            (r#"{"seq":7,"ts":9,"pressure":1.5,"flow":-2}"#, expected),
            (
                " {\n\"flow\" : -2 , \"seq\":7.0,\"ts\":9.2,\"pressure\":15e-1}\n",
                expected,
            ),
            (r#"[1.5,-2]"#, "[1.5, -2.0]"),
            ("\u{feff}[1.5,-2]", "[1.5, -2.0]"),
            (
                r#"{"values":[0,18446744073709551616]}"#,
                "[0.0, 1.8446744e19]",
            ),
        ],
    );
}

#[test]
fn fields_are_found_by_their_configured_names() {
    check_json(
        r#"{"channels":{"pressure":"p","flow":"q"},"sequence":"n","timestamp":"t",
            "timestamp_unit":"s","sensor":"node","values":"v"}"#,
        &[
            (
                r#"{"n":1,"t":1.5,"node":"pump","p":1,"q":2}"#,
                "seq=1 ts=1500000 sensor=pump [1.0, 2.0]",
            ),
            (
                r#"{"t":"1970-01-01 00:00:01","node":"pump\n\"2\"","v":[1,2]}"#,
                "ts=1000000 sensor=pump\n\"2\" [1.0, 2.0]",
            ),
            (r#"{"\u0070":1,"q":2,"node":null}"#, "[1.0, 2.0]"),
            (
                r#"{"pressure":1,"flow":2}"#,
                r#"missing_channel#0: the payload has no "p""#,
            ),
            (r#"{"node":7,"p":1,"q":2}"#, "sensor=7 [1.0, 2.0]"),
            (
                r#"{"node":true,"p":1,"q":2}"#,
                "malformed: the sensor: expected text, found a boolean at column 12",
            ),
            (
                r#"{"t":"soon","v":[1,2]}"#,
                r#"malformed: the timestamp "soon" is no date at column 11"#,
            ),
            (r#"{"t":-1,"v":[1,2]}"#, "ts=-1000000 [1.0, 2.0]"),
            (
                r#"{"t":18446744073709551615,"v":[1,2]}"#,
                "malformed: the timestamp is out of range at column 25",
            ),
        ],
    );
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    check_json(
        "{}",
        &[(
            r#"{"a":null,"b":[1,{"c":[]}],"b":"x","d":{"e":true},"pressure":1,"flow":2,"f":-1.5}"#,
            "[1.0, 2.0]",
        )],
    );
}

#[test]
fn a_missing_channel_is_named() {
    let missing = r#"missing_channel#1: the payload has no "flow""#;
    let no_value = r#"missing_channel#1: "flow" has no value"#;
    check_json(
        "{}",
        &[
            (r#"{"pressure":1}"#, missing),
            (r#"{"values":{"pressure":1,"flaw":2}}"#, missing),
            (
                r#"{"pressure":1,"flow":null}"#,
                &format!("{no_value} at column 25"),
            ),
            (r#"[1,null]"#, &format!("{no_value} at column 7")),
            (
                r#"{}"#,
                r#"missing_channel#0: the payload has no "pressure""#,
            ),
            (
                r#"{"values":null}"#,
                r#"missing_channel#0: the payload has no "pressure""#,
            ),
        ],
    );
}

#[test]
fn another_number_of_values_is_refused() {
    check_json(
        "{}",
        &[
            (
                "[]",
                "channel_count: expected 2 values, found 0 at column 2",
            ),
            (
                "[1]",
                "channel_count: expected 2 values, found 1 at column 3",
            ),
            (
                r#"{"values":[1,2,3,"x"]}"#,
                "channel_count: expected 2 values, found 4 at column 21",
            ),
        ],
    );
}

#[test]
fn what_is_no_number_is_refused_with_its_channel() {
    let text = |found: &str, column| {
        format!(r#"wrong_type#1: "flow": expected a number, found {found} at column {column}"#)
    };
    check_json(
        "{}",
        &[
            (r#"[1,"x"]"#, &text("\"x\"", 6)),
            (r#"[1,[2]]"#, &text("an array", 4)),
            (r#"{"flow":{},"pressure":1}"#, &text("an object", 9)),
        ],
    );
}

#[test]
fn a_value_that_f32_cannot_hold_is_refused() {
    let text =
        |column| format!(r#"not_finite#1: "flow" is infinite or not a number at column {column}"#);
    check_json(
        "{}",
        &[
            ("[1,1e300]", &text(8)),
            ("[1,-1e39]", &text(8)),
            ("[1,1e999]", &text(8)),
            (r#"{"flow":-1e999,"pressure":1}"#, &text(14)),
            ("[1e-300,3.4e38]", "[0.0, 3.4e38]"),
        ],
    );
}

#[test]
fn units_are_compared_with_the_schema() {
    check_json(
        "{}",
        &[
            (
                r#"{"units":{"pressure":"bar","flow":null,"x":1},"values":[1,2]}"#,
                "[1.0, 2.0]",
            ),
            (
                r#"{"values":[1,2],"units":{"flow":"degC"}}"#,
                r#"unit#1: "flow" is in "degC", the schema says "bar" at column 38"#,
            ),
            (
                r#"{"units":"metric","values":[1,2]}"#,
                "malformed: the units: expected an object, found text at column 17",
            ),
        ],
    );
}

#[test]
fn a_sequence_is_a_whole_number_from_zero() {
    let wrong = "malformed: the sequence is not a whole number from 0";
    check_json(
        "{}",
        &[
            (
                r#"{"seq":-1,"values":[1,2]}"#,
                &format!("{wrong} at column 9"),
            ),
            (
                r#"{"seq":1.5,"values":[1,2]}"#,
                &format!("{wrong} at column 10"),
            ),
            (
                r#"{"seq":1e18,"values":[1,2]}"#,
                &format!("{wrong} at column 11"),
            ),
            (r#"{"seq":null,"values":[1,2]}"#, "[1.0, 2.0]"),
            (
                r#"{"seq":18446744073709551615,"values":[1,2]}"#,
                "seq=18446744073709551615 [1.0, 2.0]",
            ),
            (
                r#"{"seq":"18446744073709551615","values":[1,2]}"#,
                "seq=18446744073709551615 [1.0, 2.0]",
            ),
            (r#"{"seq":"","values":[1,2]}"#, "[1.0, 2.0]"),
            (
                r#"{"seq":"x","values":[1,2]}"#,
                "malformed: the sequence: expected a number, found text at column 10",
            ),
        ],
    );
}

#[test]
fn a_field_that_is_given_twice_is_refused() {
    check_json(
        "{}",
        &[
            (
                r#"{"seq":1,"seq":1,"values":[1,2]}"#,
                "malformed: the sequence is given twice at column 15",
            ),
            (
                r#"{"pressure":1,"flow":1,"pressure":2}"#,
                r#"malformed: "pressure" is given twice at column 34"#,
            ),
            (
                r#"{"pressure":1,"values":[1,2]}"#,
                r#"malformed: "pressure" is given twice at column 24"#,
            ),
            (
                r#"{"values":[1,2],"values":[1,2]}"#,
                "malformed: the values is given twice at column 25",
            ),
        ],
    );
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    check_json(
        "{}",
        &[
            ("", "none"),
            (" \r\n", "none"),
            (
                "[1,2] x",
                "malformed: no JSON: something else behind the value at column 6",
            ),
            (
                "[1,2",
                r#"malformed: no JSON: expected "," or "]", found the end at column 4"#,
            ),
            (
                "[1,nul]",
                "malformed: no JSON: expected a value, found 'n' at column 3",
            ),
            (
                "[1,2,]",
                "malformed: no JSON: expected a value, found ']' at column 5",
            ),
            (
                "7",
                "malformed: the payload: expected an object or an array, found a number at column 1",
            ),
        ],
    );
    check(
        Format::Json,
        "{}",
        &[(
            b"{\"\xff\":1}",
            "malformed: not UTF-8; name its encoding, such as encoding = \"latin-1\", at byte 3",
        )],
    );
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let field = |depth| format!(r#"{{"x":{},"values":[1,2]}}"#, nested(depth));
    check_json("{}", &[(&field(16), "[1.0, 2.0]")]);
    for payload in [
        field(17),
        field(10_000),
        format!("[1,2,{}]", nested(30_000)),
    ] {
        let mut decoder = super::decoder(Format::Json, "{}");
        let outcome = render(&mut decoder, payload.as_bytes());
        assert!(
            outcome.starts_with("malformed: nested deeper than 16"),
            "{outcome}"
        );
    }
}

#[test]
fn a_payload_past_the_bound_is_oversize() {
    let payload = |len: usize| [b"[1,2]".to_vec(), vec![b' '; len - 5]].concat();
    check(
        Format::Json,
        "{}",
        &[
            (&payload(PAYLOAD_MAX), "[1.0, 2.0]"),
            (
                &payload(PAYLOAD_MAX + 1),
                "oversize: 65537 bytes, at most 65536 are allowed",
            ),
        ],
    );
}
