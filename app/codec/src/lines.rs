//! Bytes of a stream to lines.
//!
//! A line that lies whole in one chunk is handed on without a copy; only the
//! unfinished tail of a chunk is kept, at most [`LINE_MAX`] bytes of it. A line
//! that outgrows the bound is reported once, at the byte that breaks it, and
//! skipped up to its end. How the stream is cut into chunks makes no
//! difference to what comes out. CR, LF and CRLF each end a line: instruments use
//! all three.

/// The longest line without its terminator, bytes. 32 channels of 24
/// characters, names and a timestamp take a quarter of it.
pub const LINE_MAX: usize = 4096;

/// A line was longer than [`LINE_MAX`] and is being skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {LINE_MAX} bytes")]
pub struct Oversize;

/// Cuts a stream at `\n`, `\r\n` or `\r`.
///
/// ```
/// let mut splitter = hark_codec::LineSplitter::new();
/// let mut lines = Vec::new();
/// for chunk in [&b"1,2\r\n3"[..], b",4\r5,6"] {
///     splitter.push(chunk, |line| lines.push(line.map(<[u8]>::to_vec)));
/// }
/// splitter.finish(|line| lines.push(line.map(<[u8]>::to_vec)));
/// let expected = [b"1,2", b"3,4", b"5,6"].map(|line| Ok(line.to_vec()));
/// assert_eq!(lines, expected);
/// ```
#[derive(Debug)]
pub struct LineSplitter {
    /// The line begun by earlier chunks.
    tail: Vec<u8>,
    /// The tail was completed and handed out: it is void at the next call.
    tail_is_given: bool,
    is_skipping: bool,
    /// The last line ended with `\r`: a `\n` right behind it ends nothing.
    is_behind_return: bool,
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl LineSplitter {
    /// A splitter at the start of a line; the only allocation is made here.
    pub fn new() -> Self {
        Self {
            tail: Vec::with_capacity(LINE_MAX),
            tail_is_given: false,
            is_skipping: false,
            is_behind_return: false,
        }
    }

    /// The next line of `chunk`, without its terminator; empty lines too.
    ///
    /// Takes from the front of `chunk` what it has looked at. `None`: the chunk
    /// is used up, and what it began is kept.
    pub fn next_line<'a, 'chunk: 'a>(
        &'a mut self,
        chunk: &mut &'chunk [u8],
    ) -> Option<Result<&'a [u8], Oversize>> {
        match self.find_line(chunk)? {
            Found::Whole(line) => Some(Ok(line)),
            Found::Tail => Some(Ok(&self.tail)),
            Found::Oversize => Some(Err(Oversize)),
        }
    }

    fn find_line<'a>(&mut self, chunk: &mut &'a [u8]) -> Option<Found<'a>> {
        if std::mem::take(&mut self.tail_is_given) {
            self.tail.clear();
        }
        loop {
            if self.is_behind_return && !chunk.is_empty() {
                self.is_behind_return = false;
                *chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) else {
                return self.keep(std::mem::take(chunk));
            };
            let part = &chunk[..end];
            self.is_behind_return = chunk[end] == b'\r';
            *chunk = &chunk[end + 1..];
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            if self.tail.len() + part.len() > LINE_MAX {
                self.tail.clear();
                return Some(Found::Oversize);
            }
            if self.tail.is_empty() {
                return Some(Found::Whole(part));
            }
            self.tail.extend_from_slice(part);
            self.tail_is_given = true;
            return Some(Found::Tail);
        }
    }

    /// Takes the next chunk and gives each line that it completes to
    /// `handle_line`.
    pub fn push(&mut self, chunk: &[u8], mut handle_line: impl FnMut(Result<&[u8], Oversize>)) {
        let mut rest = chunk;
        while let Some(line) = self.next_line(&mut rest) {
            handle_line(line);
        }
    }

    /// The stream has ended: gives the last line, if it has no terminator, and
    /// is ready for the next stream.
    pub fn finish(&mut self, mut handle_line: impl FnMut(Result<&[u8], Oversize>)) {
        if !self.tail_is_given && !self.tail.is_empty() {
            handle_line(Ok(&self.tail));
        }
        self.reset();
    }

    /// Forgets a line that was begun.
    pub fn reset(&mut self) {
        self.tail.clear();
        self.tail_is_given = false;
        self.is_skipping = false;
        self.is_behind_return = false;
    }

    /// Keeps the unfinished end of a chunk.
    fn keep<'a>(&mut self, part: &[u8]) -> Option<Found<'a>> {
        if self.is_skipping {
            return None;
        }
        if self.tail.len() + part.len() > LINE_MAX {
            self.tail.clear();
            self.is_skipping = true;
            return Some(Found::Oversize);
        }
        self.tail.extend_from_slice(part);
        None
    }
}

