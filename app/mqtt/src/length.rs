//! Lengths as they are sent.

/// The most that a remaining length can say (3.1.1, 2.2.3).
pub(crate) const BODY_BYTES_MAX: usize = 268_435_455;

/// How many bytes the length of a packet takes at most.
pub(crate) const LENGTH_BYTES_MAX: usize = 4;

/// The length of a text, if it can be said.
pub(crate) fn u16_len(text: &str) -> Option<u16> {
    u16::try_from(text.len()).ok()
}

/// A variable byte integer and how many of the bytes it takes.
pub(crate) fn encode_length(len: usize) -> ([u8; LENGTH_BYTES_MAX], usize) {
    assert!(len <= BODY_BYTES_MAX, "the output is smaller than that");
    let mut bytes = [0; LENGTH_BYTES_MAX];
    let mut rest = len;
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            return (bytes, index + 1);
        }
        *byte |= 0x80;
    }
    unreachable!("four bytes hold every length up to the greatest")
}
