//! What a configuration becomes: defaults, inheritance, environment, printing.

use std::ffi::OsString;
use std::{fs, path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::*;

mod modbus;
mod wrong;
mod wrong_together;

/// Writes `files` into a new folder.
fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    let owned: Vec<_> = pairs.iter().map(|(k, v)| (k.into(), v.into())).collect();
    owned.into_iter()
}

fn load_with(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(None, variables(pairs))
}

#[test]
fn the_defaults_alone_are_a_configuration() {
    let config = load_with(&[]).unwrap();
    assert_eq!(config.device.deadline_ms, 50.0);
    assert_eq!(config.mqtt.root, "hark/v1");
    assert_eq!(
        config.models[0].bundle,
        BundlePath::Builtin("pump-rig".into())
    );
    let [source] = &config.sources[..] else {
        panic!("one source, found {:?}", config.sources)
    };
    assert_eq!(source.model, "pump-rig");
    assert_eq!(source.format, Format::Payload(hark_codec::Format::Json));
    let Link::Mqtt(link) = &source.link else {
        panic!("MQTT, found {:?}", source.link)
    };
    assert_eq!(link.topics[0].filter(), "sensors/+");
    let broker = config.broker_of(link);
    assert_eq!(
        (broker.host.as_str(), broker.port, broker.protocol),
        ("127.0.0.1", 1883, Protocol::V5)
    );
}

#[test]
fn a_board_has_its_outputs_its_watchdog_and_its_transceiver() {
    let config = Config::of_text("").unwrap();
    assert_eq!((config.gpio.chip, config.gpio.alarm_line), (None, None));
    assert_eq!(config.watchdog.device, None);
    let config = Config::of_text(
        "[gpio]\nchip = 'pl061'\nalarm_line = 0\nalarm_active_low = true\n\
         [watchdog]\ndevice = '/dev/watchdog0'\ntimeout_s = 30\n\
         [defaults.serial]\nrs485 = true\nrs485_delay_after_ms = 2\n\
         [[sources]]\nname = 'a'\nkind = 'serial'\nport = 'p'\n",
    )
    .unwrap();
    let gpio = GpioConfig {
        chip: Some("pl061".into()),
        alarm_line: Some(0),
        is_alarm_active_low: true,
        heartbeat_line: None,
    };
    assert_eq!(config.gpio, gpio);
    let watchdog = WatchdogConfig {
        device: Some("/dev/watchdog0".into()),
        timeout: Duration::from_secs(30),
        stall: Duration::from_secs(5),
    };
    assert_eq!(config.watchdog, watchdog);
    let Link::Serial(link) = &config.sources[0].link else {
        panic!("serial")
    };
    let rs485 = Rs485Config {
        is_rts_on_send: true,
        delay_before_ms: 0,
        delay_after_ms: 2,
    };
    assert_eq!(link.rs485, Some(rs485));
}

/// `base.toml` with the keys that have no default, which it shows as comments.
fn base_with_examples() -> String {
    let is_example = |line: &str| {
        line.strip_prefix("# ")
            .and_then(|rest| rest.split_once(" = "))
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = chain::BASE.lines();
    lines
        .map(|line| if is_example(line) { &line[2..] } else { line }.to_owned() + "\n")
        .collect()
}

#[test]
fn every_key_in_the_base_is_known() {
    let config = Config::of_text(&base_with_examples()).unwrap();
    assert!(config.to_toml().contains("header = true"));
}

/// The keys that reading asks for, where `wrong` puts an unknown one.
fn keys_known(wrong: &str) -> Vec<String> {
    let errors = Config::of_text(wrong).unwrap_err();
    let mut keys = errors.iter().next().unwrap().expected.clone();
    keys.sort();
    keys
}

fn keys_in_base<'a>(table: &'a Table, path: &[&str]) -> Vec<&'a str> {
    match path.split_first() {
        None => table.keys().map(String::as_str).collect(),
        Some((first, rest)) => match &table[*first].value {
            tree::Value::Table(inner) => keys_in_base(inner, rest),
            other => panic!("{first} is {other:?}"),
        },
    }
}

