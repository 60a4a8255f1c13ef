//! Every interleaving of the threads around a slot, found by loom.
//!
//! The slot's source is compiled a second time here, with loom's atomics and
//! lock in place of the standard library's; loom then runs each test once for
//! every order in which the threads' accesses can become visible.

#[expect(
    dead_code,
    unreachable_pub,
    reason = "a library's source within a test"
)]
#[path = "../src/slot.rs"]
mod slot;

mod sync {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

use loom::sync::Arc;
use loom::thread;
use slot::Slot;

const NOW_US: u64 = 10;
const DUE_US: u64 = 10;
const LATER_US: u64 = 11;

#[test]
fn exactly_one_of_the_two_gets_the_value() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let armed = slot.arm(7, DUE_US);
        let keeper = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.claim(NOW_US))
        };
        let taken_back = slot.disarm(armed);
        let claimed = keeper.join().unwrap();
        assert_eq!(taken_back.xor(claimed), Some(7));
    });
}

#[test]
fn a_loan_that_is_not_due_is_never_claimed() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let keeper = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.claim(NOW_US))
        };
        let first = slot.arm(1, DUE_US);
        if slot.disarm(first).is_some() {
            let second = slot.arm(2, LATER_US);
            assert_eq!(slot.disarm(second), Some(2));
        }
        assert_ne!(keeper.join().unwrap(), Some(2));
    });
}

#[test]
fn a_late_thread_never_takes_what_its_relief_lends_out() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let armed = slot.arm(1, DUE_US);
        let keeper = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                // The keeper claims, and the relief goes on and lends out anew.
                let value: Option<u32> = slot.claim(NOW_US);
                value.map(|value| {
                    let armed = slot.arm(value + 1, LATER_US);
                    slot.disarm(armed)
                })
            })
        };
        let late = slot.disarm(armed);
        match keeper.join().unwrap() {
            Some(relieved) => assert_eq!((late, relieved), (None, Some(2))),
            None => assert_eq!(late, Some(1)),
        }
    });
}

#[test]
fn two_keepers_cannot_both_claim() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        slot.arm(7, DUE_US);
        let other = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.claim(NOW_US))
        };
        let (one, other) = (slot.claim(NOW_US), other.join().unwrap());
        assert_eq!(one.xor(other), Some(7));
    });
}
