//! Frames of sensor nodes: the stream decoder, and what is behind the checksum.
//!
//! The first byte is the length of the chunks. The rest is taken twice: as the
//! bytes of a line, and as a version and a body in an intact frame, since
//! no fuzzer guesses a checksum.
#![no_main]

use crc::{CRC_32_ISCSI, Crc};
use hark_wire::{DecodeError, FRAME_MAX, FrameCounts, FrameDecoder, Message, decode, encode};
use libfuzzer_sys::fuzz_target;

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

fuzz_target!(|input: &[u8]| {
    let Some((chunk_len, bytes)) = input.split_first() else {
        return;
    };
    let whole = outcomes(bytes, bytes.len().max(1));
    assert_eq!(whole, outcomes(bytes, usize::from(*chunk_len).max(1)));

    let mut frame = seal(bytes);
    let framed = outcomes(&[&frame[..], b"\0"].concat(), FRAME_MAX);
    match decode(&mut frame) {
        Ok(message) => {
            assert_eq!(framed.1.accepted, 1);
            check_return(&message);
        }
        Err(error) => {
            assert!(!matches!(error, DecodeError::Crc | DecodeError::Cobs));
            assert_eq!(framed.1.rejected(), 1);
        }
    }
});

type Outcomes = (Vec<Result<Vec<u8>, DecodeError>>, FrameCounts);

/// What comes out of a stream. A message stands as its own frame, because a
/// scale that is not a number does not equal itself.
fn outcomes(bytes: &[u8], chunk_len: usize) -> Outcomes {
    let mut decoder = FrameDecoder::new();
    let mut outcomes = Vec::new();
    for mut chunk in bytes.chunks(chunk_len) {
        while let Some(outcome) = decoder.next_message(&mut chunk) {
            outcomes.push(outcome.map(|message| frame_of(&message)));
        }
    }
    (outcomes, *decoder.counts())
}

fn frame_of(message: &Message) -> Vec<u8> {
    encode(message, &mut [0; FRAME_MAX]).to_vec()
}

/// A message that was understood is understood again after it is sent on.
fn check_return(message: &Message) {
    let frame = frame_of(message);
    let (delimiter, body) = frame.split_last().expect("a frame is never empty");
    assert_eq!(*delimiter, 0);
    let again = decode(&mut body.to_vec()).expect("what was encoded decodes");
    assert_eq!(frame_of(&again), frame);
}

/// A frame with a right checksum, without its delimiter.
fn seal(version_and_body: &[u8]) -> Vec<u8> {
    let crc = CRC.checksum(version_and_body).to_le_bytes();
    let raw = [version_and_body, &crc].concat();
    let mut frame = vec![0; cobs::max_encoding_length(raw.len())];
    let len = cobs::encode(&raw, &mut frame);
    frame.truncate(len);
    frame
}
