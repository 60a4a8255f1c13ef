//! Frames of Modbus RTU in a stream of bytes.
//!
//! RTU marks the ends of frames by pauses, which are lost on the way through a
//! driver's buffer. So each place is tried as a beginning: the function code
//! says how long the frame may be, and the checksum whether it is one.

use crc::{CRC_16_MODBUS, Crc};

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Modbus application protocol 1.1b3, section 4.1: the ADU of a serial line
/// has at most 256 bytes; the least, an exception, has 5.
const FRAME_BYTES_MIN: usize = 5;
const FRAME_BYTES_MAX: usize = 256;
/// A request or an answer that names an address and a value or count.
const PLAIN_BYTES: usize = 8;
/// Addresses of units; 0 is everybody, which only a request says.
const UNIT_MAX: u8 = 247;

/// How many frames there are, and the unit of each.
pub(super) fn find(bytes: &[u8]) -> (usize, Vec<u8>) {
    let mut units = Vec::new();
    let mut rest = bytes;
    while rest.len() >= FRAME_BYTES_MIN {
        match frame_len(rest) {
            Some(len) => {
                units.push(rest[0]);
                rest = &rest[len..];
            }
            None => rest = &rest[1..],
        }
    }
    (units.len(), units)
}

/// The length of the frame at the front of `bytes`, if there is one.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let [unit, function, third, ..] = *bytes else {
        return None;
    };
    if unit > UNIT_MAX {
        return None;
    }
    let counted = |at: usize, around: usize| bytes.get(at).map(|n| usize::from(*n) + around);
    let lengths = match function {
        // Reads: an address and a count, or a byte count and the values.
        1..=4 => [Some(PLAIN_BYTES), Some(usize::from(third) + 5)],
        5 | 6 => [Some(PLAIN_BYTES), None],
        // Writes of many: the values, or an address and a count.
        15 | 16 => [Some(PLAIN_BYTES), counted(6, 9)],
        0x81..=0x90 => [Some(FRAME_BYTES_MIN), None],
        _ => return None,
    };
    let is_frame = |len: &usize| {
        *len <= FRAME_BYTES_MAX
            && bytes.get(..*len).is_some_and(|frame| {
                let (body, sum) = frame.split_at(len - 2);
                CRC.checksum(body).to_le_bytes() == *sum
            })
    };
    lengths.into_iter().flatten().find(is_frame)
}
