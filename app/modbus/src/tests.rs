//! A line with units on it, in the hands of the test: bytes and time.

mod frames;
mod plans;
mod polls;

use crate::{Order, PlanLimits, Register, Table, ValueType};

/// An unsigned 16-bit register, as it stands.
fn register(table: Table, address: u16, kind: ValueType) -> Register {
    Register {
        table,
        address,
        kind,
        order: Order::Abcd,
        scale: 1.0,
        offset: 0.0,
    }
}

const ALL_TOGETHER: PlanLimits = PlanLimits {
    gap_max: 0,
    registers_max: 125,
};

/// `body` with its check sum.
fn rtu(body: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(body);
    [body, &crc.to_le_bytes()].concat()
}
