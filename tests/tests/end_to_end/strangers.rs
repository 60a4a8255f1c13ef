//! What a stranger at the broker may cost: bounded memory, and nobody's place.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hark_tests::Mosquitto;
use hark_wire::{Message, decode};
use serde_json::Value;

use crate::LIMIT;
use crate::bundle::{HIGH, LOW};
use crate::hark::{Hark, Site, count};
use crate::node::{ENOUGH, frame, hello, reading};

const SOURCES: &str = r#"
[[sources]]
name = "json"
kind = "mqtt"
topics = ["plant/{machine}/#"]
sensor = "{machine}"

[[sources]]
name = "wire"
kind = "mqtt"
topics = ["nodes/#"]
sensor = ""
format = "wire"

[[sources]]
name = "lines"
kind = "mqtt"
topics = ["lines/{sensor}"]
format = "wire"
"#;

/// What hark may grow by, bytes of address space.
const GROWTH_MAX: u64 = 128 << 20;

/// A client that sends what no proper one would.
struct Stranger(TcpStream);

impl Stranger {
    fn connect(broker: &Mosquitto) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", broker.port()))?;
        // MQTT 3.1.1, a clean session, no keep-alive, nobody's name.
        stream.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        ensure!(connack == [0x20, 2, 0, 0], "refused: {connack:?}");
        Ok(Self(stream))
    }

    /// Publishes at QoS 0.
    fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        let len = 2 + topic.len() + payload.len();
        let mut packet = vec![0x30];
        let mut rest = len;
        while rest > 127 {
            packet.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        packet.push(rest as u8);
        packet.extend(u16::try_from(topic.len())?.to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(payload);
        self.0.write_all(&packet).context("publishing")
    }
}

fn json(sequence: u32, level: f32) -> String {
    format!(r#"{{"seq":{sequence},"values":{{"level":{level},"flow":0}}}}"#)
}

/// Lets `hark` grow by no more than [`GROWTH_MAX`] from now on.
fn bound(hark: &Hark) -> Result<()> {
    let pid = hark.pid()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.trim().strip_suffix(" kB"));
    let bytes = kib.context("its size")?.trim().parse::<u64>()? * 1024 + GROWTH_MAX;
    let mut prlimit = Command::new("prlimit");
    let set = prlimit.args([format!("--pid={pid}"), format!("--as={bytes}")]);
    ensure!(
        set.status().context("running prlimit")?.success(),
        "no limit"
    );
    Ok(())
}

/// The pump comes last, and its alert arrives.
fn check_victim(hark: &Hark, stranger: &mut Stranger) -> Result<()> {
    for (sequence, level) in (0..).zip([LOW, LOW, HIGH, HIGH, HIGH]) {
        stranger.publish("plant/pump/raw", json(sequence, level).as_bytes())?;
    }
    let alerts = hark.wait_for_alerts(1)?;
    ensure!(alerts[0]["sensor"] == "pump", "{alerts:?}");
    Ok(())
}

#[test]
fn whatever_strangers_name_costs_bounded_memory() -> Result<()> {
    let broker = Mosquitto::start()?;
    let site = Site::at(&broker, SOURCES)?;
    let hark = site.run()?;
    for source in ["json", "wire", "lines"] {
        hark.wait_for_link(source)?;
    }
    bound(&hark)?;
    let mut stranger = Stranger::connect(&broker)?;
    let long = "x".repeat(60_000);
    let hello = frame(&Message::Hello(hello("invented", "bar")));
    for n in 0..4_000_u32 {
        // Topics of 60 kB, each of another sensor, and sensors' names of 60 kB.
        let topic = format!("plant/m{n}/{long}");
        stranger.publish(&topic, json(n, LOW).as_bytes())?;
        stranger.publish(&format!("lines/{n}{long}"), &hello)?;
        // Nodes, by topics short and long.
        stranger.publish(&format!("nodes/{n}/{}", "x".repeat(450)), &hello)?;
        stranger.publish(&format!("nodes/{n}/{long}"), &hello)?;
        // Sensors that payloads and nodes name.
        let named = frame(&Message::Hello(crate::node::hello(&format!("n{n}"), "bar")));
        stranger.publish(&format!("nodes/{n}"), &named)?;
        stranger.publish(&format!("nodes/{n}"), &frame(&reading(n, LOW)))?;
        stranger.publish(&format!("plant/{n}{}", &long[..50_000]), b"{}")?;
    }
    check_victim(&hark, &mut stranger)?;
    let summary = hark.terminate()?.summary()?;
    ensure!(
        count(&summary, "readings") > 4_000,
        "the flood did not arrive: {summary}"
    );
    ensure!(count(&summary, "rejections.oversize") > 0, "{summary}");
    Ok(())
}

