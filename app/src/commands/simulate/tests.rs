//! The command line of `hark simulate`, and short runs of it.

use super::*;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use hark_config::Link;
use hark_rig::{CHANNELS, Fault};
use hark_threads::shutdown;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: SimulateArgs,
}

fn parse(line: &str) -> Result<SimulateArgs, ErrorKind> {
    let words = std::iter::once("simulate").chain(line.split_whitespace());
    Cli::try_parse_from(words)
        .map(|cli| cli.args)
        .map_err(|error| error.kind())
}

fn check_refused(line: &str, expected: ErrorKind) {
    assert_eq!(parse(line).map(|_| ()), Err(expected), "{line}");
}

fn run_in(folder: &Path, line: &str) -> anyhow::Result<()> {
    let line = line.replace("DIR", folder.to_str().unwrap());
    let (_sender, shutdown) = shutdown::channel();
    run(&parse(&line).unwrap(), shutdown)
}

#[test]
fn exactly_one_target_is_needed() {
    check_refused("", ErrorKind::MissingRequiredArgument);
    check_refused("--for 10s", ErrorKind::MissingRequiredArgument);
    check_refused("--pty a --mqtt b:1", ErrorKind::ArgumentConflict);
    check_refused("--csv - --for 1s --pty a", ErrorKind::ArgumentConflict);
    assert!(parse("--pty a").is_ok());
    assert!(parse("--mqtt localhost:1883 --topic a/b --qos 0").is_ok());
}

#[test]
fn a_recording_needs_an_end() {
    check_refused("--csv -", ErrorKind::MissingRequiredArgument);
    let args = parse("--csv - --for 1.5m").unwrap();
    assert_eq!(args.duration, Some(Duration::from_secs(90)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    check_refused("--mqtt localhost", ErrorKind::ValueValidation);
    check_refused("--mqtt :1883", ErrorKind::ValueValidation);
    check_refused("--mqtt a:0", ErrorKind::ValueValidation);
    check_refused("--mqtt a:1 --topic a/#", ErrorKind::ValueValidation);
    check_refused("--mqtt a:1 --qos 2", ErrorKind::ValueValidation);
    check_refused("--pty a --period-ms 9", ErrorKind::ValueValidation);
    check_refused("--pty a --speed -1", ErrorKind::UnknownArgument);
    check_refused("--pty a --speed=-1", ErrorKind::ValueValidation);
    check_refused("--pty a --for soon", ErrorKind::ValueValidation);
    check_refused("--pty a --fault rust@1s", ErrorKind::ValueValidation);
    check_refused("--pty a --topic b", ErrorKind::ArgumentConflict);
    check_refused(
        "--csv - --for 1s --format json",
        ErrorKind::ArgumentConflict,
    );
}

#[test]
fn the_help_names_every_fault() {
    let help = Cli::command().render_long_help().to_string();
    for fault in Fault::ALL {
        assert!(help.contains(fault.name()), "{fault}");
    }
}

#[test]
fn the_printed_source_is_a_configuration() {
    for (format, expected) in [
        (Format::Wire, hark_config::Format::Wire),
        (
            Format::Csv,
            hark_config::Format::Payload(hark_codec::Format::Csv),
        ),
        (
            Format::Json,
            hark_config::Format::Payload(hark_codec::Format::Json),
        ),
    ] {
        let source = serial_source("pump \"1\"", Path::new("/tmp/a b"), format);
        let config = Config::of_text(&source).unwrap();
        let [source] = &config.sources[..] else {
            panic!("one source");
        };
        assert_eq!(source.name, "pump \"1\"");
        assert_eq!(source.format, expected);
        let Link::Serial(link) = &source.link else {
            panic!("a serial line");
        };
        assert_eq!(link.port, "/tmp/a b");
    }
}

#[test]
fn a_recording_is_written_to_its_file() {
    let folder = tempfile::tempdir().unwrap();
    run_in(
        folder.path(),
        "--csv DIR/pump.csv --for 60s --fault imbalance@30s",
    )
    .unwrap();
    let text = std::fs::read_to_string(folder.path().join("pump.csv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    assert_eq!(header.len(), CHANNELS.len() + 4);
    assert_eq!(lines.clone().count(), 600);
    assert_eq!(lines.filter(|l| l.contains(",imbalance,")).count(), 300);
}

#[test]
fn a_line_is_unplugged_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), "--pty DIR/pump --for 60s --speed 1000000").unwrap();
    assert!(!folder.path().join("pump").is_symlink());
}

#[test]
fn a_target_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["--csv DIR/none/a.csv --for 1s", "--pty DIR/none/a --for 1s"] {
        let error = format!("{:#}", run_in(folder.path(), line).unwrap_err());
        assert!(error.contains("none/a"), "{error}");
    }
    let long = format!("--pty DIR/a --for 1s --sensor {}", "x".repeat(33));
    let error = run_in(folder.path(), &long).unwrap_err().to_string();
    assert!(error.contains("at most 32 bytes"), "{error}");
}
