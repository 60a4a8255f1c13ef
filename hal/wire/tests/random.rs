//! Random messages and random bytes. `HARK_SEED` repeats a run.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{encoded, outcomes};
use hark_wire::{
    CHANNELS_MAX, Channel, Config, DecodeError, FRAME_MAX, FrameDecoder, Health, Hello, LOG_MAX,
    Log, Message, Reading,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUNDS: usize = 5_000;

fn rng() -> ChaCha8Rng {
    let seed = std::env::var("HARK_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("HARK_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Any `u32`, with the short varints as likely as the long ones.
fn number(rng: &mut ChaCha8Rng) -> u32 {
    let bits = rng.random_range(0..32);
    rng.next_u32() >> bits
}

fn text<const N: usize>(rng: &mut ChaCha8Rng) -> heapless::String<N, u8> {
    let mut text = heapless::String::new();
    for _ in 0..rng.random_range(0..=N) {
        let letter = if rng.random_bool(0.9) { 'x' } else { 'µ' };
        // The last one may not fit, which ends the text.
        if text.push(letter).is_err() {
            break;
        }
    }
    text
}

fn channel(rng: &mut ChaCha8Rng) -> Channel {
    Channel {
        name: text(rng),
        unit: text(rng),
        // Not from bits: a NaN differs from itself.
        scale: number(rng) as f32 / 1024.0,
    }
}

fn message(rng: &mut ChaCha8Rng) -> Message {
    match rng.random_range(0..5) {
        0 => Message::Hello(Hello {
            node: text(rng),
            firmware: text(rng),
            boot_id: number(rng),
            channels: (0..rng.random_range(0..=CHANNELS_MAX))
                .map(|_| channel(rng))
                .collect(),
        }),
        1 => Message::Reading(Reading {
            sequence: number(rng),
            timestamp_us: u64::from(number(rng)) << rng.random_range(0..32),
            values: (0..rng.random_range(0..=CHANNELS_MAX))
                .map(|_| number(rng).cast_signed())
                .collect(),
        }),
        2 => Message::Health(Health {
            boot_id: number(rng),
            uptime_s: number(rng),
            frames_dropped: number(rng),
            frames_rejected: number(rng),
            supply_mv: rng.random(),
        }),
        3 => Message::Log(Log {
            bytes: (0..rng.random_range(0..=LOG_MAX))
                .map(|_| rng.random())
                .collect(),
        }),
        _ => Message::Config(Config {
            period_ms: number(rng),
            running: rng.random(),
            say_hello: rng.random(),
        }),
    }
}

#[test]
fn random_messages_come_back_as_they_were() {
    let mut rng = rng();
    let mut decoder = FrameDecoder::new();
    for _ in 0..ROUNDS {
        let message = message(&mut rng);
        let frame = encoded(&message);
        assert!(frame.len() <= FRAME_MAX);
        assert_eq!(
            frame.iter().position(|byte| *byte == 0),
            Some(frame.len() - 1)
        );
        assert_eq!(outcomes(&mut decoder, &frame), [Ok(message)]);
    }
}

#[test]
fn random_bytes_are_no_message_and_every_frame_after_them_is_one() {
    let mut rng = rng();
    let mut decoder = FrameDecoder::new();
    let mut noise = [0; 2 * FRAME_MAX];
    for round in 0..ROUNDS {
        let noise = &mut noise[..rng.random_range(0..2 * FRAME_MAX)];
        rng.fill_bytes(noise);
        // Zeros are what makes frames of noise; some rounds have none.
        if rng.random_bool(0.5) {
            noise.iter_mut().for_each(|byte| *byte |= 0x10);
        }
        assert!(outcomes(&mut decoder, noise).iter().all(Result::is_err));
        outcomes(&mut decoder, &[0]);
        let message = message(&mut rng);
        assert_eq!(outcomes(&mut decoder, &encoded(&message)), [Ok(message)]);
        assert_eq!(decoder.counts().accepted, round as u64 + 1);
    }
}

#[test]
fn random_bytes_with_a_right_checksum_never_panic() {
    let mut rng = rng();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut outcomes_seen = std::collections::HashMap::<_, usize>::new();
    for _ in 0..ROUNDS {
        let mut raw = vec![1, rng.random_range(0..6)];
        raw.extend(
            (0..rng.random_range(0..200)).map(|_| rng.random::<u8>() >> rng.random_range(0..8)),
        );
        raw.extend(crc.checksum(&raw).to_le_bytes());
        let mut frame = vec![0; cobs::max_encoding_length(raw.len()) + 1];
        let len = cobs::encode(&raw, &mut frame);
        let outcome = hark_wire::decode(&mut frame[..len]);
        assert!(!matches!(
            outcome,
            Err(DecodeError::Cobs | DecodeError::Crc | DecodeError::Short | DecodeError::TooLong)
        ));
        *outcomes_seen
            .entry(outcome.map(|_| ()).map_err(|e| e.to_string()))
            .or_default() += 1;
    }
    // Accepted, body and trailing: the sample reaches behind the checksum.
    assert_eq!(outcomes_seen.len(), 3, "{outcomes_seen:?}");
}
