//! Bad input from outside: each kind has its reason, its counter and an
//! example that says what was wrong.

use anyhow::{Context, Result};
use hark_tests::{Mosquitto, wait_until};
use hark_wire::Message;
use serde_json::Value;

use crate::LIMIT;
use crate::hark::{Site, count};
use crate::node::{frame, hello, reading};

const SOURCES: &str = r#"
[[sources]]
name = "json"
kind = "mqtt"
topics = ["json/{sensor}", "json/{sensor}/deep/#"]
payload_bytes_max = 256

[[sources]]
name = "utc"
kind = "mqtt"
topics = ["utc/{sensor}"]
clock = "utc"
mapping.timestamp_unit = "us"

[[sources]]
name = "csv"
kind = "mqtt"
topics = ["csv/{sensor}"]
format = "csv"
mapping = { columns = ["level", "flow"] }

[[sources]]
name = "wire"
kind = "mqtt"
topics = ["wire/{sensor}"]
format = "wire"
"#;

/// A payload, the topic that it comes on, and why it is refused; `ok` if it is
/// not. `example` is a part of what the operator is shown.
struct Case {
    topic: &'static str,
    payload: Vec<u8>,
    reason: &'static str,
    example: &'static str,
}

fn case(
    topic: &'static str,
    payload: impl Into<Vec<u8>>,
    reason: &'static str,
    example: &'static str,
) -> Case {
    Case {
        topic,
        payload: payload.into(),
        reason,
        example,
    }
}

/// A sensor's name becomes a level of a topic and a label: at most 64 bytes.
const LONG_NAME: &str = "json/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn text_cases() -> Vec<Case> {
    let long = format!(r#"{{"level":1,"flow":0,"note":"{}"}}"#, "x".repeat(256));
    vec![
        case("json/a", r#"{"seq":1,"level":1,"flow":0}"#, "ok", ""),
        case("json/a", r#"{"seq":2,"level":1,"#, "malformed", "level"),
        case("json/a", "\u{1b}[31m", "malformed", "level"),
        case("json/a", "", "malformed", ""),
        case("json/a", " \n", "malformed", ""),
        case("json/a", long, "oversize", "at most 256"),
        case(
            "json/a",
            r#"{"seq":3,"level":1}"#,
            "missing_channel",
            "flow",
        ),
        case("json/a", "[1,2,3]", "channel_count", "[1,2,3]"),
        case(
            "json/a",
            r#"{"level":"full","flow":0}"#,
            "wrong_type",
            "level",
        ),
        case(
            "json/a",
            r#"{"seq":4,"level":101,"flow":0}"#,
            "range",
            "valid -100 to 100",
        ),
        case(
            "json/a",
            r#"{"seq":6,"level":1,"flow":900}"#,
            "rate_of_change",
            "flow",
        ),
        case(
            "json/a",
            r#"{"seq":6,"level":1,"flow":900}"#,
            "duplicate",
            "6",
        ),
        case(
            "json/a",
            r#"{"seq":5,"level":1,"flow":0}"#,
            "reordered",
            "5",
        ),
        case(LONG_NAME, "[1,0]", "unknown_sensor", "xxxx"),
        case(
            "utc/a",
            r#"{"ts":1000000,"level":1,"flow":0}"#,
            "stale",
            "1000000",
        ),
        case(
            "utc/a",
            r#"{"ts":4102444800000000,"level":1,"flow":0}"#,
            "future",
            "41024448",
        ),
        case("csv/a", "1,0", "ok", ""),
        case("csv/a", " \r\n", "malformed", "an empty payload"),
        case("csv/a", "NaN,0", "not_finite", "level"),
    ]
}

fn wire_cases() -> Vec<Case> {
    let greeting = frame(&Message::Hello(hello("n", "bar")));
    let foreign = frame(&Message::Hello(hello("n", "psi")));
    let sent = frame(&reading(1, 1.0));
    let mut damaged = sent.clone();
    damaged[4] ^= 1;
    vec![
        case("wire/n", sent.clone(), "no_hello", "Hello"),
        case("wire/n", greeting, "ok", ""),
        case("wire/n", sent.clone(), "ok", ""),
        case("wire/n", damaged, "corrupt", "checksum"),
        case("wire/n", vec![1; 5000], "oversize", "no delimiter"),
        case("wire/psi", foreign, "ok", ""),
        case("wire/psi", sent, "unit", "level"),
    ]
}

/// What is no reading and is not refused: a node's `Hello`.
const HELLOS: u64 = 2;

#[test]
fn bad_input_is_counted_and_explained() -> Result<()> {
    let broker = Mosquitto::start()?;
    let site = Site::at(&broker, SOURCES)?;
    let hark = site.run()?;
    for source in ["json", "utc", "csv", "wire"] {
        hark.wait_for_link(source)?;
    }
    let cases: Vec<Case> = text_cases().into_iter().chain(wire_cases()).collect();
    for case in &cases {
        broker
            .publish_bytes(case.topic, &case.payload)
            .with_context(|| format!("publishing to {:?}", case.topic))?;
    }
    // The last payload of each source has come, and with it all before.
    let last = ["unknown_sensor", "future", "not_finite", "unit"];
    for reason in last {
        hark.wait_for_event(reason, |event| event["reason"] == reason)?;
    }

    let summary = hark.terminate()?.summary()?;
    for case in cases.iter().filter(|case| case.reason != "ok") {
        check_case(&summary, case, &cases);
    }
    let accepted = cases.iter().filter(|case| case.reason == "ok").count() as u64 - HELLOS;
    let rejected = count(&summary, "rejected");
    assert_eq!(
        count(&summary, "readings"),
        accepted + rejected,
        "{summary}"
    );
    assert_eq!(count(&summary, "shed"), 0);
    Ok(())
}

#[test]
fn readings_beyond_the_rate_of_a_source_are_rejected() -> Result<()> {
    let broker = Mosquitto::start()?;
    let source = "[[sources]]\nname = \"m\"\nkind = \"mqtt\"\n\
                  topics = [\"s/{sensor}\"]\nreadings_per_second_max = 1\n";
    let site = Site::at(&broker, source)?;
    let hark = site.run()?;
    hark.wait_for_link("m")?;
    let mut published = 0;
    // Two in a row may lie in different seconds; not all of them do.
    wait_until(LIMIT, "a reading too many", || {
        broker.publish("s/a", "[1,0]").ok()?;
        published += 1;
        let mut events = hark.events().into_iter();
        events.find(|event| event["reason"] == "source_rate")
    })?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "readings"), published, "{summary}");
    assert!(count(&summary, "rejections.source_rate") >= 1, "{summary}");
    assert!(count(&summary, "rejected") < published, "{summary}");
    Ok(())
}

fn check_case(summary: &Value, case: &Case, cases: &[Case]) {
    let same = cases.iter().filter(|other| other.reason == case.reason);
    let counted = count(summary, &format!("rejections.{}", case.reason));
    assert_eq!(counted, same.count() as u64, "{}: {summary}", case.reason);
    let source = case.topic.split('/').next().expect("split gives a part");
    let example = &summary["sources"][source]["examples"][case.reason];
    let example = example.as_str().unwrap_or_default();
    assert!(
        example.contains(case.example),
        "{} on {source}: {example:?} does not hold {:?}",
        case.reason,
        case.example
    );
    assert!(
        !example.contains(|c: char| c.is_control()),
        "control characters reach the operator: {example:?}"
    );
}
