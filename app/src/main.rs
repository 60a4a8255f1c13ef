//! The binary `hark`: parses the command line and hands over.

use clap::Parser;
use hark::cli::Cli;
use hark::logging::Logging;
use std::process::ExitCode;

/// Counted, so that `hark bench` can say what a reading allocates.
#[global_allocator]
static ALLOCATOR: hark_threads::allocations::Counting = hark_threads::allocations::Counting;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|command| command == "run")
    {
        hark::commands::run::catch_hangup();
    }
    let cli = Cli::parse();
    let logging = if cli.command.is_appliance() {
        Logging::queued()
    } else {
        Logging::direct()
    };
    hark_threads::panics::install_hook(hark::logging::tell_panic);
    hark::commands::outlive_file_limits();
    hark_serve::bundle::try_bundles_by(hark::commands::try_bundle::NAME);
    let code = hark::commands::dispatch(cli);
    logging.finish();
    code
}
