//! Readings as text and as frames, when they are due, and what a recording is.

mod pty;

use super::text::csv_header;
use super::*;
use hark_codec::{Decoder, MappingConfig};
use hark_engine::{Channel, Schema};
use hark_rig::{CHANNELS, Fault, Rig, RigConfig, RigReading};
use hark_threads::shutdown;
use hark_wire::Message;
use std::io;

/// A rig with one fault, such as `dropout@0s:0.5`; healthy if that is empty.
fn rig(fault: &str) -> Rig {
    let faults = if fault.is_empty() {
        vec![]
    } else {
        vec![fault.parse().unwrap()]
    };
    Rig::new(RigConfig {
        faults,
        ..RigConfig::default()
    })
    .unwrap()
}

fn schedule(fault: &str, speed: f64, end_s: u64) -> Schedule {
    let pace = Pace::new(speed).unwrap();
    Schedule::new(rig(fault), pace, Some(Duration::from_secs(end_s)))
}

/// The sequence of the reading that is due at `elapsed_us`, else how long to
/// wait in µs; `None` at the end.
fn poll(schedule: &mut Schedule, elapsed_us: u64) -> Option<Result<u64, u64>> {
    match schedule.poll(Duration::from_micros(elapsed_us)) {
        Due::Play(reading) => Some(Ok(reading.sequence)),
        Due::Wait(wait) => Some(Err(u64::try_from(wait.as_micros()).unwrap())),
        Due::End => None,
    }
}

#[test]
fn a_reading_is_due_at_its_time_over_the_speed() {
    let mut real_time = schedule("", 1.0, 10);
    assert_eq!(poll(&mut real_time, 0), Some(Ok(0)));
    assert_eq!(poll(&mut real_time, 0), Some(Err(100_000)));
    assert_eq!(poll(&mut real_time, 99_999), Some(Err(1)));
    assert_eq!(poll(&mut real_time, 100_000), Some(Ok(1)));
    let mut tenfold = schedule("", 10.0, 10);
    assert_eq!(poll(&mut tenfold, 0), Some(Ok(0)));
    assert_eq!(poll(&mut tenfold, 4_000), Some(Err(6_000)));
    assert_eq!(poll(&mut tenfold, 10_000), Some(Ok(1)));
}

#[test]
fn a_late_reading_delays_none_after_it() {
    let mut schedule = schedule("", 1.0, 10);
    for sequence in 0..=3 {
        assert_eq!(poll(&mut schedule, 350_000), Some(Ok(sequence)));
    }
    assert_eq!(poll(&mut schedule, 350_000), Some(Err(50_000)));
}

#[test]
fn without_a_pace_everything_is_due_up_to_the_end() {
    let mut schedule = schedule("", 0.0, 3);
    let mut made = 0;
    while let Some(reading) = poll(&mut schedule, 0) {
        assert_eq!(reading, Ok(made));
        made += 1;
    }
    assert_eq!(made, 30);
    assert_eq!(poll(&mut schedule, u64::MAX / 2), None);
}

#[test]
fn a_speed_is_zero_or_within_its_range() {
    for text in ["0", "1", "0.001", "2.5", "1e6"] {
        assert!(text.parse::<Pace>().is_ok(), "{text}");
    }
    for text in ["", "x", "-1", "0.0001", "1e7", "inf", "nan"] {
        assert_eq!(text.parse::<Pace>(), Err(InvalidSpeed), "{text}");
    }
    let slowest = Pace::new(SPEED_MIN).unwrap();
    assert!(slowest.due_after(u64::MAX) > Duration::from_secs(u64::MAX / 1_000_000));
}

fn text_decoder() -> Decoder {
    decoder(hark_codec::Format::Csv)
}

fn decoder(format: hark_codec::Format) -> Decoder {
    let channels = CHANNELS.iter().map(|channel| Channel {
        name: channel.name.to_owned(),
        unit: channel.unit.to_owned(),
        min: channel.min,
        max: channel.max,
        rate_max: None,
    });
    let schema = Schema {
        period_ms: 100.0,
        age_max_ms: None,
        channels: channels.collect(),
    };
    Decoder::new(format, &schema, &MappingConfig::default()).unwrap()
}

/// That `line` decodes to `reading` exactly.
fn check_decodes(decoder: &mut Decoder, line: &[u8], reading: &RigReading) {
    let count = decoder.decode(line, 0, &mut |outcome| {
        let decoded = outcome.unwrap().reading;
        assert_eq!(decoded.sequence, Some(reading.sequence));
        assert_eq!(decoded.timestamp_us, i64::try_from(reading.time_us).ok());
        assert_eq!(decoded.values(), reading.values);
    });
    assert_eq!(count, 1);
}

#[test]
fn lines_are_what_the_gateway_reads_without_a_mapping() {
    let (mut csv, mut json) = (text_decoder(), decoder(hark_codec::Format::Json));
    let header = TextFormat::Csv.header().unwrap();
    assert_eq!(
        csv.decode(header.as_bytes(), 0, &mut |_| panic!("a header")),
        0
    );
    let (csv_lines, json_lines) = (
        Encoding::Lines(TextFormat::Csv),
        Encoding::Lines(TextFormat::Json),
    );
    for reading in rig("cavitation@1s").take(200) {
        check_decodes(&mut csv, &csv_lines.reading(&reading), &reading);
        check_decodes(&mut json, &json_lines.reading(&reading), &reading);
    }
}

