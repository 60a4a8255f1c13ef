//! Readings over MQTT in each of the formats, and the names of their sensors.

use anyhow::Result;
use hark_tests::Mosquitto;
use hark_wire::Message;
use serde_json::Value;

use crate::alerts::payload;
use crate::hark::{Hark, Site, count};
use crate::node::{ENOUGH, frame, hello, reading};
use crate::{LIMIT, bundle};

const SOURCES: &str = r#"
[[sources]]
name = "json"
kind = "mqtt"
topics = ["plant/{line}/{machine}/raw", "yard/+/{line}/{machine}"]
sensor = "{line}-{machine}"

[[sources]]
name = "named"
kind = "mqtt"
topics = ["named/#"]
sensor = ""
mapping = { sensor = "id", sequence = "n", channels = { level = "L", flow = "F" } }

[[sources]]
name = "cbor"
kind = "mqtt"
topics = ["cbor/{sensor}"]
format = "cbor"

[[sources]]
name = "csv"
kind = "mqtt"
topics = ["csv/{sensor}"]
format = "csv"
mapping = { columns = ["flow", "level", "seq"], delimiter = ";", decimal_comma = true }

[[sources]]
name = "wire"
kind = "mqtt"
topics = ["wire/{sensor}"]
format = "wire"
"#;

#[test]
fn mqtt_readings_in_json_cbor_csv_and_wire_are_scored() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/+")?;
    let site = Site::at(&broker, SOURCES)?;
    let hark = site.run()?;
    let publish = |topic: &str, payload: &[u8]| broker.publish_bytes(topic, payload);
    let level = bundle::HIGH;

    let mut greeting = frame(&Message::Hello(hello("node-7", "bar")));
    wait_for_links(&hark)?;
    publish("wire/w1", &greeting)?;
    // A payload need not carry the delimiter of a line.
    greeting.pop();
    publish("wire/w2", &greeting)?;
    for n in 0..ENOUGH {
        let json = format!(r#"{{"seq":{n},"values":{{"level":{level},"flow":0}}}}"#);
        publish("plant/a/pump3/raw", json.as_bytes())?;
        let flat = format!(r#"{{"seq":{n},"level":{level},"flow":0.0,"more":[]}}"#);
        publish("yard/x/b/fan", flat.as_bytes())?;
        let named = format!(r#"{{"id":"mill","n":{n},"L":{level},"F":0}}"#);
        publish("named/any/thing", named.as_bytes())?;
        publish("cbor/c1", &cbor(n, level))?;
        let csv = format!("0;{level:.1};{n}").replace('.', ",");
        publish("csv/v1", csv.as_bytes())?;
        publish("wire/w1", &frame(&reading(n, level)))?;
        publish("wire/w2", &frame(&reading(n, level)))?;
    }

    let sensors = ["a-pump3", "b-fan", "mill", "c1", "v1", "w1", "w2"];
    let mut raised = Vec::new();
    for _ in sensors {
        let topic = heard.next(LIMIT)?.topic;
        raised.extend(topic.rsplit('/').next().map(str::to_owned));
    }
    raised.sort_unstable();
    let mut expected = sensors;
    expected.sort_unstable();
    assert_eq!(raised, expected);

    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "rejected"), 0, "{summary}");
    let per_sensor = u64::from(ENOUGH);
    for (source, sensors) in [
        ("json", 2),
        ("named", 1),
        ("cbor", 1),
        ("csv", 1),
        ("wire", 2),
    ] {
        let source: &Value = &summary["sources"][source];
        assert_eq!(count(source, "sensors"), sensors, "{summary}");
        assert_eq!(count(source, "readings"), sensors * per_sensor, "{summary}");
        assert_eq!(
            count(source, "scored"),
            sensors * (per_sensor - 1),
            "{summary}"
        );
    }
    Ok(())
}

/// `{"seq": n, "values": [level, 0]}` by RFC 8949: `n` below 24, the level as a
/// single-precision float.
fn cbor(n: u32, level: f32) -> Vec<u8> {
    let n = u8::try_from(n).expect("a small count");
    assert!(n < 24);
    let level = level.to_be_bytes();
    [
        b"\xa2\x63seq".as_slice(),
        &[n],
        b"\x66values\x82\xfa",
        &level,
        &[0],
    ]
    .concat()
}

/// A source whose subscription the broker has not yet taken would miss the
/// first payloads: the link is up only once it has been asked for.
fn wait_for_links(hark: &Hark) -> Result<()> {
    for source in ["json", "named", "cbor", "csv", "wire"] {
        hark.wait_for_link(source)?;
    }
    Ok(())
}

const VALUES: &str = r#"
[[sources]]
name = "topics"
kind = "mqtt"
topics = ["values/{sensor}/{channel}"]

[[sources]]
name = "changes"
kind = "mqtt"
topics = ["changes/{sensor}"]
hold_ms = 60000

[[sources]]
name = "kept"
kind = "mqtt"
topics = ["kept/{sensor}"]
"#;

/// What Home Assistant's statestream and many PLC gateways send: each value by itself.
#[test]
fn values_that_come_one_by_one_are_joined_and_retained_ones_are_no_readings() -> Result<()> {
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/+")?;
    broker.publish_retained("kept/old", r#"{"level":9.0,"flow":0.0}"#)?;
    let site = Site::at(&broker, VALUES)?;
    let hark = site.run()?;
    for source in ["topics", "changes", "kept"] {
        hark.wait_for_link(source)?;
    }
    // The alert comes with the last of them.
    let levels = [bundle::LOW, bundle::HIGH, bundle::HIGH, bundle::HIGH];
    broker.publish("changes/c1", r#"{"flow":0.0}"#)?;
    for level in levels {
        broker.publish("values/v1/level", &format!("{level} bar"))?;
        broker.publish("values/v1/flow", "0.0")?;
        broker.publish("changes/c1", &format!(r#"{{"level":{level}}}"#))?;
        let whole = format!(r#"{{"level":{level},"flow":0.0}}"#);
        broker.publish("kept/new", &whole)?;
    }
    for _ in 0..3 {
        assert_eq!(payload(&heard.next(LIMIT)?)?["state"], "raised");
    }
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "rejected"), 0, "{summary}");
    for source in ["topics", "changes", "kept"] {
        let source = &summary["sources"][source];
        assert_eq!(count(source, "readings"), 4, "{summary}");
    }
    let faults = &summary["sources"]["kept"]["link_faults"];
    assert_eq!(faults["retained"], 1, "{summary}");
    Ok(())
}
