//! The bytes of protocol version 1. Nodes in the field speak them: if a test
//! here fails, change the code and not the bytes.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{READING, bytes, encoded, frozen};
use hark_wire::{
    CHANNELS_MAX, Channel, Config, DecodeError, FIRMWARE_MAX, FRAME_MAX, Health, Hello, LABEL_MAX,
    LOG_MAX, Log, Message, NAME_MAX, Reading, UNIT_MAX, VERSION, decode,
};

#[test]
fn each_message_is_encoded_to_its_frozen_bytes() {
    for (message, hex) in frozen() {
        assert_eq!(encoded(&message), bytes(hex), "{message:?}");
    }
}

#[test]
fn each_frozen_frame_is_decoded_to_its_message() {
    for (message, hex) in frozen() {
        assert_decoded(hex, Ok(message));
    }
}

#[test]
fn intact_frames_that_are_no_message_are_rejected_with_the_reason() {
    // Each has a right checksum.
    let config_of_version_2 = "05 02 04 0a 01 05 21 6c ee 2a 00";
    assert_decoded(config_of_version_2, Err(DecodeError::Version(2)));
    let config_and_a_byte = "05 01 04 0a 01 06 05 26 6f cc 81 00";
    assert_decoded(config_and_a_byte, Err(DecodeError::Trailing));
    let tag_5 = "07 01 05 b9 fb 32 d7 00";
    assert_decoded(tag_5, Err(DecodeError::Body));
    let reading_of_33_values = "03 01 01 01 02 21 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 \
        01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 05 7c ce 40 c1 00";
    assert_decoded(reading_of_33_values, Err(DecodeError::Body));
    let name_of_33_bytes = "02 01 23 21 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e \
        6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 01 01 05 c8 75 28 f6 00";
    assert_decoded(name_of_33_bytes, Err(DecodeError::Body));
    let name_not_utf8 = "02 01 03 01 ff 01 01 05 4b c1 2f c3 00";
    assert_decoded(name_not_utf8, Err(DecodeError::Body));
    let bool_of_2 = "0a 01 04 0a 01 02 22 ac e6 83 00";
    assert_decoded(bool_of_2, Err(DecodeError::Body));
    let one_value_of_two = "08 01 01 01 01 02 02 e0 03 71 3e 00";
    assert_decoded(one_value_of_two, Err(DecodeError::Body));
}

/// A frame around `body`, without its delimiter.
fn frame_of(body: &[u8]) -> Vec<u8> {
    let mut raw = vec![VERSION];
    raw.extend(body);
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&raw);
    raw.extend(crc.to_le_bytes());
    let mut frame = vec![0; cobs::max_encoding_length(raw.len())];
    let len = cobs::encode(&raw, &mut frame);
    frame.truncate(len);
    frame
}

