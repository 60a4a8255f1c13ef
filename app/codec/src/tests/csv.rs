//! CSV lines.

use super::{check, decoder, render};
use crate::{COLUMNS_MAX, Format, LINE_MAX};

const NOT_UTF8: &str =
    "malformed: not UTF-8; name its encoding, such as encoding = \"latin-1\", in cell 3";

fn check_csv(mapping: &str, cases: &[(&str, &str)]) {
    let cases: Vec<_> = cases.iter().map(|(p, e)| (p.as_bytes(), *e)).collect();
    check(Format::Csv, mapping, &cases);
}

#[test]
fn a_header_names_the_columns() {
    check_csv(
        r#"{"sensor":"node"}"#,
        &[
            ("", "none"),
            ("\u{feff}ts,flow,label,pressure,seq,node\r\n", "none"),
            (
                "9,-2,x,1.5,7,pump\r\n",
                "seq=7 ts=9 sensor=pump [1.5, -2.0]",
            ),
            ("\r\n", "none"),
            ("9,-2,x,1.5,7,pump", "seq=7 ts=9 sensor=pump [1.5, -2.0]"),
            (" , 2 ,,+1.5e0,,", "[1.5, 2.0]"),
            ("ts,flow,label,pressure,seq,node", "none"),
            (
                r#""9",2,"a, ""b""",1,7,"x,y""#,
                "seq=7 ts=9 sensor=x,y [1.0, 2.0]",
            ),
        ],
    );
}

#[test]
fn a_published_file_is_read() {
    // SKAB, valve1/0.csv (https://github.com/waico/SKAB), cut to two channels.
    check_csv(
        r#"{"delimiter":";","timestamp":"datetime","channels":{"pressure":"Pressure","flow":"Volume Flow RateRMS"}}"#,
        &[
            (
                "datetime;Accelerometer1RMS;Pressure;Volume Flow RateRMS;anomaly;changepoint\r\n",
                "none",
            ),
            (
                "2020-03-09 10:14:33;0.0265878;0.054711;32.0;0.0;0.0\r\n",
                "ts=1583748873000000 [0.054711, 32.0]",
            ),
        ],
    );
}

#[test]
fn a_header_that_lacks_a_channel_is_refused_until_a_better_one_comes() {
    check_csv(
        "{}",
        &[
            (
                "1.5,2",
                "missing_channel#0: a line of numbers where the header belongs: name them in columns",
            ),
            (
                "p,q",
                r#"missing_channel#0: the header has no column "pressure""#,
            ),
            (
                "pressure,seq",
                r#"missing_channel#1: the header has no column "flow""#,
            ),
            (
                "flow,pressure,flow",
                r#"malformed: "flow" is given twice in cell 3"#,
            ),
            ("flow,pressure", "none"),
            ("2,1.5", "[1.5, 2.0]"),
        ],
    );
}

