//! The device calls (`ioctl`) that rustix does not offer: those of watchdogs
//! and of RS-485 ports. Numbers and structures are those of Linux's
//! `include/uapi/linux/watchdog.h`, `serial.h` and `asm-generic/ioctls.h`, which
//! hold on every machine that hark is built for.
#![allow(unsafe_code, reason = "calls whose arguments only a driver knows")]

use rustix::io::Errno;
use rustix::ioctl::{Getter, NoArg, Opcode, Updater, ioctl, opcode};
use std::ffi::c_int;
use std::os::fd::OwnedFd;

const WDIOC_KEEPALIVE: Opcode = opcode::read::<c_int>(b'W', 5);
const WDIOC_SETTIMEOUT: Opcode = opcode::read_write::<c_int>(b'W', 6);
const WDIOC_GETTIMEOUT: Opcode = opcode::read::<c_int>(b'W', 7);
const TIOCSRS485: Opcode = 0x542F;

/// `struct serial_rs485`: the flags below, times in milliseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SerialRs485 {
    pub(crate) flags: u32,
    pub(crate) delay_rts_before_send: u32,
    pub(crate) delay_rts_after_send: u32,
    /// Address bytes and padding.
    pub(crate) unused: [u32; 5],
}

const _: () = assert!(size_of::<SerialRs485>() == 32);

pub(crate) const SER_RS485_ENABLED: u32 = 1 << 0;
pub(crate) const SER_RS485_RTS_ON_SEND: u32 = 1 << 1;
pub(crate) const SER_RS485_RTS_AFTER_SEND: u32 = 1 << 2;

/// Feeds the watchdog.
pub(crate) fn watchdog_keep_alive(fd: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the watchdog core ignores the argument of this call.
    unsafe { ioctl(fd, NoArg::<WDIOC_KEEPALIVE>::new()) }
}

/// Asks for a timeout, seconds; returns the one that the driver has chosen.
pub(crate) fn watchdog_set_timeout(fd: &OwnedFd, mut seconds: c_int) -> Result<c_int, Errno> {
    // SAFETY: the call reads an int and writes one back, into a local.
    let call = unsafe { Updater::<WDIOC_SETTIMEOUT, c_int>::new(&mut seconds) };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }?;
    Ok(seconds)
}

/// The timeout, seconds.
pub(crate) fn watchdog_timeout(fd: &OwnedFd) -> Result<c_int, Errno> {
    // SAFETY: the call writes an int.
    unsafe { ioctl(fd, Getter::<WDIOC_GETTIMEOUT, c_int>::new()) }
}

/// Sets a port's RS-485 mode; `mode` becomes what the driver has made of it.
pub(crate) fn serial_set_rs485(fd: &OwnedFd, mode: &mut SerialRs485) -> Result<(), Errno> {
    // SAFETY: the call reads the structure and writes it back.
    let call = unsafe { Updater::<TIOCSRS485, SerialRs485>::new(mode) };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }
}
