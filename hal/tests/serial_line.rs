//! Serial lines on real pseudo terminals.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use hark_hal::{
    DataBits, Parity, Pty, Received, Rs485, SerialError, SerialLine, SerialSettings, StopBits,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// Far beyond what any step takes: only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

fn settings(path: &Path) -> SerialSettings {
    SerialSettings::new(path.to_str().unwrap(), 115_200)
}

fn open(pty: &Pty) -> SerialLine {
    SerialLine::open(&settings(pty.path())).unwrap()
}

fn send(pty: &Pty, bytes: &[u8]) {
    assert_eq!(pty.write(bytes, PATIENCE).unwrap(), bytes.len());
}

/// Reads until `len` bytes are there.
fn receive(line: &mut SerialLine, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match line.read(&mut bytes[filled..], PATIENCE).unwrap() {
            Received::Bytes(count) => filled += count,
            Received::Idle => panic!("{filled} of {len} bytes came"),
        }
    }
    bytes
}

fn is_gone(outcome: &Result<Received, SerialError>) -> bool {
    matches!(outcome, Err(SerialError::Gone { .. }))
}

#[test]
fn every_byte_comes_through_unchanged_both_ways() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let all: Vec<u8> = (0..=u8::MAX).collect();
    send(&pty, &all);
    assert_eq!(receive(&mut line, all.len()), all);
    line.write_all(&all).unwrap();
    let mut back = Vec::<u8>::new();
    while back.len() < all.len() {
        let mut piece = [0; 64];
        let len = pty.read(&mut piece, PATIENCE).unwrap();
        assert_ne!(len, 0, "only {} bytes came back", back.len());
        back.extend_from_slice(&piece[..len]);
    }
    assert_eq!(back, all, "and nothing was echoed");
}

#[test]
fn a_read_returns_at_the_first_byte() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    send(&pty, &[7]);
    let start = Instant::now();
    let outcome = line.read(&mut [0; 1024], PATIENCE).unwrap();
    assert_eq!(outcome, Received::Bytes(1));
    assert!(start.elapsed() < PATIENCE / 2, "it waited for more");
}

#[test]
fn silence_is_idle_and_not_an_error() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let outcome = line.read(&mut [0; 8], NOW).unwrap();
    assert_eq!(outcome, Received::Idle);
    let outcome = line.read(&mut [0; 8], Duration::from_millis(1)).unwrap();
    assert_eq!(outcome, Received::Idle);
}

#[test]
fn unplugging_is_gone_and_stays_so() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    drop(pty);
    for _ in 0..3 {
        assert!(is_gone(&line.read(&mut [0; 8], PATIENCE)));
        let written = line.write_all(&[1]);
        assert!(
            matches!(written, Err(SerialError::Gone { .. })),
            "{written:?}"
        );
    }
}

#[test]
fn unplugging_wakes_a_waiting_read() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let reader = std::thread::spawn(move || line.read(&mut [0; 8], PATIENCE));
    drop(pty);
    assert!(is_gone(&reader.join().unwrap()));
}

#[test]
fn replugging_at_the_same_link_works_again() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("pump");
    for round in 0..5 {
        let pty = Pty::open_at(&link).unwrap();
        assert_eq!(pty.path(), link);
        let mut line = open(&pty);
        send(&pty, &[round]);
        assert_eq!(receive(&mut line, 1), [round]);
        drop(pty);
        assert!(is_gone(&line.read(&mut [0; 8], PATIENCE)));
        let reopened = SerialLine::open(&settings(&link));
        assert!(
            matches!(reopened, Err(SerialError::NotFound { .. })),
            "{reopened:?}"
        );
    }
}

#[test]
fn a_reader_may_leave_and_another_come() {
    let pty = Pty::open().unwrap();
    for round in 0..5 {
        assert!(!pty.wait_for_reader(NOW).unwrap());
        assert_eq!(pty.write(&[0xee; 100], NOW).unwrap(), 0, "nobody there");
        let mut line = open(&pty);
        assert!(pty.wait_for_reader(PATIENCE).unwrap());
        send(&pty, &[round, 13, 10, 3]);
        assert_eq!(receive(&mut line, 4), [round, 13, 10, 3]);
    }
}

#[test]
fn a_plain_reader_gets_raw_bytes_without_echo() {
    let pty = Pty::open().unwrap();
    for _ in 0..2 {
        let mut plain = std::fs::File::open(pty.path()).unwrap();
        send(&pty, &[3, 4, 13, 10, 0, 255]);
        let mut bytes = [0; 6];
        std::io::Read::read_exact(&mut plain, &mut bytes).unwrap();
        assert_eq!(bytes, [3, 4, 13, 10, 0, 255]);
        assert_eq!(pty.read(&mut [0; 8], NOW).unwrap(), 0);
    }
}

