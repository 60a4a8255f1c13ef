//! Arm's MPS2 board with the FPGA image of application note AN386: a Cortex-M4
//! with FPU. QEMU plays it as `-M mps2-an386`.
//!
//! The line is UART0 of Arm's CMSDK ("Cortex-M System Design Kit r1p0", Arm DDI
//! 0479, chapter 4), the clock its TIMER0. Settings and a random boot id come from
//! the debugger's host by semihosting, as QEMU offers with `-semihosting -append
//! "seed=7"`. Without a host the first attempt faults; the board then starts
//! anew without asking, on its defaults.
#![allow(unsafe_code, reason = "registers, and what cortex-m-rt marks unsafe")]

use core::cell::RefCell;
use core::ptr::{addr_of_mut, read_volatile, write_volatile};
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m::peripheral::{NVIC, SCB, SYST, syst::SystClkSource};
use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::syscall;
use critical_section::Mutex;
use embedded_alloc::LlffHeap;
use hark_node::Clock;
use heapless::Deque;

use crate::OUTBOX;

/// AN386, table 3-3: the system clock, which also drives UARTs and timers.
const CLOCK_HZ: u32 = 25_000_000;
const BAUD: u32 = 115_200;
/// Time that a character of ten bits takes on the line, rounded up.
const CHARACTER_US: u64 = 10_000_000_u32.div_ceil(BAUD) as u64;
/// The loop looks at its clock so often, and sleeps in between: a reading is
/// late by this much at most.
const TICK_HZ: u32 = 500;
/// The longest text of settings.
pub(crate) const SETTINGS_BYTES_MAX: usize = 1024;
/// Bytes that wait for the loop: a twentieth of a second at [`BAUD`], longer than
/// one pass of it. More are lost, which is told.
const RECEIVED_MAX: usize = 512;
const HEAP_BYTES: usize = 16 * 1024;

/// AN386, table 3-1.
const TIMER0: usize = 0x4000_0000;
const UART0: usize = 0x4000_4000;

/// DDI 0479, table 4-2: registers of a timer.
const TIMER_CTRL: usize = TIMER0;
const TIMER_VALUE: usize = TIMER0 + 0x4;
const TIMER_RELOAD: usize = TIMER0 + 0x8;
const TIMER_ENABLE: u32 = 1;

/// DDI 0479, table 4-7: registers of a UART, and their bits.
const UART_DATA: usize = UART0;
const UART_STATE: usize = UART0 + 0x4;
const UART_CTRL: usize = UART0 + 0x8;
const UART_INTERRUPT: usize = UART0 + 0xc;
const UART_DIVIDER: usize = UART0 + 0x10;
const STATE_TX_FULL: u32 = 1 << 0;
const STATE_RX_FULL: u32 = 1 << 1;
/// Stays set until it is written.
const STATE_RX_OVERRUN: u32 = 1 << 3;
const CTRL_TX_RX_WITH_INTERRUPTS: u32 = 0b1111;
const INTERRUPT_TX: u32 = 1 << 0;
const INTERRUPT_RX: u32 = 1 << 1;

/// AN386, table 3-4.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Interrupt {
    Uart0Rx = 0,
    Uart0Tx = 1,
}

// SAFETY: the numbers are those of the board, and do not change.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

static CLOCK: Mutex<RefCell<Clock>> = Mutex::new(RefCell::new(Clock::new(CLOCK_HZ / 1_000_000)));
static RECEIVED: Mutex<RefCell<Deque<u8, RECEIVED_MAX>>> = Mutex::new(RefCell::new(Deque::new()));
static HAS_LOST_BYTES: AtomicBool = AtomicBool::new(false);

/// What outlives a reset: memory that nobody initialises, so random at power-on.
struct Kept {
    /// [`HOST_ASKED`] while the host is being asked, [`HOST_ABSENT`] after that
    /// faulted; anything else: it was not asked yet.
    host: u32,
    starts: u32,
}

const HOST_ASKED: u32 = 0x686f_7374;
const HOST_ABSENT: u32 = 0x6e6f_6e65;

