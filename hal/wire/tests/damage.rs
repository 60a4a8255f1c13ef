//! What the line does to frames: cuts, flips, additions. None of it may be
//! taken for a message.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::{bytes, encoded, frozen, hello, outcomes};
use hark_wire::{DecodeError, FRAME_MAX, FrameDecoder, Message, Reading, decode};

/// The frozen frames and two long ones, each without its delimiter.
fn frames() -> Vec<Vec<u8>> {
    let Message::Hello(mut long) = hello() else {
        unreachable!("a hello is a hello")
    };
    let channel = long.channels[0].clone();
    while long.channels.push(channel.clone()).is_ok() {}
    let values = (-16..16).map(|value| value << 24).collect();
    let reading = Reading {
        values,
        ..Reading::default()
    };
    let long = [Message::Hello(long), Message::Reading(reading)];
    let mut frames: Vec<_> = frozen().iter().map(|(_, hex)| bytes(hex)).collect();
    frames.extend(long.iter().map(encoded));
    for frame in &mut frames {
        assert_eq!(frame.pop(), Some(0));
    }
    frames
}

fn check(what: &str, damaged: &[u8]) {
    let outcome = decode(&mut damaged.to_vec());
    assert!(
        outcome.is_err(),
        "{what} of {damaged:02x?} gave {outcome:?}"
    );
}

#[test]
fn every_truncation_is_rejected() {
    for frame in frames() {
        for len in 0..frame.len() {
            check("front", &frame[..len]);
            check("back", &frame[frame.len() - len..]);
        }
    }
}

#[test]
fn every_single_bit_flip_is_rejected() {
    for frame in frames() {
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check("flip", &damaged);
        }
    }
}

#[test]
fn every_double_bit_flip_of_a_short_frame_is_rejected() {
    for frame in frames().into_iter().filter(|frame| frame.len() < 64) {
        for first in 0..frame.len() * 8 {
            for second in 0..first {
                let mut damaged = frame.clone();
                damaged[first / 8] ^= 1 << (first % 8);
                damaged[second / 8] ^= 1 << (second % 8);
                check("two flips", &damaged);
            }
        }
    }
}

#[test]
fn every_added_lost_or_swapped_byte_is_rejected() {
    for frame in frames() {
        for at in 0..frame.len() {
            let mut shorter = frame.clone();
            shorter.remove(at);
            check("loss", &shorter);
            for added in [0x01, 0x02, 0x55, 0xff] {
                let mut longer = frame.clone();
                longer.insert(at, added);
                check("addition", &longer);
            }
            if at > 0 && frame[at] != frame[at - 1] {
                let mut swapped = frame.clone();
                swapped.swap(at, at - 1);
                check("swap", &swapped);
            }
        }
        for added in 1..=u8::MAX {
            check("tail", &[&frame[..], &[added]].concat());
        }
    }
}

#[test]
fn a_zero_within_a_frame_is_rejected() {
    for frame in frames() {
        check("zero and tail", &[&frame[..], &[0, 1, 2]].concat());
        assert_eq!(
            decode(&mut [&frame[..], &[0]].concat()),
            Err(DecodeError::Cobs),
            "the delimiter is no part of the frame"
        );
    }
}

#[test]
fn frames_beyond_the_bound_are_too_long() {
    assert_eq!(decode(&mut [1; FRAME_MAX]), Err(DecodeError::TooLong));
    assert_eq!(decode(&mut [1; FRAME_MAX - 1]), Err(DecodeError::Crc));
    assert_eq!(decode(&mut []), Err(DecodeError::Cobs));
}

#[test]
fn a_flip_in_a_stream_costs_one_frame_or_the_two_that_it_joins() {
    let messages: Vec<_> = frozen().into_iter().map(|(message, _)| message).collect();
    let stream: Vec<u8> = messages.iter().flat_map(encoded).collect();
    for bit in 0..stream.len() * 8 {
        let mut damaged = stream.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A delimiter at the end closes what the flip may have left open.
        damaged.push(0);
        let mut decoder = FrameDecoder::new();
        let received: Vec<_> = outcomes(&mut decoder, &damaged)
            .into_iter()
            .flatten()
            .collect();
        let lost = messages.len() - received.len();
        assert!((1..=2).contains(&lost), "bit {bit}: {lost} frames lost");
        assert!(
            received.iter().all(|message| messages.contains(message)),
            "bit {bit}: an invented message"
        );
    }
}
