//! The broker's codes in words.

use crate::Protocol;

/// 5.0, 2.4; they are also what the client refuses itself.
pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
pub(crate) const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
pub(crate) const QUALITY_NOT_SUPPORTED: u8 = 0x9B;

/// Whether a code of SUBACK or PUBACK says no (3.1.1, 3.9.3; 5.0, 2.4).
pub(crate) fn is_refusal(code: u8) -> bool {
    code >= 0x80
}

/// Why a connection was refused.
pub(crate) fn of_refusal(protocol: Protocol, code: u8) -> &'static str {
    match protocol {
        Protocol::V311 => of_return_code(code),
        Protocol::V5 => of_reason_code(code),
    }
}

/// 3.1.1, table 3.1.
fn of_return_code(code: u8) -> &'static str {
    match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not allow this client identifier",
        3 => "it is not available",
        4 => "user name or password is wrong",
        5 => "this client is not authorized",
        _ => "a code that MQTT 3.1.1 does not define",
    }
}

/// 5.0, 3.2.2.2 and 3.14.2.1.
pub(crate) fn of_reason_code(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "its own reasons",
        0x84 => "it does not speak MQTT 5",
        0x85 => "it does not allow this client identifier",
        0x86 => "user name or password is wrong",
        0x87 => "this client is not authorized",
        0x88 => "it is not available",
        0x89 => "it is busy",
        0x8A => "this client is banned",
        0x8B => "it is shutting down",
        0x8C => "unknown or wrong authentication method",
        0x8D => "keep-alive timeout",
        0x8E => "another client took over the session, with the same client identifier",
        0x8F => "a topic filter is invalid or not allowed",
        0x90 => "a topic name is not allowed",
        0x91 => "a packet identifier is in use",
        0x93 => "more messages at once than it takes",
        0x94 => "invalid topic alias",
        0x95 => "a packet was larger than it takes",
        0x96 => "messages come faster than it takes",
        0x97 => "a quota is exceeded",
        0x98 => "an administrator ended it",
        0x99 => "invalid payload format",
        0x9A => "it does not keep retained messages",
        0x9B => "it does not support this quality of service",
        0x9C => "use another server",
        0x9D => "the server has moved",
        0x9E => "it does not support shared subscriptions",
        0x9F => "connections come faster than it takes",
        0xA0 => "the longest time for a connection is over",
        0xA1 => "it does not support subscription identifiers",
        0xA2 => "it does not support wildcards in subscriptions",
        _ => "a code that MQTT 5 does not define",
    }
}
