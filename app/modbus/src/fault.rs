//! What may go wrong with a poll, and what an operator can do about it.

use crate::frame::Request;
use crate::register::Table;
use std::time::Duration;

/// Why a poll brought no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing came in time.
    Timeout,
    /// What came does not add up: a wrong check sum, or a piece of a frame.
    Crc,
    /// A frame that is sound and no answer to what was asked.
    Malformed,
    /// The unit refuses, with this code.
    Exception(u8),
}

impl Fault {
    /// In counters and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Crc => "crc",
            Self::Malformed => "malformed",
            Self::Exception(1) => "exception_1",
            Self::Exception(2) => "exception_2",
            Self::Exception(3) => "exception_3",
            Self::Exception(4) => "exception_4",
            Self::Exception(5) => "exception_5",
            Self::Exception(6) => "exception_6",
            Self::Exception(8) => "exception_8",
            Self::Exception(10) => "exception_10",
            Self::Exception(11) => "exception_11",
            Self::Exception(_) => "exception_other",
        }
    }

    /// Whether nobody was there: what a gateway says of a unit that does not
    /// answer it is the same as silence.
    pub(crate) fn is_silence(self) -> bool {
        matches!(self, Self::Timeout | Self::Exception(10 | 11))
    }

    /// What it means for `request`, and what to write. `patience` is how long an
    /// answer was waited for.
    pub(crate) fn explain(self, request: &Request, patience: Duration, is_serial: bool) -> String {
        let Request {
            unit,
            table,
            address,
            quantity,
        } = *request;
        let last = u32::from(address) + u32::from(quantity) - 1;
        let table_name = table.name();
        let what = if quantity == 1 {
            format!("{table_name} {address}")
        } else {
            format!("{table_name} {address} to {last}")
        };
        match self {
            Self::Timeout => {
                let hint = if is_serial {
                    "is it there and powered, are `unit`, `baud` and `parity` (many have \"even\") as \
                     it is set, and A and B not crossed?"
                } else {
                    "does `unit` exist behind this host?"
                };
                let ms = patience.as_millis();
                format!(
                    "unit {unit} does not answer within {ms} ms: {hint} One that is slow needs a \
                     longer `response_timeout_ms`"
                )
            }
            Self::Crc => format!(
                "what unit {unit} answers is garbled (CRC): `baud` and `parity` may differ from the \
                 unit's, two units may have one address, or the line lacks termination"
            ),
            Self::Malformed => format!(
                "unit {unit} answers something else than {what}: it may have another number of \
                 registers than was asked for, or the host may not speak Modbus TCP"
            ),
            Self::Exception(code) => {
                let meaning = explain_exception(code, table, address, quantity);
                format!("unit {unit} refuses {what} with exception {code}, {meaning}")
            }
        }
    }
}

/// Modbus Application Protocol V1.1b3, section 7.
fn explain_exception(code: u8, table: Table, address: u16, quantity: u16) -> String {
    match code {
        1 => {
            let other = match table {
                Table::Holding => "table = \"input\"",
                Table::Input => "table = \"holding\"",
                Table::Coil => "table = \"discrete\"",
                Table::Discrete => "table = \"coil\"",
            };
            format!("illegal function: it has no such table; try {other}")
        }
        2 => format!(
            "illegal data address: {}",
            explain_address(table, address, quantity)
        ),
        3 => format!(
            "illegal data value: it may not give {quantity} at a time; a smaller `registers_max` \
             asks for fewer"
        ),
        4 => "device failure: the unit itself reports a fault".to_owned(),
        5 | 6 => "busy: it is asked again in the next period".to_owned(),
        10 | 11 => {
            "the gateway does not reach the unit: is `unit` right, and is it powered?".to_owned()
        }
        _ => "which no standard knows: see the unit's manual".to_owned(),
    }
}

fn explain_address(table: Table, address: u16, quantity: u16) -> String {
    // What a manual calls 40001 is the first, and is asked for as 0.
    if let Some((meant, from_0)) = Table::of_manual(address.into()).filter(|(t, _)| *t == table) {
        let name = meant.name();
        return format!(
            "addresses are counted from 0, so what a manual calls {address} is written as \
             table = \"{name}\", address = {from_0}"
        );
    }
    let mut hints = Vec::new();
    if let Some(before) = address.checked_sub(1) {
        hints.push(format!(
            "if the manual counts from 1, the first is address = {before}"
        ));
    }
    if quantity > 1 {
        hints.push(
            "if it has a hole in there, or parts its registers, `gap_max = 0` or a smaller \
             `registers_max` asks for fewer together"
                .to_owned(),
        );
    }
    if hints.is_empty() {
        let other = match table {
            Table::Holding => "input",
            Table::Input => "holding",
            Table::Coil => "discrete",
            Table::Discrete => "coil",
        };
        hints.push(format!(
            "it has no such place; perhaps in table = \"{other}\""
        ));
    }
    hints.join("; ")
}
