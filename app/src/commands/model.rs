//! `hark model`: what the operator says of models.

use super::to_stdout;
use anyhow::bail;
use clap::{Args, Subcommand};
use hark_config::Config;
use hark_serve::withheld::{release, withheld_in};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `hark model`.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Let models that cost a reset be run again, though their files are the same
    Retry(RetryArgs),
    /// List the ONNX operators that run here, by backend
    Operators(OperatorsArgs),
}

#[derive(Debug, Args)]
struct RetryArgs {
    /// The model's name in [[models]]; without it every model that is withheld
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The configuration; without it the built-in defaults
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct OperatorsArgs {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If the configuration is wrong, the model is not withheld, or its record cannot
/// be removed.
pub fn run(args: &ModelArgs) -> anyhow::Result<()> {
    match &args.command {
        ModelCommand::Retry(args) => retry(args),
        ModelCommand::Operators(args) => list_operators(args),
    }
}

fn retry(args: &RetryArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref(), std::env::vars_os())?;
    let data_dir = &config.device.data_dir;
    let mut records = withheld_in(data_dir)?;
    if let Some(name) = &args.name {
        let (named, others): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.subject.model == *name);
        if named.is_empty() {
            let shown = data_dir.display();
            let others: Vec<_> = others.into_iter().map(|r| r.subject.model).collect();
            match others.as_slice() {
                [] => bail!("model {name:?} is not withheld in {shown}, nor is any other"),
                _ => bail!(
                    "model {name:?} is not withheld in {shown}; there are: {}",
                    others.join(", ")
                ),
            }
        }
        records = named;
    }
    let mut lines = Vec::new();
    for record in &records {
        release(data_dir, record)?;
        let subject = &record.subject;
        let (model, bundle) = (&subject.model, &subject.bundle);
        lines.push(format!("{model} ({bundle}) is run again"));
    }
    if lines.is_empty() {
        lines.push("no model is withheld".to_owned());
    } else {
        let soon = config.ladder.policy.probe_us_max.div_ceil(1_000_000);
        lines.push(format!(
            "a hark that runs takes it up within {soon} s, or on reload"
        ));
    }
    to_stdout(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
}

/// The width of the lists.
const COLUMNS: usize = 100;

fn list_operators(args: &OperatorsArgs) -> anyhow::Result<()> {
    let backends = hark_models::runtime::operators();
    if args.json {
        let by_backend: BTreeMap<_, _> = backends.into_iter().collect();
        let text = serde_json::to_string_pretty(&by_backend)?;
        return to_stdout(|out| writeln!(out, "{text}"));
    }
    to_stdout(|out| {
        for (backend, operators) in &backends {
            writeln!(out, "{backend}:")?;
            let mut line = String::from(" ");
            for operator in operators {
                if line.len() + 1 + operator.len() > COLUMNS {
                    writeln!(out, "{line}")?;
                    line = String::from(" ");
                }
                line.push(' ');
                line.push_str(operator);
            }
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "An operator that is not there is often avoided at export: with a lower opset, with the\n\
             learner's scores as the only output, or with post-processing left to [pipeline.score]."
        )
    })
}