#[test]
fn json_names_sequence_time_and_channels() {
    let first = rig("").next().unwrap();
    let line = Encoding::Lines(TextFormat::Json).reading(&first);
    let line = String::from_utf8(line).unwrap();
    let start = r#"{"seq":0,"ts":0,"values":{"accel_motor_rms":"#;
    assert!(line.starts_with(start), "{line}");
    assert_eq!(TextFormat::Json.header(), None);
}

#[test]
fn a_frame_gives_back_what_the_instruments_showed() {
    let node = Node::new("pump-1", 7).unwrap();
    let Message::Hello(hello) = node.hello() else {
        panic!("not a hello");
    };
    assert_eq!((hello.node.as_str(), hello.boot_id), ("pump-1", 7));
    for reading in rig("cavitation@1s").take(200) {
        let Message::Reading(sent) = node.reading(&reading) else {
            panic!("not a reading");
        };
        assert_eq!(u64::from(sent.sequence), reading.sequence);
        assert_eq!(sent.timestamp_us, reading.time_us);
        for (i, declared) in hello.channels.iter().enumerate() {
            assert_eq!(declared.name.as_str(), CHANNELS[i].name);
            assert_eq!(declared.unit.as_str(), CHANNELS[i].unit);
            let value = declared.physical(sent.values[i]).unwrap();
            let error = f64::from(value - reading.values[i]).abs();
            assert!(error < CHANNELS[i].resolution / 100.0, "{value}");
        }
    }
}

#[test]
fn a_name_that_no_frame_can_hold_is_refused() {
    assert!(Node::new(&"x".repeat(32), 0).is_ok());
    assert!(Node::new(&"x".repeat(33), 0).is_err());
}

fn record(schedule: Schedule) -> (Vec<String>, Counts) {
    let (_sender, shutdown) = shutdown::channel();
    let mut file = Vec::new();
    let counts = write_csv(&mut file, schedule, &shutdown, &mut |_| {}).unwrap();
    let text = String::from_utf8(file).unwrap();
    assert!(text.ends_with('\n'));
    (text.lines().map(str::to_owned).collect(), counts)
}

#[test]
fn the_columns_of_a_recording_are_the_channels_and_the_labels() {
    let (lines, counts) = record(schedule("outer_race@1s:0.8", 0.0, 10));
    let names: Vec<_> = CHANNELS.iter().map(|channel| channel.name).collect();
    let columns: Vec<_> = lines[0].split(',').collect();
    assert_eq!(columns[..2], ["seq", "ts"]);
    assert_eq!(columns[2..9], names);
    assert_eq!(columns[9..], ["label", "severity"]);
    assert_eq!(csv_header(&[]), columns[..9].join(","));
    let is_row = |line: &String| line.split(',').count() == columns.len();
    assert!(lines.iter().all(is_row));
    assert!(lines[1].starts_with("0,0,") && lines[1].ends_with(",,0"));
    assert!(lines[100].starts_with("99,9900000,"));
    assert!(lines[100].ends_with(",outer_race,0.8"), "{}", lines[100]);
    assert_eq!((counts.readings, counts.sent), (100, 100));
    assert_eq!(lines.len(), 101);
}

#[test]
fn the_same_seed_makes_the_same_recording() {
    let recorded = || record(schedule("cavitation@1s", 0.0, 30)).0;
    assert_eq!(recorded(), recorded());
}

#[test]
fn what_a_dropout_keeps_back_is_not_recorded_but_counted() {
    let (lines, counts) = record(schedule("dropout@1s", 0.0, 60));
    let kept_back = rig("dropout@1s").take(600).filter(|r| !r.sent).count();
    assert!(kept_back > 0);
    assert_eq!(counts.dropped, kept_back as u64);
    assert_eq!(counts.readings, 600);
    assert_eq!(counts.sent + counts.dropped, counts.readings);
    assert_eq!(lines.len() as u64, 1 + counts.sent);
    let labels = lines[1..].iter().filter(|line| line.contains("dropout"));
    assert!(labels.count() > 0, "{}", Fault::Dropout);
}

#[test]
fn the_shutdown_ends_a_feed_without_end() {
    let (sender, shutdown) = shutdown::channel();
    let endless = Schedule::new(rig(""), Pace::UNLIMITED, None);
    let counts = write_csv(&mut io::sink(), endless, &shutdown, &mut |reading| {
        if reading.sequence == 9 {
            sender.request();
        }
    });
    assert_eq!(counts.unwrap().readings, 10);
}

#[test]
fn a_reader_that_has_gone_is_the_writers_error() {
    struct ClosedPipe;
    impl io::Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_sender, shutdown) = shutdown::channel();
    let error = write_csv(
        &mut ClosedPipe,
        schedule("", 0.0, 1),
        &shutdown,
        &mut |_| {},
    )
    .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
