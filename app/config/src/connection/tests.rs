use std::ffi::OsString;
use std::path::PathBuf;

use crate::{BrokerAddress, Config, Link, Protocol, TlsConfig};

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    let variables: Vec<(OsString, OsString)> = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    Config::load(Some(&path), variables.into_iter()).map_err(|errors| {
        errors
            .to_string()
            .replace(&path.display().to_string(), "gateway.toml")
    })
}

/// The broker of the only source.
fn broker_of_source(text: &str) -> BrokerAddress {
    let config = load(text, &[]).unwrap();
    let Link::Mqtt(link) = &config.sources[0].link else {
        panic!("MQTT")
    };
    config.broker_of(link)
}

fn check_own(mqtt: &str, host: &str, port: u16, is_tls: bool) {
    let config = load(&format!("[mqtt]\n{mqtt}\n"), &[]).unwrap();
    let own = config.mqtt.address();
    assert_eq!(
        (own.host.as_str(), own.port, own.tls.is_some()),
        (host, port, is_tls),
        "{mqtt}"
    );
    let again = Config::of_text(&config.to_toml()).unwrap();
    assert_eq!(again.mqtt.address(), own, "as printed");
}

fn check_wrong(text: &str, expected: &str) {
    let said = load(text, &[]).unwrap_err();
    assert_eq!(said, expected, "{text}");
}

#[test]
fn the_address_of_a_broker_is_taken_apart_into_the_keys_for_it() {
    check_own("host = 'name'", "name", 1883, false);
    check_own("host = 'name:1884'", "name", 1884, false);
    check_own("host = 'mqtt://name'\nport = 1884", "name", 1884, false);
    check_own("host = 'mqtts://name'", "name", 8883, true);
    check_own("host = 'mqtts://name'\nport = 1883", "name", 1883, true);
    check_own(
        "host = 'mqtts://name:8884'\ntls = true\nport = 8884",
        "name",
        8884,
        true,
    );
    check_own("host = 'name'\ntls = true", "name", 8883, true);
    check_own("host = '[::1]:8883'\ntls = true", "::1", 8883, true);
}

#[test]
fn an_address_that_says_otherwise_than_the_keys_is_refused() {
    check_wrong(
        "[mqtt]\nhost = 'name:1884'\nport = 1885\n",
        "gateway.toml:3:8: mqtt.port: `host` says port 1884: leave one of the two out",
    );
    check_wrong(
        "[mqtt]\nhost = 'mqtt://name'\ntls = true\n",
        "gateway.toml:3:7: mqtt.tls: `host` says mqtt, which is `tls = false`: leave one of the \
         two out",
    );
    check_wrong(
        "[mqtt]\nhost = 'wss://name/mqtt'\n",
        "gateway.toml:2:8: mqtt.host: hark does not speak MQTT over WebSocket (`wss://`): name \
         the broker's port for MQTT itself, mostly \"mqtts://name:8883\"",
    );
    check_wrong(
        "[[sources]]\nname = 'a'\nkind = 'mqtt'\ntopics = ['{sensor}']\nhost = 'a:b'\n",
        "gateway.toml:5:8: sources[0].host: \"b\" is no port: 1 to 65535",
    );
}

const SOURCE: &str = "[[sources]]\nname = 'a'\nkind = 'mqtt'\ntopics = ['{sensor}']\n";

#[test]
fn a_source_has_the_tls_of_mqtt_but_for_what_it_says_itself() {
    let mqtt = "[mqtt]\nhost = 'mqtts://cloud'\nca_file = '/ca'\ncert_file = '/cert'\n\
                key_file = '/key'\nserver_name = 'site'\n";
    let check = |own: &str, host: &str, port: u16, tls: Option<TlsConfig>| {
        let found = broker_of_source(&format!("{mqtt}{SOURCE}{own}\n"));
        let expected = BrokerAddress {
            host: host.to_owned(),
            port,
            protocol: Protocol::V5,
            tls,
        };
        assert_eq!(found, expected, "{own}");
    };
    let path = |name: &str| PathBuf::from(name);
    let below = TlsConfig {
        ca_file: Some(path("/ca")),
        identity: Some((path("/cert"), path("/key"))),
        server_name: Some("site".to_owned()),
    };
    check("", "cloud", 8883, Some(below.clone()));
    check("tls = false", "cloud", 1883, None);
    check("host = 'mqtt://hall:1884'", "hall", 1884, None);
    let nameless = TlsConfig {
        server_name: None,
        ..below.clone()
    };
    check("host = 'hall'", "hall", 8883, Some(nameless.clone()));
    let own = TlsConfig {
        ca_file: Some(path("/hall")),
        identity: Some((path("/c"), path("/k"))),
        server_name: Some("n".to_owned()),
    };
    let keys =
        "host = 'hall'\nca_file = '/hall'\ncert_file = '/c'\nkey_file = '/k'\nserver_name = 'n'";
    check(keys, "hall", 8883, Some(own));

    let plain = broker_of_source(&format!("{SOURCE}host = 'mqtts://hall'\n"));
    assert_eq!((plain.port, plain.tls), (8883, Some(TlsConfig::default())));
    let plain = broker_of_source(&format!("{SOURCE}host = 'hall'\ntls = true\n"));
    assert_eq!((plain.port, plain.tls), (8883, Some(TlsConfig::default())));
}

