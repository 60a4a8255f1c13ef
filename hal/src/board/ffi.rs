//! The two questions to the kernel that rustix has no words for.
#![allow(unsafe_code, reason = "foreign calls, named as such")]

use rustix::ioctl::{Getter, ioctl};
use std::os::fd::AsFd;

/// `TIOCGICOUNT` of Linux's `asm-generic/ioctls.h`, the same on x86, ARM and RISC-V.
const TIOCGICOUNT: rustix::ioctl::Opcode = 0x545D;

/// `TIME_ERROR` of Linux's `timex.h`: the clock is not synchronised.
const TIME_ERROR: i32 = 5;

/// `struct serial_icounter_struct` of Linux's `serial.h`.
#[repr(C)]
struct SerialCounters {
    cts: i32,
    dsr: i32,
    rng: i32,
    dcd: i32,
    rx: i32,
    tx: i32,
    frame: i32,
    overrun: i32,
    parity: i32,
    brk: i32,
    buf_overrun: i32,
    reserved: [i32; 9],
}

const _: () = assert!(size_of::<SerialCounters>() == 80);

/// What a UART has found wrong with what it received, since the system's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineErrors {
    /// Characters without a stop bit: a wrong baud rate or framing, or noise.
    pub framing: u32,
    /// Characters with a wrong parity bit.
    pub parity: u32,
    /// Characters lost because nobody took them in time.
    pub overrun: u32,
    /// Breaks: the line was low for longer than a character.
    pub breaks: u32,
}

impl LineErrors {
    /// The counts of an open line; none if its driver keeps none, as that of a
    /// pseudo terminal does not.
    pub fn of(line: &impl AsFd) -> Option<Self> {
        // SAFETY: the call fills a `serial_icounter_struct`, whose layout
        // `SerialCounters` has, and nothing else.
        let counters = unsafe { ioctl(line, Getter::<TIOCGICOUNT, SerialCounters>::new()) }.ok()?;
        Some(Self {
            framing: counters.frame.cast_unsigned(),
            parity: counters.parity.cast_unsigned(),
            overrun: counters
                .overrun
                .cast_unsigned()
                .wrapping_add(counters.buf_overrun.cast_unsigned()),
            breaks: counters.brk.cast_unsigned(),
        })
    }

    /// What was added since `earlier`; the kernel's counters wrap.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            framing: self.framing.wrapping_sub(earlier.framing),
            parity: self.parity.wrapping_sub(earlier.parity),
            overrun: self.overrun.wrapping_sub(earlier.overrun),
            breaks: self.breaks.wrapping_sub(earlier.breaks),
        }
    }

    /// Errors that a wrong setting causes.
    pub fn of_setting(self) -> u32 {
        self.framing
            .saturating_add(self.parity)
            .saturating_add(self.breaks)
    }
}

/// Whether the system's clock follows another; none if the kernel does not say.
pub fn is_clock_synchronised() -> Option<bool> {
    // SAFETY: `timex` is a C structure of integers, for which zero is a value;
    // `modes = 0` changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is a local that outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some(state != TIME_ERROR)
}
