//! What is wrong between keys, tables, files and variables is said with its place, all at once.

use super::{
    wrong::{FILE, SERIAL, TOPICS, check, check_files, check_source},
    *,
};

#[test]
fn names_are_unique_and_references_lead_somewhere() {
    check(
        &format!("{SERIAL}{SERIAL}"),
        &[
            "gateway.toml:6:8: sources[1].name: \"line-1\" is taken already, at gateway.toml:2:8",
            "gateway.toml:8:8: sources[1].port: \"/dev/ttyUSB0\" is taken already, at gateway.toml:4:8",
        ],
    );
    let two_models = "[[models]]\nname = 'a'\npath = 'x'\n[[models]]\nname = 'a'\npath = 'y'\n";
    check(
        two_models,
        &["gateway.toml:5:8: models[1].name: \"a\" is taken already, at gateway.toml:2:8"],
    );
    check_source(
        FILE,
        "model = 'pump-rigg'",
        &[
            "gateway.toml:5:9: sources[0].model: no [[models]] is named \"pump-rigg\"; did you mean `pump-rig`?",
        ],
    );
}

#[test]
fn topics_and_templates_fit_together() {
    check_source(
        TOPICS,
        "topics = ['a/{sensor}', 'b/{sensr}']",
        &[
            "gateway.toml:4:25: sources[0].topics[1]: `{sensor}` of the key `sensor` is captured by no level of \"b/{sensr}\"; did you mean `sensr`?",
        ],
    );
    check_source(
        TOPICS,
        "topics = ['a/{line}/{node}', 'b/{line}/+']\nsensor = '{line}-{nod}'",
        &[
            "gateway.toml:5:10: sources[0].sensor: `{nod}` of the key `sensor` is captured by no level of \"a/{line}/{node}\"; did you mean `node`?",
        ],
    );
    check_source(
        SERIAL,
        "sensor = '{node}'",
        &[
            "gateway.toml:5:10: sources[0].sensor: `{node}` is captured by nothing: this source has no topics",
        ],
    );
    let topics = |topics: &str, column: usize, message: &str| {
        let expected = format!("gateway.toml:4:{column}: sources[0].topics{message}");
        check_source(TOPICS, &format!("topics = [{topics}]"), &[&expected]);
    };
    topics("'#/{sensor}'", 11, "[0]: `#` must be the last level");
    topics(
        "'{sensor}', 'a/b{sensor}'",
        23,
        "[1]: level \"b{sensor}\": `+`, `#` and `{name}` each take a whole level",
    );
    topics("'{a}/{a}'", 11, "[0]: `{a}` stands for two levels");
    topics(
        "'{a b}'",
        11,
        "[0]: `{a b}`: a name in braces is letters, digits, `_` and `-`",
    );
    topics("''", 11, "[0]: must be 1 to 65535 bytes long");
    check_source(
        FILE,
        "sensor = 'a/b'",
        &[
            "gateway.toml:5:10: sources[0].sensor: becomes a level of an MQTT topic, so it must not hold '/'",
        ],
    );
    check_source(
        TOPICS,
        "topics = ['{a}']\nsensor = '{a'",
        &["gateway.toml:5:10: sources[0].sensor: a brace has no counterpart"],
    );
}

#[test]
fn keys_that_exclude_each_other_are_refused() {
    check(
        "device.name = 'hall 3/gw'",
        &[
            "gateway.toml:1:15: device.name: becomes a level of an MQTT topic, so it must not hold '/'",
        ],
    );
    check(
        "mqtt.root = 'hark/#'",
        &[
            "gateway.toml:1:13: mqtt.root: must be topic levels with `/` between them, no `+` or `#`",
        ],
    );
    check(
        "mqtt.password_file = 'secret'",
        &["gateway.toml:1:22: mqtt.password_file: a password needs a `username` beside it"],
    );
    check(
        "broker.password_file = 'secret'",
        &["gateway.toml:1:24: broker.password_file: a password needs a `username` beside it"],
    );
    check(
        "broker.username = 'me'",
        &["gateway.toml:1:19: broker.username: a user needs a `password_file` beside it"],
    );
    check(
        "broker.listen = 'localhost'",
        &[
            "gateway.toml:1:17: broker.listen: must be an IP address and a port, such as \"127.0.0.1:1883\", found \"localhost\"",
        ],
    );
    check_source(
        SERIAL,
        "reconnect_ms_max = 50",
        &[
            "gateway.toml:5:20: sources[0].reconnect_ms_max: must be at least `reconnect_ms_min`, 100",
        ],
    );
    check_source(
        FILE,
        "mapping.timestamp = ['Date', 'Time', 'Zone']",
        &[
            "gateway.toml:5:21: sources[0].mapping.timestamp: must be one field, or two: of the date and of the time of day",
        ],
    );
    check_source(
        FILE,
        "mapping.sequence_modulo = 1",
        &[
            "gateway.toml:5:27: sources[0].mapping.sequence_modulo: must be 0, to be found out, or at least 2",
        ],
    );
    check_source(
        FILE,
        "mapping.channels = { a = { feild = 'x' } }",
        &[
            "gateway.toml:5:28: sources[0].mapping.channels.a.feild: unknown key `feild` in [sources[0].mapping.channels.a]; did you mean `field`?",
        ],
    );
    check_source(
        SERIAL.replace("/dev/ttyUSB0", "").as_str(),
        "",
        &["gateway.toml:4:8: sources[0].port: must not be empty"],
    );
}

