//! A poll allocates nothing: neither one that brings a reading nor one that is in
//! vain.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use hark_modbus::{
    Event, Line, Master, Next, Order, Plan, PlanLimits, Register, Settings, Table, ValueType,
};

struct Counting;

thread_local! {
    // Of this thread only: the test harness has others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to `System` unchanged; growing and zeroed
// allocations come through `alloc` by the trait's defaults.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The answer of unit 1 to a request for one register, over TCP.
fn answer(request: &[u8]) -> [u8; 11] {
    let mut bytes = [0, 0, 0, 0, 0, 5, 1, 3, 2, 0, 42];
    bytes[..2].copy_from_slice(&request[..2]);
    bytes
}

#[test]
fn a_thousand_polls_allocate_nothing() {
    let register = Register {
        table: Table::Holding,
        address: 0,
        kind: ValueType::U16,
        order: Order::Abcd,
        scale: 1.0,
        offset: 0.0,
    };
    let limits = PlanLimits {
        gap_max: 0,
        registers_max: 125,
    };
    let settings = Settings {
        poll: Duration::from_millis(100),
        response_timeout: Duration::from_millis(50),
        retry_max: Duration::from_millis(100),
        line: Line::Tcp,
    };
    let mut now = Instant::now();
    let mut master = Master::new(&[1, 2], Plan::new(&[register], limits), settings, now);
    let (mut readings, mut failures) = (0, 0);
    let before = COUNT.get();
    while readings < 1000 {
        let event = match master.poll(now, None) {
            Next::Wait(at) => {
                now = at;
                None
            }
            Next::Listen(at) => {
                now = at;
                master.handle_time(now)
            }
            Next::Ask => {
                let request = master.ask(now);
                let (unit, answer) = (request[6], answer(request));
                // Unit 2 is dead.
                let len = if unit == 1 { answer.len() } else { 0 };
                master.space()[..len].copy_from_slice(&answer[..len]);
                master.handle_bytes(len, now)
            }
        };
        match event {
            Some(Event::Reading { unit: 0, .. }) => readings += 1,
            Some(Event::Failed { unit: 1, .. }) => failures += 1,
            None => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(COUNT.get() - before, 0);
    assert_eq!(master.values(), [42.0]);
    assert!(failures > 100, "{failures}");
}