#[test]
fn names_that_strangers_invent_do_not_keep_the_pump_out() -> Result<()> {
    let broker = Mosquitto::start()?;
    let site = Site::at(&broker, SOURCES)?;
    let sensors_max = ("HARK_DEVICE__SENSORS_MAX", "64");
    let hark = site.start_with(&["run", "--config", "hark.toml", "--json"], &[sensors_max])?;
    hark.wait_for_link("json")?;
    let mut stranger = Stranger::connect(&broker)?;
    for n in 0..200 {
        stranger.publish(&format!("plant/garbage{n}/raw"), b"not a reading")?;
    }
    for n in 0..200 {
        stranger.publish(&format!("plant/invented{n}/raw"), json(0, LOW).as_bytes())?;
    }
    let full = hark.wait_for_event("the full table", |event| event["event"] == "sensors_full")?;
    ensure!(
        full["sensors_max"] == 64 && full["source"] == "json",
        "{full}"
    );
    hark.wait_for_stderr("device.sensors_max")?;
    check_victim(&hark, &mut stranger)?;
    let summary = hark.terminate()?.summary()?;
    let source: &Value = &summary["sources"]["json"];
    assert_eq!(count(source, "sensors"), 64, "{summary}");
    assert_eq!(count(source, "sensors_replaced"), 200 - 64 + 1, "{summary}");
    assert_eq!(count(&summary, "rejections.malformed"), 200, "{summary}");
    assert_eq!(count(&summary, "rejected"), 200, "{summary}");
    Ok(())
}

#[test]
fn a_node_whose_hello_the_gateway_has_missed_is_asked_over_mqtt() -> Result<()> {
    let broker = Mosquitto::start()?;
    let asked = broker.subscribe("nodes/+/config")?;
    let site = Site::at(&broker, SOURCES)?;
    let hark = site.run()?;
    hark.wait_for_link("wire")?;
    // Two nodes, whose channels stand in another order: each has its own Hello.
    let mut swapped = hello("drill", "bar");
    swapped.channels.reverse();
    let nodes = [("nodes/1", hello("press", "bar")), ("nodes/2", swapped)];
    for (topic, hello) in nodes {
        broker.publish_bytes(topic, &frame(&reading(0, LOW)))?;
        let request = asked.next(LIMIT)?;
        assert_eq!(request.topic, format!("{topic}/config"));
        let (_delimiter, body) = request.payload.split_last().context("a frame")?;
        let message = decode(&mut body.to_vec()).context("a message")?;
        let Message::Config(config) = message else {
            panic!("{message:?}")
        };
        assert!(config.say_hello && config.running && config.period_ms == 0);
        broker.publish_bytes(topic, &frame(&Message::Hello(hello)))?;
    }
    for sequence in 1..=ENOUGH {
        let press = reading(sequence, HIGH);
        let Message::Reading(mut drill) = press.clone() else {
            continue;
        };
        drill.values.reverse();
        broker.publish_bytes("nodes/1", &frame(&press))?;
        broker.publish_bytes("nodes/2", &frame(&Message::Reading(drill)))?;
    }
    let alerts = hark.wait_for_alerts(2)?;
    let mut sensors: Vec<_> = alerts
        .iter()
        .map(|alert| alert["sensor"].as_str())
        .collect();
    sensors.sort_unstable();
    assert_eq!(sensors, [Some("drill"), Some("press")]);
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "rejections.no_hello"), 2, "{summary}");
    assert_eq!(count(&summary, "rejected"), 2, "{summary}");
    Ok(())
}