#[test]
fn a_time_that_the_mapping_names_and_no_column_has_is_no_silence() {
    let cases = [
        (
            "pressure,flow",
            "malformed: the header has no column \"date_time\", which the mapping names",
        ),
        ("date_time,pressure,flow", "none"),
        ("2026-01-02T03:04:05Z,1,2", "ts=1767323045000000 [1.0, 2.0]"),
    ];
    check_csv(r#"{"timestamp":"date_time"}"#, &cases);
}

#[test]
fn a_header_may_carry_units() {
    for header in ["pressure [bar],flow(bar)", "pressure[ bar ],\"flow [bar]\""] {
        check_csv("{}", &[(header, "none"), ("1,2", "[1.0, 2.0]")]);
    }
    check_csv(
        "{}",
        &[
            (
                "pressure [bar],flow [degC]",
                r#"unit#1: "flow" is in "degC", the schema says "bar" in cell 2"#,
            ),
            ("ts [ms],pressure,flow", "none"),
            ("7,1,2", "ts=7000 [1.0, 2.0]"),
        ],
    );
    check_csv(
        r#"{"timestamp_unit":"us"}"#,
        &[
            (
                "ts [ms],pressure,flow",
                r#"malformed: the timestamp is in "ms", timestamp_unit says otherwise in cell 1"#,
            ),
            ("ts [us],pressure,flow", "none"),
        ],
    );
    check_csv(
        r#"{"channels":{"flow":"flow (psi)"}}"#,
        &[("pressure,flow (psi)", "none"), ("1,2", "[1.0, 2.0]")],
    );
}

#[test]
fn without_a_header_cells_go_by_position() {
    check_csv(
        r#"{"header":false}"#,
        &[
            ("1,2", "[1.0, 2.0]"),
            (
                "pressure,flow",
                r#"wrong_type#0: "pressure": expected a number, found "pressure" in cell 1"#,
            ),
        ],
    );
    check_csv(
        r#"{"columns":["seq","flow","-","pressure"]}"#,
        &[("7,2,x,1", "seq=7 [1.0, 2.0]")],
    );
    check_csv(
        r#"{"columns":["flow","pressure"],"header":true}"#,
        &[("Durchfluss;Druck", "none"), ("2,1", "[1.0, 2.0]")],
    );
}

#[test]
fn a_decimal_comma_is_read_where_it_is_configured() {
    check_csv(
        r#"{"header":false,"delimiter":";","decimal_comma":true}"#,
        &[
            ("1,5;-2", "[1.5, -2.0]"),
            (
                "1.5;2",
                r#"wrong_type#0: "pressure": expected a number, found "1.5" in cell 1"#,
            ),
            (
                "1;1,000,000",
                r#"wrong_type#1: "flow": expected a number, found "1,000,000" in cell 2"#,
            ),
            (
                &format!("1;{}", "1".repeat(65)),
                r#"wrong_type#1: "flow": expected a number, found "111111111111111111111111…" in cell 2"#,
            ),
        ],
    );
    check_csv(
        r#"{"header":false,"delimiter":"tab"}"#,
        &[("1\t2", "[1.0, 2.0]")],
    );
}

#[test]
fn a_cell_that_is_no_finite_number_is_refused_with_its_channel() {
    let infinite = r#"not_finite#1: "flow" is infinite or not a number in cell 2"#;
    check_csv(
        r#"{"header":false}"#,
        &[
            ("1,NaN", infinite),
            ("1,-inf", infinite),
            ("1,1e300", infinite),
            ("1,1e999", infinite),
            ("1,", r#"missing_channel#1: "flow" has no value in cell 2"#),
            (
                "1,\"\"",
                r#"missing_channel#1: "flow" has no value in cell 2"#,
            ),
            (
                "1,0x10",
                r#"wrong_type#1: "flow": expected a number, found "0x10" in cell 2"#,
            ),
        ],
    );
}

#[test]
fn another_number_of_cells_is_refused() {
    let many = ",".repeat(COLUMNS_MAX);
    check_csv(
        r#"{"header":false}"#,
        &[
            ("1", "channel_count: expected 2 cells, found 1"),
            ("1,2,", "[1.0, 2.0]"),
            ("1,2,3", "channel_count: expected 2 cells, found 3"),
            (&many, "channel_count: more than 256 cells"),
            (&many[1..], "channel_count: expected 2 cells, found 256"),
        ],
    );
}

#[test]
fn a_sequence_and_a_timestamp_follow_the_rules_of_json() {
    check_csv(
        r#"{"columns":["seq","ts","pressure","flow"],"timestamp_unit":"ms"}"#,
        &[
            ("7.0,1.5,1,2", "seq=7 ts=1500 [1.0, 2.0]"),
            (
                "18446744073709551615,1970-01-01T00:00:01Z,1,2",
                "seq=18446744073709551615 ts=1000000 [1.0, 2.0]",
            ),
            (
                "-1,0,1,2",
                "malformed: the sequence is not a whole number from 0 in cell 1",
            ),
            (
                "x,0,1,2",
                "malformed: the sequence: expected a number, found text in cell 1",
            ),
            (
                "1,noon,1,2",
                r#"malformed: the timestamp "noon" is no date in cell 2"#,
            ),
            (
                "1,inf,1,2",
                "malformed: the timestamp is out of range in cell 2",
            ),
        ],
    );
}

#[test]
fn a_broken_line_is_refused() {
    check_csv(
        r#"{"header":false}"#,
        &[
            ("1,\"2", "malformed: a quote is not closed"),
            ("1,2\n3,4", "[1.0, 2.0] | [3.0, 4.0]"),
            (
                "1,2\r3,4\r\n5,6\n\n",
                "[1.0, 2.0] | [3.0, 4.0] | [5.0, 6.0]",
            ),
            ("1,\"2\n\"", "[1.0, 2.0]"),
            ("1,2\r\n", "[1.0, 2.0]"),
        ],
    );
    check(
        Format::Csv,
        r#"{"columns":["pressure","-","flow"]}"#,
        &[
            (b"1,\xff,2", "[1.0, 2.0]"),
            (b"1,x,\xff", NOT_UTF8),
            (b"1,\xc3,\xa9", NOT_UTF8),
        ],
    );
}

#[test]
fn a_line_past_the_bound_is_oversize() {
    let line = |len: usize| format!("1,{:0>width$}\r\n", 2, width = len - 2);
    let mut decoder = decoder(Format::Csv, r#"{"header":false}"#);
    let outcome = render(&mut decoder, line(LINE_MAX).as_bytes());
    assert_eq!(outcome, "[1.0, 2.0]");
    let outcome = render(&mut decoder, line(LINE_MAX + 1).as_bytes());
    assert_eq!(outcome, "oversize: 4097 bytes, at most 4096 are allowed");
}
