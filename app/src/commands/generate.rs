//! `hark completions` and `hark man`: generated from the command line itself.

use super::to_stdout;
use crate::cli::Cli;
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Arguments of `hark completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: clap_complete::Shell,
}

/// Arguments of `hark man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder, instead of the main
    /// page to standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints a completion script.
///
/// # Errors
/// If standard output fails.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hark", &mut script);
    to_stdout(|out| out.write_all(&script))
}

/// Prints the manual page, or writes all pages.
///
/// # Errors
/// If standard output or the folder cannot be written.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)?;
        return Ok(clap_mangen::generate_to(Cli::command(), folder)?);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    to_stdout(|out| out.write_all(&page))
}
