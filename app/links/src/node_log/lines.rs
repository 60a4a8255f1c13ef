//! From pieces of a defmt stream to whole lines, in fixed memory.
//!
//! A line ends with a zero, which its encoding (rzCOBS) has nowhere else.

/// The longest line, bytes: a node that logs more at once is no sensor node.
pub(super) const LINE_BYTES_MAX: usize = 1024;

/// The line that is being put together.
#[derive(Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// The rest of this line is passed over, up to its end.
    is_skipping: bool,
}

impl Lines {
    /// Takes in a piece, and calls `handle` with each line that it ends.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8], mut handle: impl FnMut(&[u8])) {
        let mut runs = bytes.split(|byte| *byte == 0).peekable();
        while let Some(run) = runs.next() {
            if self.held.len() + run.len() > LINE_BYTES_MAX {
                self.handle_loss();
                self.is_skipping = true;
            }
            if !self.is_skipping {
                self.held.extend_from_slice(run);
            }
            let is_whole = runs.peek().is_some();
            if is_whole {
                if !self.held.is_empty() {
                    handle(&self.held);
                }
                self.held.clear();
                self.is_skipping = false;
            }
        }
    }

    /// Bytes were lost: what is held is void, and so is what completes it.
    /// Between two lines the loss took whole ones, as far as anyone can tell.
    pub(super) fn handle_loss(&mut self) {
        self.is_skipping |= !self.held.is_empty();
        self.held.clear();
    }
}
