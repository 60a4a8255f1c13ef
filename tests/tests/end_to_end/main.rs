//! The binary against the real world: a mosquitto, pseudo terminals, signals.
//!
//! Most tests use a bundle of two channels whose score is a window's mean
//! ([`bundle`]), so that a test decides by the values it sends which readings
//! raise an alert. The built-in model is for the tests that play the pump.
//!
//! Every test has a folder, a broker and ports of its own, and waits for what it
//! wants to see, for [`LIMIT`] at most. Only a node that is played in real time
//! sleeps, between two readings.

mod alert_kinds;
mod alerts;
mod bench;
mod boards;
mod broker_limits;
mod broker_loss;
mod bundle;
mod causes;
mod command_line;
mod demo;
mod disk;
mod doctor;
mod embedded_broker;
mod event_log;
mod flood;
mod full_disk;
mod gpio;
mod hark;
mod hostile_bundles;
mod lifecycle;
mod line;
mod log;
mod modbus;
mod models;
mod mqtt_formats;
mod node;
mod node_firmware;
mod outputs_held_up;
mod recordings;
mod rejections;
mod reload;
mod rs485;
mod scikit;
mod secured;
mod standing;
mod stopping;
mod strangers;
mod systemd;
mod watchdog;
mod withheld;

use std::time::Duration;

/// Generous: a machine busy with other builds must not fail a test.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
