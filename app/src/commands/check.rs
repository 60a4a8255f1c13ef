//! `hark check`: every error of a configuration, without running it.

use crate::bundle::Rungs;
use crate::config::{Config, Format, Link};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `hark check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration; without it the built-in defaults
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the whole configuration with the place that set each key
    #[arg(long)]
    show: bool,
    /// Errors as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command; 1 if there is an error.
pub fn run(args: &CheckArgs) -> ExitCode {
    let problems = match Config::load(args.config.as_deref(), std::env::vars()) {
        Ok(config) => {
            if args.show {
                println!("{}", config.to_toml());
            }
            check_named(&config)
                .into_iter()
                .map(|message| (serde_json::json!({ "message": message }), message))
                .collect()
        }
        Err(errors) => errors
            .iter()
            .map(|error| (serde_json::json!(error), error.to_string()))
            .collect::<Vec<_>>(),
    };
    if args.json {
        let errors: Vec<_> = problems.iter().map(|(json, _)| json).collect();
        println!("{}", serde_json::json!({ "errors": errors }));
    } else if problems.is_empty() && !args.show {
        println!("no errors");
    } else {
        problems.iter().for_each(|(_, text)| eprintln!("{text}"));
    }
    ExitCode::from(u8::from(!problems.is_empty()))
}

/// Opens what the configuration names: bundles with their golden vectors, the
/// mappings against their schemas, files, ports.
fn check_named(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let mut bundles = BTreeMap::new();
    for model in &config.models {
        let opened = Rungs::open(model).and_then(|rungs| {
            rungs.check()?;
            Ok(rungs)
        });
        match opened {
            Ok(bundle) => drop(bundles.insert(model.name.as_str(), bundle)),
            Err(error) => problems.push(format!("models, {}: {error:#}", model.name)),
        }
    }
    for source in &config.sources {
        let name = &source.name;
        if let (Format::Payload(format), Some(bundle)) =
            (source.format, bundles.get(source.model.as_str()))
        {
            let schema = &bundle.pipeline().schema;
            if let Err(error) = hark_codec::Decoder::new(format, schema, &source.mapping) {
                problems.push(format!("sources, {name}: mapping: {error}"));
            }
        }
        problems.extend(check_link(&source.link).map(|p| format!("sources, {name}: {p}")));
    }
    if let Some(path) = &config.mqtt.password_file
        && let Err(error) = std::fs::read_to_string(path)
    {
        problems.push(format!("mqtt.password_file: {}: {error}", path.display()));
    }
    problems
}

fn check_link(link: &Link) -> Option<String> {
    match link {
        Link::File(link) => std::fs::File::open(&link.path)
            .err()
            .map(|error| format!("path: {}: {error}", link.path.display())),
        Link::Serial(link) if !std::path::Path::new(&link.port).exists() => {
            let ports = hark_hal::serial_ports().join(", ");
            let there = if ports.is_empty() {
                "this machine has none".to_owned()
            } else {
                format!("there are: {ports}")
            };
            Some(format!("port: no serial port {}; {there}", link.port))
        }
        Link::Serial(_) | Link::Mqtt(_) => None,
    }
}
