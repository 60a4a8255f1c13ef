//! The fields of a packet, one after the other.

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What MQTT 5 calls it (5.0, 2.4).
    pub(crate) code: u8,
    /// What is wrong, for the log.
    pub(crate) what: &'static str,
}

pub(crate) const MALFORMED: u8 = 0x81;
pub(crate) const PROTOCOL_ERROR: u8 = 0x82;

impl Wrong {
    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self {
            code: MALFORMED,
            what,
        }
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self {
            code: PROTOCOL_ERROR,
            what,
        }
    }
}

/// A fixed header (3.1.1, 2.2; 5.0, 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) len: usize,
    pub(crate) body_len: usize,
}

impl Header {
    /// The header at the front of `bytes`, or `None` if it is not whole.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, Wrong> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        Ok(variable(rest)?.map(|(body_len, len)| Self {
            kind: first >> 4,
            flags: first & 0x0F,
            len: 1 + len,
            body_len,
        }))
    }

    pub(crate) fn packet_len(&self) -> usize {
        self.len + self.body_len
    }
}

/// A variable byte integer and its own length, or `None` if it is not whole
/// (3.1.1, 2.2.3; 5.0, 1.5.5).
fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, Wrong> {
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
    Err(Wrong::malformed("a length has more than 4 bytes"))
}

/// What is left of a packet's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

const SHORT: Wrong = Wrong::malformed("it ends within a field");

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Wrong> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Wrong> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Wrong> {
        self.take(4)
            .map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn variable(&mut self) -> Result<usize, Wrong> {
        let (value, len) = variable(self.0)?.ok_or(SHORT)?;
        self.take(len)?;
        Ok(value)
    }

    /// A packet identifier (3.1.1, 2.3.1; 5.0, 2.2.1).
    pub(crate) fn packet_id(&mut self) -> Result<u16, Wrong> {
        match self.u16()? {
            0 => Err(Wrong::protocol("its packet identifier is 0")),
            id => Ok(id),
        }
    }

    /// Bytes behind their length of two bytes.
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Wrong> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A text (3.1.1, 1.5.3; 5.0, 1.5.4).
    pub(crate) fn text(&mut self) -> Result<&'a str, Wrong> {
        let text = std::str::from_utf8(self.binary()?);
        let text = text.map_err(|_| Wrong::malformed("a text is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Wrong::malformed("a text has a NUL in it"));
        }
        Ok(text)
    }

    /// What was taken since `self`, of which `later` is left.
    pub(crate) fn before(&self, later: &Self) -> &'a [u8] {
        &self.0[..self.0.len() - later.0.len()]
    }

    pub(crate) fn nothing_left(&self) -> Result<(), Wrong> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Wrong::malformed("it has bytes after its last field"))
    }
}
