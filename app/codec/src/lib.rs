//! Payload bytes to [`Reading`](hark_engine::Reading)s, for sources that
//! speak CSV, JSON or CBOR.
//!
//! A [`Decoder`] is built once for each source, from the schema of its model
//! and the source's [`MappingConfig`], and then fed one payload at a time:
//! an MQTT message, or a line that [`LineSplitter`] cut from a stream. A payload
//! may hold any number of readings; what a reading's fields mean is looked up in
//! tables that are made at the start. It keeps no payload, and allocates nothing
//! for a reading that it accepts (exceptions: a JSON string with escapes, and text
//! in another encoding than UTF-8, are written anew into memory).
//!
//! What is accepted has a finite value for every channel of the schema, in the
//! schema's order and units; [`Joiner`] makes such readings of values that come
//! apart. Everything else is [`Rejected`] with the reason to count and
//! a short text to show. Ranges, rates and ages are not judged here: that
//! needs the past and the time, which the engine has.

mod cbor;
mod config;
mod csv;
mod decoder;
mod draft;
mod encoding;
mod join;
mod json;
mod lines;
mod mapping;
mod notes;
mod number;
mod path;
mod rejected;
mod timestamp;
mod unit;
mod walk;

#[cfg(test)]
mod tests;

pub use config::{ChannelConfig, Delimiter, Encoding, MappingConfig, TimeUse, TimestampUnit};
pub use csv::COLUMNS_MAX;
pub use decoder::{Decoded, Decoder, Format, PAYLOAD_MAX, READINGS_MAX, Sink, UnknownFormat};
pub use encoding::{BYTE_ORDER_MARK, Utf16Reader};
pub use join::{Joined, Joiner};
pub use lines::{LINE_MAX, LineSplitter, Oversize};
pub use mapping::{Mapping, MappingError};
pub use rejected::{DETAIL_MAX, Detail, Rejected};
