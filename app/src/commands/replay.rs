//! `hark replay`: a recording through the pipeline, as fast as possible.

use crate::appliance::{Appliance, Presentation};
use crate::summary::Summary;
use anyhow::{bail, ensure};
use clap::Args;
use hark_codec::Delimiter;
use hark_config::{BundlePath, Config, Link, ModelConfig};
use hark_outlet::outputs::Stdout;
use hark_outlet::verdicts::OnVerdict;
use hark_serve::hot_path::NO_WINDOW;
use hark_serve::report::{SensorVerdict, VerdictReport};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `hark replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hark replay recording.csv                     the built-in pump model
  hark replay recording.csv --model models/mine
  hark replay --config plant.toml --json        the file sources of a configuration
  hark replay recording.csv --json --verdicts   every verdict, to compare two machines")]
pub struct ReplayArgs {
    /// The recording, in place of the configured file source's: CSV with a
    /// header, or JSON lines if it ends in .json or .jsonl
    file: Option<PathBuf>,
    /// A configuration with a file source
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The bundle's folder or builtin:NAME, in place of the configured one
    #[arg(long, value_name = "BUNDLE")]
    model: Option<BundlePath>,
    /// What separates the cells of the recording, in place of what is configured
    #[arg(long, value_name = "CHAR", value_parser = parse_delimiter)]
    delimiter: Option<Delimiter>,
    /// Alerts and the summary as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Every verdict as JSON too, in the order of the readings
    #[arg(long, requires = "json")]
    verdicts: bool,
    /// Each verdict says what its score comes from, as each alert does
    #[arg(long, requires = "verdicts")]
    causes: bool,
}

/// A line of `--verdicts`.
#[derive(Serialize)]
struct VerdictLine<'a> {
    event: &'static str,
    sensor: &'a str,
    #[serde(flatten)]
    verdict: VerdictReport,
}

/// The sources of a replay without a configuration.
const DEFAULT: &str = "[[sources]]\nname = \"recording\"\nkind = \"file\"\npath = \"-\"\n";

fn parse_delimiter(text: &str) -> Result<Delimiter, &'static str> {
    match text {
        "," => Ok(Delimiter::Comma),
        ";" => Ok(Delimiter::Semicolon),
        "\t" | "\\t" => Ok(Delimiter::Tab),
        "|" => Ok(Delimiter::Pipe),
        _ => Err("must be \",\", \";\", \"\\t\" or \"|\""),
    }
}

/// Runs the command.
///
/// # Errors
/// If the configuration is wrong or names no file source, or the recording
/// cannot be read to its end or holds no reading that can be used.
pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let mut config = match &args.config {
        Some(path) => Config::load(Some(path), std::env::vars_os())?,
        None => Config::of_text(DEFAULT)?,
    };
    adapt(&mut config, args)?;
    let shutdown = super::shutdown_on_signals()?;
    let presentation = Presentation {
        stdout: if args.json {
            Stdout::Json
        } else {
            Stdout::Text
        },
        on_verdict: args
            .verdicts
            .then(|| -> OnVerdict { Box::new(print_verdict) }),
        waits_for_reader: true,
        stop: Some(shutdown.clone()),
        ..Presentation::default()
    };
    let mut appliance = Appliance::start(&config, presentation)?;
    super::run::wait(&mut appliance, &shutdown, None);
    let summary = appliance.stop();
    let unread = summary.sources.iter().find(|(_, s)| s.link_losses > 0);
    super::conclude(&summary, super::print_summary(&summary, args.json))?;
    if let Some((name, _)) = unread {
        bail!("source {name} was not read to its end");
    }
    // What was stopped before its first reading says nothing of the recording.
    if shutdown.is_requested() {
        return Ok(());
    }
    ensure_usable(&summary, &config)?;
    let windowless = summary
        .sources
        .iter()
        .find(|(_, source)| source.link_faults.contains_key(NO_WINDOW));
    if let Some((name, _)) = windowless.filter(|_| summary.scored == 0) {
        bail!("no reading of source {name} made a window for its model");
    }
    Ok(())
}

/// Fails if there was no reading, or none but rejected ones.
fn ensure_usable(summary: &Summary, config: &Config) -> anyhow::Result<()> {
    let files = config
        .sources
        .iter()
        .filter_map(|source| match &source.link {
            Link::File(link) => Some(link.path.display().to_string()),
            Link::Serial(_) | Link::Mqtt(_) | Link::Modbus(_) => None,
        });
    ensure!(
        summary.readings > summary.rejected,
        "no reading of {} was usable{}",
        files.collect::<Vec<_>>().join(", "),
        main_reason(summary)
    );
    Ok(())
}

/// The most frequent reason of a rejection, to be added to a sentence.
fn main_reason(summary: &Summary) -> String {
    let most = summary.rejections.iter().max_by_key(|(_, count)| **count);
    most.map_or_else(String::new, |(reason, count)| {
        format!("; {count} rejected: {reason}")
    })
}

fn print_verdict(report: &SensorVerdict) {
    let line = VerdictLine {
        event: "verdict",
        sensor: &report.sensor,
        verdict: VerdictReport::new(report),
    };
    let line = serde_json::to_string(&line).expect("a verdict has plain names");
    // Whoever closes the pipe has seen enough.
    writeln!(std::io::stdout(), "{line}").ok();
}

/// A replay takes files only, publishes nothing and leaves no log.
fn adapt(config: &mut Config, args: &ReplayArgs) -> anyhow::Result<()> {
    config.output.verdict_causes |= args.causes;
    config.mqtt.enabled = false;
    config.broker.embedded = false;
    config.events.file = None;
    config.events.alerts_file = None;
    config.events.standing_file = None;
    config
        .sources
        .retain(|source| matches!(source.link, Link::File(_)));
    ensure!(
        !config.sources.is_empty(),
        "the configuration has no source of kind \"file\" to replay"
    );
    if let Some(bundle) = &args.model {
        let name = bundle.to_string();
        for source in &mut config.sources {
            source.model.clone_from(&name);
        }
        config.models = vec![ModelConfig {
            name,
            bundle: bundle.clone(),
            previous: None,
            is_cached: false,
        }];
    }
    if let Some(delimiter) = args.delimiter {
        let sources = config.sources.iter_mut();
        sources.for_each(|source| source.mapping.delimiter = delimiter);
    }
    let Some(file) = &args.file else {
        ensure!(
            args.config.is_some(),
            "name a recording, or a --config with a file source"
        );
        return Ok(());
    };
    config.sources.truncate(1);
    let source = &mut config.sources[0];
    if args.config.is_none() && is_json(file) {
        source.format = hark_config::Format::Payload(hark_codec::Format::Json);
    }
    if let Link::File(link) = &mut source.link {
        link.path.clone_from(file);
        link.speed = 0.0;
        link.repeat = false;
    }
    Ok(())
}

fn is_json(file: &std::path::Path) -> bool {
    let extension = file.extension().and_then(|e| e.to_str());
    matches!(extension, Some("json" | "jsonl" | "ndjson"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of so many readings, of which so many were rejected.
    fn said(readings: u64, rejected: &[(&'static str, u64)]) -> Option<String> {
        let summary = Summary {
            readings,
            rejected: rejected.iter().map(|(_, count)| count).sum(),
            rejections: rejected.iter().copied().collect(),
            ..Summary::default()
        };
        let config = Config::of_text(&DEFAULT.replace("\"-\"", "\"a.csv\"")).unwrap();
        let error = ensure_usable(&summary, &config).err();
        error.map(|error| error.to_string())
    }

    #[test]
    fn a_built_in_model_is_taken_by_its_name_and_a_folder_by_its_path() {
        use clap::Parser;
        for (named, bundle) in [
            ("builtin:pump-rig", BundlePath::Builtin("pump-rig".into())),
            ("models/mine", BundlePath::Folder("models/mine".into())),
        ] {
            let words = ["hark", "replay", "a.csv", "--model", named];
            let crate::cli::Command::Replay(args) = crate::cli::Cli::parse_from(words).command
            else {
                panic!("another command");
            };
            let mut config = Config::of_text(DEFAULT).unwrap();
            adapt(&mut config, &args).unwrap();
            assert_eq!(config.models[0].bundle, bundle);
        }
    }

    #[test]
    fn a_recording_without_a_usable_reading_is_an_error_with_the_main_reason() {
        let none = "no reading of a.csv was usable".to_owned();
        assert_eq!(said(0, &[]), Some(none.clone()));
        assert_eq!(
            said(5, &[("malformed", 1), ("missing_channel", 4)]),
            Some(none + "; 4 rejected: missing_channel")
        );
        assert_eq!(said(6, &[("missing_channel", 5)]), None);
    }
}
