//! One frame: a message, its version and its checksum, and back.
//!
//! The checksum is CRC-32C (Castagnoli; `CRC-32/ISCSI` in the catalogue).
//! It detects every error of up to five bits in 655 bytes, which covers all
//! messages but a large `Hello`, where it detects up to three; the CRC-32 of
//! Ethernet and zlib does so up to 33 and 11 450 bytes. (Koopman, "32-bit
//! cyclic redundancy codes for internet applications", DSN 2002; all lengths
//! without the checksum.) Armv8 and x86 have an instruction for it.
//!
//! postcard's own `from_bytes_cobs` and `CobsAccumulator` are no use here:
//! they ignore what follows the body, and with it a wrong checksum.

use crate::message::{CHANNELS_MAX, FIRMWARE_MAX, LABEL_MAX, LOG_MAX, Message, NAME_MAX, UNIT_MAX};
use crc::{CRC_32_ISCSI, Crc, Table};
use postcard::ser_flavors::{Cobs, Slice, crc::CrcModifier};

/// The version of the protocol, the first byte of every frame.
pub const VERSION: u8 = 1;

/// The longest frame in bytes, its delimiter included.
pub const FRAME_MAX: usize = encoded_max(RAW_MAX) + DELIMITER_LEN;

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DecodeError {
    /// More bytes than any frame has.
    TooLong,
    /// Not an encoding by COBS.
    Cobs,
    /// Too few bytes for a version, a message and a checksum.
    Short,
    /// The checksum differs: damaged on the way, or not a frame at all.
    Crc,
    /// An intact frame of a protocol version that this side does not speak.
    Version(u8),
    /// An intact frame whose body is not a message of this version.
    Body,
    /// An intact frame with bytes after its message.
    Trailing,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLong => write!(f, "no delimiter within {FRAME_MAX} bytes"),
            Self::Cobs => f.write_str("not an encoding by COBS"),
            Self::Short => f.write_str("too short for a frame"),
            Self::Crc => f.write_str("the checksum differs"),
            Self::Version(version) => {
                write!(f, "protocol version {version}, this side speaks {VERSION}")
            }
            Self::Body => f.write_str("not a message of this protocol version"),
            Self::Trailing => f.write_str("bytes after the message"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// The checksum's byte-wise table of 1 KiB: a table of 16 KiB is faster, but
/// a node has no room for it.
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);
const CRC_LEN: usize = size_of::<u32>();
const VERSION_LEN: usize = size_of_val(&VERSION);
const DELIMITER_LEN: usize = 1;

const RAW_MAX: usize = VERSION_LEN + BODY_MAX + CRC_LEN;
/// A hello is the longest message; the assertions below hold that.
const BODY_MAX: usize = HELLO_MAX;

const TAG_LEN: usize = 1;
const BOOL_LEN: usize = 1;
const F32_LEN: usize = 4;
const U16_MAX: usize = varint_len(u16::MAX as u64);
const U32_MAX: usize = varint_len(u32::MAX as u64);
const U64_MAX: usize = varint_len(u64::MAX);

const CHANNEL_MAX: usize = list_max(LABEL_MAX, 1) + list_max(UNIT_MAX, 1) + F32_LEN;
const HELLO_MAX: usize = TAG_LEN
    + list_max(NAME_MAX, 1)
    + list_max(FIRMWARE_MAX, 1)
    + U32_MAX
    + list_max(CHANNELS_MAX, CHANNEL_MAX);
const READING_MAX: usize = TAG_LEN + U32_MAX + U64_MAX + list_max(CHANNELS_MAX, U32_MAX);
const HEALTH_MAX: usize = TAG_LEN + 4 * U32_MAX + U16_MAX;
const LOG_BODY_MAX: usize = TAG_LEN + list_max(LOG_MAX, 1);
const CONFIG_MAX: usize = TAG_LEN + U32_MAX + 2 * BOOL_LEN;

const _: () = assert!(READING_MAX <= BODY_MAX);
const _: () = assert!(HEALTH_MAX <= BODY_MAX);
const _: () = assert!(LOG_BODY_MAX <= BODY_MAX);
const _: () = assert!(CONFIG_MAX <= BODY_MAX);
// The Hamming distance that the header promises: 5243 bits for six.
const _: () = assert!((VERSION_LEN + READING_MAX) * 8 <= 5243);
const _: () = assert!((VERSION_LEN + LOG_BODY_MAX) * 8 <= 5243);
// The heapless containers count in a `u8`.
const _: () = assert!(CHANNELS_MAX < 256);
const _: () = assert!(LOG_MAX < 256);

/// Bytes that a varint needs for `max`: seven bits in each.
const fn varint_len(max: u64) -> usize {
    (u64::BITS - max.leading_zeros()).div_ceil(7) as usize
}

/// Bytes of a list of `count` items of `item_max` bytes, with its count.
const fn list_max(count: usize, item_max: usize) -> usize {
    varint_len(count as u64) + count * item_max
}

/// Bytes after COBS: one for each started or just completed run of 254.
const fn encoded_max(raw: usize) -> usize {
    raw + raw / 254 + 1
}

/// Writes `message` as one frame into `frame`.
///
/// Returns the frame with its delimiter: at least 9 and at most
/// [`FRAME_MAX`] bytes, of which only the last is zero. It cannot fail: the
/// capacities of a message are in its type, and `FRAME_MAX` follows from
/// them.
///
/// ```
/// use hark_wire::{Config, FRAME_MAX, Message, decode, encode};
/// let start = Message::Config(Config { period_ms: 10, running: true, say_hello: true });
/// let mut buffer = [0; FRAME_MAX];
/// let frame = encode(&start, &mut buffer);
/// let (delimiter, body) = frame.split_last_mut().expect("a frame is never empty");
/// assert_eq!(*delimiter, 0);
/// assert_eq!(decode(body), Ok(start));
/// ```
pub fn encode<'f>(message: &Message, frame: &'f mut [u8; FRAME_MAX]) -> &'f mut [u8] {
    let cobs = Cobs::try_new(Slice::new(frame)).expect("FRAME_MAX is not zero");
    let checked = CrcModifier::new(cobs, CRC.digest());
    postcard::serialize_with_flavor(&(VERSION, message), checked)
        .expect("FRAME_MAX holds the largest message")
}

/// Reads one frame, given without its delimiter.
///
/// COBS is undone in place, so that `frame` holds no frame afterwards.
///
/// # Errors
/// The [`DecodeError`] says what is wrong. [`DecodeError::Version`],
/// [`DecodeError::Body`] and [`DecodeError::Trailing`] are told only of
/// frames with the right checksum, so they mean another firmware and not a
/// bad line.
pub fn decode(frame: &mut [u8]) -> Result<Message, DecodeError> {
    if frame.len() > FRAME_MAX - DELIMITER_LEN {
        return Err(DecodeError::TooLong);
    }
    // The cobs crate stops at a zero and ignores what follows.
    if frame.contains(&0) {
        return Err(DecodeError::Cobs);
    }
    let raw_len = cobs::decode_in_place(frame).map_err(|_| DecodeError::Cobs)?;
    let (checked, crc) = frame[..raw_len]
        .split_last_chunk::<CRC_LEN>()
        .ok_or(DecodeError::Short)?;
    let (version, body) = checked.split_first().ok_or(DecodeError::Short)?;
    if CRC.checksum(checked) != u32::from_le_bytes(*crc) {
        return Err(DecodeError::Crc);
    }
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, _)) => Err(DecodeError::Trailing),
        Err(_) => Err(DecodeError::Body),
    }
}
