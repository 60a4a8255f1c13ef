//! The decoder on a stream: pieces of any size, noise, babble, restarts.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{config, encoded, frozen, health, outcomes, reading};
use hark_wire::{DecodeError, FRAME_MAX, FrameDecoder};

#[test]
fn pieces_of_any_size_give_the_same_messages() {
    let messages: Vec<_> = frozen().into_iter().map(|(message, _)| message).collect();
    let stream: Vec<u8> = messages.iter().flat_map(encoded).collect();
    for piece_len in 1..=stream.len() {
        let mut decoder = FrameDecoder::new();
        let received: Vec<_> = stream
            .chunks(piece_len)
            .flat_map(|piece| outcomes(&mut decoder, piece))
            .map(|outcome| outcome.unwrap())
            .collect();
        assert_eq!(received, messages, "pieces of {piece_len} bytes");
        assert_eq!(decoder.counts().accepted, messages.len() as u64);
        assert_eq!(decoder.counts().rejected(), 0);
    }
}

#[test]
fn a_line_joined_within_a_frame_is_in_step_at_the_next() {
    let stream = [encoded(&health()), encoded(&reading())].concat();
    let mut decoder = FrameDecoder::new();
    let received = outcomes(&mut decoder, &stream[5..]);
    assert_eq!(received.len(), 2);
    assert!(received[0].is_err());
    assert_eq!(received[1], Ok(reading()));
}

#[test]
fn noise_costs_no_message_once_a_delimiter_has_ended_it() {
    let noise = [0x55, 0xff, 0x13, 0x00];
    let stream = [
        &noise[..],
        &encoded(&reading()),
        &noise,
        &encoded(&health()),
    ]
    .concat();
    let mut decoder = FrameDecoder::new();
    let received = outcomes(&mut decoder, &stream);
    let accepted: Vec<_> = received.into_iter().flatten().collect();
    assert_eq!(accepted, [reading(), health()]);
    assert_eq!(decoder.counts().accepted, 2);
    assert_eq!(decoder.counts().rejected(), 2);
}

#[test]
fn delimiters_without_a_frame_are_nothing() {
    let mut decoder = FrameDecoder::new();
    assert_eq!(outcomes(&mut decoder, &[0; 100]), []);
    assert_eq!(*decoder.counts(), *FrameDecoder::new().counts());
}

#[test]
fn a_babbling_line_is_told_once_and_skipped_in_fixed_memory() {
    let mut decoder = FrameDecoder::new();
    let mut babble: u64 = 0;
    let mut told = Vec::new();
    for piece_len in [1, 7, FRAME_MAX, 100_000, 1_000_000] {
        babble += piece_len as u64;
        told.extend(outcomes(&mut decoder, &vec![0x55; piece_len]));
    }
    assert_eq!(told, [Err(DecodeError::TooLong)]);
    let after = [&[0][..], &encoded(&config())].concat();
    assert_eq!(outcomes(&mut decoder, &after), [Ok(config())]);
    assert_eq!(decoder.counts().too_long, 1);
    assert_eq!(decoder.counts().bytes_skipped, babble);
}

#[test]
fn a_run_too_long_that_ends_in_the_same_piece_costs_only_itself() {
    let mut decoder = FrameDecoder::new();
    for _ in 0..3 {
        let stream = [&[7; FRAME_MAX][..], &[0], &encoded(&config())].concat();
        assert_eq!(
            outcomes(&mut decoder, &stream),
            [Err(DecodeError::TooLong), Ok(config())]
        );
    }
    assert_eq!(decoder.counts().too_long, 3);
}

#[test]
fn the_longest_run_is_still_a_frame() {
    let mut decoder = FrameDecoder::new();
    let stream = [&[7; FRAME_MAX - 1][..], &[0]].concat();
    let received = outcomes(&mut decoder, &stream);
    assert!(
        matches!(received[..], [Err(DecodeError::Cobs | DecodeError::Crc)]),
        "{received:?}"
    );
    assert_eq!(decoder.counts().bytes_skipped, 0);
}

#[test]
fn a_reopened_line_forgets_the_half_frame_before_it() {
    let frame = encoded(&reading());
    let mut decoder = FrameDecoder::new();
    assert_eq!(outcomes(&mut decoder, &frame[..9]), []);
    decoder.forget_partial();
    assert_eq!(outcomes(&mut decoder, &frame), [Ok(reading())]);
    assert_eq!(decoder.counts().bytes_skipped, 9);
    assert_eq!(decoder.counts().rejected(), 0);
}
