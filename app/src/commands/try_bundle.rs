//! `hark try-bundle`: how hark calls itself to load a bundle that may be hostile.
//!
//! No command for people: its arguments and what it prints are hark's own.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// The command's name, as [`hark_serve::bundle::try_bundles_by`] is to call it.
pub const NAME: &str = "try-bundle";

/// Arguments of `hark try-bundle`.
#[derive(Debug, Args)]
pub struct TryBundleArgs {
    /// Memory that the load may take, bytes
    memory_bytes: u64,
    /// The digest that the manifest had
    digest: String,
    /// The bundle's folder
    folder: PathBuf,
}

/// Runs the command.
pub fn run(args: &TryBundleArgs) -> ExitCode {
    hark_serve::bundle::try_bundle(&args.folder, &args.digest, args.memory_bytes)
}
