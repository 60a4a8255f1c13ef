//! The firmware: moves bytes between the line, the node and the log.
//!
//! All decisions are in the library beside it, all registers in `board/`. The
//! loop sleeps until an interrupt: a byte came, or a tick of the board's timer.
//! A panic is logged, and the node starts anew.
#![no_std]
#![no_main]

extern crate alloc;

mod board;
mod logger;

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, Ordering};

use board::Board;
use cortex_m_rt::entry;
use critical_section::Mutex;
use embedded_alloc::LlffHeap;
use hark_node::{Node, Note, Outbox, Settings};
use hark_wire::{FRAME_MAX, Message, encode};

/// For the settings' list of faults, which the start and each new period copy,
/// and the words about a wrong one. A reading allocates nothing.
#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// Bytes for the line; the board's transmitter takes them.
static OUTBOX: Mutex<RefCell<Outbox>> = Mutex::new(RefCell::new(Outbox::new()));

/// Bytes taken off the line at once.
const READ_BYTES: usize = 256;
/// How long a panic's last words may wait for a line that takes nothing.
const LAST_WORDS_US: u64 = 1_000_000;

#[entry]
fn main() -> ! {
    board::init_heap(&HEAP);
    let mut text = [0; board::SETTINGS_BYTES_MAX];
    let mut board = Board::start();
    end_frame();
    let settings = Settings::parse(board.settings(&mut text), |wrong| {
        defmt::error!("{}", defmt::Display2Format(&wrong));
    });
    let boot_id = board.boot_id();
    defmt::info!(
        "started as {=str}, seed {=u64}, {=usize} faults planned, boot {=u32:08x}",
        settings.name.as_str(),
        settings.seed,
        settings.faults.len(),
        boot_id
    );
    serve(&mut board, &mut Node::new(settings, boot_id))
}

fn serve(board: &mut Board, node: &mut Node) -> ! {
    let mut buffer = [0; READ_BYTES];
    loop {
        let len = board.read(&mut buffer);
        node.handle_bytes(&buffer[..len], board::now_us());
        if board::has_lost_bytes() {
            node.handle_loss();
        }
        while let Some(message) = node.poll_message(board::now_us(), frames_dropped()) {
            queue(&message);
            board.transmit();
        }
        while let Some(note) = node.poll_note() {
            log(note);
        }
        if let Some(log) = next_log() {
            queue(&Message::Log(log));
            board.transmit();
        }
        board.wait();
    }
}

/// Puts a whole frame in line. Interrupts are off for one byte at a time: the
/// next one on the line does not wait for longer than it takes to come.
fn queue(message: &Message) {
    let mut buffer = [0; FRAME_MAX];
    let frame = encode(message, &mut buffer);
    if critical_section::with(|cs| OUTBOX.borrow_ref_mut(cs).admit(frame.len())) {
        for byte in frame {
            critical_section::with(|cs| OUTBOX.borrow_ref_mut(cs).push(*byte));
        }
    }
}

/// Ends a frame that was cut off on the line, so that the next is not taken for
/// its rest.
fn end_frame() {
    critical_section::with(|cs| {
        let mut outbox = OUTBOX.borrow_ref_mut(cs);
        if outbox.admit(1) {
            outbox.push(0);
        }
    });
}

/// The log waits for the line to be free, so that a reading waits for one piece
/// of it at most.
fn next_log() -> Option<hark_wire::Log> {
    let is_free = critical_section::with(|cs| OUTBOX.borrow_ref(cs).is_empty());
    is_free.then(logger::take).flatten()
}

fn frames_dropped() -> u32 {
    critical_section::with(|cs| OUTBOX.borrow_ref(cs).dropped()).saturating_add(logger::dropped())
}

fn log(note: Note) {
    match note {
        Note::Configured { period_ms, running } => {
            defmt::info!(
                "taken: a reading every {=u32} ms, running {=bool}",
                period_ms,
                running
            );
        }
        Note::Refused(period_ms) => {
            defmt::warn!("refused: a reading every {=u32} ms", period_ms);
        }
        Note::Rejected(error) => {
            defmt::warn!("rejected a frame: {}; more are only counted", error);
        }
        Note::LostBytes => {
            defmt::warn!("bytes came faster than they were read, and are lost");
        }
        Note::FaultBegan(fault) => defmt::error!("the machine has a fault: {=str}", fault.name()),
        Note::FaultEnded(fault) => defmt::info!("the fault is gone: {=str}", fault.name()),
        Note::Missed(readings) => defmt::warn!("held up: {=u32} readings given up", readings),
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    // A second panic, as by what the first one left borrowed, says nothing.
    static IS_PANICKING: AtomicBool = AtomicBool::new(false);
    if !IS_PANICKING.swap(true, Ordering::Relaxed) {
        let until_us = board::now_us() + LAST_WORDS_US;
        end_frame();
        logger::give_up_line();
        // Earlier lines first: they make room for the last one.
        flush(until_us);
        defmt::error!("{}", defmt::Display2Format(info));
        flush(until_us);
    }
    board::reset()
}

/// Sends all that waits for the line, the log too.
fn flush(until_us: u64) {
    board::flush(until_us);
    while let Some(log) = next_log() {
        queue(&Message::Log(log));
        board::flush(until_us);
    }
}
