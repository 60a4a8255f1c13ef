//! The text of a decoded line: its format with the arguments in place, by their
//! hints. A hint reaches down into parts that have none of their own.

use std::fmt::Write;

use defmt_parser::{DisplayHint, Fragment, Parameter, TimePrecision, Type};

use super::decode::{Argument, Part};

/// Widths beyond the longest number, 128 bits with `0b`, are an ELF's mistake.
const PAD_MAX: usize = 130;

/// The text of a line, in which nothing ends a line or steers a terminal.
pub(super) fn line(part: &Part<'_>) -> String {
    let mut text = String::new();
    write_part(&mut text, part, None);
    printable(&text)
}

fn write_part(text: &mut String, part: &Part<'_>, outer: Option<&DisplayHint>) {
    for fragment in &part.format {
        match fragment {
            Fragment::Literal(literal) => text.push_str(literal),
            Fragment::Parameter(parameter) => {
                // What the format names was decoded.
                if let Some(argument) = part.arguments.get(&parameter.index) {
                    write_argument(text, parameter, argument, outer);
                }
            }
        }
    }
}

fn write_argument(
    text: &mut String,
    parameter: &Parameter,
    argument: &Argument<'_>,
    outer: Option<&DisplayHint>,
) {
    let hint = parameter.hint.as_ref().or(outer);
    match argument {
        Argument::Text(value) if hint == Some(&DisplayHint::Debug) && is_text(&parameter.ty) => {
            text.push_str(&format!("{value:?}"));
        }
        Argument::Text(value) => text.push_str(value),
        Argument::Unsigned(value) => match &parameter.ty {
            Type::BitField(bits) => write_unsigned(text, field(*value, bits), hint),
            _ => write_unsigned(text, *value, hint),
        },
        Argument::Signed(value, bits) => write_signed(text, *value, *bits, hint),
        Argument::Bytes(bytes) => write_bytes(text, bytes, hint),
        Argument::Parts(parts, false) => {
            for part in parts {
                write_part(text, part, hint);
            }
        }
        Argument::Parts(parts, true) => write_list(text, parts, |text, part| {
            write_part(text, part, hint);
        }),
    }
}

fn is_text(kind: &Type) -> bool {
    matches!(kind, Type::Str | Type::IStr | Type::Display | Type::Debug)
}

fn field(value: u128, bits: &std::ops::Range<u8>) -> u128 {
    let width = u32::from(bits.end.saturating_sub(bits.start));
    let mask = u128::MAX.checked_shr(128 - width.min(128)).unwrap_or(0);
    value.checked_shr(bits.start.into()).unwrap_or(0) & mask
}

fn write_list<T>(text: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write(text, item);
    }
    text.push(']');
}

fn write_bytes(text: &mut String, bytes: &[u8], hint: Option<&DisplayHint>) {
    match hint {
        Some(DisplayHint::Ascii) => {
            text.push_str("b\"");
            text.push_str(&bytes.escape_ascii().to_string());
            text.push('"');
        }
        _ => write_list(text, bytes, |text, byte| {
            write_unsigned(text, (*byte).into(), hint);
        }),
    }
}

fn write_unsigned(text: &mut String, value: u128, hint: Option<&DisplayHint>) {
    let written = match hint {
        Some(DisplayHint::Seconds(TimePrecision::Micros)) => {
            write!(text, "{}.{:06}", value / 1_000_000, value % 1_000_000)
        }
        Some(DisplayHint::Seconds(TimePrecision::Millis)) => {
            write!(text, "{}.{:03}", value / 1_000, value % 1_000)
        }
        _ => write_in_base(text, value, hint),
    };
    written.expect("a string can always be written to");
}

fn write_signed(text: &mut String, value: i128, bits: u32, hint: Option<&DisplayHint>) {
    let has_base = matches!(
        hint,
        Some(
            DisplayHint::Hexadecimal { .. }
                | DisplayHint::Binary { .. }
                | DisplayHint::Octal { .. }
        )
    );
    let written = match hint {
        _ if has_base => {
            let mask = u128::MAX >> (128 - bits);
            write_in_base(text, value.cast_unsigned() & mask, hint)
        }
        Some(DisplayHint::NoHint { zero_pad }) => {
            write!(text, "{value:0pad$}", pad = (*zero_pad).min(PAD_MAX))
        }
        _ => write!(text, "{value}"),
    };
    written.expect("a string can always be written to");
}

fn write_in_base(
    text: &mut String,
    value: u128,
    hint: Option<&DisplayHint>,
) -> Result<(), std::fmt::Error> {
    let bound = |pad: &usize| (*pad).min(PAD_MAX);
    match hint {
        Some(DisplayHint::NoHint { zero_pad }) => {
            write!(text, "{value:0pad$}", pad = bound(zero_pad))
        }
        Some(DisplayHint::Hexadecimal {
            alternate,
            uppercase,
            zero_pad,
        }) => {
            let pad = bound(zero_pad);
            match (alternate, uppercase) {
                (false, false) => write!(text, "{value:0pad$x}"),
                (false, true) => write!(text, "{value:0pad$X}"),
                (true, false) => write!(text, "{value:#0pad$x}"),
                (true, true) => write!(text, "{value:#0pad$X}"),
            }
        }
        Some(DisplayHint::Binary {
            alternate,
            zero_pad,
        }) => {
            let pad = bound(zero_pad);
            if *alternate {
                write!(text, "{value:#0pad$b}")
            } else {
                write!(text, "{value:0pad$b}")
            }
        }
        Some(DisplayHint::Octal {
            alternate,
            zero_pad,
        }) => {
            let pad = bound(zero_pad);
            if *alternate {
                write!(text, "{value:#0pad$o}")
            } else {
                write!(text, "{value:0pad$o}")
            }
        }
        _ => write!(text, "{value}"),
    }
}

/// A node's text must neither end hark's line nor steer a terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}