#[test]
fn a_reader_that_does_not_read_bounds_the_write() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let flood = vec![0x55; 1 << 20];
    let written = pty.write(&flood, Duration::from_millis(1)).unwrap();
    assert!((1..flood.len()).contains(&written), "{written} bytes");
    assert_eq!(receive(&mut line, written), flood[..written]);
    send(&pty, &[1]);
    assert_eq!(receive(&mut line, 1), [1]);
}

#[test]
fn a_node_that_does_not_read_stalls_the_line_and_no_longer() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let flood = vec![0x55; 1 << 20];
    match line.write_all(&flood) {
        Err(SerialError::Stalled { written, len, .. }) => {
            assert!(written < len);
            assert_eq!(len, flood.len());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_name_lists_the_ports_that_there_are() {
    let error = SerialLine::open(&SerialSettings::new("/dev/ttyUSB987", 9600)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("no serial port /dev/ttyUSB987; "),
        "{text}"
    );
    let SerialError::NotFound { available, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(available, hark_hal::serial_ports());
    for port in available {
        assert!(text.contains(&port), "{text} lacks {port}");
    }
}

#[test]
fn a_file_a_directory_and_a_device_of_another_kind_are_no_ports() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [&file, directory.path(), Path::new("/dev/null")] {
        let error = SerialLine::open(&settings(path)).unwrap_err();
        assert!(matches!(error, SerialError::NotSerial { .. }), "{error:?}");
    }
}

#[test]
fn a_port_is_opened_once() {
    let pty = Pty::open().unwrap();
    let mut line = open(&pty);
    let second = SerialLine::open(&settings(pty.path())).unwrap_err();
    assert!(matches!(second, SerialError::Busy { .. }), "{second:?}");
    send(&pty, &[9]);
    assert_eq!(receive(&mut line, 1), [9], "the first is undisturbed");
    drop(line);
    open(&pty);
}

#[test]
fn settings_are_shown_as_technicians_write_them_and_applied() {
    let pty = Pty::open().unwrap();
    let mut settings = settings(pty.path());
    assert!(settings.to_string().ends_with(" 115200 8N1"));
    settings.baud = 12_345;
    settings.parity = Parity::Even;
    settings.stop_bits = StopBits::Two;
    settings.data_bits = DataBits::Seven;
    assert!(settings.to_string().ends_with(" 12345 7E2"));
    let _line = SerialLine::open(&settings).unwrap();
    // Where the tests are not run by root, this also shows that no flag is
    // left that would outlive a killed holder of the line.
    let plain = std::fs::File::open(pty.path()).unwrap();
    let termios = rustix::termios::tcgetattr(&plain).unwrap();
    assert_eq!(termios.input_speed(), 12_345);
    assert!(
        termios
            .control_modes
            .contains(rustix::termios::ControlModes::CSTOPB)
    );
}

#[test]
fn a_baud_rate_of_zero_is_refused() {
    let pty = Pty::open().unwrap();
    let mut settings = settings(pty.path());
    settings.baud = 0;
    let error = SerialLine::open(&settings).unwrap_err();
    assert!(matches!(error, SerialError::Settings { .. }), "{error:?}");
}

#[test]
fn a_link_is_replaced_if_stale_kept_if_taken_over_and_never_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    let first = Pty::open_at(&link).unwrap();
    let second = Pty::open_at(&link).unwrap();
    drop(first);
    assert!(link.is_symlink(), "it is the second's");
    drop(second);
    assert!(!link.is_symlink());

    let file = directory.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let error = Pty::open_at(&file).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_port_that_cannot_switch_a_transceiver_says_so_and_stays_free() {
    let pty = Pty::open().unwrap();
    let rs485 = Rs485 {
        is_rts_on_send: true,
        delay_before_ms: 0,
        delay_after_ms: 1,
    };
    let wanted = SerialSettings {
        rs485: Some(rs485),
        ..settings(pty.path())
    };
    let error = SerialLine::open(&wanted).unwrap_err();
    assert!(matches!(error, SerialError::Rs485 { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(pty.path().to_str().unwrap()), "{said}");
    assert!(said.contains("`rs485 = false`"), "{said}");
    // The lock went with the refused line.
    open(&pty).shorten_latency().unwrap();
}
