//! The fields of a packet, read from its front.

use std::ops::Range;

/// What a packet lacks, or has too much of.
pub(crate) type What = &'static str;

/// Reads fields one after the other; positions count from the body's start.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn rest(&self) -> Range<usize> {
        self.at..self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    pub(crate) fn skip(&mut self, len: usize, what: What) -> Result<Range<usize>, What> {
        if len > self.rest().len() {
            return Err(what);
        }
        let range = self.at..self.at + len;
        self.at = range.end;
        Ok(range)
    }

    pub(crate) fn u8(&mut self, what: What) -> Result<u8, What> {
        Ok(self.bytes[self.skip(1, what)?.start])
    }

    pub(crate) fn u16(&mut self, what: What) -> Result<u16, What> {
        let high = self.u8(what)?;
        let low = self.u8(what)?;
        Ok(u16::from_be_bytes([high, low]))
    }

    /// A length of two bytes and as many bytes (5.0, 1.5.4 and 1.5.6).
    pub(crate) fn prefixed(&mut self, what: What) -> Result<Range<usize>, What> {
        let len = self.u16(what)?;
        self.skip(usize::from(len), what)
    }

    /// The identifier of a packet, which is never zero (5.0, 2.2.1).
    pub(crate) fn packet_id(&mut self) -> Result<u16, What> {
        match self.u16("it ends before its packet identifier")? {
            0 => Err("its packet identifier is 0; those begin at 1"),
            id => Ok(id),
        }
    }

    pub(crate) fn variable(&mut self) -> Result<usize, What> {
        match variable(&self.bytes[self.at..])? {
            Some((value, len)) => {
                self.at += len;
                Ok(value)
            }
            None => Err("it ends within a length"),
        }
    }

    /// The properties of MQTT 5, without their length (5.0, 2.2.2).
    pub(crate) fn properties(&mut self) -> Result<Body<'a>, What> {
        let len = self.variable()?;
        let range = self.skip(len, "its properties run past its end")?;
        Ok(Body::new(&self.bytes[range]))
    }
}

/// A variable byte integer and its own length in bytes (3.1.1, 2.2.3; 5.0,
/// 1.5.5), or `None` if more bytes are needed.
pub(crate) fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, What> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err("a length has more than 4 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<Option<(usize, usize)>, What>) {
        assert_eq!(variable(bytes), expected, "{bytes:02x?}");
    }

    #[test]
    fn a_length_has_one_to_four_bytes() {
        // 3.1.1, table 2.4.
        check(&[0x00], Ok(Some((0, 1))));
        check(&[0x7F], Ok(Some((127, 1))));
        check(&[0x80, 0x01], Ok(Some((128, 2))));
        check(&[0xFF, 0x7F], Ok(Some((16_383, 2))));
        check(&[0x80, 0x80, 0x01], Ok(Some((16_384, 3))));
        check(&[0xFF, 0xFF, 0xFF, 0x7F], Ok(Some((268_435_455, 4))));
        check(&[], Ok(None));
        check(&[0xFF, 0xFF, 0xFF], Ok(None));
        check(
            &[0xFF, 0xFF, 0xFF, 0xFF],
            Err("a length has more than 4 bytes"),
        );
    }
}
