//! What is wrong with a single key is said with its place.

use super::*;

/// Loads `text` as `gateway.toml`, and compares each error as the operator reads it.
pub(super) fn check(text: &str, expected: &[&str]) {
    check_files(&[("gateway.toml", text)], expected);
}

/// As [`check`], for the first of `files`; a `~` stands for their folder in what is expected.
pub(super) fn check_files(files: &[(&str, &str)], expected: &[&str]) {
    let folder = folder_of(files);
    let loaded = Config::load(Some(&folder.path().join(files[0].0)), variables(&[]));
    let prefix = format!("{}/", folder.path().display());
    let errors = loaded
        .expect_err(files[0].1)
        .to_string()
        .replace(&prefix, "");
    assert_eq!(
        errors.lines().collect::<Vec<_>>(),
        expected,
        "{}",
        files[0].1
    );
}

pub(super) const SERIAL: &str =
    "[[sources]]\nname = \"line-1\"\nkind = \"serial\"\nport = \"/dev/ttyUSB0\"\n";
pub(super) const TOPICS: &str = "[[sources]]\nname = \"plant\"\nkind = \"mqtt\"\n";
pub(super) const FILE: &str = "[[sources]]\nname = \"old\"\nkind = \"file\"\npath = \"old.csv\"\n";

/// As [`check`], with `keys` below the four or three lines that begin a source.
pub(super) fn check_source(start: &str, keys: &str, expected: &[&str]) {
    check(&format!("{start}{keys}\n"), expected);
}

#[test]
fn unknown_keys_name_the_nearest() {
    check(
        "[mqtt]\n  prot = 1884\n",
        &["gateway.toml:2:3: mqtt.prot: unknown key `prot` in [mqtt]; did you mean `port`?"],
    );
    check(
        "[devise]\nname = 'x'\n",
        &[
            "gateway.toml:1:2: devise: unknown key `devise` in the configuration; did you mean `device`?",
        ],
    );
    check(
        "[output]\nred = 1\n",
        &[
            "gateway.toml:2:1: output.red: unknown key `red` in [output]; known: alerts_stdout, verdict_causes",
        ],
    );
    check_source(
        SERIAL,
        "bauds = 9600",
        &[
            "gateway.toml:5:1: sources[0].bauds: unknown key `bauds` in [[sources]] \"line-1\"; did you mean `baud`?",
        ],
    );
    check_source(
        SERIAL,
        "mapping.delimitr = ';'",
        &[
            "gateway.toml:5:9: sources[0].mapping.delimitr: unknown key `delimitr` in [sources[0].mapping]; did you mean `delimiter`?",
        ],
    );
    check(
        "[[models]]\nname = 'm'\npath = 'p'\nversion = 1\n",
        &[
            "gateway.toml:4:1: models[0].version: unknown key `version` in [[models]] \"m\"; known: path, previous, name, cache",
        ],
    );
}

#[test]
fn values_of_the_wrong_type_say_which_is_right() {
    check(
        "mqtt.port = \"1883\"",
        &[
            "gateway.toml:1:13: mqtt.port: must be a whole number, 1 to 65535, found the string \"1883\"",
        ],
    );
    check(
        "mqtt.enabled = 1",
        &["gateway.toml:1:16: mqtt.enabled: must be true or false, found the integer 1"],
    );
    check(
        "mqtt.protocol = 5",
        &["gateway.toml:1:17: mqtt.protocol: must be one of \"5\", \"3.1.1\", found the integer 5"],
    );
    check(
        "device.deadline_ms = 2026-01-01",
        &[
            "gateway.toml:1:22: device.deadline_ms: must be a number, 0.1 to 60000, found the time 2026-01-01",
        ],
    );
    check(
        "mqtt = 1",
        &["gateway.toml:1:8: mqtt: must be a table, found the integer 1"],
    );
    check(
        "sources = 'a'",
        &[
            "gateway.toml:1:11: sources: must be tables, each headed [[sources]], found the string \"a\"",
        ],
    );
    check(
        "sources = [1.5]",
        &["gateway.toml:1:12: sources[0]: must be a table, found the float 1.5"],
    );
    check_source(
        TOPICS,
        "topics = ['{sensor}', 7]",
        &["gateway.toml:4:23: sources[0].topics[1]: must be a string, found the integer 7"],
    );
    check_source(
        SERIAL,
        "mapping.channels = { a = true }",
        &[
            "gateway.toml:5:26: sources[0].mapping.channels.a: must be a string or a table, found the boolean true",
        ],
    );
}