#[test]
fn files_of_tls_that_would_make_nobody_safe_are_refused() {
    check_wrong(
        "[mqtt]\nca_file = 'ca.pem'\n",
        "gateway.toml:2:11: mqtt.ca_file: is of use with `tls = true` alone",
    );
    check_wrong(
        "[mqtt]\ntls = true\ncert_file = 'own.pem'\n",
        "gateway.toml:3:13: mqtt.cert_file: a certificate needs a `key_file` beside it",
    );
    check_wrong(
        &format!("{SOURCE}key_file = 'own.key'\ntls = true\n"),
        "gateway.toml:5:12: sources[0].key_file: a key needs a `cert_file` beside it",
    );
    check_wrong(
        &format!("{SOURCE}ca_file = 'ca.pem'\n"),
        "gateway.toml:5:11: sources[0].ca_file: is of use with `tls = true` alone",
    );
}

#[test]
fn a_credential_of_systemd_is_found_in_its_folder() {
    let text = "[mqtt]\ntls = true\nusername = 'u'\npassword_file = '$CREDENTIALS_DIRECTORY/pw'\n\
                cert_file = 'own.pem'\nkey_file = '$CREDENTIALS_DIRECTORY/key'\n";
    let folder = ("CREDENTIALS_DIRECTORY", "/run/credentials/hark.service");
    let mqtt = load(text, &[folder]).unwrap().mqtt;
    let in_folder = |name: &str| PathBuf::from("/run/credentials/hark.service").join(name);
    assert_eq!(mqtt.password_file, Some(in_folder("pw")));
    assert_eq!(mqtt.tls.unwrap().identity.unwrap().1, in_folder("key"));
    let said = load(text, &[]).unwrap_err();
    let expected = "gateway.toml:4:17: mqtt.password_file: $CREDENTIALS_DIRECTORY is not set here: \
                    systemd sets it for a unit with `LoadCredential=`";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_password_comes_from_the_environment_alone_and_is_shown_nowhere() {
    let user = "[mqtt]\nusername = 'u'\npassword_file = 'old'\n[broker]\nusername = 'b'\n";
    let variables = [
        ("HARK_MQTT__PASSWORD", "hunter2"),
        ("HARK_BROKER__PASSWORD", "123456"),
    ];
    let config = load(user, &variables).unwrap();
    let (mqtt, broker) = (&config.mqtt, &config.broker);
    assert_eq!(mqtt.password.as_ref().unwrap().reveal(), "hunter2");
    assert_eq!(broker.password.as_ref().unwrap().reveal(), "123456");
    let shown = format!("{}{config:?}", config.to_toml());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains("123456"), "{shown}");

    for written in ["'hunter2'", "123456", "['hunter2']"] {
        let said = load(
            &format!("[mqtt]\nusername = 'u'\npassword = {written}\n"),
            &[],
        );
        let said = said.unwrap_err();
        assert!(
            said.starts_with("gateway.toml:3:12: mqtt.password: stands in no"),
            "{said}"
        );
        assert!(
            !said.contains("hunter2") && !said.contains("123456"),
            "{said}"
        );
    }
    let said = load("", &[("HARK_MQTT__PASSWORD", "hunter2")]).unwrap_err();
    assert_eq!(
        said,
        "HARK_MQTT__PASSWORD: mqtt.password: a password needs a `username` beside it"
    );
}

#[test]
fn another_broker_takes_the_place_of_the_configured_one() {
    let tls = "[mqtt]\nhost = 'cloud'\ntls = true\nserver_name = 'site'\nca_file = '/ca'\n";
    let check = |mqtt: &str, url: &str, port: u16, ca_file: Option<Option<&str>>| {
        let mut mqtt = load(mqtt, &[]).unwrap().mqtt;
        mqtt.point_at(&url.parse().unwrap());
        let found = mqtt.address();
        assert_eq!((found.host.as_str(), found.port), ("hall", port), "{url}");
        let expected = ca_file.map(|ca_file| TlsConfig {
            ca_file: ca_file.map(PathBuf::from),
            ..TlsConfig::default()
        });
        assert_eq!(found.tls, expected, "{url}");
    };
    check("", "hall:1884", 1884, None);
    check("", "mqtts://hall", 8883, Some(None));
    check(tls, "mqtts://hall:1", 1, Some(Some("/ca")));
    check(tls, "hall", 8883, Some(Some("/ca")));
    check(tls, "mqtt://hall", 1883, None);
}
