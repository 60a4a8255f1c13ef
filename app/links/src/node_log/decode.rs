//! From the bytes of one defmt line to its level and text.
//!
//! defmt sends numbers of format strings and bare arguments (wire format of the
//! "defmt book", chapter "Ser/De"). The grammar of format strings is knurling's
//! own crate's; this follows it over the bytes. knurling's `defmt-decoder` is
//! not used because it turns on serde_json's `arbitrary_precision` for the whole
//! program, by which each number of a JSON reading becomes an allocated text, and
//! because it makes room for as many elements as a damaged line asks for.
//!
//! Nothing is trusted: depth and number of arguments are bounded, and what does
//! not fit to the last byte is [`Malformed`]. Hints for dates, CBOR and the names
//! of bit flags are not followed: the plain number is shown.

use std::collections::BTreeMap;

use defmt_parser::{Fragment, Level, Parameter, ParserMode, Type, get_max_bitfield_range};

use super::render;
use super::table::LogTable;

/// Formats within formats: types of a sensor node nest two or three deep.
const DEPTH_MAX: usize = 16;
/// Arguments of one line, nested ones included: more than its bytes are only
/// elements without any, which a damaged count asks for.
const ARGUMENTS_MAX: usize = 1024;

/// The line is not what the ELF says; or it asks for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its bytes do not fit the format strings")]
pub(super) struct Malformed;

/// A line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    /// None for defmt's `println`.
    pub(super) level: Option<Level>,
    pub(super) message: String,
}

/// An argument, before its hint is known.
pub(super) enum Argument<'t> {
    Text(String),
    Unsigned(u128),
    /// With its width in bits, for two's complement.
    Signed(i128, u32),
    Bytes(Vec<u8>),
    /// What it shows is a sequence of formatted parts; in brackets if it is a
    /// slice.
    Parts(Vec<Part<'t>>, bool),
}

/// Something with a format of its own.
pub(super) struct Part<'t> {
    pub(super) format: Vec<Fragment<'t>>,
    pub(super) arguments: Arguments<'t>,
}

/// By the index in their format.
pub(super) type Arguments<'t> = BTreeMap<usize, Argument<'t>>;

/// Decodes one line, given in rzCOBS without the zero at its end.
///
/// # Errors
/// [`Malformed`].
pub(super) fn explain(table: &LogTable, line: &[u8]) -> Result<Explained, Malformed> {
    let bytes = undo_rzcobs(line).ok_or(Malformed)?;
    let mut cursor = Cursor {
        table,
        bytes: &bytes,
        arguments_left: ARGUMENTS_MAX,
    };
    let (level, format) = table.line(cursor.u16()?).ok_or(Malformed)?;
    if let Some(timestamp) = table.timestamp() {
        cursor.part(timestamp, 0)?;
    }
    let part = cursor.part(format, 0)?;
    // rzCOBS fills its last group up with zeros.
    if cursor.bytes.iter().any(|byte| *byte != 0) {
        return Err(Malformed);
    }
    Ok(Explained {
        level,
        message: render::line(&part),
    })
}

/// Undoes reverse zero-compressing COBS (github.com/Dirbaio/rzcobs): read from
/// its end, a byte says which of the seven before it were zeros and left out,
/// or how long a run without zeros is.
fn undo_rzcobs(line: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(2 * line.len());
    let mut bytes = line.iter().rev().copied();
    while let Some(code) = bytes.next() {
        match code {
            0 => return None,
            0x01..=0x7f => {
                for bit in (0..7).rev() {
                    let is_zero = code & (1 << bit) != 0;
                    decoded.push(if is_zero { 0 } else { bytes.next()? });
                }
            }
            0x80..=0xfe => {
                decoded.push(0);
                for _ in 0..(code & 0x7f) + 7 {
                    decoded.push(bytes.next()?);
                }
            }
            0xff => {
                for _ in 0..134 {
                    decoded.push(bytes.next()?);
                }
            }
        }
    }
    decoded.reverse();
    Some(decoded)
}

/// The bytes that are left of a line.
struct Cursor<'t, 'b> {
    table: &'t LogTable,
    bytes: &'b [u8],
    arguments_left: usize,
}

