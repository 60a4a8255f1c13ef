//! What leaves hark: event log, standard output and MQTT.
//!
//! [`outputs`] takes alerts and events from the reporter's channel, [`verdicts`]
//! the verdicts; [`mqtt`] carries status, alerts and an operator's requests.
//! [`explain`] reads alerts back from the logs.

pub mod alert_text;
pub mod data_dir;
pub mod event_log;
pub mod explain;
mod folder;
pub mod line_writer;
pub mod log;
pub mod mqtt;
pub mod node_commands;
pub mod outputs;
pub mod standing;
pub mod verdicts;
