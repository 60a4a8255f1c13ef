//! Sources of kind `modbus`: what is read, and what can never work.

use hark_modbus::{Order, Table, ValueType};

use super::wrong::{check, check_source};
use super::*;
use crate::{ModbusLink, ModbusReach};

const LINE: &str = "[[sources]]\nname = \"m\"\nkind = \"modbus\"\nport = \"/dev/ttyUSB0\"\n";
const HOST: &str = "[[sources]]\nname = \"m\"\nkind = \"modbus\"\nhost = \"plc:1502\"\n";
/// After four lines it begins in the sixth, under whatever keys stand in the fifth.
const LEVEL: &str = "[[sources.registers]]\nchannel = \"level\"\naddress = 0\n";

fn read(text: &str) -> ModbusLink {
    let mut config = Config::of_text(text).expect(text);
    let Link::Modbus(link) = config.sources.remove(0).link else {
        panic!("a source of units")
    };
    link
}

/// As [`check_source`] with `keys` in the fifth line, and a register after it.
fn check_keys(start: &str, keys: &str, expected: &[&str]) {
    check_source(start, &format!("{keys}\n{LEVEL}"), expected);
}

/// As [`check_keys`] with `keys` of the register, from the eighth line on.
fn check_register(keys: &str, expected: &[&str]) {
    let text = format!("{LINE}[[sources.registers]]\nchannel = \"level\"\n{keys}\n");
    check(&text, expected);
}

#[test]
fn a_register_starts_from_the_defaults_of_all() {
    let link = read(&format!(
        "{LINE}unit = [2, 1]\n{LEVEL}[[sources.registers]]\nchannel = \"flow\"\naddress = 7\n\
         table = \"input\"\ntype = \"f32\"\norder = \"dcba\"\nscale = 0.5\noffset = -1\n"
    ));
    assert_eq!(link.units, [2, 1]);
    assert_eq!(link.poll_ms, None);
    let [level, flow] = &link.registers[..] else {
        panic!("two registers")
    };
    assert_eq!(
        (level.channel.as_str(), flow.channel.as_str()),
        ("level", "flow")
    );
    let (level, flow) = (level.register, flow.register);
    assert_eq!((level.table, level.kind), (Table::Holding, ValueType::U16));
    assert_eq!(
        (level.order, level.scale, level.offset),
        (Order::Abcd, 1.0, 0.0)
    );
    assert_eq!((flow.table, flow.address), (Table::Input, 7));
    assert_eq!((flow.kind, flow.order), (ValueType::F32, Order::Dcba));
    assert_eq!((flow.scale, flow.offset), (0.5, -1.0));
}

#[test]
fn units_are_one_or_a_list_or_ranges() {
    let units = |keys: &str| read(&format!("{HOST}unit = {keys}\n{LEVEL}")).units;
    assert_eq!(units("7"), [7]);
    assert_eq!(units("[3, 1]"), [3, 1]);
    assert_eq!(units("\"1-3, 9\""), [1, 2, 3, 9]);
    let wrong = "gateway.toml:5:8: sources[0].unit: ";
    check_keys(
        LINE,
        "unit = 248",
        &[&format!("{wrong}must be 1 to 247, found 248")],
    );
    check_keys(
        LINE,
        "unit = [1, 1]",
        &[&format!("{wrong}1 is named twice")],
    );
    check_keys(
        LINE,
        "unit = \"1-\"",
        &[&format!(
            "{wrong}must be a whole number, an array of them, or text such as \"1-3,7\", found the \
             string \"1-\""
        )],
    );
}

#[test]
fn a_host_is_taken_apart() {
    let reach = |host: &str, keys: &str| {
        let start = HOST.replace("plc:1502", host);
        read(&format!("{start}{keys}\n{LEVEL}")).reach
    };
    let tcp = |host: &str, port| ModbusReach::Tcp {
        host: host.to_owned(),
        port,
    };
    assert_eq!(reach("plc", ""), tcp("plc", 502));
    assert_eq!(reach("plc", "port = 1502"), tcp("plc", 1502));
    assert_eq!(reach("192.0.2.9:1502", ""), tcp("192.0.2.9", 1502));
    assert_eq!(reach("tcp://plc:1502/", ""), tcp("plc", 1502));
    assert_eq!(reach("[2001:db8::9]:1502", ""), tcp("2001:db8::9", 1502));
    assert_eq!(reach("2001:db8::9", ""), tcp("2001:db8::9", 502));
    let at = "gateway.toml:5:8: sources[0].port: ";
    check_keys(
        HOST,
        "port = 502",
        &[&format!("{at}is 502, but `host` says 1502")],
    );
    let both = "names a serial line beside a `host`: leave out one of them; with a `host` it is a \
                number, as port = 502";
    check_keys(HOST, "port = \"/dev/ttyUSB0\"", &[&format!("{at}{both}")]);
    let start = LINE.replace("port = \"/dev/ttyUSB0\"\n", "\n");
    check_keys(
        &start,
        "",
        &[
            "gateway.toml:1:1: sources[0].port: missing: a source of this kind needs `port`, a serial \
           line such as \"/dev/ttyUSB0\", or `host`, for Modbus TCP",
        ],
    );
    check_keys(
        &start,
        "port = 502",
        &[&format!(
            "{at}is a number, so `host` must say whose; a serial line is port = \"/dev/ttyUSB0\""
        )],
    );
}