impl<'t> Cursor<'t, '_> {
    fn part(&mut self, format: &'t str, depth: usize) -> Result<Part<'t>, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed);
        }
        let fragments =
            defmt_parser::parse(format, ParserMode::ForwardsCompatible).map_err(|_| Malformed)?;
        let mut arguments = Arguments::new();
        for (index, kind) in types(&fragments) {
            self.arguments_left = self.arguments_left.checked_sub(1).ok_or(Malformed)?;
            arguments.insert(index, self.argument(&kind, depth)?);
        }
        Ok(Part {
            format: fragments,
            arguments,
        })
    }

    fn argument(&mut self, kind: &Type, depth: usize) -> Result<Argument<'t>, Malformed> {
        Ok(match kind {
            Type::U8 => self.unsigned(1)?,
            Type::U16 => self.unsigned(2)?,
            // The node's `usize` has 32 bits (the "defmt book").
            Type::U32 | Type::Usize => self.unsigned(4)?,
            Type::U64 => self.unsigned(8)?,
            Type::U128 => self.unsigned(16)?,
            Type::I8 => self.signed(1)?,
            Type::I16 => self.signed(2)?,
            Type::I32 | Type::Isize => self.signed(4)?,
            Type::I64 => self.signed(8)?,
            Type::I128 => self.signed(16)?,
            Type::F32 => Argument::Text(format!("{:?}", f32::from_bits(self.u32()?))),
            Type::F64 => Argument::Text(format!("{:?}", f64::from_bits(self.raw(8)? as u64))),
            Type::Bool => match self.raw(1)? {
                0 => Argument::Text("false".to_owned()),
                1 => Argument::Text("true".to_owned()),
                _ => return Err(Malformed),
            },
            Type::Char => {
                let c = char::from_u32(self.u32()?).ok_or(Malformed)?;
                Argument::Text(c.to_string())
            }
            Type::BitField(bits) => self.bit_field(bits)?,
            Type::Str => {
                let len = self.len()?;
                self.text(len)?
            }
            Type::IStr => {
                let number = self.u16()?;
                Argument::Text(self.table.part(number).ok_or(Malformed)?.to_owned())
            }
            Type::Debug | Type::Display => {
                let end = self.bytes.iter().position(|byte| *byte == 0xff);
                let text = self.text(end.ok_or(Malformed)?)?;
                self.take(1)?;
                text
            }
            Type::U8Slice => {
                let len = self.len()?;
                Argument::Bytes(self.take(len)?.to_vec())
            }
            Type::U8Array(len) => Argument::Bytes(self.take(*len)?.to_vec()),
            Type::Format => {
                let format = self.format()?;
                Argument::Parts(vec![self.variant(format, depth)?], false)
            }
            Type::FormatArray(len) => self.elements(*len, depth)?,
            Type::FormatSlice => {
                let len = self.len()?;
                self.elements(len, depth)?
            }
            Type::FormatSequence => self.sequence(depth)?,
        })
    }

    /// All elements have the format that comes first.
    fn elements(&mut self, len: usize, depth: usize) -> Result<Argument<'t>, Malformed> {
        let format = self.format()?;
        let mut parts = Vec::new();
        for _ in 0..len {
            self.arguments_left = self.arguments_left.checked_sub(1).ok_or(Malformed)?;
            parts.push(self.variant(format, depth)?);
        }
        Ok(Argument::Parts(parts, true))
    }

    /// Formats and their arguments, up to the number zero.
    fn sequence(&mut self, depth: usize) -> Result<Argument<'t>, Malformed> {
        let mut parts = Vec::new();
        loop {
            let number = self.u16()?;
            if number == 0 {
                return Ok(Argument::Parts(parts, false));
            }
            self.arguments_left = self.arguments_left.checked_sub(1).ok_or(Malformed)?;
            let format = self.table.part(number).ok_or(Malformed)?;
            parts.push(self.part(format, depth + 1)?);
        }
    }

    /// A format of an enum holds its variants' formats, with `|` in between.
    fn variant(&mut self, format: &'t str, depth: usize) -> Result<Part<'t>, Malformed> {
        let bars = format.matches('|').count();
        let format = match bars {
            0 => format,
            _ => {
                let width = match bars {
                    ..=0xff => 1,
                    0x100..=0xffff => 2,
                    _ => 4,
                };
                let variant = usize::try_from(self.raw(width)?).map_err(|_| Malformed)?;
                format.split('|').nth(variant).ok_or(Malformed)?
            }
        };
        self.part(format, depth + 1)
    }

    fn format(&mut self) -> Result<&'t str, Malformed> {
        let number = self.u16()?;
        self.table.part(number).ok_or(Malformed)
    }

    /// Only the octets that hold the bits are sent, in a whole integer.
    fn bit_field(&mut self, bits: &std::ops::Range<u8>) -> Result<Argument<'t>, Malformed> {
        let lowest = bits.start / 8;
        let octets = bits.end.saturating_sub(1) / 8 + 1 - lowest;
        let width = usize::from(octets.next_power_of_two());
        Ok(Argument::Unsigned(self.raw(width)? << (lowest * 8)))
    }

    fn text(&mut self, len: usize) -> Result<Argument<'t>, Malformed> {
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Malformed)?;
        Ok(Argument::Text(text.to_owned()))
    }

    fn unsigned(&mut self, width: usize) -> Result<Argument<'t>, Malformed> {
        Ok(Argument::Unsigned(self.raw(width)?))
    }

    fn signed(&mut self, width: usize) -> Result<Argument<'t>, Malformed> {
        let bits = 8 * width as u32;
        let unused = 128 - bits;
        let value = (self.raw(width)? << unused).cast_signed() >> unused;
        Ok(Argument::Signed(value, bits))
    }

    fn len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u32()?).map_err(|_| Malformed)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.raw(2)? as u16)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(self.raw(4)? as u32)
    }

    /// An integer of at most 16 bytes, the least significant first.
    fn raw(&mut self, width: usize) -> Result<u128, Malformed> {
        let bytes = self.take(width)?;
        let fold = |value: u128, byte: &u8| value << 8 | u128::from(*byte);
        Ok(bytes.iter().rev().fold(0, fold))
    }

    fn take(&mut self, len: usize) -> Result<&[u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }
}

/// The arguments in the order in which they are sent: that of their index. Bit
/// fields of one argument are sent as one.
fn types(fragments: &[Fragment<'_>]) -> BTreeMap<usize, Type> {
    let parameters = || {
        fragments.iter().filter_map(|fragment| match fragment {
            Fragment::Parameter(parameter) => Some(parameter),
            Fragment::Literal(_) => None,
        })
    };
    let mut types = BTreeMap::new();
    for Parameter { index, ty, .. } in parameters() {
        let is_field = |p: &&Parameter| p.index == *index && matches!(p.ty, Type::BitField(_));
        let fields = parameters().filter(is_field);
        let kind = match get_max_bitfield_range(fields) {
            Some((start, end)) => Type::BitField(start..end),
            None => ty.clone(),
        };
        types.insert(*index, kind);
    }
    types
}
