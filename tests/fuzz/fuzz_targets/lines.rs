//! A stream cut into lines, against a split of the whole.
//!
//! The first byte is the length of the chunks in which the rest arrives.
#![no_main]

use hark_codec::{LINE_MAX, LineSplitter, Oversize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((chunk_len, stream)) = input.split_first() else {
        return;
    };
    let mut pieces = split(stream);
    // What follows the last end is a line only if there is something.
    pieces.pop_if(|last| last.is_empty());
    let mut expected = pieces.into_iter().map(bounded);
    let mut splitter = LineSplitter::new();
    for chunk in stream.chunks(usize::from(*chunk_len).max(1)) {
        splitter.push(chunk, |line| assert_eq!(Some(line), expected.next()));
    }
    splitter.finish(|line| assert_eq!(Some(line), expected.next()));
    assert_eq!(expected.next(), None);
});

fn bounded(line: &[u8]) -> Result<&[u8], Oversize> {
    if line.len() > LINE_MAX {
        return Err(Oversize);
    }
    Ok(line)
}

/// At CR, LF and CRLF.
fn split(stream: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
    while at < stream.len() {
        let is_pair = stream[at..].starts_with(b"\r\n");
        if matches!(stream[at], b'\r' | b'\n') {
            pieces.push(&stream[start..at]);
            at += usize::from(is_pair);
            start = at + 1;
        }
        at += 1;
    }
    pieces.push(&stream[start..]);
    pieces
}