#[test]
fn several_units_are_several_sensors() {
    check_keys(
        LINE,
        "unit = [1, 2]\nsensor = \"press\"",
        &[
            "gateway.toml:6:10: sources[0].sensor: 2 units cannot be one sensor: put `{unit}` into the \
           name",
        ],
    );
    check_keys(
        LINE,
        "sensor = \"press-{units}\"",
        &[
            "gateway.toml:5:10: sources[0].sensor: `{units}` is captured by nothing: right is `{unit}`",
        ],
    );
}

#[test]
fn a_register_that_cannot_be_is_refused() {
    let at = |column: usize, key: &str, message: &str| {
        format!("gateway.toml:7:{column}: sources[0].registers[0].{key}: {message}")
    };
    check_register(
        "address = 0, table = 1",
        &["gateway.toml:7:12: unexpected key or value, expected newline, `#`"],
    );
    check_register(
        "table = \"holdings\"\naddress = 0",
        &[&at(
            9,
            "table",
            "must be one of \"holding\", \"input\", \"coil\", \"discrete\", found \"holdings\"",
        )],
    );
    check_register(
        "type = \"float\"\naddress = 0",
        &[&at(
            8,
            "type",
            "must be one of \"u16\", \"i16\", \"u32\", \"i32\", \"u64\", \"i64\", \"f32\", \"f64\", found \"float\"",
        )],
    );
    check_register(
        "type = \"u16\"\ntable = \"coil\"\naddress = 0",
        &[&at(
            8,
            "type",
            "a coil is one bit, 0 or 1: leave `type` out",
        )],
    );
    check_register(
        "order = \"cdab\"\naddress = 0",
        &[&at(
            9,
            "order",
            "a value of 16 bits is one register, which has no order: leave `order` out, or `type` is one of 32 or 64 bits",
        )],
    );
    check_register(
        "order = \"badc\"\ntable = \"discrete\"\naddress = 0",
        &[&at(
            9,
            "order",
            "a single bit has no order: leave `order` out, or `type` is one of 32 or 64 bits",
        )],
    );
    check_register(
        "address = 65535\ntype = \"u32\"",
        &[&at(
            11,
            "address",
            "a value of 2 registers does not fit in from 65535: the last is 65535",
        )],
    );
    check_register(
        "address = 400011",
        &[&at(
            11,
            "address",
            "must be 0 to 65535, found 400011; what a manual calls 400011 is table = \"holding\", address = 10",
        )],
    );
    check_register(
        "scale = 0\naddress = 1",
        &[&at(
            9,
            "scale",
            "must not be 0: it makes all values the same",
        )],
    );
}

#[test]
fn bits_and_overlaps_are_fine() {
    let link = read(&format!(
        "{LINE}{LEVEL}type = \"u32\"\n[[sources.registers]]\nchannel = \"low\"\naddress = 1\n\
         [[sources.registers]]\nchannel = \"on\"\naddress = 1\ntable = \"coil\"\n"
    ));
    let kinds: Vec<ValueType> = link.registers.iter().map(|r| r.register.kind).collect();
    assert_eq!(kinds, [ValueType::U32, ValueType::U16, ValueType::Bit]);
    assert_eq!(link.plan().blocks().len(), 2);
}

#[test]
fn a_channel_is_in_one_place() {
    check_keys(
        LINE,
        LEVEL,
        &[
            "gateway.toml:10:11: sources[0].registers[1].channel: \"level\" is taken already, at \
           gateway.toml:6:11",
        ],
    );
}

#[test]
fn a_period_that_the_line_cannot_keep_is_refused() {
    let units = "unit = \"1-32\"\npoll_ms = 300\nbaud = 9600";
    // 32 times 8 + 5 + 2 characters and 7 of silence, 10 bits each.
    check_keys(
        LINE,
        units,
        &[
            "gateway.toml:6:11: sources[0].poll_ms: must be at least 734, found 300: so long 9600 baud \
           take for the requests and answers of 32 units, without the units' own time",
        ],
    );
    assert_eq!(read(&format!("{HOST}{units}\n{LEVEL}")).poll_ms, Some(300));
    assert_eq!(
        read(&format!("{LINE}poll_ms = 24\n{LEVEL}")).poll_ms,
        Some(24)
    );
}

#[test]
fn a_line_is_shared_by_those_that_set_it_alike() {
    let second = LINE.replace("\"m\"", "\"n\"") + "unit = 2\n";
    let both = |keys: &str| format!("{LINE}{LEVEL}{second}{keys}\n{LEVEL}");
    let config = Config::of_text(&both("")).unwrap();
    assert_eq!(config.sources.len(), 2);
    check(
        &both("parity = \"even\""),
        &[
            "gateway.toml:11:8: sources[1].port: \"/dev/ttyUSB0\" is set otherwise at gateway.toml:4:8: \
           `baud` and the like belong to the line",
        ],
    );
    check(
        &format!(
            "{LINE}{LEVEL}[[sources]]\nname = \"s\"\nkind = \"serial\"\nport = \"/dev/ttyUSB0\"\n"
        ),
        &[
            "gateway.toml:11:8: sources[1].port: \"/dev/ttyUSB0\" is taken already, at gateway.toml:4:8",
        ],
    );
}

#[test]
fn what_is_slowly_polled_is_silent_later() {
    let silent = |keys: &str| {
        let config = Config::of_text(&format!("{LINE}{keys}\n{LEVEL}")).unwrap();
        config.sources[0].alerts.silent_after_ms
    };
    assert_eq!(silent(""), None, "as the schema has it");
    assert_eq!(silent("poll_ms = 60000"), Some(600_000));
    assert_eq!(silent("poll_ms = 100"), Some(5_000));
    assert_eq!(silent("poll_ms = 60000\nsilent_after_ms = 7"), Some(7));
}
