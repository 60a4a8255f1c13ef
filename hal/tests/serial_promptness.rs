//! A frame is seen with its last byte: nothing between the line and `read`
//! waits for more bytes or for a timer.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use hark_hal::{Pty, Received, SerialLine, SerialSettings};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};
use std::time::Duration;

/// Far beyond what any step takes: only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

fn open(pty: &Pty) -> SerialLine {
    SerialLine::open(&SerialSettings::new(pty.path().to_str().unwrap(), 115_200)).unwrap()
}

/// With `VTIME` 0, Linux's poll reports a line readable at `VMIN` bytes
/// (`n_tty_poll`), so `VMIN` above 1 would hold the end of a frame back; with
/// `VTIME` above 0, a read may wait for its timer.
#[test]
fn the_line_is_readable_at_its_first_byte_and_has_no_timer() {
    let pty = Pty::open().unwrap();
    let _line = open(&pty);
    let termios = tcgetattr(std::fs::File::open(pty.path()).unwrap()).unwrap();
    assert!(!termios.local_modes.contains(LocalModes::ICANON));
    assert!(termios.special_codes[SpecialCodeIndex::VMIN] <= 1);
    assert_eq!(termios.special_codes[SpecialCodeIndex::VTIME], 0);
}

#[test]
fn each_piece_of_a_frame_is_read_when_it_came_and_the_last_ends_it() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let frame: Vec<u8> = (1..=40).chain([0]).collect();
    let mut received = Vec::<u8>::new();
    for piece in frame.chunks(7) {
        pty.write(piece, PATIENCE).unwrap();
        let mut buffer = [0; 1024];
        while received.len() < frame.len() {
            match line.read(&mut buffer, PATIENCE).unwrap() {
                Received::Bytes(len) => received.extend_from_slice(&buffer[..len]),
                Received::Idle => panic!("held back after {} bytes", received.len()),
            }
            // The next piece comes only when the reader has this one: were
            // bytes gathered up to a count, the loop would not get here.
            if received.last() == piece.last() {
                break;
            }
        }
    }
    assert_eq!(received, frame);
}
