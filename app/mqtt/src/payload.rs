//! The payload of a message that is being published.

/// A message's payload while it is written into the output.
///
/// Writing never fails and never allocates: what does not fit is counted, and
/// the message is then refused as a whole.
pub struct Payload<'a> {
    pub(crate) room: &'a mut [u8],
    /// All that was to be written, fitting or not.
    pub(crate) len: usize,
}

impl Payload<'_> {
    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        // Once something did not fit, `len` is past the room for good.
        if let Some(room) = self.room.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
        }
        self.len = end;
    }
}

impl std::fmt::Write for Payload<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl std::io::Write for Payload<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
