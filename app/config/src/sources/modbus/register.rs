//! `[[sources.registers]]`: where a unit keeps a channel.

use hark_modbus::{Order, Register, Table as Place, ValueType};

use crate::section::Section;
use crate::settings::not_empty;
use crate::tree::{self, Entry, Table, Value};

/// What a scale or an offset is of at most.
const FACTOR_MAX: f64 = 1e18;

/// Where a channel is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusRegister {
    /// The channel of the model's schema.
    pub channel: String,
    /// Its place in each unit.
    pub register: Register,
}

/// Lays what each register starts from under each register of a source.
pub(crate) fn apply_register_defaults(source: &mut Table) {
    let Some(Entry {
        value: Value::Table(defaults),
        ..
    }) = source.remove("register")
    else {
        return;
    };
    let Some(Entry {
        value: Value::Array(registers),
        ..
    }) = source.get_mut("registers")
    else {
        return;
    };
    for entry in registers {
        if let Value::Table(own) = &mut entry.value {
            let own_keys = std::mem::take(own);
            *own = defaults.clone();
            tree::merge(own, own_keys.clone());
            // What a place cannot have is not put under it: there it would be wrong.
            let word = |key: &str| match own.get(key).map(|entry| &entry.value) {
                Some(Value::Text(word)) => word.clone(),
                _ => String::new(),
            };
            let is_bits = matches!(word("table").as_str(), "coil" | "discrete");
            let is_short = matches!(word("type").as_str(), "i16" | "u16");
            let unfit = [("type", is_bits), ("order", is_bits || is_short)];
            for (key, is_unfit) in unfit {
                if is_unfit && !own_keys.contains_key(key) {
                    own.remove(key);
                }
            }
        }
    }
}

pub(super) fn read_register(section: &mut Section<'_, '_>) -> ModbusRegister {
    let tables = [
        ("holding", Place::Holding),
        ("input", Place::Input),
        ("coil", Place::Coil),
        ("discrete", Place::Discrete),
    ];
    let channel = section.parsed("channel", not_empty).unwrap_or_default();
    let table = section.word("table", &tables);
    let kind = read_type(section, table);
    let order = read_order(section, table, kind);
    let address = read_address(section, kind);
    let scale = section.float("scale", -FACTOR_MAX..=FACTOR_MAX);
    if scale == 0.0 && section.is_sound(&["scale"]) {
        section.wrong("scale", "must not be 0: it makes all values the same");
    }
    ModbusRegister {
        channel,
        register: Register {
            table,
            address,
            kind,
            order,
            scale,
            offset: section.float("offset", -FACTOR_MAX..=FACTOR_MAX),
        },
    }
}

fn read_type(section: &mut Section<'_, '_>, table: Place) -> ValueType {
    let types = [
        ("u16", ValueType::U16),
        ("i16", ValueType::I16),
        ("u32", ValueType::U32),
        ("i32", ValueType::I32),
        ("u64", ValueType::U64),
        ("i64", ValueType::I64),
        ("f32", ValueType::F32),
        ("f64", ValueType::F64),
    ];
    if !table.is_bits() || section.is_partial() {
        return section.word("type", &types);
    }
    if section.is_text("type").is_some() {
        let name = table.name();
        let message = format!("a {name} is one bit, 0 or 1: leave `type` out");
        section.wrong("type", message);
    }
    section.text_or_absent("type");
    ValueType::Bit
}

fn read_order(section: &mut Section<'_, '_>, table: Place, kind: ValueType) -> Order {
    let orders = [
        ("abcd", Order::Abcd),
        ("cdab", Order::Cdab),
        ("badc", Order::Badc),
        ("dcba", Order::Dcba),
    ];
    if kind.places() > 1 || section.is_partial() {
        return section.word("order", &orders);
    }
    if section.is_text("order").is_none() {
        section.text_or_absent("order");
        return Order::Abcd;
    }
    let order = section.word("order", &orders);
    if order != Order::Abcd && section.is_sound(&["order"]) {
        let what = if table.is_bits() {
            "a single bit has no order"
        } else {
            "a value of 16 bits is one register, which has no order"
        };
        let message = format!("{what}: leave `order` out, or `type` is one of 32 or 64 bits");
        section.wrong("order", message);
    }
    order
}

fn read_address(section: &mut Section<'_, '_>, kind: ValueType) -> u16 {
    // Beyond the right ones, for what manuals write with six digits.
    let number = section.integer("address", 0..=999_999_u32);
    let last = number + u32::from(kind.places()) - 1;
    match u16::try_from(number) {
        Ok(address) if last <= u16::MAX.into() => return address,
        _ if !section.is_sound(&["address"]) => {}
        Ok(address) => {
            let places = kind.places();
            section.wrong(
                "address",
                format!("a value of {places} registers does not fit in from {address}: the last is 65535"),
            );
        }
        Err(_) => {
            let hint = match Place::of_manual(number) {
                Some((table, address)) => {
                    let name = table.name();
                    format!(
                        "; what a manual calls {number} is table = \"{name}\", address = {address}"
                    )
                }
                None => String::new(),
            };
            section.wrong(
                "address",
                format!("must be 0 to 65535, found {number}{hint}"),
            );
        }
    }
    0
}
