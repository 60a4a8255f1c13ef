//! What devices of the field send: nested, several at once, as text, in other units.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{check, decoder};
use crate::{Decoded, Format, READINGS_MAX};

fn check_json(mapping: &str, cases: &[(&str, &str)]) {
    let cases: Vec<_> = cases.iter().map(|(p, e)| (p.as_bytes(), *e)).collect();
    check(Format::Json, mapping, &cases);
}

fn check_csv(mapping: &str, cases: &[(&str, &str)]) {
    let cases: Vec<_> = cases.iter().map(|(p, e)| (p.as_bytes(), *e)).collect();
    check(Format::Csv, mapping, &cases);
}

#[test]
fn a_channel_is_found_by_a_path_a_pointer_or_its_whole_name() {
    let nested = r#"{"A":{"p":1,"q":[{"f":7},{"f":2}]},"x":{"A":{"p":9}}}"#;
    for (pressure, flow) in [
        ("A.p", "A.q[1].f"),
        ("/A/p", "/A/q/1/f"),
        ("A.p", "/A/q/1/f"),
    ] {
        let mapping = format!(r#"{{"channels":{{"pressure":"{pressure}","flow":"{flow}"}}}}"#);
        check_json(&mapping, &[(nested, "[1.0, 2.0]")]);
    }
    check_json(
        r#"{"channels":{"pressure":"A.p","flow":"A.q"}}"#,
        &[
            (r#"{"A":{"p":1,"q":2}}"#, "[1.0, 2.0]"),
            (r#"{"A":{"p":9,"q":2},"A.p":1}"#, "[1.0, 2.0]"),
            (r#"{"A.p":1,"A":{"p":9,"q":2}}"#, "[1.0, 2.0]"),
            (
                r#"{"A":{"p":1,"p":1,"q":2}}"#,
                r#"malformed: "A.p" is given twice at column 16"#,
            ),
            (
                r#"{"A":7}"#,
                r#"missing_channel#0: the payload has no "A.p""#,
            ),
            (
                r#"{"A":[1,2]}"#,
                r#"missing_channel#0: the payload has no "A.p""#,
            ),
        ],
    );
    check_json(
        r#"{"channels":{"pressure":"[0].v","flow":"[1].v"}}"#,
        &[(r#"[{"v":1},{"v":2},{"v":3}]"#, "[1.0, 2.0]")],
    );
    check_json(
        r#"{"timestamp":"t.at","sensor":"/id","sequence":"t.n","channels":{"flow":"values.f"}}"#,
        &[(
            r#"{"t":{"at":9,"n":7},"id":"a","values":{"f":2,"pressure":1}}"#,
            "seq=7 ts=9 sensor=a [1.0, 2.0]",
        )],
    );
}

#[test]
fn a_message_may_hold_many_readings() {
    let two = "ts=1 [1.0, 2.0] | ts=2 [3.0, 4.0]";
    let objects = r#"{"ts":1,"pressure":1,"flow":2},{"ts":2,"pressure":3,"flow":4}"#;
    check_json(
        "{}",
        &[
            (&format!("[{objects}]"), two),
            (&objects.replace("},{", "}\n{"), two),
            (&format!("{}\r\n\0", objects.replace("},{", "},\r\n{")), two),
            (&objects.replace("},{", "}{"), two),
            ("[[1,2],[3,4]]", "[1.0, 2.0] | [3.0, 4.0]"),
            (
                r#"[{"pressure":1,"flow":2},{"pressure":1},7,{"pressure":3,"flow":4}]"#,
                "[1.0, 2.0] | missing_channel#1: the payload has no \"flow\" | malformed: a reading: \
                 expected an object or an array, found a number at column 41 in reading 3 | [3.0, 4.0]",
            ),
            (
                "{\"pressure\":1,\"flow\":2}\n{\"pressure\":1,\"fl\n{\"pressure\":3,\"flow\":4}",
                "[1.0, 2.0] | malformed: no JSON: a control character in a string at line 2 column 17 \
                 | [3.0, 4.0]",
            ),
        ],
    );
    check_csv(
        "{}",
        &[
            ("flow,pressure\n2,1\r\n4,3\n\n", "[1.0, 2.0] | [3.0, 4.0]"),
            ("6,5", "[5.0, 6.0]"),
        ],
    );
}

#[test]
fn readings_may_lie_below_a_field_and_share_what_is_beside_it() {
    let mapping = r#"{"readings":"data.items","sensor":"id"}"#;
    let items = r#"[{"id":"a","pressure":1,"flow":2},{"pressure":3,"flow":4}]"#;
    check_json(
        mapping,
        &[
            (
                &format!(r#"{{"data":{{"items":{items}}},"ts":9,"id":"g"}}"#),
                "ts=9 sensor=a [1.0, 2.0] | ts=9 sensor=g [3.0, 4.0]",
            ),
            (
                r#"{"data":{"items":{"pressure":1,"flow":2}}}"#,
                "[1.0, 2.0]",
            ),
            (r#"{"data":{"items":[]}}"#, "none"),
            (
                r#"{"data":7}"#,
                r#"malformed: the payload has no "data.items", which readings names at column 10"#,
            ),
        ],
    );
}

#[test]
fn more_readings_than_are_taken_are_counted_one_by_one() {
    let mut decoder = decoder(Format::Json, "{}");
    let element = r#"{"pressure":1,"flow":2}"#;
    let message = format!("[{}]", vec![element; READINGS_MAX + 3].join(","));
    let (mut taken, mut refused) = (0, 0);
    let count = decoder.decode(message.as_bytes(), 0, &mut |outcome| match outcome {
        Ok(_) => taken += 1,
        Err(rejected) => {
            assert_eq!(rejected.reason.name(), "oversize");
            refused += 1;
        }
    });
    assert_eq!((taken, refused, count), (READINGS_MAX, 3, READINGS_MAX + 3));
}

#[test]
fn numbers_come_as_text_as_booleans_and_as_what_is_no_number() {
    let infinite =
        |column| format!(r#"not_finite#1: "flow" is infinite or not a number at column {column}"#);
    check_json(
        "{}",
        &[
            (r#"{"pressure":"1.5","flow":" 2 "}"#, "[1.5, 2.0]"),
            (r#"{"pressure":true,"flow":"false"}"#, "[1.0, 0.0]"),
            (r#"{"pressure":1,"flow":"2 bar"}"#, "[1.0, 2.0]"),
            (r#"{"pressure":1,"flow":"2000 mbar"}"#, "[1.0, 2.0]"),
            (r#"{"pressure":1,"flow":"2\u0020bar"}"#, "[1.0, 2.0]"),
            ("{\"pressure\":1,\"flow\":2}\0", "[1.0, 2.0]"),
            (r#"{"pressure":1,"flow":NaN}"#, &infinite(24)),
            (r#"{"pressure":1,"flow":-Infinity}"#, &infinite(30)),
            (r#"{"pressure":1,"flow":"nan"}"#, &infinite(26)),
            (
                r#"{"pressure":1,"flow":2,"x":nan,"y":[-inf,Infinity]}"#,
                "[1.0, 2.0]",
            ),
            (
                r#"{"pressure":1,"flow":"2 degC"}"#,
                r#"unit#1: "flow" is in "degC", the schema says "bar" at column 29"#,
            ),
        ],
    );
    check_csv(
        r#"{"header":false}"#,
        &[
            ("1,2 bar", "[1.0, 2.0]"),
            ("\"1,5\",\"2\"", "[1.5, 2.0]"),
            ("\"1,234\",2", "[1.234, 2.0]"),
            ("1,2\0", "[1.0, 2.0]"),
        ],
    );
    check_csv(
        r#"{"header":false}"#,
        &[(
            "\"1,234\",2",
            "wrong_type#0: \"pressure\": \"1,234\" may be thousands; if not, say decimal_comma = true \
             in cell 1",
        )],
    );
}

#[test]
fn a_unit_of_the_same_kind_is_converted_and_said_once() {
    let mut decoder = decoder(Format::Json, "{}");
    for _ in 0..3 {
        let payload = br#"{"units":{"flow":"kPa"},"pressure":1,"flow":250}"#;
        decoder.decode(payload, 0, &mut |outcome| {
            assert_eq!(outcome.unwrap().reading.values(), [1.0, 2.5]);
        });
    }
    let note = decoder.take_note().unwrap();
    assert_eq!(note, r#""flow" comes in "kPa" and is converted to "bar""#);
    assert_eq!(decoder.take_note(), None);
    check_csv(
        "{}",
        &[
            ("pressure [mbar],flow (psi)", "none"),
            ("1013.25,100", "[1.01325, 6.8947573]"),
        ],
    );
    check_json(
        r#"{"channels":{"flow":{"field":"q","scale":0.1,"offset":-5,"unit":"kPa"},
            "pressure":{"scale":2}}}"#,
        &[
            (r#"{"q":3000,"pressure":1}"#, "[2.0, 2.95]"),
            (
                r#"{"q":3000,"pressure":1,"units":{"q":"kPa"}}"#,
                "[2.0, 2.95]",
            ),
        ],
    );
}

#[test]
fn lines_have_comments_and_headers_that_come_again() {
    check_csv(
        r##"{"comment":"#","skip_lines":1}"##,
        &[
            ("anything at all", "none"),
            ("# version 2", "none"),
            ("flow;pressure;", "none"),
            ("2;1;", "[1.0, 2.0]"),
            ("2;1", "[1.0, 2.0]"),
            ("  # calibrated", "none"),
            ("pressure;x;flow", "none"),
            ("1;7;2", "[1.0, 2.0]"),
            ("pressure;x", "channel_count: expected 3 cells, found 2"),
            ("3;7;4", "[3.0, 4.0]"),
            ("flow,pressure", "none"),
            ("2,1", "[1.0, 2.0]"),
        ],
    );
    for delimiter in [",", ";", "\t", "|"] {
        let line = |cells: &[&str]| cells.join(delimiter);
        let cells = [line(&["flow", "pressure"]), line(&["2", "1"])];
        check_csv("{}", &[(&cells[0], "none"), (&cells[1], "[1.0, 2.0]")]);
        check_csv(r#"{"header":false}"#, &[(&cells[1], "[2.0, 1.0]")]);
    }
}

#[test]
fn text_is_read_in_the_encoding_that_is_named() {
    let latin: &[u8] = b"pressure [bar],\xB0flow\n1,2";
    check(
        Format::Csv,
        r#"{"encoding":"latin-1","channels":{"flow":"°flow"}}"#,
        &[(latin, "[1.0, 2.0]")],
    );
    let wide: Vec<u8> = "\u{feff}pressure,°flow\r\n1,2"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    check(
        Format::Csv,
        r#"{"channels":{"flow":"°flow"}}"#,
        &[(&wide, "[1.0, 2.0]")],
    );
}

#[test]
fn date_and_time_may_stand_in_two_fields() {
    let expected = "ts=1714557600000000 [1.0, 2.0]";
    let mapping = r#"{"timestamp":"D","time_of_day":"T","timestamp_format":"%d.%m.%Y %H:%M:%S"}"#;
    check_csv(
        mapping,
        &[
            ("T;D;pressure;flow", "none"),
            ("10:00:00;01.05.2024;1;2", expected),
        ],
    );
    check_json(
        mapping,
        &[(
            r#"{"D":"01.05.2024","T":"10:00:00","pressure":1,"flow":2}"#,
            expected,
        )],
    );
}

#[test]
fn a_named_field_that_never_comes_is_said_once() {
    let mut decoder = decoder(Format::Json, r#"{"timestamp":"Time","sensor":"id"}"#);
    let mut notes = Vec::new();
    for round in 0..50 {
        let sensor = if round == 5 { r#","id":"a""# } else { "" };
        let payload = format!(r#"{{"pressure":1,"flow":2{sensor}}}"#);
        decoder.decode(payload.as_bytes(), 0, &mut |outcome| {
            assert!(outcome.is_ok());
        });
        notes.extend(decoder.take_note());
    }
    assert_eq!(
        notes,
        [r#"no reading has had "Time", which mapping.timestamp names"#]
    );
}

#[test]
fn the_value_of_one_channel_is_read_from_whatever_it_is_written_as() {
    let mapping = r#"{"channels":{"flow":"q"},"is_partial":true}"#;
    let mut decoder = decoder(Format::Json, mapping);
    let mut read = |field: &str, payload: &str| {
        let mut value = None;
        let mut sink = |decoded: Decoded<'_>| {
            value = Some((decoded.channels, decoded.reading.values()[1]));
        };
        let result = decoder.decode_value(field, payload.as_bytes(), 0, &mut sink);
        result
            .map(|is_known| (is_known, value))
            .map_err(|e| e.to_string())
    };
    for payload in [
        "2.5",
        " 2.5\n",
        "2.5\0",
        "\"2.5\"",
        "2.5 bar",
        "250 kPa",
        "2.5bar;",
        "{\"t\":1,\"value\":2.5}",
    ] {
        assert_eq!(read("q", payload), Ok((true, Some((2, 2.5)))), "{payload}");
    }
    assert_eq!(read("humidity", "40"), Ok((false, None)));
    assert_eq!(
        read("q", "unavailable").unwrap_err(),
        r#"wrong_type: "q": expected a number, found "unavailable""#
    );
    assert_eq!(
        read("q", "nan").unwrap_err(),
        r#"not_finite: "q" is infinite or not a number"#
    );
}

/// What is JSON to serde_json is JSON here, with the same numbers; and what is none is
/// none here, but for what is forgiven on purpose.
#[test]
fn json_is_what_another_parser_says_it_is() {
    let seed = std::env::var("HARK_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("HARK_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\\n\"",
        "\"\\u00e9\"",
        "1",
        "-0",
        "0.5",
        "1e3",
        "-2E-2",
        "01",
        "1.",
        "true",
        "null",
        "nul",
        " ",
        "12345678901234567890123",
        "0.1234567890123456789",
        "5e-324",
    ];
    let mut decoder = decoder(Format::Json, "{}");
    for _ in 0..60_000 {
        let len = random.random_range(0..8);
        let inner: String = (0..len)
            .map(|_| pieces[random.random_range(0..pieces.len())])
            .collect();
        let payload = format!(r#"{{"x":{inner},"pressure":1,"flow":2}}"#);
        let parsed = serde_json::from_str::<serde_json::Value>(&payload);
        // It refuses a number that f64 cannot hold, although nobody reads it.
        if matches!(&parsed, Err(error) if error.to_string().contains("out of range")) {
            continue;
        }
        let is_json = parsed.is_ok();
        let mut is_accepted = true;
        decoder.decode(payload.as_bytes(), 0, &mut |outcome| {
            is_accepted &= outcome.is_ok();
        });
        let has_twice = payload.matches("\"x\"").count() > 1;
        assert!(is_json == is_accepted || has_twice, "{payload}");
    }
    for _ in 0..60_000 {
        let number = match random.random_range(0..3) {
            0 => format!("{:e}", f64::from_bits(random.random())),
            1 => format!("{}", random.random::<f64>() * 1e4),
            _ => format!(
                "{}.{}e{}",
                random.random::<u32>(),
                random.random::<u32>(),
                random.random_range(-30..30)
            ),
        };
        let Ok(expected) = number.parse::<f64>() else {
            continue;
        };
        let payload = format!(r#"{{"pressure":{number},"flow":2}}"#);
        decoder.decode(payload.as_bytes(), 0, &mut |outcome| match outcome {
            Ok(decoded) => assert_eq!(decoded.reading.values()[0], expected as f32, "{number}"),
            Err(_) => assert!(!(expected as f32).is_finite(), "{number}"),
        });
    }
}
