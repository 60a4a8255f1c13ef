//! Registers to requests, and answers to values.

use super::{ALL_TOGETHER, register};
use crate::{Order, Plan, PlanLimits, Register, Table, ValueType};

/// The requests for 16-bit holding registers at these addresses.
fn check(addresses: &[u16], limits: PlanLimits, expected: &[(u16, u16)]) {
    let registers: Vec<Register> = addresses
        .iter()
        .map(|address| register(Table::Holding, *address, ValueType::U16))
        .collect();
    let plan = Plan::new(&registers, limits);
    let blocks: Vec<(u16, u16)> = plan
        .blocks()
        .iter()
        .map(|block| (block.address, block.quantity))
        .collect();
    assert_eq!(blocks, expected, "{addresses:?}");
}

#[test]
fn neighbours_go_into_one_request() {
    check(&[4, 3, 5, 9], ALL_TOGETHER, &[(3, 3), (9, 1)]);
    check(&[3, 3, 4, 3], ALL_TOGETHER, &[(3, 2)]);
    check(&[0xFFFF, 0], ALL_TOGETHER, &[(0, 1), (0xFFFF, 1)]);
    let over_gaps = PlanLimits {
        gap_max: 2,
        ..ALL_TOGETHER
    };
    check(&[0, 3, 7], over_gaps, &[(0, 4), (7, 1)]);
}

#[test]
fn what_is_too_long_for_one_request_is_split() {
    let many: Vec<u16> = (0..130).collect();
    check(&many, ALL_TOGETHER, &[(0, 125), (125, 5)]);
    let alone = PlanLimits {
        gap_max: 0,
        registers_max: 1,
    };
    check(&[0, 1], alone, &[(0, 1), (1, 1)]);
}

#[test]
fn a_value_is_never_parted_nor_a_table_left() {
    let registers = [
        register(Table::Holding, 0, ValueType::U64),
        register(Table::Holding, 4, ValueType::U32),
        register(Table::Input, 6, ValueType::U16),
    ];
    let limits = PlanLimits {
        gap_max: 0,
        registers_max: 1,
    };
    let plan = Plan::new(&registers, limits);
    let quantities: Vec<u16> = plan.blocks().iter().map(|b| b.quantity).collect();
    assert_eq!(quantities, [4, 2, 1]);
}

#[test]
fn overlapping_values_are_read_from_the_same_bytes() {
    let registers = [
        register(Table::Input, 10, ValueType::U32),
        register(Table::Input, 11, ValueType::U16),
    ];
    let plan = Plan::new(&registers, ALL_TOGETHER);
    let mut values = [0.0; 2];
    assert_eq!(plan.blocks().len(), 1);
    plan.fill(0, &[0, 1, 0, 2], &mut values);
    assert_eq!(values, [65_538.0, 2.0]);
}

#[test]
fn values_come_in_the_order_in_which_they_were_wanted() {
    let registers = [
        register(Table::Holding, 7, ValueType::U16),
        register(Table::Coil, 3, ValueType::Bit),
        register(Table::Holding, 6, ValueType::I16),
        register(Table::Coil, 11, ValueType::Bit),
    ];
    let limits = PlanLimits {
        gap_max: 8,
        ..ALL_TOGETHER
    };
    let plan = Plan::new(&registers, limits);
    let mut values = [f32::NAN; 4];
    plan.fill(0, &[0xFF, 0xFE, 0, 9], &mut values);
    plan.fill(1, &[0b0000_0000, 0b0000_0001], &mut values);
    assert_eq!(values, [9.0, 0.0, -2.0, 1.0]);
}

fn check_value(kind: ValueType, order: Order, bytes: &[u8], expected: f32) {
    let register = Register {
        order,
        ..register(Table::Holding, 0, kind)
    };
    let plan = Plan::new(&[register], ALL_TOGETHER);
    let mut values = [0.0];
    plan.fill(0, bytes, &mut values);
    assert_eq!(values[0], expected, "{kind:?} {order:?}");
}

#[test]
fn each_type_is_read_in_each_order() {
    // 123.5 as a float of 32 bits is 0x42F70000, 1.5 of 64 bits 0x3FF8000000000000.
    for (order, bytes) in [
        (Order::Abcd, [0x42, 0xF7, 0x12, 0x34]),
        (Order::Cdab, [0x12, 0x34, 0x42, 0xF7]),
        (Order::Badc, [0xF7, 0x42, 0x34, 0x12]),
        (Order::Dcba, [0x34, 0x12, 0xF7, 0x42]),
    ] {
        check_value(ValueType::F32, order, &bytes, f32::from_bits(0x42F7_1234));
        check_value(ValueType::U32, order, &bytes, 0x42F7_1234_u32 as f32);
    }
    for (order, bytes) in [
        (Order::Abcd, [0x3F, 0xF8, 0, 0, 0, 0, 0, 0]),
        (Order::Cdab, [0, 0, 0, 0, 0, 0, 0x3F, 0xF8]),
        (Order::Badc, [0xF8, 0x3F, 0, 0, 0, 0, 0, 0]),
        (Order::Dcba, [0, 0, 0, 0, 0, 0, 0xF8, 0x3F]),
    ] {
        check_value(ValueType::F64, order, &bytes, 1.5);
        check_value(
            ValueType::U64,
            order,
            &bytes,
            0x3FF8_u64 as f32 * 2_f32.powi(48),
        );
    }
    let abcd = Order::Abcd;
    check_value(ValueType::I16, abcd, &[0xFF, 0x85], -123.0);
    check_value(ValueType::I32, abcd, &[0xFF, 0xFF, 0xFF, 0x85], -123.0);
    check_value(ValueType::I64, abcd, &[0xFF; 8], -1.0);
    check_value(ValueType::U16, abcd, &[0xFF, 0x85], 65_413.0);
}

#[test]
fn a_value_is_scaled_and_then_moved() {
    let register = Register {
        scale: 0.1,
        offset: -40.0,
        ..register(Table::Input, 0, ValueType::U16)
    };
    let plan = Plan::new(&[register], ALL_TOGETHER);
    let mut values = [0.0];
    plan.fill(0, &[2, 88], &mut values);
    assert_eq!(values[0], 20.0);
}

#[test]
fn numbers_of_manuals_are_taken_apart() {
    let check = |number, expected| assert_eq!(Table::of_manual(number), expected, "{number}");
    check(40_001, Some((Table::Holding, 0)));
    check(30_010, Some((Table::Input, 9)));
    check(10_001, Some((Table::Discrete, 0)));
    check(400_001, Some((Table::Holding, 0)));
    check(465_536, Some((Table::Holding, 65_535)));
    check(300_100, Some((Table::Input, 99)));
    check(40_000, None);
    check(9, None);
}
