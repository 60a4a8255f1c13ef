//! The binary `hark`: parses the command line and hands over.

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What is logged unless HARK_LOG says otherwise. The embedded broker calls every
/// client that hangs up without a goodbye an error; hark itself is one, when it
/// looks whether the broker accepts.
const LOG: &str = "warn,hark=info,rumqttd=off";

/// Counted, so that `hark bench` can say what a reading allocates.
#[global_allocator]
static ALLOCATOR: hark_threads::allocations::Counting = hark_threads::allocations::Counting;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("HARK_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    hark_threads::panics::install_hook();
    hark::commands::dispatch(hark::cli::Cli::parse())
}
