//! Payload bytes to [`Reading`](hark_engine::Reading)s, for sources that
//! speak CSV, JSON or CBOR.
//!
//! A [`Decoder`] is built once for each source, from the schema of its model
//! and the source's [`MappingConfig`], and then fed one payload at a time:
//! an MQTT message, or a line that [`LineSplitter`] cut from a stream. It
//! keeps no payload, and allocates nothing for a payload that it accepts
//! (one exception: a JSON string with escapes is unescaped into memory).
//!
//! What is accepted has a finite value for every channel of the schema, in the
//! schema's order. Everything else is [`Rejected`] with the reason to count and
//! a short text to show. Ranges, rates and ages are not judged here: that
//! needs the past and the time, which the engine has.

mod cbor;
mod config;
mod csv;
mod decoder;
mod draft;
mod json;
mod lines;
mod mapping;
mod rejected;
mod timestamp;

#[cfg(test)]
mod tests;

pub use config::{Delimiter, MappingConfig, TimestampUnit};
pub use csv::{COLUMNS_MAX, CsvDecoder};
pub use decoder::{BYTE_ORDER_MARK, Decoded, Decoder, Format, PAYLOAD_MAX, UnknownFormat};
pub use lines::{LINE_MAX, LineSplitter, Oversize};
pub use mapping::{Mapping, MappingError};
pub use rejected::{DETAIL_MAX, Detail, Rejected};
