//! The GPIO controller of QEMU's arm64 machine, read from outside.
//!
//! Its registers are read through the monitor, as a probe on the pin would: not
//! hark's word is believed, nor the kernel's, but what the device drives.

use anyhow::Result;

use crate::qmp::Qmp;

/// hw/arm/virt.c of QEMU 7.2: `VIRT_GPIO`.
const BASE: u64 = 0x0903_0000;
/// PrimeCell PL061 technical reference manual, 3.3: address bits 9:2 mask
/// `GPIODATA`; with all of them set every line is read.
const DATA: u64 = BASE + 0x3fc;
/// `GPIODIR`: 1 for an output.
const DIRECTION: u64 = BASE + 0x400;

/// Line of the alarm output; line 3 is QEMU's power button.
pub(super) const ALARM_LINE: u32 = 0;
pub(super) const HEARTBEAT_LINE: u32 = 1;

/// Whether `line` is an output and driven high.
pub(super) fn is_driven_high(qmp: &mut Qmp, line: u32) -> Result<bool> {
    let is_set = |word: u32| word & (1 << line) != 0;
    let is_output = is_set(qmp.word(DIRECTION)?);
    Ok(is_output && is_set(qmp.word(DATA)?))
}
