//! A seeded physical model of a pump with its motor and bearing, and its faults.
//!
//! It is the signal source of `hark simulate` and `hark demo`, and what the first model is
//! trained on. [`Rig`] is an endless iterator of readings: seed in, readings out. It reads no
//! clock, no file and no entropy.
//!
//! One reading is made in the order of the signal: mains ([`mains`]) → valve ([`valve`]) → pump
//! and motor to their common operating point ([`pump`], [`motor`]) → losses to temperature
//! ([`thermal`]) → accelerations sample by sample ([`vibration`], [`bearing`]) → what the
//! instruments make of it ([`instruments`]). Each module gives its formulas and their sources.
//! The machine is typical, not a fit to one plant: a 2.2 kW two-pole motor on a 12 m³/h pump.
//!
//! **The same seed gives the same bytes on every target with IEEE 754 arithmetic.** Only `+ − × ÷
//! √` and rounding are used, all of which IEEE 754 defines to the last bit; no function of libm
//! is called, because those differ between systems. (`sqrt`, `round` and `trunc` of the crate
//! `libm` are exact.)
//!
//! It needs an allocator but no std: the firmware in `hal/node` samples the very same machine.
//!
//! ```
//! let faults = vec!["outer_race@2s:0.8".parse()?];
//! let config = hark_rig::RigConfig { faults, ..Default::default() };
//! let late = hark_rig::Rig::new(config)?.nth(100).expect("the rig never ends");
//! assert_eq!(late.label, Some(hark_rig::Fault::OuterRace));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bearing;
mod event;
mod fault;
pub mod instruments;
mod machine;
pub mod mains;
pub mod motor;
mod noise;
pub mod pump;
mod rig;
mod schedule;
pub mod thermal;
pub mod transmission;
pub mod valve;
pub mod vibration;

pub use event::{EventParseError, FaultEvent};
pub use fault::{Fault, UnknownFault};
pub use instruments::{CHANNELS, Channel};
pub use rig::{ConfigError, FAULTS_MAX, PERIOD_MS_MAX, PERIOD_MS_MIN, Rig, RigConfig, RigReading};

#[cfg(test)]
mod tests;