#[test]
fn every_known_key_is_in_the_base() {
    let (base, errors) = tree::parse(&base_with_examples(), &File::BASE.into());
    assert_eq!(errors, []);
    assert_eq!(keys_known("zzzzzz = 1"), keys_in_base(&base, &[]));
    for section in [
        "board",
        "device",
        "gpio",
        "watchdog",
        "mqtt",
        "broker",
        "events",
        "output",
        "defaults",
        "defaults.all.mapping",
    ] {
        let path: Vec<&str> = section.split('.').collect();
        let wrong = format!("{section}.zzzzzz = 1");
        assert_eq!(
            keys_known(&wrong),
            keys_in_base(&base, &path),
            "[{section}]"
        );
    }
    for kind in ["serial", "mqtt", "file"] {
        let mut documented = keys_in_base(&base, &["defaults", "all"]);
        documented.extend(keys_in_base(&base, &["defaults", kind]));
        // Every source says these itself; the base's own source shows them.
        documented.extend(["name", "kind"]);
        if kind == "mqtt" {
            documented.push("topics");
        }
        documented.sort_unstable();
        let own = match kind {
            "serial" => "port = 'p'",
            "mqtt" => "topics = ['{sensor}']",
            _ => "path = 'p'",
        };
        let wrong = format!("[[sources]]\nname = 's'\nkind = '{kind}'\n{own}\nzzzzzz = 1");
        assert_eq!(keys_known(&wrong), documented, "kind {kind}");
    }
}

#[test]
fn a_chain_of_files_is_merged_key_by_key() {
    let site = "inherit = '../product/line.toml'\n[mqtt]\nport = 1885\n";
    let line = "inherit = 'base.toml'\n[mqtt]\nport = 1884\nhost = 'broker.local'\n\
        password_file = 'secret'\nusername = 'u'\n[[models]]\nname = 'own'\npath = 'bundle'\n";
    let folder = folder_of(&[("site/gateway.toml", site), ("product/line.toml", line)]);
    let path = folder.path().join("site/gateway.toml");
    let config = Config::load(Some(&path), variables(&[])).unwrap();
    assert_eq!(
        (config.mqtt.host.as_str(), config.mqtt.port),
        ("broker.local", 1885)
    );
    assert_eq!(config.mqtt.keep_alive_s, 30);
    let beside_line = |name: &str| folder.path().join("site/../product").join(name);
    assert_eq!(config.mqtt.password_file, Some(beside_line("secret")));
    assert_eq!(config.models.len(), 1, "an array is replaced as a whole");
    assert_eq!(
        config.models[0].bundle,
        BundlePath::Folder(beside_line("bundle"))
    );
    assert_eq!(config.sources[0].model, "own");
}

#[test]
fn a_base_beside_the_file_comes_before_the_one_compiled_in() {
    let folder = folder_of(&[
        ("gateway.toml", "inherit = 'base.toml'\n"),
        ("base.toml", "mqtt.port = 1999\n"),
    ]);
    let config = Config::load(Some(&folder.path().join("gateway.toml")), variables(&[])).unwrap();
    assert_eq!(config.mqtt.port, 1999);
    assert_eq!(config.mqtt.host, "127.0.0.1");
}

#[test]
fn a_source_starts_from_the_defaults_of_all_and_of_its_kind() {
    let config = Config::of_text(
        "[defaults.all]\nclock = 'utc'\nmapping.sequence = 'n'\n\
         [defaults.serial]\nbaud = 9600\nclock = 'node'\nmapping.delimiter = ';'\n\
         [[sources]]\nname = 'a'\nkind = 'serial'\nport = '/dev/ttyS0'\nformat = 'csv'\n\
         mapping.decimal_comma = true\n\
         [[sources]]\nname = 'b'\nkind = 'file'\npath = 'b.csv'\n\
         period_ms = 20\n",
    )
    .unwrap();
    let [a, b] = &config.sources[..] else {
        panic!("two sources")
    };
    let Link::Serial(serial) = &a.link else {
        panic!("serial, found {:?}", a.link)
    };
    assert_eq!(
        (serial.baud, serial.data_bits, a.clock),
        (9600, 8, Clock::Node)
    );
    assert!(a.mapping.decimal_comma);
    assert_eq!(
        (a.mapping.sequence.as_str(), a.mapping.timestamp.as_str()),
        ("n", "ts")
    );
    let Link::File(file) = &b.link else {
        panic!("a file, found {:?}", b.link)
    };
    assert_eq!(
        (&file.path, file.period_ms, b.clock),
        (&PathBuf::from("b.csv"), Some(20.0), Clock::Utc)
    );
    assert!(!b.mapping.decimal_comma);
}

#[test]
fn a_broker_of_its_own_overrides_key_by_key() {
    let mut config = Config::of_text(
        "[mqtt]\nhost = 'cloud'\n[[sources]]\nname = 'a'\nkind = 'mqtt'\ntopics = ['{sensor}']\n\
         port = 1885\nprotocol = '3.1.1'\n",
    )
    .unwrap();
    let Link::Mqtt(link) = config.sources.remove(0).link else {
        panic!("MQTT")
    };
    let expected = BrokerAddress {
        host: "cloud".into(),
        port: 1885,
        protocol: Protocol::V311,
        tls: None,
    };
    assert_eq!(config.broker_of(&link), expected);
}

