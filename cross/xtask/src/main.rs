//! hark's own build, test and fuzz commands: `cargo xtask <command>`.
//!
//! One file for each command. This crate stays quick to build: it knows
//! neither the app nor the model runtime, and drives cargo and the other tools
//! as child processes, whose output reaches the caller untouched.

mod cross_build;
mod cross_test;
mod debian;
mod firmware;
mod folder;
mod fuzz;
mod hil;
mod image;
mod no_std;
mod packages;
mod process;
mod python;
mod qemu;
mod qmp;
mod steps;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Test(test::Args),
    Fuzz(fuzz::Args),
    CrossBuild(cross_build::Args),
    Firmware(firmware::Args),
    CrossTest(cross_test::Args),
    Toolchain(toolchain::Args),
    Hil(hil::Args),
    Image(image::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(args) => test::handle(&args),
        Command::Fuzz(args) => fuzz::handle(&args),
        Command::CrossBuild(args) => cross_build::handle(&args),
        Command::Firmware(args) => firmware::handle(&args),
        Command::CrossTest(args) => cross_test::handle(&args),
        Command::Toolchain(args) => toolchain::handle(&args),
        Command::Hil(args) => hil::handle(&args),
        Command::Image(args) => image::handle(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
