//! A message that is too large for the input, while its bytes go by.
//!
//! Of all its bytes only the packet identifier is of use: without its
//! acknowledgement the broker would send the message again, or wait for it.

use crate::body::{Body, What};
use crate::input::Input;
use crate::packet::{Header, Quality};

pub(crate) struct Skip {
    /// Where the packet begins, counted from the connection's start.
    at: u64,
    header: Header,
    quality: Quality,
    /// Bytes that are still to come before the identifier.
    before: usize,
    id: Option<u16>,
    /// Bytes that are still to come after it.
    after: usize,
}

impl Skip {
    /// Takes the header and the topic's length, or nothing if they are not
    /// all there.
    pub(crate) fn begin(header: Header, input: &mut Input) -> Result<Option<Self>, What> {
        let quality = header.quality()?;
        let body = &input.unread()[header.len..];
        let Some(&[high, low]) = body.first_chunk() else {
            return Ok(None);
        };
        let before = usize::from(u16::from_be_bytes([high, low]));
        let id_len = if quality == Quality::Zero { 0 } else { 2 };
        let after = header.body_len.checked_sub(2 + before + id_len);
        let after = after.ok_or("its topic runs past its end")?;
        let at = input.consumed();
        input.consume(header.len + 2);
        Ok(Some(Self {
            at,
            header,
            quality,
            before,
            id: (quality == Quality::Zero).then_some(0),
            after,
        }))
    }

    /// Takes what has come; whether that was all.
    pub(crate) fn advance(&mut self, input: &mut Input) -> Result<bool, What> {
        take(&mut self.before, input);
        if self.before > 0 {
            return Ok(false);
        }
        if self.id.is_none() {
            if input.unread().len() < 2 {
                return Ok(false);
            }
            self.id = Some(Body::new(input.unread()).packet_id()?);
            input.consume(2);
        }
        take(&mut self.after, input);
        Ok(self.after == 0)
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn quality(&self) -> Quality {
        self.quality
    }

    /// Its identifier, once that was seen; zero at [`Quality::Zero`].
    pub(crate) fn id(&self) -> u16 {
        self.id.unwrap_or(0)
    }

    pub(crate) fn packet_len(&self) -> usize {
        self.header.packet_len()
    }
}

/// Consumes up to `len` bytes, and lessens it by as many.
fn take(len: &mut usize, input: &mut Input) {
    let there = input.unread().len().min(*len);
    input.consume(there);
    *len -= there;
}