#[unsafe(link_section = ".uninit.KEPT")]
static mut KEPT: core::mem::MaybeUninit<Kept> = core::mem::MaybeUninit::uninit();

/// The board's peripherals, started.
pub(crate) struct Board {
    has_host: bool,
}

impl Board {
    pub(crate) fn start() -> Self {
        write(TIMER_RELOAD, u32::MAX);
        write(TIMER_VALUE, u32::MAX);
        write(TIMER_CTRL, TIMER_ENABLE);
        write(UART_DIVIDER, CLOCK_HZ / BAUD);
        write(UART_CTRL, CTRL_TX_RX_WITH_INTERRUPTS);
        let peripherals = cortex_m::Peripherals::take().expect("taken once");
        start_ticks(peripherals.SYST);
        // SAFETY: the handlers are below, and what they share is locked.
        unsafe {
            NVIC::unmask(Interrupt::Uart0Rx);
            NVIC::unmask(Interrupt::Uart0Tx);
        }
        Self {
            has_host: find_host(),
        }
    }

    /// What the node is told at its start; nothing without a host.
    pub(crate) fn settings<'t>(&self, text: &'t mut [u8; SETTINGS_BYTES_MAX]) -> &'t str {
        if !self.has_host {
            return "";
        }
        // SAFETY: the host writes at most so many bytes, and a zero at the end.
        let failed = unsafe { syscall!(GET_CMDLINE, text.as_mut_ptr(), text.len()) };
        let len = text.iter().position(|byte| *byte == 0);
        let text = core::str::from_utf8(&text[..len.unwrap_or(0)]).unwrap_or_default();
        if failed == 0 { text } else { "" }
    }

    /// Differs at every start: random by the host, or else a count of starts on
    /// top of what the memory held at power-on.
    pub(crate) fn boot_id(&self) -> u32 {
        // SAFETY: nobody else uses it after the start, and every bit pattern is
        // a count.
        let starts = unsafe {
            let starts = &raw mut (*(&raw mut KEPT).cast::<Kept>()).starts;
            starts.write(starts.read().wrapping_add(1));
            starts.read()
        };
        let random = if self.has_host { random_of_host() } else { 0 };
        starts.wrapping_add(random)
    }

    /// Takes what the line has brought.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut len = 0;
        critical_section::with(|cs| {
            let mut received = RECEIVED.borrow_ref_mut(cs);
            while let (Some(slot), false) = (buffer.get_mut(len), received.is_empty()) {
                *slot = received.pop_front().expect("it is not empty");
                len += 1;
            }
        });
        len
    }

    /// Has the transmitter look into the outbox.
    pub(crate) fn transmit(&mut self) {
        NVIC::pend(Interrupt::Uart0Tx);
    }

    /// Sleeps until something has happened, for a tick at most.
    pub(crate) fn wait(&mut self) {
        cortex_m::asm::wfi();
    }
}

/// Time since the start, µs.
pub(crate) fn now_us() -> u64 {
    critical_section::with(|cs| {
        // The timer counts down.
        CLOCK.borrow_ref_mut(cs).now_us(!read(TIMER_VALUE))
    })
}

/// Whether bytes of the line were lost since this was last asked.
pub(crate) fn has_lost_bytes() -> bool {
    HAS_LOST_BYTES.swap(false, Ordering::Relaxed)
}

/// Sends the outbox, waiting for the line until `until_us`: a line that takes
/// nothing must not hold up the reset.
pub(crate) fn flush(until_us: u64) {
    critical_section::with(|cs| {
        let mut outbox = OUTBOX.borrow_ref_mut(cs);
        while let Some(byte) = outbox.pop() {
            while read(UART_STATE) & STATE_TX_FULL != 0 {
                if now_us() > until_us {
                    return;
                }
            }
            write(UART_DATA, byte.into());
        }
    });
}

/// Starts anew, once the line has what the transmitter has.
pub(crate) fn reset() -> ! {
    // It holds one byte, shifts another one out, and does not tell when that is
    // done.
    let until_us = now_us() + 2 * CHARACTER_US;
    while now_us() < until_us {}
    SCB::sys_reset()
}

