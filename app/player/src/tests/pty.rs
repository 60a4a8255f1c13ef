//! A real pseudo terminal: what a gateway at its other end gets.
//!
//! The gateway's part runs in the player's callback, on the same thread, so
//! that nothing depends on who is faster.

use super::{rig, schedule, text_decoder};
use crate::*;
use hark_codec::LineSplitter;
use hark_hal::{Pty, Received, SerialLine, SerialSettings};
use hark_rig::{CHANNELS, RigReading};
use hark_threads::shutdown::{self, ShutdownSender};
use hark_wire::{Config, FRAME_MAX, FrameDecoder, Hello, Message};
use std::time::Instant;

/// Far longer than the kernel takes from one end to the other.
const ARRIVAL: Duration = Duration::from_millis(200);

/// The other end of the line.
struct Gateway {
    line: SerialLine,
    frames: FrameDecoder,
    hellos: Vec<Hello>,
    readings: Vec<hark_wire::Reading>,
    bytes: Vec<u8>,
}

impl Gateway {
    fn new(pty: &Pty) -> Self {
        let settings = SerialSettings::new(pty.path().to_str().unwrap(), 115_200);
        Self {
            line: SerialLine::open(&settings).unwrap(),
            frames: FrameDecoder::new(),
            hellos: Vec::new(),
            readings: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Takes in what has come; false if nothing had within `timeout`.
    fn receive(&mut self, timeout: Duration) -> bool {
        let mut buffer = [0; 4096];
        let Received::Bytes(len) = self.line.read(&mut buffer, timeout).unwrap() else {
            return false;
        };
        self.bytes.extend(&buffer[..len]);
        let mut bytes = &buffer[..len];
        while let Some(message) = self.frames.next_message(&mut bytes) {
            match message {
                Ok(Message::Hello(hello)) => self.hellos.push(hello),
                Ok(Message::Reading(reading)) => self.readings.push(reading),
                _ => {}
            }
        }
        true
    }

    fn receive_all(&mut self) {
        while self.receive(ARRIVAL) {}
    }

    fn say(&mut self, config: Config) {
        let mut frame = [0; FRAME_MAX];
        let frame = hark_wire::encode(&Message::Config(config), &mut frame);
        self.line.write_all(frame).unwrap();
    }
}

fn frames() -> Encoding {
    Encoding::Frames(Node::new("pump-1", 42).unwrap())
}

/// Plays `schedule`; `on_reading` may end it.
fn play(
    pty: &Pty,
    encoding: &Encoding,
    schedule: Schedule,
    mut on_reading: impl FnMut(&RigReading, &ShutdownSender),
) -> Counts {
    let (sender, shutdown) = shutdown::channel();
    play_pty(pty, encoding, schedule, &shutdown, &mut |reading| {
        on_reading(reading, &sender);
    })
    .unwrap()
}

#[test]
fn a_gateway_hears_the_hello_and_then_every_reading() {
    let pty = Pty::open().unwrap();
    let mut gateway = Gateway::new(&pty);
    let counts = play(&pty, &frames(), schedule("", 0.0, 30), |_, _| {
        gateway.receive(Duration::ZERO);
    });
    gateway.receive_all();
    assert_eq!((counts.readings, counts.sent), (300, 300));
    assert_eq!(gateway.frames.counts().rejected(), 0);
    assert_eq!(gateway.hellos.len(), 1);
    assert_eq!(gateway.hellos[0].boot_id, 42);
    // Two frames of health beside them, at 10 s and at 20 s.
    assert_eq!(gateway.frames.counts().accepted, 1 + 300 + 2);
    for (received, made) in gateway.readings.iter().zip(rig("")) {
        assert_eq!(u64::from(received.sequence), made.sequence);
        let channels = gateway.hellos[0].channels.iter().enumerate();
        for (i, declared) in channels {
            let value = declared.physical(received.values[i]).unwrap();
            let error = f64::from(value - made.values[i]).abs();
            assert!(error < CHANNELS[i].resolution / 2.0, "{}", declared.name);
        }
    }
}

#[test]
fn a_gateway_that_asks_hears_the_hello_again() {
    let pty = Pty::open().unwrap();
    let mut gateway = Gateway::new(&pty);
    // The schedule is far longer than any request takes.
    let long = schedule("", 1e6, 100_000);
    play(&pty, &frames(), long, |reading, sender| {
        if reading.sequence == 10 {
            gateway.say(Config {
                period_ms: 0,
                running: true,
                say_hello: true,
            });
        }
        gateway.receive(Duration::ZERO);
        if gateway.hellos.len() == 2 {
            sender.request();
        }
    });
    assert_eq!(gateway.hellos.len(), 2);
    assert_eq!(gateway.hellos[0], gateway.hellos[1]);
}

#[test]
fn readings_that_nobody_listens_to_are_lost_and_counted() {
    let pty = Pty::open().unwrap();
    let counts = play(&pty, &frames(), schedule("", 1e6, 60), |_, _| {});
    assert_eq!(
        counts,
        Counts {
            readings: 600,
            lost: 600,
            ..Counts::default()
        }
    );
}

#[test]
fn each_reader_is_greeted_by_the_next_reading() {
    let pty = Pty::open().unwrap();
    let mut gateway = None;
    let mut hellos = 0;
    play(
        &pty,
        &frames(),
        schedule("", 1e6, 6),
        |reading, _| match reading.sequence {
            10 | 30 => gateway = Some(Gateway::new(&pty)),
            20 | 40 => {
                let mut last: Gateway = gateway.take().unwrap();
                last.receive_all();
                hellos += last.hellos.len();
                assert_eq!(last.frames.counts().rejected(), 0);
            }
            _ => {}
        },
    );
    assert_eq!(hellos, 2);
}

#[test]
fn without_a_pace_the_player_waits_for_a_reader() {
    let pty = Pty::open().unwrap();
    let (sender, shutdown) = shutdown::channel();
    sender.request();
    let mut is_called = false;
    let counts = play_pty(
        &pty,
        &frames(),
        schedule("", 0.0, 60),
        &shutdown,
        &mut |_| {
            is_called = true;
        },
    )
    .unwrap();
    assert_eq!(counts, Counts::default());
    assert!(!is_called);
}

/// The reader does nothing until the kernel's buffer is full, and then reads.
#[test]
fn a_slow_reader_costs_only_what_it_missed() {
    let pty = Pty::open().unwrap();
    let mut gateway = Gateway::new(&pty);
    let (mut last, mut stalls, mut reading_since) = (Instant::now(), 0, None);
    let counts = play(
        &pty,
        &frames(),
        schedule("", 1e6, 10_000),
        |reading, sender| {
            // A player that is late waits only for room, which is once for each
            // reading that is lost; a busy machine may seem to, but hardly twice.
            let is_stalled = last.elapsed() >= SHUTDOWN_POLL;
            stalls = if is_stalled { stalls + 1 } else { 0 };
            if stalls == 3 {
                reading_since.get_or_insert(reading.sequence);
            }
            if let Some(since) = reading_since {
                while gateway.receive(Duration::from_millis(1)) {}
                if reading.sequence > since + 20 {
                    sender.request();
                }
            }
            last = Instant::now();
        },
    );
    gateway.receive_all();
    assert!(counts.lost > 0);
    assert_eq!(counts.sent + counts.lost, counts.readings);
    assert_eq!(gateway.readings.len() as u64, counts.sent);
    assert!(gateway.frames.counts().rejected() <= 1);
    let last = gateway.readings.last().unwrap();
    assert_eq!(u64::from(last.sequence), counts.readings - 1);
}

#[test]
fn lines_arrive_as_lines_behind_their_header() {
    let pty = Pty::open().unwrap();
    let mut gateway = Gateway::new(&pty);
    let encoding = Encoding::Lines(TextFormat::Csv);
    let counts = play(&pty, &encoding, schedule("", 0.0, 15), |_, _| {
        gateway.receive(Duration::ZERO);
    });
    gateway.receive_all();
    let (mut decoder, mut readings) = (text_decoder(), 0);
    LineSplitter::new().push(&gateway.bytes, |line| {
        readings += decoder.decode(line.unwrap(), 0, &mut |outcome| drop(outcome.unwrap()));
    });
    assert_eq!((readings as u64, counts.sent), (150, 150));
}