#[test]
fn values_out_of_range_say_the_range() {
    check(
        "mqtt.port = 0",
        &["gateway.toml:1:13: mqtt.port: must be 1 to 65535, found 0"],
    );
    check(
        "mqtt.port = 65536",
        &["gateway.toml:1:13: mqtt.port: must be 1 to 65535, found 65536"],
    );
    check(
        "device.deadline_ms = 0.05",
        &["gateway.toml:1:22: device.deadline_ms: must be 0.1 to 60000, found 0.05"],
    );
    check(
        "device.deadline_ms = nan",
        &["gateway.toml:1:22: device.deadline_ms: must be 0.1 to 60000, found NaN"],
    );
    check_source(
        SERIAL,
        "baud = -9600",
        &["gateway.toml:5:8: sources[0].baud: must be 50 to 4000000, found -9600"],
    );
    check_source(
        FILE,
        "payload_bytes_max = 65537",
        &["gateway.toml:5:21: sources[0].payload_bytes_max: must be 16 to 65536, found 65537"],
    );
    check(
        "mqtt.port = 99999999999999999999",
        &["gateway.toml:1:13: the number does not fit into 64 bits"],
    );
}

#[test]
fn the_boards_keys_are_checked_together() {
    check(
        "[gpio]\nalarm_line = 5\n",
        &[
            "gateway.toml:2:14: gpio.alarm_line: a line needs its `chip`, such as \"/dev/gpiochip0\"",
        ],
    );
    check(
        "[gpio]\nchip = 'x'\nalarm_line = 5\nheartbeat_line = 5\n",
        &["gateway.toml:4:18: gpio.heartbeat_line: the line is `alarm_line` already"],
    );
    check(
        "[gpio]\nchip = 'x'\nalarm_line = -2\nheartbeat_line = 1024\n",
        &[
            "gateway.toml:3:14: gpio.alarm_line: must be -1 to 1023, found -2",
            "gateway.toml:4:18: gpio.heartbeat_line: must be -1 to 1023, found 1024",
        ],
    );
    check(
        "[watchdog]\ntimeout_s = 4\nstall_s = 601\n",
        &[
            "gateway.toml:2:13: watchdog.timeout_s: must be 10 to 3600, found 4",
            "gateway.toml:3:11: watchdog.stall_s: must be 3 to 600, found 601",
        ],
    );
    check(
        "[watchdog]\ntimeout_s = 10\nstall_s = 10\n",
        &[
            "gateway.toml:3:11: watchdog.stall_s: must be below `timeout_s`, 10: a stall that the board does not survive cannot be reported",
        ],
    );
    check_source(
        SERIAL,
        "rs485_delay_after_ms = 101",
        &["gateway.toml:5:24: sources[0].rs485_delay_after_ms: must be 0 to 100, found 101"],
    );
}

#[test]
fn unknown_words_list_the_right_ones() {
    check_source(
        SERIAL,
        "parity = 'evn'",
        &[
            "gateway.toml:5:10: sources[0].parity: must be one of \"none\", \"even\", \"odd\", found \"evn\"",
        ],
    );
    check_source(
        FILE,
        "format = 'cbor'",
        &["gateway.toml:5:10: sources[0].format: must be one of \"csv\", \"json\", found \"cbor\""],
    );
    check_source(
        FILE,
        "mapping.delimiter = '&'",
        &[
            "gateway.toml:5:21: sources[0].mapping.delimiter: must be one of \"auto\", \",\", \";\", \"\\t\", \"|\", found \"&\"",
        ],
    );
    check(
        "[[sources]]\nname = 'x'\nkind = 'canbus'\nunit = 1\n",
        &[
            "gateway.toml:3:8: sources[0].kind: must be one of \"serial\", \"mqtt\", \"file\", \"modbus\", found \"canbus\"",
        ],
    );
}

#[test]
fn required_keys_are_asked_for_at_their_heading() {
    check(
        "\n[[sources]]\nkind = 'file'\n",
        &[
            "gateway.toml:2:1: sources[0].name: missing: sources[0] needs `name`",
            "gateway.toml:2:1: sources[0].path: missing: sources[0] needs `path`",
        ],
    );
    check(
        "[[sources]]\nname = 'x'\n",
        &["gateway.toml:1:1: sources[0].kind: missing: [[sources]] \"x\" needs `kind`"],
    );
    check(
        TOPICS,
        &["gateway.toml:1:1: sources[0].topics: missing: [[sources]] \"plant\" needs `topics`"],
    );
    check(
        "[[models]]\nname = 'm'\n",
        &["gateway.toml:1:1: models[0].path: missing: [[models]] \"m\" needs `path`"],
    );
    check(
        "models = []",
        &["gateway.toml:1:10: models: must name at least one model"],
    );
    check_source(
        TOPICS,
        "topics = []",
        &[
            "gateway.toml:4:10: sources[0].topics: must name at least one topic, such as \"sensors/{sensor}\"",
        ],
    );
}

#[test]
fn syntax_errors_have_a_line() {
    check(
        "[mqtt]\nhost = broker\nport = \n",
        &[
            "gateway.toml:2:8: string values must be quoted, expected literal string",
            "gateway.toml:3:8: string values must be quoted, expected literal string",
        ],
    );
    check("a = 1\na = 2\n", &["gateway.toml:2:1: duplicate key"]);
}
