//! Requests to bytes, and bytes to answers. Modbus over Serial Line V1.02,
//! section 2.5; Modbus Messaging on TCP/IP V1.0b, section 3.1.
//!
//! rmodbus 0.13 was tried for this: of a whole frame it takes a wrong function
//! for an exception, does not hold the count of bytes against what was asked, and
//! panics where that is 0; where a frame ends it does not say.

use crate::register::Table;
use crc::{CRC_16_MODBUS, Crc};

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// The longest answer with whatever goes before it on a line: a frame of 256
/// bytes, our own echo, some noise.
pub const ANSWER_MAX: usize = 320;

/// Bytes around the data of an answer on a serial line: unit, function, count, CRC.
const RTU_AROUND: usize = 5;
const RTU_REQUEST: usize = 8;
/// The header of TCP: transaction, protocol, length, unit.
const TCP_HEADER: usize = 7;
/// Unit, function and one byte, or a whole PDU of 253 bytes and the unit.
const TCP_LENGTHS: std::ops::RangeInclusive<usize> = 3..=254;
/// What marks the function of an exception.
const EXCEPTION: u8 = 0x80;

/// What one unit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The unit's address.
    pub unit: u8,
    /// Where.
    pub table: Table,
    /// Of the first place, from 0.
    pub address: u16,
    /// How many places, at least one.
    pub quantity: u16,
}

/// What a unit says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// As many bytes as the places take.
    Data(&'a [u8]),
    /// It refuses, with this code.
    Exception(u8),
}

/// What the front of a TCP stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpAnswer<'a> {
    /// Not a whole frame yet.
    Incomplete,
    /// The answer; of so many bytes in all.
    Answer(Answer<'a>, usize),
    /// A frame that answers another request, of so many bytes.
    Other(usize),
    /// A frame that is no answer to anything, of so many bytes.
    Malformed(usize),
    /// No frame of Modbus: nothing that follows can be read either.
    Broken,
}

impl Request {
    /// On a serial line.
    pub fn rtu(&self) -> [u8; RTU_REQUEST] {
        let mut bytes = [0; RTU_REQUEST];
        bytes[0] = self.unit;
        bytes[1..6].copy_from_slice(&self.pdu());
        let crc = CRC.checksum(&bytes[..6]);
        bytes[6..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// On a TCP connection.
    pub fn tcp(&self, transaction: u16) -> [u8; TCP_HEADER + 5] {
        let mut bytes = [0; TCP_HEADER + 5];
        bytes[..2].copy_from_slice(&transaction.to_be_bytes());
        bytes[5] = 6; // the unit and the five bytes after it
        bytes[6] = self.unit;
        bytes[7..].copy_from_slice(&self.pdu());
        bytes
    }

    fn pdu(&self) -> [u8; 5] {
        let [address_high, address_low] = self.address.to_be_bytes();
        let [quantity_high, quantity_low] = self.quantity.to_be_bytes();
        let function = self.table.function();
        [
            function,
            address_high,
            address_low,
            quantity_high,
            quantity_low,
        ]
    }

    /// Bytes of data that answer it, at most 250.
    fn data_bytes(&self) -> usize {
        let quantity = usize::from(self.quantity);
        if self.table.is_bits() {
            quantity.div_ceil(8)
        } else {
            2 * quantity
        }
    }

    /// Characters on a serial line, the answer's too, with the 3.5 of silence
    /// before each of them.
    pub(crate) fn characters(&self) -> u32 {
        (RTU_REQUEST + RTU_AROUND + self.data_bytes() + 7) as u32
    }

    /// Reads what follows the unit in a whole frame.
    fn answer<'a>(&self, pdu: &'a [u8]) -> Option<Answer<'a>> {
        let function = self.table.function();
        match pdu {
            [own, code] if *own == function | EXCEPTION => Some(Answer::Exception(*code)),
            [own, count, data @ ..]
                if *own == function
                    && usize::from(*count) == self.data_bytes()
                    && data.len() == self.data_bytes() =>
            {
                Some(Answer::Data(data))
            }
            _ => None,
        }
    }
}

/// Looks for the answer to `request` in what a serial line brought since.
///
/// Transceivers that are switched may put a byte of noise before it, and two-wire
/// adapters bring the request itself: neither keeps the answer from being found.
pub fn find_rtu<'a>(request: &Request, bytes: &'a [u8]) -> Option<Answer<'a>> {
    let bytes = &bytes[bytes.len() - beside_echo(request, bytes)..];
    let function = request.table.function();
    let lengths = |own: u8| match own {
        own if own == function => Some(RTU_AROUND + request.data_bytes()),
        own if own == function | EXCEPTION => Some(RTU_AROUND),
        _ => None,
    };
    (0..bytes.len()).find_map(|from| {
        let [unit, own, ..] = bytes[from..] else {
            return None;
        };
        let len = lengths(own).filter(|_| unit == request.unit)?;
        let frame = bytes.get(from..from + len)?;
        let (frame, crc) = frame.split_at(len - 2);
        if CRC.checksum(frame).to_le_bytes() != crc {
            return None;
        }
        request.answer(&frame[1..])
    })
}

/// How many of `bytes` are not the echo of `request` at their front.
pub(crate) fn beside_echo(request: &Request, bytes: &[u8]) -> usize {
    let echo = bytes.starts_with(&request.rtu());
    bytes.len() - if echo { RTU_REQUEST } else { 0 }
}

/// Reads the front of what a TCP connection brought after `request` was made
/// under this transaction.
///
/// The answer's unit is not looked at: many a gateway puts its own there.
pub fn parse_tcp<'a>(request: &Request, transaction: u16, bytes: &'a [u8]) -> TcpAnswer<'a> {
    let Some((header, rest)) = bytes.split_at_checked(TCP_HEADER) else {
        return TcpAnswer::Incomplete;
    };
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let len = usize::from(number(4));
    if number(2) != 0 || !TCP_LENGTHS.contains(&len) {
        return TcpAnswer::Broken;
    }
    let Some(pdu) = rest.get(..len - 1) else {
        return TcpAnswer::Incomplete;
    };
    let whole = TCP_HEADER + len - 1;
    if number(0) != transaction {
        return TcpAnswer::Other(whole);
    }
    match request.answer(pdu) {
        Some(answer) => TcpAnswer::Answer(answer, whole),
        None => TcpAnswer::Malformed(whole),
    }
}
