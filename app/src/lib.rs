//! hark: readings in over serial, MQTT and files; verdicts and alerts out.
//!
//! The binary is thin. What it is made of: [`config`] says what to do,
//! [`appliance`] starts and stops every thread, [`hot_path`] takes a reading to
//! its verdict on the source's own thread, [`report`] and [`mqtt`] carry the
//! results out. Everything that decides is in `hark-engine`.

pub mod allocations;
pub mod appliance;
mod backoff;
pub mod board;
pub mod broker;
pub mod bundle;
pub mod cli;
pub mod commands;
pub mod config;
pub mod duration;
pub mod event_log;
pub mod fault;
pub mod hot_path;
pub mod mqtt;
pub mod node_commands;
pub mod panics;
pub mod player;
pub mod progress;
pub mod report;
pub mod shift;
pub mod shutdown;
pub mod source;
pub mod summary;
pub mod watchdog;
