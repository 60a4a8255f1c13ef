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

use board::Board;
use cortex_m_rt::entry;
use critical_section::Mutex;
use embedded_alloc::LlffHeap;
use hark_node::{Node, Note, Outbox, Settings};
use hark_wire::Message;

/// For the settings' list of faults, which the start and each new period copy,
/// and the words about a wrong one. A reading allocates nothing.
#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

/// Bytes for the line; the board's transmitter takes them.
static OUTBOX: Mutex<RefCell<Outbox>> = Mutex::new(RefCell::new(Outbox::new()));

/// Bytes taken off the line at once.
const READ_BYTES: usize = 256;

#[entry]
fn main() -> ! {
    board::init_heap(&HEAP);
    let mut text = [0; board::SETTINGS_BYTES_MAX];
    let mut board = Board::start();
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
        while let Some(message) = node.poll_message(board::now_us(), frames_dropped()) {
            send(board, &message);
        }
        while let Some(note) = node.poll_note() {
            log(note);
        }
        while let Some(log) = next_log() {
            send(board, &Message::Log(log));
        }
        board.wait();
    }
}

fn send(board: &mut Board, message: &Message) {
    critical_section::with(|cs| OUTBOX.borrow_ref_mut(cs).push(message));
    board.transmit();
}

/// Log lines wait for half of the outbox to be free, so that they never cost a
/// reading.
fn next_log() -> Option<hark_wire::Log> {
    let has_room = critical_section::with(|cs| OUTBOX.borrow_ref(cs).is_half_empty());
    has_room.then(logger::take).flatten()
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
        Note::FaultBegan(fault) => defmt::error!("the machine has a fault: {=str}", fault.name()),
        Note::FaultEnded(fault) => defmt::info!("the fault is gone: {=str}", fault.name()),
        Note::Missed(readings) => defmt::warn!("held up: {=u32} readings given up", readings),
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    board::flush(|| next_log().map(Message::Log));
    board::reset()
}
