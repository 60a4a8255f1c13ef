//! CBOR payloads, written by hand in RFC 8949's own notation of bytes.

use minicbor::{Encoder, data::Tag};

use super::check;
use crate::Format;

type Output = Encoder<Vec<u8>>;

/// Bytes of whatever `write` encodes.
fn encode(write: impl FnOnce(&mut Output) -> &mut Output) -> Vec<u8> {
    let mut output = Encoder::new(Vec::new());
    write(&mut output);
    output.into_writer()
}

fn check_cbor(mapping: &str, cases: &[(Vec<u8>, &str)]) {
    let cases: Vec<_> = cases.iter().map(|(p, e)| (p.as_slice(), *e)).collect();
    check(Format::Cbor, mapping, &cases);
}

/// A map with one field `name` beside right values.
fn with_field(name: &str, write: impl FnOnce(&mut Output) -> &mut Output) -> Vec<u8> {
    encode(|o| {
        o.map(2).unwrap().str(name).unwrap();
        write(o);
        o.str("values").unwrap().encode([1.0, 2.0]).unwrap()
    })
}

#[test]
fn every_shape_gives_the_same_reading() {
    let expected = "seq=7 ts=9 [1.5, -2.0]";
    let definite = encode(|o| {
        o.map(3).unwrap();
        o.str("seq").unwrap().u8(7).unwrap();
        o.str("ts").unwrap().u64(9).unwrap();
        o.str("values").unwrap();
        o.array(2).unwrap().f16(1.5).unwrap().i8(-2).unwrap()
    });
    let indefinite = encode(|o| {
        o.begin_map().unwrap();
        o.str("values").unwrap();
        o.begin_array().unwrap();
        o.f32(1.5).unwrap().f64(-2.0).unwrap().end().unwrap();
        o.str("ts").unwrap().f32(9.0).unwrap();
        o.str("seq").unwrap().f64(7.0).unwrap().end().unwrap()
    });
    let named = encode(|o| {
        o.map(3).unwrap();
        o.str("seq").unwrap().u8(7).unwrap();
        o.str("ts").unwrap().u64(9).unwrap();
        o.str("values").unwrap().begin_map().unwrap();
        o.str("flow").unwrap().i64(-2).unwrap();
        o.str("x").unwrap().begin_array().unwrap();
        o.str("y").unwrap().end().unwrap();
        o.str("pressure").unwrap().f32(1.5).unwrap().end().unwrap()
    });
    let flat = encode(|o| {
        o.map(5).unwrap();
        o.str("seq").unwrap().u8(7).unwrap();
        o.str("x")
            .unwrap()
            .map(1)
            .unwrap()
            .u8(1)
            .unwrap()
            .null()
            .unwrap();
        o.str("pressure").unwrap().f32(1.5).unwrap();
        o.str("flow").unwrap().i16(-2).unwrap();
        o.str("ts").unwrap().u64(9).unwrap()
    });
    check_cbor(
        "{}",
        &[
            (definite, expected),
            (indefinite, expected),
            (named, expected),
            (flat, expected),
            (encode(|o| o.encode([1.5, -2.0]).unwrap()), "[1.5, -2.0]"),
            (Vec::new(), "none"),
        ],
    );
}

#[test]
fn a_tag_on_a_timestamp_means_what_it_says() {
    let tagged = |tag, write: fn(&mut Output) -> &mut Output| {
        with_field("ts", |o| {
            o.tag(Tag::new(tag)).unwrap();
            write(o)
        })
    };
    check_cbor(
        r#"{"timestamp_unit":"ms"}"#,
        &[
            (
                tagged(0, |o| o.str("1970-01-01T00:00:01Z").unwrap()),
                "ts=1000000 [1.0, 2.0]",
            ),
            (tagged(1, |o| o.u8(1).unwrap()), "ts=1000000 [1.0, 2.0]"),
            (tagged(1, |o| o.f64(1.5).unwrap()), "ts=1500000 [1.0, 2.0]"),
            (tagged(99, |o| o.u8(1).unwrap()), "ts=1000 [1.0, 2.0]"),
            (with_field("ts", |o| o.u8(1).unwrap()), "ts=1000 [1.0, 2.0]"),
            (
                with_field("ts", |o| o.bool(true).unwrap()),
                "malformed: the timestamp: expected a number, found a boolean at byte 5",
            ),
        ],
    );
}

