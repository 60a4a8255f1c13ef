//! Real samples of what speaks on serial lines.

use super::*;
use hark_wire::{Channel, FRAME_MAX, Hello, Reading, encode};

/// A GPS receiver, from its manual and from the wild; the sums are theirs.
const NMEA: &str = "3*47\r\n$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n\
                    $GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n$GPG";
/// Modbus over serial line, V1.02: a request for three registers of unit 17, and
/// its answer; then a request of unit 1.
const MODBUS: &[u8] = b"\x11\x03\x00\x6b\x00\x03\x76\x87\
    \x11\x03\x06\xae\x41\x56\x52\x43\x40\x49\xad\x01\x03\x00\x00\x00\x0a\xc5\xcd";

fn frame(message: &Message) -> Vec<u8> {
    let mut buffer = [0; FRAME_MAX];
    encode(message, &mut buffer).to_vec()
}

fn hello() -> Vec<u8> {
    let channel = Channel {
        name: "accel_x".try_into().unwrap(),
        ..Channel::default()
    };
    frame(&Message::Hello(Hello {
        node: "pump-7".try_into().unwrap(),
        firmware: "1.4.0".try_into().unwrap(),
        boot_id: 7,
        channels: [channel].into_iter().collect(),
    }))
}

fn reading(sequence: u32) -> Vec<u8> {
    frame(&Message::Reading(Reading {
        sequence,
        ..Reading::default()
    }))
}

/// Bytes without a pattern, the same each time (a linear congruential generator
/// with the constants of Numerical Recipes).
fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(step).collect()
}

