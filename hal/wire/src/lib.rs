//! (skeleton)
#![no_std]

/// The most channels that one node may have.
pub const CHANNELS_MAX: usize = 32;
