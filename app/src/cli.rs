//! The command line.

use crate::commands::{
    bench::BenchArgs, capacity::CapacityArgs, check::CheckArgs, demo::DemoArgs, doctor::DoctorArgs,
    explain::ExplainArgs, features::FeaturesArgs, generate::CompletionsArgs, generate::ManArgs,
    model::ModelArgs, replay::ReplayArgs, run::RunArgs, simulate::SimulateArgs,
    try_bundle::TryBundleArgs,
};
use clap::{Parser, Subcommand};

/// An inference appliance: sensor streams in, verdicts and alerts out.
#[derive(Debug, Parser)]
#[command(name = "hark", version, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes: 0 fine, 1 failed, 2 usage.
Start with `hark demo`. Logging is set by HARK_LOG, such as HARK_LOG=hark=debug.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Listen to a simulated pump over a real serial line and MQTT, and raise an alert
    Demo(DemoArgs),
    /// Listen to the configured sources until stopped
    Run(RunArgs),
    /// Report every error of a configuration, without running it
    Check(CheckArgs),
    /// List what this machine has, and listen to a line whose settings nobody knows
    Doctor(DoctorArgs),
    /// Measure what hark adds to the bare model: in process, pty and MQTT, side by side
    Bench(BenchArgs),
    /// Say how many sensors of a configuration this box can serve, measured here
    Capacity(CapacityArgs),
    /// Play a recording through the pipeline, as fast as possible
    Replay(ReplayArgs),
    /// Simulate a pump: to CSV, a pseudo terminal or MQTT
    Simulate(SimulateArgs),
    /// Print the features that serving computes from a recording
    Features(FeaturesArgs),
    /// Say why an alert was raised: channels with their share of the score, value against normal
    Explain(ExplainArgs),
    /// Let a model be run again that cost a reset
    Model(ModelArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Load a bundle under limits, for another hark
    #[command(hide = true)]
    TryBundle(TryBundleArgs),
}

impl Command {
    /// Whether it lives on, and must not be held up by whoever reads what it says.
    pub fn is_appliance(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Demo(_))
    }
}