fn check(bytes: impl AsRef<[u8]>, expected: &Heard) {
    let bytes = bytes.as_ref();
    assert_eq!(
        recognise(bytes),
        *expected,
        "{:?}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn frames_name_their_node_and_a_cut_first_frame_is_counted() {
    let stream = [&reading(1)[5..], &hello(), &reading(2), &reading(3)[..4]].concat();
    let node = HeardNode {
        name: "pump-7".to_owned(),
        firmware: "1.4.0".to_owned(),
        channels: vec!["accel_x".to_owned()],
    };
    let expected = |node| Heard::Frames {
        accepted: 2,
        rejected: 1,
        node,
    };
    check(stream, &expected(Some(node)));
    let anonymous = [&reading(1)[5..], &reading(2), &reading(3)].concat();
    check(anonymous, &expected(None));
}

#[test]
fn nmea_is_known_by_its_sums() {
    let expected = Heard::Nmea {
        sentences: 2,
        example: "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A".to_owned(),
    };
    check(NMEA, &expected);
    let wrong = NMEA.replace("*47", "*48").replace("*6A", "*6B");
    assert!(!matches!(recognise(wrong.as_bytes()), Heard::Nmea { .. }));
}

#[test]
fn modbus_is_known_by_its_sums_wherever_it_begins() {
    let expected = Heard::Modbus {
        frames: 3,
        units: vec![1, 17],
    };
    check(MODBUS, &expected);
    check([b"\x07\xff", MODBUS, b"\x11\x03"].concat(), &expected);
    let mut damaged = MODBUS.to_vec();
    damaged[3] ^= 1;
    damaged[10] ^= 1;
    check(
        &damaged,
        &Heard::Noise {
            bytes: MODBUS.len(),
        },
    );
}

#[test]
fn json_lines_are_objects_and_a_bare_number_is_none() {
    let line = "{\"sensor\":\"p\",\"seq\":8,\"values\":{\"t\":21.5}}";
    let expected = Heard::Json {
        lines: 2,
        fields: ["sensor", "seq", "t"].map(str::to_owned).to_vec(),
        example: line.to_owned(),
    };
    check(format!("\"t\":21.5}}}}\n{line}\n{line}\n{{\"se"), &expected);
    let array = recognise(b"{\"seq\":8,\"values\":[21.5]}\n");
    let Heard::Json { fields, .. } = array else {
        panic!("JSON, found {array:?}")
    };
    assert_eq!(fields, ["seq", "values"]);
    let numbers = recognise(b"12\n13\n14\n15\n16\n17\n18\n19\n20\n");
    assert!(matches!(numbers, Heard::Text { .. }), "{numbers:?}");
}

#[test]
fn csv_has_one_shape_and_its_delimiter() {
    let check_csv = |text: &str, columns, delimiter, lines| {
        let found = recognise(text.as_bytes());
        let Heard::Csv {
            columns: c,
            delimiter: d,
            lines: l,
            ..
        } = found
        else {
            panic!("{text:?} is {found:?}")
        };
        assert_eq!((c, d, l), (columns, delimiter, lines), "{text:?}");
    };
    check_csv("1.5\n1,2.5,-3\n1,2.5,-3e2\n1,2", 3, ',', 2);
    check_csv("x\n1;2,5\n2;2,75\n", 2, ';', 2);
    check_csv(
        "x\n\nseq,ts,t\n\n1,0,20.5\n\n2,1,20.75\n\n3,2,21\n",
        3,
        ',',
        3,
    );
    check_csv("x\nT1\t20.5\t1\nT1\t20.75\t2\n", 3, '\t', 2);
}

#[test]
fn what_a_person_can_read_is_text() {
    let log = "[    1.2] usb 1-1: new device\r\n[    1.3] usb 1-1: product: gadget\r\n[ 1";
    let expected = Heard::Text {
        lines: 2,
        example: "[    1.3] usb 1-1: product: gadget".to_owned(),
    };
    check(log, &expected);
    let prompt = Heard::Text {
        lines: 1,
        example: "raspberrypi login: ".to_owned(),
    };
    check("raspberrypi login: ", &prompt);
}

/// Text at seven bits with even parity, heard as eight bits without.
#[test]
fn seven_bits_with_parity_are_noise_to_eight_without() {
    let with_parity = |byte: u8| byte | (byte.count_ones() as u8 % 2) << 7;
    let bytes: Vec<u8> = NMEA.bytes().map(with_parity).collect();
    check(&bytes, &Heard::Noise { bytes: bytes.len() });
}

#[test]
fn noise_is_never_conclusive() {
    for seed in 0..200 {
        let heard = recognise(&noise(2000, seed));
        assert!(!heard.is_conclusive(), "seed {seed}: {heard:?}");
    }
    check("", &Heard::Silence);
    check("\0\0\0", &Heard::Noise { bytes: 3 });
}

#[test]
fn few_lines_that_are_clean_are_never_noise() {
    let text = |lines, example: &str| Heard::Text {
        lines,
        example: example.to_owned(),
    };
    check("ok\n", &text(1, "ok"));
    check("13,1.5\n", &text(1, "13,1.5"));
    check("13,1.5\r\n14", &text(1, "13,1.5"));
    check("ok\n\x07", &Heard::Noise { bytes: 4 });
    check("\r\n", &Heard::Noise { bytes: 2 });
}

#[test]
fn two_rows_make_a_table_though_the_first_may_have_been_cut() {
    let expected = |delimiter, header: Option<[&str; 2]>, example: &str| Heard::Csv {
        lines: 2,
        columns: 2,
        delimiter,
        decimal_comma: example.contains(','),
        header: header.map(|names| names.map(str::to_owned).to_vec()),
        example: example.to_owned(),
    };
    let rows = "13;1.5\r\n14;1.5\r\n";
    check(rows, &expected(';', None, "14;1.5"));
    let comma = rows.replace('.', ",");
    check(&comma, &expected(';', None, "14;1,5"));
    let header = format!("1.5\nseq;t [°C]\n{comma}");
    check(header, &expected(';', Some(["seq", "t"]), "14;1,5"));
}

#[test]
fn a_long_line_makes_a_short_example() {
    let text = format!("\n{}\n", "é".repeat(500));
    let Heard::Text { example, .. } = recognise(text.as_bytes()) else {
        panic!("text")
    };
    assert_eq!(example.chars().count(), EXAMPLE_CHARS_MAX);
}