#[test]
fn an_environment_that_is_not_utf8_concerns_its_own_keys_alone() {
    use std::os::unix::ffi::OsStringExt;
    let strange = || OsString::from_vec(b"caf\xe9".to_vec());
    let load = |name: OsString| Config::load(None, [(name, strange())].into_iter());
    assert!(load("LC_NAME".into()).is_ok());
    assert!(load(strange()).is_ok());
    let said = load("HARK_MQTT__HOST".into()).unwrap_err().to_string();
    assert_eq!(said, "HARK_MQTT__HOST: mqtt.host: must be UTF-8");
    let name = OsString::from_vec(b"HARK_MQTT__\xe9".to_vec());
    assert!(load(name).is_err());
}

#[test]
fn the_environment_has_the_last_word() {
    let config = load_with(&[
        ("HARK_MQTT__PORT", "1884"),
        ("HARK_MQTT__PROTOCOL", "3.1.1"),
        ("HARK_MQTT__USERNAME", "1234"),
        ("HARK_MQTT__VERDICTS", "true"),
        ("HARK_DEVICE__NAME", "gw7"),
        ("HARK_DEVICE__DEADLINE_MS", "20"),
        ("HARK_DEFAULTS__MQTT__QOS", "0"),
        ("HARK_DEFAULTS__ALL__MAPPING__CHANNELS", "{ Current = 'I' }"),
        ("HARK_SOURCES__0__TOPICS", "['plant/{sensor}/x']"),
        ("HARK_LOG", "debug"),
        ("HARKEN__X", "1"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(
        (config.mqtt.port, config.mqtt.protocol),
        (1884, Protocol::V311)
    );
    assert_eq!(config.mqtt.username.as_deref(), Some("1234"));
    assert!(config.mqtt.verdicts);
    assert_eq!(
        (config.device.name.as_str(), config.device.deadline_ms),
        ("gw7", 20.0)
    );
    let Link::Mqtt(link) = &config.sources[0].link else {
        panic!("MQTT")
    };
    assert_eq!(
        (link.qos, link.topics[0].filter().as_str()),
        (0, "plant/+/x")
    );
    assert_eq!(config.sources[0].mapping.channels["Current"], "I".into());
}

#[test]
fn a_printed_configuration_is_complete_and_names_its_places() {
    let folder = folder_of(&[(
        "gateway.toml",
        "[mqtt]\nport = 1884\n[[sources]]\nname = 'a \"b\"'\nkind = 'serial'\nport = 'COM1'\n\
         mapping.channels = { \"dp é\" = 'x', y = '\\'}\n",
    )]);
    let path = folder.path().join("gateway.toml");
    let config = Config::load(Some(&path), variables(&[("HARK_MQTT__QUEUE", "1")]));
    assert!(config.is_err());
    let config = Config::load(Some(&path), variables(&[("HARK_MQTT__HOST", "h")])).unwrap();
    let printed = config.to_toml();
    let has = |key: &str, place: &str| {
        let mut lines = printed.lines().filter_map(|line| line.split_once(" # "));
        assert!(
            lines.any(|(k, p)| k.trim() == key && p.starts_with(place)),
            "{key} # {place}\n{printed}"
        );
    };
    has("port = 1884", &format!("{}:2:8", path.display()));
    has("host = \"h\"", "HARK_MQTT__HOST");
    has("baud = 115200", "base.toml (compiled in):");
    has("deadline_ms = 50.0", "base.toml (compiled in):");
    let again = Config::of_text(&printed).unwrap();
    assert_eq!(again.sources, config.sources);
    assert_eq!(
        (again.device, again.mqtt, again.models),
        (config.device, config.mqtt, config.models)
    );
}

/// A small configuration with a bit of everything.
const SMALL: &str = "inherit = 'base.toml'\nmqtt.port = 1_884 # é\n[defaults.all]\nmapping.channels = \
    { a = \"\\u00e9\" }\n[[sources]]\nname = 'a'\nkind = 'mqtt'\ntopics = ['x/{n}/#']\nsensor = '{n}-1'\n";

#[test]
fn every_truncation_and_every_changed_byte_is_read_or_refused() {
    assert!(Config::of_text(SMALL).is_ok());
    let mut refused = 0;
    for end in (0..SMALL.len()).filter(|end| SMALL.is_char_boundary(*end)) {
        let (before, after) = SMALL.split_at(end);
        refused += usize::from(Config::of_text(before).is_err());
        let after = after
            .split_at(after.chars().next().map_or(0, char::len_utf8))
            .1;
        for other in ["\0", "{", "'", "[", "#", "\n", "\u{10ffff}"] {
            refused += usize::from(Config::of_text(&format!("{before}{other}{after}")).is_err());
        }
    }
    assert!(refused > SMALL.len(), "{refused}");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = "a.".repeat(100_000) + "a = 1";
    assert!(Config::of_text(&deep).is_err());
    let deep = format!("[{}a]", "a.".repeat(100_000));
    assert!(Config::of_text(&deep).is_err());
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(Config::of_text(&deep).is_err());
    let variable = format!("HARK_{}A", "A__".repeat(40_000));
    assert!(load_with(&[(&variable, "1")]).is_err());
}

#[test]
fn a_remark_names_the_place_that_set_the_key() {
    let folder = folder_of(&[(
        "gw.toml",
        "[board]\nname = \"desk\"\n[[sources]]\nname = \"a\"\nkind = \"serial\"\nport = \"/dev/x\"\n",
    )]);
    let path = folder.path().join("gw.toml");
    let config = Config::load(Some(&path), variables(&[])).unwrap();
    let check = |key: &str, place: &str| {
        let remark = config.remark(key, "is so").to_string();
        let expected = format!("{place}: {key}: is so");
        assert!(
            remark.ends_with(&expected),
            "{expected:?}, found {remark:?}"
        );
    };
    check("sources[0].port", "gw.toml:6:8");
    check("board.name", "gw.toml:2:8");
    check("sources[0].baud", &baud_place());
    check("sources[7].port", "base.toml (compiled in)");
    check("board.name.deeper", "base.toml (compiled in)");
}

/// Where `base.toml` sets the baud rate that sources start from.
fn baud_place() -> String {
    let line = chain::BASE
        .lines()
        .position(|line| line.starts_with("baud"))
        .unwrap()
        + 1;
    format!("base.toml (compiled in):{line}:8")
}

/// After how many milliseconds a sensor is silent, and a link told.
fn check_alert_times(source: &str, period_ms: f64, expected: (u64, u64)) {
    let text = format!("[[sources]]\nname = \"a\"\n{source}");
    let config = Config::of_text(&text).unwrap();
    let policy = config.sources[0].alerts.policy(period_ms);
    let times = (policy.silent_after_us / 1000, policy.link_down_us / 1000);
    assert_eq!(times, expected, "{source}");
    assert!(policy.watches_range);
}

#[test]
fn a_sensor_is_silent_after_ten_periods_and_five_seconds_at_least() {
    let serial = "kind = \"serial\"\nport = \"/dev/ttyUSB0\"\n";
    check_alert_times(serial, 100.0, (5_000, 10_000));
    check_alert_times(serial, 60_000.0, (600_000, 10_000));
    let set = format!("{serial}silent_after_ms = 700\nlink_down_ms = 0\n");
    check_alert_times(&set, 60_000.0, (700, 0));
    check_alert_times(
        &format!("{serial}silent_after_ms = 0\n"),
        100.0,
        (0, 10_000),
    );
    let file = "kind = \"file\"\npath = \"a.csv\"\n";
    check_alert_times(file, 100.0, (0, 10_000));
    check_alert_times(
        &format!("{file}silent_after_ms = 700\n"),
        100.0,
        (700, 10_000),
    );
}

#[test]
fn a_client_of_the_embedded_broker_has_its_login() {
    let check = |listen: &str, host: &str, port: u16, expected: &str| {
        let config = Config::of_text(&format!(
            "mqtt.username = 'far'\n[broker]\nembedded = true\nlisten = '{listen}'\n\
             username = 'near'\npassword_file = 'secret'"
        ))
        .unwrap();
        let address = BrokerAddress {
            host: host.to_owned(),
            port,
            protocol: Protocol::V5,
            tls: None,
        };
        let mqtt = config.mqtt_at(&address);
        let login = (mqtt.username.as_deref(), mqtt.password_file.is_some());
        assert_eq!(login, (Some(expected), expected == "near"), "{host}:{port}");
    };
    check("127.0.0.1:1883", "127.0.0.1", 1883, "near");
    check("127.0.0.1:1883", "localhost", 1883, "near");
    check("127.0.0.1:1883", "127.0.0.1", 1884, "far");
    check("127.0.0.1:1883", "192.0.2.7", 1883, "far");
    check("127.0.0.1:1883", "broker.example", 1883, "far");
    check("0.0.0.0:1883", "127.0.0.1", 1883, "near");
    check("0.0.0.0:1883", "localhost", 1883, "near");
    check("[::]:1883", "::1", 1883, "near");
    check("192.0.2.7:1883", "192.0.2.7", 1883, "near");
    check("192.0.2.7:1883", "127.0.0.1", 1883, "far");
}