/// Gives `heap` its memory. Called once, first of all.
pub(crate) fn init_heap(heap: &LlffHeap) {
    static mut MEMORY: [u8; HEAP_BYTES] = [0; HEAP_BYTES];
    // SAFETY: called once, and nobody else has the memory.
    unsafe { heap.init(addr_of_mut!(MEMORY) as usize, HEAP_BYTES) }
}

fn start_ticks(mut ticks: SYST) {
    ticks.set_clock_source(SystClkSource::Core);
    ticks.set_reload(CLOCK_HZ / TICK_HZ - 1);
    ticks.clear_current();
    ticks.enable_interrupt();
    ticks.enable_counter();
}

/// Asks a debugger's host for something harmless. Without one this faults, and
/// the fault's handler starts the board anew with a note not to ask.
fn find_host() -> bool {
    // SAFETY: any bit pattern is a `u32`, and the only other user is the fault's
    // handler, which does not return.
    unsafe {
        let host = &raw mut (*(&raw mut KEPT).cast::<Kept>()).host;
        if host.read_volatile() == HOST_ABSENT {
            // Asked again at the next start: a debugger may have come.
            host.write_volatile(0);
            return false;
        }
        host.write_volatile(HOST_ASKED);
        syscall!(CLOCK);
        host.write_volatile(0);
    }
    true
}

fn random_of_host() -> u32 {
    /// "rb" (Arm, "Semihosting for AArch32 and AArch64", SYS_OPEN).
    const READ_BINARY: usize = 1;
    let path = b"/dev/urandom\0";
    let mut random = [0_u8; 4];
    // SAFETY: the host reads the path of the told length, and writes at most as
    // many bytes as `random` has.
    unsafe {
        let file = syscall!(OPEN, path.as_ptr(), READ_BINARY, path.len() - 1);
        if file != usize::MAX {
            syscall!(READ, file, random.as_mut_ptr(), random.len());
            syscall!(CLOSE, file);
        }
    }
    u32::from_le_bytes(random)
}

fn receive() {
    write(UART_INTERRUPT, INTERRUPT_RX);
    critical_section::with(|cs| {
        let mut received = RECEIVED.borrow_ref_mut(cs);
        let mut has_lost = read(UART_STATE) & STATE_RX_OVERRUN != 0;
        if has_lost {
            write(UART_STATE, STATE_RX_OVERRUN);
        }
        while read(UART_STATE) & STATE_RX_FULL != 0 {
            has_lost |= received.push_back(read(UART_DATA) as u8).is_err();
        }
        if has_lost {
            HAS_LOST_BYTES.store(true, Ordering::Relaxed);
        }
    });
}

fn feed_transmitter() {
    write(UART_INTERRUPT, INTERRUPT_TX);
    critical_section::with(|cs| {
        let mut outbox = OUTBOX.borrow_ref_mut(cs);
        while read(UART_STATE) & STATE_TX_FULL == 0 {
            let Some(byte) = outbox.pop() else {
                return;
            };
            write(UART_DATA, byte.into());
        }
    });
}

#[exception]
fn SysTick() {}

#[exception]
unsafe fn DefaultHandler(number: i16) {
    match number {
        0 => receive(),
        1 => feed_transmitter(),
        _ => panic!("interrupt {number} has no handler"),
    }
}

#[exception]
unsafe fn HardFault(_frame: &ExceptionFrame) -> ! {
    // SAFETY: see `find_host`; nothing else runs any more.
    unsafe {
        let host = &raw mut (*(&raw mut KEPT).cast::<Kept>()).host;
        if host.read_volatile() == HOST_ASKED {
            host.write_volatile(HOST_ABSENT);
        }
    }
    SCB::sys_reset()
}

fn read(register: usize) -> u32 {
    // SAFETY: called with the registers named above, which are aligned words.
    unsafe { read_volatile(register as *const u32) }
}

fn write(register: usize, value: u32) {
    // SAFETY: as in `read`.
    unsafe { write_volatile(register as *mut u32, value) }
}