#[test]
fn a_wrong_default_is_reported_once_where_it_is() {
    check(
        &format!(
            "[defaults.serial]\nbaud = 1\nbuad = 1\n{SERIAL}{}",
            SERIAL.replace("line-1", "line-2").replace("USB0", "USB1")
        ),
        &[
            "gateway.toml:2:8: defaults.serial.baud: must be 50 to 4000000, found 1",
            "gateway.toml:3:1: defaults.serial.buad: unknown key `buad` in [defaults.serial]; did you mean `baud`?",
        ],
    );
    check(
        "[defaults.file]\nname = 'x'\n",
        &[
            "gateway.toml:2:1: defaults.file.name: unknown key `name` in [defaults.file]; known: model, clock, priority, readings_per_second_max, payload_bytes_max, silent_after_ms, link_down_ms, range_alerts, mapping, hold_ms, path, speed, period_ms, repeat, sensor, format",
        ],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    check(
        "mqtt.port = 0\ndevice.nam = 'x'\n[[sources]]\nname = 'a'\nkind = 'serial'\nport = 3\n\
         baud = 'x'\nreconnect_ms_min = 5\nsensor = '{x}'\nmodel = 'none'\n",
        &[
            "gateway.toml:1:13: mqtt.port: must be 1 to 65535, found 0",
            "gateway.toml:2:8: device.nam: unknown key `nam` in [device]; did you mean `name`?",
            "gateway.toml:6:8: sources[0].port: must be a string, found the integer 3",
            "gateway.toml:7:8: sources[0].baud: must be a whole number, 50 to 4000000, found the string \"x\"",
            "gateway.toml:8:20: sources[0].reconnect_ms_min: must be 10 to 600000, found 5",
            "gateway.toml:9:10: sources[0].sensor: `{x}` is captured by nothing: this source has no topics",
            "gateway.toml:10:9: sources[0].model: no [[models]] is named \"none\"; known: pump-rig",
        ],
    );
}

#[test]
fn chains_that_lead_nowhere_are_refused() {
    check(
        "inherit = 'none.toml'",
        &[
            "gateway.toml:1:11: inherit: cannot open none.toml: No such file or directory (os error 2); \
             without a file there is base.toml or one of beaglebone-black.toml, imx8mp-evk.toml, \
             jetson-orin-nano.toml, qemu-virt.toml, raspberry-pi-4.toml, raspberry-pi-5.toml, rock-5b.toml",
        ],
    );
    check(
        "inherit = 3",
        &["gateway.toml:1:11: inherit: must be a string: the path of a file"],
    );
    check_files(
        &[
            ("a.toml", "mqtt.port = 1\ninherit = 'b.toml'"),
            ("b.toml", "inherit = './a.toml'"),
        ],
        &["b.toml:1:11: inherit: ./a.toml inherits from itself"],
    );
    let chain: Vec<(String, String)> = (0..9)
        .map(|i| (format!("{i}.toml"), format!("inherit = '{}.toml'", i + 1)))
        .collect();
    let chain: Vec<(&str, &str)> = chain
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    check_files(
        &chain,
        &["7.toml:1:11: inherit: more than 8 files inherit from one another"],
    );
    check_files(
        &[
            ("a.toml", "inherit = 'b.toml'"),
            ("b.toml", "[mqtt]\n\nport = 0"),
        ],
        &["b.toml:3:8: mqtt.port: must be 1 to 65535, found 0"],
    );
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let large = "#".repeat(256 * 1024 + 1);
    check(
        &large,
        &["gateway.toml: gateway.toml is larger than 262144 bytes"],
    );
    let folder = folder_of(&[]);
    fs::write(folder.path().join("x"), [b'a', 0xff]).unwrap();
    let errors = Config::load(Some(&folder.path().join("x")), variables(&[])).unwrap_err();
    assert!(
        errors.to_string().ends_with("x is not UTF-8 text"),
        "{errors}"
    );
    let errors = Config::load(Some(folder.path()), variables(&[])).unwrap_err();
    assert!(errors.to_string().contains("cannot open"), "{errors}");
}

#[test]
fn errors_serialise_as_an_array() {
    let errors = Config::of_text("mqtt.prot = 1").unwrap_err();
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(json[0]["file"], "(text)");
    assert_eq!(
        (&json[0]["line"], &json[0]["column"]),
        (&1.into(), &6.into())
    );
    assert_eq!(json[0]["key"], "mqtt.prot");
    assert!(
        json[0]["expected"]
            .as_array()
            .unwrap()
            .contains(&"port".into())
    );
}
fn check_variable(name: &str, value: &str, expected: &str) {
    let errors = load_with(&[(name, value)]).expect_err(name);
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn overrides_from_the_environment_are_checked_alike() {
    check_variable(
        "HARK_MQTT__PROT",
        "1884",
        "HARK_MQTT__PROT: mqtt.prot: unknown key `prot` in [mqtt]; did you mean `port`?",
    );
    check_variable(
        "HARK_MQTTT__PORT",
        "1884",
        "HARK_MQTTT__PORT: mqttt: unknown key `mqttt` in the configuration; did you mean `mqtt`?",
    );
    check_variable(
        "HARK_MQTT__PORT",
        "no",
        "HARK_MQTT__PORT: mqtt.port: must be a whole number, 1 to 65535, found the string \"no\"",
    );
    check_variable(
        "HARK_MQTT_PORT",
        "1884",
        "HARK_MQTT_PORT: mqtt_port: two underscores go between section and key; did you mean `HARK_MQTT__PORT`?",
    );
    check_variable(
        "HARK_SOURCES__1__QOS",
        "1",
        "HARK_SOURCES__1__QOS: sources.1.qos: `sources` has 1 elements, counted from 0; `1` is none",
    );
    check_variable(
        "HARK_MQTT__PORT__X",
        "1",
        "HARK_MQTT__PORT__X: mqtt.port.x: `port` is a value, not a section",
    );
    check_variable(
        "HARK_MQTT__",
        "1",
        "HARK_MQTT__: mqtt.: must be HARK_<SECTION>__<KEY>",
    );
}

#[test]
fn budgets_that_leave_nothing_for_inference_say_what_would() {
    check(
        "[budget]\nverdict_ms = 25\noutput_ms = 25\n",
        &[
            "gateway.toml:3:13: budget.output_ms: must be below 25: the budgets leave nothing of device.deadline_ms = 50 for inference",
        ],
    );
    check(
        "device.deadline_ms = 10\nbudget.output_ms = 9.999\n",
        &[
            "gateway.toml:2:20: budget.output_ms: must be below 9.999: the budgets leave nothing of device.deadline_ms = 10 for inference",
        ],
    );
}

#[test]
fn a_broker_beyond_the_loopback_needs_a_login() {
    for listen in ["0.0.0.0:1883", "192.0.2.7:1883", "[::]:1883"] {
        let open = format!("broker.listen = '{listen}'\nbroker.embedded = true");
        let expected = format!(
            "gateway.toml:1:17: broker.listen: whoever reaches {listen} could read and publish \
             everything: set `username` and `password_file` beside it, or listen on 127.0.0.1"
        );
        check(&open, &[&expected]);
        let login = "\nbroker.username = 'me'\nbroker.password_file = 'secret'";
        Config::of_text(&format!("{open}{login}")).unwrap();
    }
    for listen in ["127.0.0.1:1883", "127.0.0.2:1", "[::1]:1883"] {
        let closed = format!("broker.listen = '{listen}'\nbroker.embedded = true");
        Config::of_text(&closed).unwrap();
    }
    // One that is not there lets nobody in.
    Config::of_text("broker.listen = '0.0.0.0:1883'").unwrap();
}
