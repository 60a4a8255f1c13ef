//! The keeper allocates nothing while it watches and takes over.
#![allow(unsafe_code)]

use hark_keeper::{Slot, keep};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_thousand_claims_allocate_nothing() {
    let slot = Arc::new(Slot::new());
    let (sender, receiver) = sync_channel(1);
    let allocated = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&allocated);
    let mut before = None;
    let is_over = Arc::new(AtomicBool::new(false));
    let (slots, ends) = ([Arc::clone(&slot)], Arc::clone(&is_over));
    let keeper = std::thread::spawn(move || {
        keep(
            &slots,
            Duration::from_micros(50),
            || 0,
            move |_, value: Box<u64>| {
                sender.send(value).expect("the test listens");
                // The first hand-over sets up what the channel keeps of a thread.
                let first = *before.get_or_insert_with(|| ALLOCATIONS.get());
                shown.store(ALLOCATIONS.get() - first, Ordering::Relaxed);
            },
            |time| {
                std::thread::sleep(time);
                ends.load(Ordering::Relaxed)
            },
        );
    });
    let mut value = Box::new(0);
    for _ in 0..1_000 {
        let armed = slot.arm(value, 0);
        value = receiver.recv().expect("the keeper claims");
        assert!(slot.disarm(armed).is_none());
    }
    is_over.store(true, Ordering::Relaxed);
    keeper.join().expect("it ends");
    assert_eq!(allocated.load(Ordering::Relaxed), 0);
}
