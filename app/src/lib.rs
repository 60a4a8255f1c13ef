//! hark: readings in over serial, MQTT and files; verdicts and alerts out.
//!
//! The binary is thin. [`appliance`] starts and stops every thread; [`commands`]
//! is what an operator may ask for. A reading goes from `hark-links` through
//! `hark-serve` to `hark-outlet`; everything that decides is in `hark-engine`.

// It panics where standard error takes nothing: see `logging::tell`.
#![warn(clippy::print_stderr)]

pub mod appliance;
pub mod board;
pub mod broker;
pub mod cli;
pub mod commands;
pub mod logging;
pub mod summary;
pub mod watchdog;