/// SPEC.md: a receiver takes a longer varint too, within the bytes of its kind.
#[test]
fn a_varint_that_is_longer_than_need_be_is_taken_within_its_kind() {
    let config = |period_ms| {
        Ok(Message::Config(Config {
            period_ms,
            running: true,
            say_hello: false,
        }))
    };
    let check = |period: &[u8], expected| {
        let body = [&[4], period, &[1, 0]].concat();
        assert_eq!(decode(&mut frame_of(&body)), expected, "{period:x?}");
    };
    check(&[0x00], config(0));
    check(&[0x80, 0x00], config(0));
    check(&[0x8a, 0x80, 0x80, 0x80, 0x00], config(10));
    check(&[0xff, 0xff, 0xff, 0xff, 0x0f], config(u32::MAX));
    check(
        &[0x8a, 0x80, 0x80, 0x80, 0x80, 0x00],
        Err(DecodeError::Body),
    );
    check(&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(DecodeError::Body));

    let supply = |bytes: &[u8]| {
        let body = [&[2, 1, 1, 0, 0], bytes].concat();
        decode(&mut frame_of(&body)).map(|message| match message {
            Message::Health(health) => health.supply_mv,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(supply(&[0x85, 0x80, 0x00]), Ok(5));
    assert_eq!(supply(&[0x85, 0x80, 0x80, 0x00]), Err(DecodeError::Body));
    assert_eq!(supply(&[0xff, 0xff, 0x07]), Err(DecodeError::Body));

    let reading = |timestamp: &[u8], value: &[u8]| {
        let body = [&[1, 1], timestamp, &[1], value].concat();
        decode(&mut frame_of(&body)).map(|message| match message {
            Message::Reading(reading) => (reading.timestamp_us, reading.values[0]),
            other => panic!("{other:?}"),
        })
    };
    let of_ten = |last| [&[0x87][..], &[0x80; 8], &[last]].concat();
    assert_eq!(reading(&of_ten(0), &[0x81, 0x80, 0x00]), Ok((7, -1)));
    assert_eq!(reading(&of_ten(2), &[0]), Err(DecodeError::Body));
    let longer = [&of_ten(0x80)[..], &[0]].concat();
    assert_eq!(reading(&longer, &[0]), Err(DecodeError::Body));
}

#[test]
fn the_spec_states_the_bounds_and_the_worked_example() {
    let spec = include_str!("../SPEC.md");
    for stated in [
        format!("frame: {READING}\n"),
        format!("has {FRAME_MAX} bytes with its"),
        format!("text ≤ {NAME_MAX} bytes; firmware: text ≤ {FIRMWARE_MAX};"),
        format!("list ≤ {CHANNELS_MAX} of (name: text ≤ {LABEL_MAX}; unit: text ≤ {UNIT_MAX};"),
        format!("list ≤ {LOG_MAX} of `u8`"),
    ] {
        assert!(spec.contains(&stated), "SPEC.md lacks {stated:?}");
    }
}

#[test]
fn the_largest_message_of_each_kind_fits_a_frame() {
    let channel = Channel {
        name: full(LABEL_MAX).as_str().try_into().unwrap(),
        unit: full(UNIT_MAX).as_str().try_into().unwrap(),
        scale: f32::MAX,
    };
    let hello = Message::Hello(Hello {
        node: full(NAME_MAX).as_str().try_into().unwrap(),
        firmware: full(FIRMWARE_MAX).as_str().try_into().unwrap(),
        boot_id: u32::MAX,
        channels: std::iter::repeat_n(channel, CHANNELS_MAX).collect(),
    });
    // One below: nothing in it fills a run of 254 just so.
    assert_round_trip(hello, FRAME_MAX - 1..=FRAME_MAX);
    let reading = Message::Reading(Reading {
        sequence: u32::MAX,
        timestamp_us: u64::MAX,
        values: [i32::MIN; CHANNELS_MAX].into_iter().collect(),
    });
    assert_round_trip(reading, 184..=184);
    let health = Message::Health(Health {
        boot_id: u32::MAX,
        uptime_s: u32::MAX,
        frames_dropped: u32::MAX,
        frames_rejected: u32::MAX,
        supply_mv: u16::MAX,
    });
    assert_round_trip(health, 31..=31);
    let bytes = [1; LOG_MAX].into_iter().collect();
    assert_round_trip(Message::Log(Log { bytes }), 170..=170);
    let config = Message::Config(Config {
        period_ms: u32::MAX,
        running: true,
        say_hello: true,
    });
    assert_round_trip(config, 15..=15);
}

fn full(len: usize) -> String {
    "n".repeat(len)
}

fn assert_decoded(hex: &str, expected: Result<Message, DecodeError>) {
    let mut frame = bytes(hex);
    assert_eq!(frame.pop(), Some(0));
    assert_eq!(decode(&mut frame), expected, "{hex}");
}

fn assert_round_trip(message: Message, frame_len: std::ops::RangeInclusive<usize>) {
    let mut frame = encoded(&message);
    assert!(frame_len.contains(&frame.len()), "{} bytes", frame.len());
    assert_eq!(frame.pop(), Some(0));
    assert_eq!(decode(&mut frame), Ok(message));
}
