//! defmt's logger: lines go into a [`LogBuffer`], from which they reach the
//! gateway in `Log` frames.
//!
//! It never waits: what finds no room is dropped by the line and counted. The
//! loop alone writes lines, handlers of interrupts write none, so that interrupts
//! are off only for the bytes: the receiver cannot wait for a whole line.
#![allow(
    unsafe_code,
    reason = "defmt's trait is unsafe, and its encoder is shared by hand"
)]

use core::cell::{RefCell, UnsafeCell};
use core::sync::atomic::{AtomicBool, Ordering};

use critical_section::Mutex;
use hark_node::LogBuffer;
use hark_wire::Log;

static BUFFER: Mutex<RefCell<LogBuffer>> = Mutex::new(RefCell::new(LogBuffer::new()));
static WRITER: Writer = Writer {
    is_writing: AtomicBool::new(false),
    encoder: UnsafeCell::new(defmt::Encoder::new()),
};

/// The next piece for the gateway.
pub(crate) fn take() -> Option<Log> {
    let mut log = Log::default();
    let pop = || critical_section::with(|cs| BUFFER.borrow_ref_mut(cs).pop());
    while !log.bytes.is_full()
        && let Some(byte) = pop()
    {
        log.bytes.push(byte).expect("it is not full");
    }
    (!log.bytes.is_empty()).then_some(log)
}

/// Gives up the line that is being written, whose writer has panicked: nobody
/// goes on with it.
pub(crate) fn give_up_line() {
    if WRITER.is_writing.load(Ordering::Relaxed) {
        // SAFETY: its writer does not come back.
        unsafe { *WRITER.encoder.get() = defmt::Encoder::new() };
        critical_section::with(|cs| BUFFER.borrow_ref_mut(cs).drop_line());
        WRITER.is_writing.store(false, Ordering::Relaxed);
    }
}

/// Lines dropped so far.
pub(crate) fn dropped() -> u32 {
    critical_section::with(|cs| BUFFER.borrow_ref(cs).dropped())
}

struct Writer {
    is_writing: AtomicBool,
    encoder: UnsafeCell<defmt::Encoder>,
}

// SAFETY: the encoder is used between `acquire` and `release` only, by the one
// writer that `is_writing` lets in, on a processor of one core.
unsafe impl Sync for Writer {}

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` refuses a second writer until `release`, so that there is one
// line at a time.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        assert!(
            !WRITER.is_writing.swap(true, Ordering::Acquire),
            "a log line within a log line"
        );
        // SAFETY: the only writer.
        unsafe { (*WRITER.encoder.get()).start_frame(write) }
    }

    unsafe fn flush() {}

    unsafe fn release() {
        // SAFETY: between `acquire` and here there is one writer.
        unsafe { (*WRITER.encoder.get()).end_frame(write) }
        critical_section::with(|cs| BUFFER.borrow_ref_mut(cs).end_line());
        WRITER.is_writing.store(false, Ordering::Release);
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
