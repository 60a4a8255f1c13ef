//! How scenarios ended, for people and for programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How a scenario ended.
pub(super) enum Ending {
    Passed,
    Skipped(String),
    Failed(String),
}

/// A scenario that has ended.
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) proves: &'static str,
    pub(super) end: Ending,
    pub(super) took: Duration,
    pub(super) steps: Value,
    pub(super) machines: Vec<String>,
}

impl Outcome {
    /// Prints the report; `logs` is the folder of the scenarios' folders. In one
    /// piece, so that reports of two jobs do not mix.
    pub(super) fn tell(&self, steps: &str, logs: &Path) {
        let Self { name, took, .. } = self;
        let seconds = took.as_secs_f64();
        let mut machines = String::new();
        for machine in &self.machines {
            machines.push_str(&format!("  $ {machine}\n"));
        }
        let (word, why) = match &self.end {
            Ending::Passed => ("passed", String::new()),
            Ending::Skipped(why) => ("SKIPPED", format!("  because: {why}\n")),
            Ending::Failed(why) => {
                let logs = logs.join(name);
                (
                    "FAILED",
                    format!("  because: {why}\n  logs: {}\n", logs.display()),
                )
            }
        };
        println!("== {name}: {word} in {seconds:.1} s\n{machines}{steps}{why}");
    }
}

/// Prints a line for each scenario and `left_out`, which says how this is less
/// than the whole, and writes the report as JSON.
///
/// # Errors
/// Names every scenario that failed.
pub(super) fn summarise(
    outcomes: &[Outcome],
    took: Duration,
    left_out: Option<&str>,
    json: Option<&Path>,
) -> Result<()> {
    println!("== summary");
    let mut failed = Vec::new();
    for Outcome {
        name,
        end,
        took,
        proves,
        ..
    } in outcomes
    {
        let seconds = took.as_secs_f64();
        let word = match end {
            Ending::Passed => "passed",
            Ending::Skipped(_) => "SKIPPED",
            Ending::Failed(_) => {
                failed.push(*name);
                "FAILED"
            }
        };
        println!("{name:<10} {word:<8} {seconds:>6.1} s  {proves}");
    }
    if let Some(left_out) = left_out {
        println!("a SUBSET: {left_out}");
    }
    println!(
        "{} scenarios in {:.1} s",
        outcomes.len(),
        took.as_secs_f64()
    );
    if let Some(path) = json {
        let report = to_json(outcomes, took, left_out);
        fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn to_json(outcomes: &[Outcome], took: Duration, left_out: Option<&str>) -> Value {
    let outcome = |outcome: &Outcome| {
        let (end, why) = match &outcome.end {
            Ending::Passed => ("passed", None),
            Ending::Skipped(why) => ("skipped", Some(why)),
            Ending::Failed(why) => ("failed", Some(why)),
        };
        json!({
            "scenario": outcome.name, "proves": outcome.proves, "end": end, "why": why,
            "seconds": outcome.took.as_secs_f64(), "machines": outcome.machines,
            "steps": outcome.steps,
        })
    };
    let scenarios: Value = outcomes.iter().map(outcome).collect();
    json!({ "scenarios": scenarios, "seconds": took.as_secs_f64(), "left_out": left_out })
}