#[test]
fn the_rules_are_those_of_json() {
    check_cbor(
        r#"{"sensor":"node"}"#,
        &[
            (
                with_field("node", |o| o.str("pump").unwrap()),
                "sensor=pump [1.0, 2.0]",
            ),
            (
                with_field("node", |o| o.u8(1).unwrap()),
                "sensor=1 [1.0, 2.0]",
            ),
            (
                with_field("node", |o| o.bool(true).unwrap()),
                "malformed: the sensor: expected text, found a boolean at byte 7",
            ),
            (
                with_field("seq", |o| o.i8(-1).unwrap()),
                "malformed: the sequence is not a whole number from 0 at byte 6",
            ),
            (
                with_field("units", |o| {
                    o.map(1).unwrap().str("flow").unwrap().str("degC").unwrap()
                }),
                r#"unit#1: "flow" is in "degC", the schema says "bar" at byte 18"#,
            ),
            (
                with_field("pressure", |o| o.u8(1).unwrap()),
                r#"malformed: "pressure" is given twice at byte 19"#,
            ),
            (
                encode(|o| o.encode([1.0, 2.0, 3.0]).unwrap()),
                "channel_count: expected 2 values, found 3 at byte 28",
            ),
            (
                encode(|o| o.encode([1.0]).unwrap()),
                "channel_count: expected 2 values, found 1 at byte 10",
            ),
            (
                encode(|o| o.array(2).unwrap().u8(1).unwrap().null().unwrap()),
                r#"missing_channel#1: "flow" has no value at byte 3"#,
            ),
            (
                encode(|o| o.map(1).unwrap().str("pressure").unwrap().u8(1).unwrap()),
                r#"missing_channel#1: the payload has no "flow""#,
            ),
        ],
    );
}

#[test]
fn what_is_no_finite_number_is_refused_with_its_channel() {
    let second = |write: fn(&mut Output) -> &mut Output| {
        encode(|o| {
            o.array(2).unwrap().u8(1).unwrap();
            write(o)
        })
    };
    let infinite = |at| format!(r#"not_finite#1: "flow" is infinite or not a number at byte {at}"#);
    let wrong = |found: &str, at| {
        format!(r#"wrong_type#1: "flow": expected a number, found {found} at byte {at}"#)
    };
    check_cbor(
        "{}",
        &[
            (second(|o| o.f16(f32::NAN).unwrap()), &infinite(5)),
            (second(|o| o.f32(f32::INFINITY).unwrap()), &infinite(7)),
            (second(|o| o.f64(-1e300).unwrap()), &infinite(11)),
            (second(|o| o.str("x").unwrap()), &wrong("\"x\"", 4)),
            (second(|o| o.str("2").unwrap()), "[1.0, 2.0]"),
            (second(|o| o.bool(true).unwrap()), "[1.0, 1.0]"),
            (second(|o| o.str("NaN").unwrap()), &infinite(6)),
            (second(|o| o.array(0).unwrap()), &wrong("an array", 3)),
            (
                second(|o| o.bytes(b"2").unwrap()),
                &wrong("neither number nor text", 2),
            ),
            // -2^64: an integer that i64 cannot hold.
            (
                b"\x82\x01\x3b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
                "[1.0, -1.8446744e19]",
            ),
        ],
    );
}

#[test]
fn what_is_not_cbor_is_refused() {
    let early = |at| format!("malformed: the payload ends too early at byte {at}");
    check_cbor(
        "{}",
        &[
            (
                b"\x82\x01\x02\x00".to_vec(),
                "malformed: 1 bytes follow the payload's end at byte 3",
            ),
            (b"\x82\x01".to_vec(), &early(2)),
            (b"\x9f\x01\x02".to_vec(), &early(3)),
            (
                b"\xa2\x61x\xff\x66values\x82\x01\x02".to_vec(),
                "malformed: a break where a value belongs at byte 3",
            ),
            // An array of 2^64-1 items that are not there.
            (
                b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02".to_vec(),
                &early(11),
            ),
            (
                b"\x07".to_vec(),
                "malformed: the payload: expected an object or an array, found a number at byte 1",
            ),
            (
                b"\xa1\x01\x02".to_vec(),
                "malformed: a name in a map: expected text, found a number at byte 2",
            ),
        ],
    );
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth: usize, open: u8| {
        with_field("x", |o| {
            o.writer_mut().extend(vec![open; depth]);
            o.u8(1).unwrap()
        })
    };
    // 0x81 is an array of one item, 0x9f an array without a length.
    check_cbor("{}", &[(nested(16, 0x81), "[1.0, 2.0]")]);
    let refused = "malformed: nested deeper than 16 at byte 20";
    for depth in [17, 10_000] {
        check_cbor("{}", &[(nested(depth, 0x81), refused)]);
        check_cbor("{}", &[(nested(depth, 0x9f), refused)]);
    }
}
