//! What peers may have, each by itself and all together.
//!
//! Whatever they do, the broker takes some 64 MiB at the worst: messages, twice
//! [`PARTIAL_BYTES_MAX`] (a buffer doubles as it grows), subscriptions, and what
//! each client leaves unread.

/// Clients at once. A site with more has a broker of its own.
pub const CLIENTS_MAX: usize = 256;
/// Connections that have not said who they are yet. With more the oldest goes: a
/// place is not held by saying nothing.
pub const STRANGERS_MAX: usize = 64;
/// How long a connection may take until its CONNECT is there.
pub const CONNECT_MS_MAX: u64 = 10_000;

/// The largest packet, with its header: 1 MiB, above every payload that a source
/// takes.
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// The largest CONNECT, of a stranger: room for a will and a login.
pub const CONNECT_BYTES_MAX: usize = 16 * 1024;
/// Packets of which only a part has come, of all clients together.
pub const PARTIAL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The longest client identifier.
pub const CLIENT_ID_BYTES_MAX: usize = 256;
/// The longest topic or filter.
pub const TOPIC_BYTES_MAX: usize = 1024;
/// The properties of a message that go on with it.
pub const PROPERTY_BYTES_MAX: usize = 8 * 1024;

/// Subscriptions of one client.
pub const SUBSCRIPTIONS_PER_CLIENT_MAX: usize = 1024;
/// Subscriptions of all clients.
pub const SUBSCRIPTIONS_MAX: usize = 8192;
/// Different filters with a wildcard: each message is held against each.
pub const WILDCARDS_MAX: usize = 2048;
/// What subscriptions may take.
pub const SUBSCRIPTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Filters in one SUBSCRIBE or UNSUBSCRIBE.
pub const FILTERS_PER_PACKET_MAX: usize = 1024;

/// Messages that are kept, queued or sent, all together.
pub const MESSAGE_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Messages that wait for one slow client.
pub const QUEUED_MAX: usize = 10_000;
/// And their bytes.
pub const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Retained messages: an alert of each kind for 4096 sensors, and room beside.
pub const RETAINED_MAX: usize = 32_768;
/// And their bytes.
pub const RETAINED_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Messages at QoS 1 that a client is sent before it has acknowledged the first.
pub const INFLIGHT_MAX: u16 = 256;
/// Messages at QoS 2 that a client may have begun and not released.
pub const RECEIVE_MAX: u16 = 256;

/// Up to here messages are written into a client's output; the rest waits in its
/// queue.
pub const OUTPUT_BYTES: usize = 16 * 1024;
/// A payload above it is sent from where it is, and not copied.
pub const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Bytes that a client leaves unread until it is read no more: twelve thousand
/// answers. One that stops reading before would wait for a client that writes.
pub const UNREAD_BYTES_MAX: usize = 48 * 1024;
/// Read at once: what a client may add to the answers that it leaves unread.
pub const READ_BYTES: usize = 16 * 1024;

const _: () = assert!(QUEUED_BYTES_MAX > PACKET_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX >= 4 * QUEUED_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX >= 2 * RETAINED_BYTES_MAX);
const _: () = assert!(
    OUTPUT_BYTES + COPIED_BYTES_MAX + PROPERTY_BYTES_MAX + TOPIC_BYTES_MAX < UNREAD_BYTES_MAX
);
const _: () = assert!(PARTIAL_BYTES_MAX > PACKET_BYTES_MAX);
const _: () = assert!(
    MESSAGE_BYTES_MAX
        + 2 * PARTIAL_BYTES_MAX
        + SUBSCRIPTION_BYTES_MAX
        + CLIENTS_MAX * (UNREAD_BYTES_MAX + READ_BYTES)
        <= 64 * 1024 * 1024
);
