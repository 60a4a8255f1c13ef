//! defmt's logger: lines go into a [`LogBuffer`], from which they reach the
//! gateway in `Log` frames.
//!
//! It never waits: what finds no room is dropped by the line and counted. A line
//! is written with interrupts off, because defmt allows no second writer.
#![allow(
    unsafe_code,
    reason = "defmt's trait is unsafe, and its encoder is shared by hand"
)]

use core::cell::{Cell, RefCell, UnsafeCell};

use critical_section::{Mutex, RestoreState};
use hark_node::LogBuffer;
use hark_wire::Log;

static BUFFER: Mutex<RefCell<LogBuffer>> = Mutex::new(RefCell::new(LogBuffer::new()));
static WRITER: Writer = Writer {
    is_writing: Mutex::new(Cell::new(false)),
    encoder: UnsafeCell::new(defmt::Encoder::new()),
    restore: UnsafeCell::new(RestoreState::invalid()),
};

/// The next piece for the gateway.
pub(crate) fn take() -> Option<Log> {
    critical_section::with(|cs| BUFFER.borrow_ref_mut(cs).take())
}

/// Lines dropped so far.
pub(crate) fn dropped() -> u32 {
    critical_section::with(|cs| BUFFER.borrow_ref(cs).dropped())
}

struct Writer {
    is_writing: Mutex<Cell<bool>>,
    encoder: UnsafeCell<defmt::Encoder>,
    restore: UnsafeCell<RestoreState>,
}

// SAFETY: the cells are used between `acquire` and `release` only, and so with
// interrupts off, on a processor of one core.
unsafe impl Sync for Writer {}

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` turns interrupts off until `release`, and refuses a second
// writer, so that there is one line at a time.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: `release` releases it, with the state kept in `restore`.
        let restore = unsafe { critical_section::acquire() };
        // SAFETY: the section above is entered.
        let cs = unsafe { critical_section::CriticalSection::new() };
        assert!(
            !WRITER.is_writing.borrow(cs).replace(true),
            "a log line within a log line"
        );
        // SAFETY: the only writer, with interrupts off.
        unsafe {
            *WRITER.restore.get() = restore;
            (*WRITER.encoder.get()).start_frame(write);
        }
    }

    unsafe fn flush() {}

    unsafe fn release() {
        // SAFETY: between `acquire` and here there is one writer, interrupts off.
        unsafe {
            (*WRITER.encoder.get()).end_frame(write);
            let cs = critical_section::CriticalSection::new();
            BUFFER.borrow_ref_mut(cs).end_line();
            WRITER.is_writing.borrow(cs).set(false);
            critical_section::release(*WRITER.restore.get());
        }
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: as in `release`.
        unsafe { (*WRITER.encoder.get()).write(bytes, write) }
    }
}

fn write(bytes: &[u8]) {
    critical_section::with(|cs| BUFFER.borrow_ref_mut(cs).write(bytes));
}

defmt::timestamp!("{=u64:us}", crate::board::now_us());
