//! `hark explain`: why an alert was raised, out of the logs that hark keeps.

use super::to_stdout;
use anyhow::ensure;
use clap::{ArgGroup, Args};
use hark_config::Config;
use hark_outlet::event_log;
use hark_outlet::explain::{Search, Wanted, look_through_file};
use std::path::PathBuf;

/// Arguments of `hark explain`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["id", "last"])))]
#[command(after_help = "\
Examples:
  hark explain --last                           the last anomaly that was raised
  hark explain 3b9c --config plant.toml         the alert whose identifier begins so
  hark replay rec.csv --json | hark explain --last --file -

Each cause is a channel, with its share of the score; the feature of it that
weighs most, its value, and what that is while nothing is wrong. Normal is where
the model's training had it; of the rule, which has no feature, where the channel
has been of late.")]
pub struct ExplainArgs {
    /// The alert's identifier, or its beginning: each line of an alert ends with it,
    /// and in JSON it is `id`
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// The last anomaly that was raised
    #[arg(long)]
    last: bool,
    /// The configuration that hark runs with; without it the built-in defaults
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where hark keeps its logs, in place of the configured `device.data_dir`
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Alerts as JSON lines, in place of hark's own logs; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "data_dir"])]
    file: Option<PathBuf>,
    /// The alert as it was logged, as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the configuration is wrong, a log cannot be read, or there is no such alert.
pub fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let logs = logs(args)?;
    let wanted = args.id.clone().map_or(Wanted::Last, Wanted::Id);
    let mut search = Search::new(wanted);
    for log in &logs {
        look_through_file(&mut search, log)?;
    }
    let place = match &logs[0] {
        path if path.as_os_str() == "-" => "standard input".to_owned(),
        path => path.display().to_string(),
    };
    let alert = search.finish(&place)?;
    to_stdout(|out| {
        if args.json {
            writeln!(out, "{}", alert.json)
        } else {
            writeln!(out, "{alert}")
        }
    })
}

/// The logs to look through, the newest first; at least one.
fn logs(args: &ExplainArgs) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(file) = &args.file {
        return Ok(vec![file.clone()]);
    }
    let config = Config::load(args.config.as_deref(), std::env::vars_os())?;
    let data_dir = args.data_dir.as_ref().unwrap_or(&config.device.data_dir);
    let events = &config.events;
    let names = [&events.alerts_file, &events.file];
    let names: Vec<_> = names.into_iter().flatten().collect();
    ensure!(
        !names.is_empty(),
        "the configuration keeps no log of alerts: set events.alerts_file, or give --file"
    );
    let paths = names.iter().map(|name| data_dir.join(name));
    let found = paths.map(|path| event_log::files(&path, events.files_max));
    let mut found = found.filter(|files| !files.is_empty());
    let first = data_dir.join(names[0]);
    found.next().ok_or_else(|| {
        anyhow::anyhow!(
            "no log of alerts at {}: --config or --data-dir says where hark keeps them",
            first.display()
        )
    })
}
