//! One message of each kind with the bytes that version 1 gives it.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test file uses its part"
)]

use hark_wire::{
    Channel, Config, FRAME_MAX, FrameDecoder, Health, Hello, Log, Message, NO_VALUE, Reading,
    encode,
};

/// Never to change; if one fails, change the code. They were made by an
/// encoder written from `SPEC.md` in another language.
pub(crate) const HELLO: &str = "02 01 1c 06 70 75 6d 70 2d 37 05 30 2e 31 2e 30 ee ff 83 06 02 \
    05 76 69 62 5f 78 02 6d 67 01 0c 80 3e 04 74 65 6d 70 03 c2 b0 43 01 07 80 3d 13 ce 56 59 00";
pub(crate) const READING: &str =
    "09 01 01 ac 02 c0 84 3d 04 0d 01 d0 0f ff ff ff ff 0f 2d 8d 1f 7d 00";
pub(crate) const HEALTH: &str = "09 01 02 ee ff 83 06 90 1c 08 02 e4 19 02 79 2a f7 00";
pub(crate) const LOG: &str = "04 01 03 04 03 01 ff 05 32 85 66 01 00";
pub(crate) const CONFIG: &str = "05 01 04 0a 01 05 d5 dc dd 62 00";

/// Each kind of message, with its frozen frame in hexadecimal.
pub(crate) fn frozen() -> Vec<(Message, &'static str)> {
    vec![
        (hello(), HELLO),
        (reading(), READING),
        (health(), HEALTH),
        (log(), LOG),
        (config(), CONFIG),
    ]
}

pub(crate) fn hello() -> Message {
    let channel = |name: &str, unit: &str, scale| Channel {
        name: name.try_into().unwrap(),
        unit: unit.try_into().unwrap(),
        scale,
    };
    Message::Hello(Hello {
        node: "pump-7".try_into().unwrap(),
        firmware: "0.1.0".try_into().unwrap(),
        boot_id: 0x00c0_ffee,
        channels: [channel("vib_x", "mg", 0.25), channel("temp", "°C", 0.0625)]
            .into_iter()
            .collect(),
    })
}

pub(crate) fn reading() -> Message {
    Message::Reading(Reading {
        sequence: 300,
        timestamp_us: 1_000_000,
        values: [0, -1, 1000, NO_VALUE].into_iter().collect(),
    })
}

pub(crate) fn health() -> Message {
    Message::Health(Health {
        boot_id: 0x00c0_ffee,
        uptime_s: 3600,
        frames_dropped: 0,
        frames_rejected: 2,
        supply_mv: 3300,
    })
}

pub(crate) fn log() -> Message {
    let bytes = [0, 1, 255, 0].into_iter().collect();
    Message::Log(Log { bytes })
}

pub(crate) fn config() -> Message {
    Message::Config(Config {
        period_ms: 10,
        running: true,
        say_hello: false,
    })
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

pub(crate) fn encoded(message: &Message) -> Vec<u8> {
    encode(message, &mut [0; FRAME_MAX]).to_vec()
}

/// Everything that `decoder` makes of `bytes`.
pub(crate) fn outcomes(
    decoder: &mut FrameDecoder,
    mut bytes: &[u8],
) -> Vec<Result<Message, hark_wire::DecodeError>> {
    std::iter::from_fn(|| decoder.next_message(&mut bytes)).collect()
}