/// Where the next line is.
enum Found<'a> {
    /// In the chunk.
    Whole(&'a [u8]),
    /// Begun by an earlier chunk, now complete in the tail.
    Tail,
    Oversize,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines = Vec<Result<Vec<u8>, Oversize>>;

    fn split(stream: &[u8], chunk_len: usize) -> Lines {
        let mut splitter = LineSplitter::new();
        let mut lines = Lines::new();
        for chunk in stream.chunks(chunk_len) {
            splitter.push(chunk, |line| lines.push(line.map(<[u8]>::to_vec)));
            assert!(splitter.tail.capacity() == LINE_MAX);
        }
        splitter.finish(|line| lines.push(line.map(<[u8]>::to_vec)));
        lines
    }

    fn check(stream: &[u8], expected: &[Result<&[u8], Oversize>]) {
        let expected: Lines = expected.iter().map(|l| l.map(<[u8]>::to_vec)).collect();
        for chunk_len in [1, 2, 3, 7, 4096, 4097, stream.len().max(1)] {
            assert_eq!(split(stream, chunk_len), expected, "chunks of {chunk_len}");
        }
    }

    #[test]
    fn lines_end_at_return_line_feed_or_both() {
        check(b"", &[]);
        check(b"a", &[Ok(b"a")]);
        check(b"a\n", &[Ok(b"a")]);
        check(b"a\r", &[Ok(b"a")]);
        check(b"a\r\nb\n", &[Ok(b"a"), Ok(b"b")]);
        check(b"a\rb\rc", &[Ok(b"a"), Ok(b"b"), Ok(b"c")]);
        check(b"\n\r\n\n\r", &[Ok(b""), Ok(b""), Ok(b""), Ok(b"")]);
        check(b"a\rb\r\r\nc", &[Ok(b"a"), Ok(b"b"), Ok(b""), Ok(b"c")]);
        check(b"\r\n\r\na", &[Ok(b""), Ok(b""), Ok(b"a")]);
    }

    #[test]
    fn a_long_line_is_reported_once_and_the_next_is_whole() {
        let line = |len: usize| vec![b'x'; len];
        let longest = line(LINE_MAX);
        check(
            &[&longest[..], b"\nb\n"].concat(),
            &[Ok(&longest), Ok(b"b")],
        );
        for len in [LINE_MAX + 1, 3 * LINE_MAX] {
            check(
                &[&line(len)[..], b"\nb\n"].concat(),
                &[Err(Oversize), Ok(b"b")],
            );
            check(&line(len), &[Err(Oversize)]);
        }
    }

    #[test]
    fn a_new_stream_does_not_inherit_the_skipped_line() {
        let mut splitter = LineSplitter::new();
        splitter.push(&[b'x'; LINE_MAX + 1], |line| {
            assert_eq!(line, Err(Oversize));
        });
        splitter.finish(|_| panic!("the long line was reported already"));
        let mut lines = 0;
        splitter.push(b"a\n", |line| {
            assert_eq!(line, Ok(&b"a"[..]));
            lines += 1;
        });
        assert_eq!(lines, 1);
    }
}
