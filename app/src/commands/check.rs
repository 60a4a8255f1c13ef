//! `hark check`: every error of a configuration, without running it, and every
//! device that it names and this machine lacks.
//!
//! A missing device is no error of the configuration, which may be checked on a
//! desk: it is named, and fails the command only with `--strict`.

use super::doctor::missing;
use super::to_stdout;
use crate::logging::tell;
use clap::Args;
use hark_config::{Config, ConfigError, Format, Link, TlsConfig};
use hark_hal::Board;
use hark_links::LogTable;
use hark_outlet::mqtt::read_password;
use hark_serve::bundle::Rungs;
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
    /// Fail, too, if this machine lacks a device that the configuration names
    #[arg(long)]
    strict: bool,
    /// Errors and missing devices as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command; 1 if there is an error, or a missing device and `--strict`.
///
/// # Errors
/// If standard output fails.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (errors, missing) = match Config::load(args.config.as_deref(), std::env::vars_os()) {
        Ok(config) => {
            if args.show {
                to_stdout(|out| writeln!(out, "{}", config.to_toml()))?;
            }
            let named = check_named(&config).into_iter();
            let errors = named.map(|message| (serde_json::json!({ "message": message }), message));
            (errors.collect(), missing(&config, &Board::this()))
        }
        Err(errors) => {
            let errors = errors.iter();
            let errors = errors.map(|error| (serde_json::json!(error), error.to_string()));
            (errors.collect::<Vec<_>>(), Vec::new())
        }
    };
    if args.json {
        let errors: Vec<_> = errors.iter().map(|(json, _)| json).collect();
        let report = serde_json::json!({ "errors": errors, "missing": missing });
        to_stdout(|out| writeln!(out, "{report}"))?;
    } else {
        print(&errors, &missing, args.show)?;
    }
    let is_wrong = !errors.is_empty() || (args.strict && !missing.is_empty());
    Ok(ExitCode::from(u8::from(is_wrong)))
}

fn print(
    errors: &[(serde_json::Value, String)],
    missing: &[ConfigError],
    is_shown: bool,
) -> anyhow::Result<()> {
    errors.iter().for_each(|(_, text)| tell(text));
    for device in missing {
        tell(format_args!("missing here: {device}"));
    }
    if is_shown || !errors.is_empty() {
        return Ok(());
    }
    to_stdout(|out| match missing.len() {
        0 => writeln!(out, "no errors"),
        1 => writeln!(out, "no errors; 1 device is missing here"),
        count => writeln!(out, "no errors; {count} devices are missing here"),
    })
}

/// Opens what the configuration names: bundles with their golden vectors, the
/// mappings against their schemas, files.
pub(super) fn check_named(config: &Config) -> Vec<String> {
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
    for (index, source) in config.sources.iter().enumerate() {
        let name = &source.name;
        if let Some(bundle) = bundles.get(source.model.as_str()) {
            let misfits = hark_links::misfits(source, &bundle.pipeline().schema);
            let told = misfits.into_iter().map(|(key, why)| {
                let key = format!("sources[{index}].{key}");
                config.remark(&key, why).to_string()
            });
            problems.extend(told);
        }
        if let (Format::Payload(format), Some(bundle)) =
            (source.format, bundles.get(source.model.as_str()))
        {
            let schema = &bundle.pipeline().schema;
            if let Err(error) = hark_codec::Decoder::new(format, schema, &source.mapping) {
                problems.push(format!("sources, {name}: mapping: {error}"));
            }
        }
        if let Some(elf) = &source.nodes.elf
            && let Err(error) = LogTable::read(elf)
        {
            problems.push(format!("sources, {name}: elf: {error}"));
        }
        let link = check_link(config, &source.link);
        problems.extend(link.map(|p| format!("sources, {name}: {p}")));
    }
    problems.extend(check_tls(config.mqtt.tls.as_ref()).map(|p| format!("mqtt: {p}")));
    if let Some(path) = &config.mqtt.password_file
        && config.mqtt.password.is_none()
        && let Err(error) = read_password(path)
    {
        problems.push(format!("mqtt.password_file: {error:#}"));
    }
    if let Err(error) = crate::broker::login(&config.broker) {
        problems.push(format!("broker.password_file: {error:#}"));
    }
    problems
}

fn check_link(config: &Config, link: &Link) -> Option<String> {
    match link {
        Link::Serial(_) | Link::Modbus(_) => None,
        Link::File(link) => {
            let error = std::fs::File::open(&link.path).err()?;
            Some(format!("path: {}: {error}", link.path.display()))
        }
        // What it has of `[mqtt]` is told there.
        Link::Mqtt(link) => {
            let tls = config.broker_of(link).tls;
            check_tls(
                tls.as_ref()
                    .filter(|tls| config.mqtt.tls.as_ref() != Some(tls)),
            )
        }
    }
}

/// Reads the files of TLS as a connection will.
fn check_tls(tls: Option<&TlsConfig>) -> Option<String> {
    let error = hark_outlet::mqtt::tls(tls?).check().err()?;
    Some(format!("TLS: {:#}", anyhow::Error::new(error)))
}
