//! Nothing is allocated for a message: neither for one that comes in at any
//! quality of service, nor for one that goes out.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "a global allocator is unsafe to implement")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use common::{BOTH, conn_ack, connected, pub_rel, publish, settings};
use hark_mqtt::{Client, ClientEvent, ClientSettings, Event, Session};

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

#[test]
fn a_message_costs_no_allocation() {
    for protocol in BOTH {
        let mut session = connected(protocol);
        let large = [0; 1000];
        let batch = [
            publish(protocol, 0, 0, b"sensors/s1", b"{\"seq\":1}"),
            publish(protocol, 1, 1, b"sensors/s2", b"{\"seq\":2}"),
            publish(protocol, 2, 2, b"sensors/s3", b"{\"seq\":3}"),
            pub_rel(2),
            publish(protocol, 1, 3, b"sensors/s4", &large),
        ]
        .concat();
        let before = COUNT.get();
        let mut messages = 0;
        for now_ms in 0..10_000 {
            for piece in batch.chunks(61) {
                messages += serve(&mut session, piece);
            }
            session.handle_time(now_ms * 10).unwrap();
            let len = session.output().len();
            session.handle_written(len);
        }
        assert_eq!(messages, 30_000);
        assert_eq!(COUNT.get() - before, 0, "{protocol:?}");
    }
    assert!(COUNT.get() > 0, "the counter counts");
}

#[test]
fn a_message_costs_a_client_no_allocation() {
    for protocol in BOTH {
        let mut client = Client::new(ClientSettings::new(settings(protocol))).unwrap();
        client.handle_time(0);
        client.handle_opened();
        let bytes = [
            conn_ack(protocol, 0),
            publish(protocol, 1, 1, b"sensors/s1", b"{\"seq\":1}"),
        ];
        assert_eq!(answer(&mut client, &bytes.concat()), 1);
        let batch = [&bytes[1][..], &publish(protocol, 0, 0, b"s", b"2")].concat();
        let before = COUNT.get();
        let mut messages = 0;
        for now_ms in 0..10_000 {
            client.handle_time(now_ms);
            messages += answer(&mut client, &batch);
        }
        assert_eq!(messages, 20_000);
        assert_eq!(COUNT.get() - before, 0, "{protocol:?}");
    }
}

/// As [`serve`], of a client whose output is taken at once.
fn answer(client: &mut Client, bytes: &[u8]) -> u32 {
    client.read_space()[..bytes.len()].copy_from_slice(bytes);
    client.handle_read(bytes.len());
    let mut messages = 0;
    while let Some(event) = client.poll_event() {
        if let ClientEvent::Message { payload, .. } = event {
            let len = payload.len();
            messages += 1;
            client
                .publish_with(&["verdict/", "s"], |room| {
                    write!(room, "{{\"len\":{len}}}").unwrap();
                })
                .unwrap();
        }
    }
    let len = client.output().len();
    client.handle_written(len);
    messages
}

/// Answers each message; how many there were.
fn serve(session: &mut Session, bytes: &[u8]) -> u32 {
    session.read_space()[..bytes.len()].copy_from_slice(bytes);
    session.handle_read(bytes.len());
    let mut messages = 0;
    while let Some(event) = session.poll_event().unwrap() {
        let Event::Message { payload, .. } = event else {
            continue;
        };
        let len = payload.len();
        messages += 1;
        session
            .publish_with(&["verdict/", "s"], |room| {
                write!(room, "{{\"len\":{len}}}").unwrap();
            })
            .unwrap();
    }
    messages
}
