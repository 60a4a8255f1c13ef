//! Modbus units as a source, against servers that are not ours: libmodbus and
//! pymodbus' simulator. Values are written and read back by mbpoll.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Result, ensure};
use hark_tests::{ModbusBus, ModbusServer, mbpoll, wait_until};
use serde_json::Value;

use crate::LIMIT;
use crate::bundle::{HIGH, LOW};
use crate::hark::{Hark, Site, count};
use crate::node;

/// The registers of the bundle's channels as libmodbus has them: `level` can be
/// written, `flow` is 101.
const REGISTERS: &str = r#"
[[sources.registers]]
channel = "level"
address = 10
type = "f32"
order = "cdab"

[[sources.registers]]
channel = "flow"
address = 1
table = "input"
"#;

fn tcp_source(name: &str, port: u16, keys: &str) -> String {
    format!(
        "[[sources]]\nname = \"{name}\"\nkind = \"modbus\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         poll_ms = 50\n{keys}\n{REGISTERS}\n"
    )
}

fn serial_source(name: &str, link: &Path, keys: &str) -> String {
    let port = link.display();
    format!(
        "[[sources]]\nname = \"{name}\"\nkind = \"modbus\"\nport = \"{port}\"\nbaud = 19200\n\
         reconnect_ms_max = 200\n{keys}\n{REGISTERS}\n"
    )
}

/// Writes the level of a unit of libmodbus by mbpoll. Its float has the low
/// register first, as `cdab`.
fn set_level(port: u16, unit: u8, level: f32) -> Result<()> {
    let (port, unit, level) = (port.to_string(), unit.to_string(), level.to_string());
    let args = ["-m", "tcp", "-p", &port, "-a", &unit, "-r", "11"];
    mbpoll(&[&args[..], &["-t", "4:float", "127.0.0.1", &level]].concat()).map(drop)
}

fn read_level(port: u16, unit: u8) -> Result<String> {
    let (port, unit) = (port.to_string(), unit.to_string());
    let args = ["-m", "tcp", "-p", &port, "-a", &unit, "-r", "11", "-1"];
    mbpoll(&[&args[..], &["-t", "4:float", "127.0.0.1"]].concat())
}

fn wait_for_alert(hark: &Hark, sensor: &str, kind: &str, state: &str) -> Result<Value> {
    hark.wait_for_event(&format!("{kind} {state} of {sensor}"), |event| {
        event["event"] == "alert"
            && event["sensor"] == sensor
            && event["kind"] == kind
            && event["state"] == state
    })
}

fn wait_for_fault(hark: &Hark, sensor: &str, fault: &str) -> Result<String> {
    let event = hark.wait_for_event(&format!("{fault} of {sensor}"), |event| {
        event["event"] == "link_fault" && event["sensor"] == sensor && event["fault"] == fault
    })?;
    Ok(event["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_mbpoll_writes_into_libmodbus_raises_and_clears_an_alert() -> Result<()> {
    let (_server, port) = ModbusServer::tcp()?;
    let site = Site::new(&tcp_source("press", port, ""))?;
    let hark = site.run()?;
    hark.wait_for_link("press")?;
    set_level(port, 1, HIGH)?;
    let raised = wait_for_alert(&hark, "press", "anomaly", "raised")?;
    ensure!(raised["score"] == HIGH, "{raised}");
    let read = read_level(port, 1)?;
    ensure!(read.contains(&format!("[11]: \t{HIGH}")), "{read}");
    set_level(port, 1, LOW)?;
    wait_for_alert(&hark, "press", "anomaly", "cleared")?;
    let summary = hark.terminate()?.summary()?;
    ensure!(count(&summary, "rejected") == 0, "{summary}");
    ensure!(count(&summary, "missed") == 0, "{summary}");
    Ok(())
}

#[test]
fn each_unit_of_a_host_is_a_sensor() -> Result<()> {
    let (_server, port) = ModbusServer::tcp()?;
    let keys = "unit = \"1-3,9\"\nsensor = \"press-{unit}\"";
    let site = Site::new(&tcp_source("hall", port, keys))?;
    let hark = site.run()?;
    // libmodbus has one table for all units over TCP.
    set_level(port, 1, HIGH)?;
    for sensor in ["press-1", "press-2", "press-3", "press-9"] {
        wait_for_alert(&hark, sensor, "anomaly", "raised")?;
    }
    let summary = hark.terminate()?.summary()?;
    ensure!(count(&summary, "sources.hall.sensors") == 4, "{summary}");
    Ok(())
}

#[test]
fn a_unit_that_does_not_answer_is_silent_and_the_others_go_on() -> Result<()> {
    let (_folder, link) = node::link()?;
    let bus = ModbusBus::start(&link, 19_200, &[1, 3])?;
    let keys = "unit = [1, 2, 3]\npoll_ms = 200\nresponse_timeout_ms = 250\nsilent_after_ms = 4000";
    let site = Site::new(&serial_source("bus", &link, keys))?;
    let hark = site.run()?;
    let told = wait_for_fault(&hark, "bus-2", "timeout")?;
    ensure!(told.contains("unit 2") && told.contains("`baud`"), "{told}");
    wait_for_alert(&hark, "bus-2", "silent", "raised")?;
    let asked = bus.asked();
    let of = |unit| asked.iter().filter(|(asked, _)| *asked == unit).count();
    ensure!(of(2) < of(1) / 2, "{} and {}", of(2), of(1));
    let events = hark.events();
    let links = events.iter().filter(|event| event["event"] == "link_down");
    ensure!(links.count() == 0, "the line is there");
    let summary = hark.terminate()?.summary()?;
    let asked = bus.asked();
    let of = |unit| asked.iter().filter(|(asked, _)| *asked == unit).count() as u64;
    let faults = &summary["sources"]["bus"]["link_faults"];
    // The last answer may have been awaited when hark was stopped.
    let timeouts = count(faults, "timeout");
    ensure!(timeouts + 1 >= of(2) && timeouts > 0, "{faults}");
    ensure!(count(&summary, "alerts_by_kind.silent") == 1, "{summary}");
    Ok(())
}

#[test]
fn garbled_answers_are_counted_and_explained() -> Result<()> {
    let (_folder, link) = node::link()?;
    let bus = ModbusBus::start(&link, 19_200, &[1])?;
    let site = Site::new(&serial_source("bus", &link, "poll_ms = 100"))?;
    let hark = site.run()?;
    hark.wait_for_link("bus")?;
    bus.garble(true);
    let told = wait_for_fault(&hark, "bus", "crc")?;
    ensure!(told.contains("CRC") && told.contains("`parity`"), "{told}");
    let summary = hark.terminate()?.summary()?;
    ensure!(
        count(&summary, "sources.bus.link_faults.crc") > 0,
        "{summary}"
    );
    Ok(())
}

#[test]
fn two_kinds_of_units_share_a_line() -> Result<()> {
    let (_folder, link) = node::link()?;
    let bus = ModbusBus::start(&link, 19_200, &[1, 2])?;
    let source = |name: &str, unit: u8| {
        let keys = format!("unit = {unit}\npoll_ms = 100\nresponse_timeout_ms = 3000");
        serial_source(name, &link, &keys)
    };
    let site = Site::new(&(source("bus", 1) + &source("beside", 2)))?;
    let hark = site.run()?;
    wait_until(LIMIT, "ten polls of either, two requests each", || {
        let asked = bus.asked();
        let of = |unit| asked.iter().filter(|(asked, _)| *asked == unit).count();
        (of(1) >= 20 && of(2) >= 20).then_some(())
    })?;
    let summary = hark.terminate()?.summary()?;
    for name in ["bus", "beside"] {
        let source = &summary["sources"][name];
        ensure!(count(source, "readings") >= 9, "{source}");
        ensure!(source["link_faults"].get("crc").is_none(), "{source}");
        ensure!(source["link_faults"].get("timeout").is_none(), "{source}");
    }
    Ok(())
}

#[test]
fn a_line_that_is_pulled_out_is_a_link_that_is_down() -> Result<()> {
    let (_folder, link) = node::link()?;
    let bus = ModbusBus::start(&link, 19_200, &[1])?;
    let keys = "poll_ms = 100\nlink_down_ms = 500";
    let site = Site::new(&serial_source("bus", &link, keys))?;
    let hark = site.run()?;
    hark.wait_for_link("bus")?;
    drop(bus);
    wait_for_alert(&hark, "bus", "link", "raised")?;
    let _bus = ModbusBus::start(&link, 19_200, &[1])?;
    wait_for_alert(&hark, "bus", "link", "cleared")?;
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_host_that_goes_away_is_a_link_that_is_down() -> Result<()> {
    let (server, port) = ModbusServer::tcp()?;
    let keys = "link_down_ms = 500\nreconnect_ms_max = 200";
    let site = Site::new(&tcp_source("press", port, keys))?;
    let hark = site.run()?;
    hark.wait_for_link("press")?;
    drop(server);
    let away = wait_for_alert(&hark, "press", "link", "raised")?;
    let reason = away["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains(&format!("127.0.0.1:{port}")), "{away}");
    hark.terminate()?.summary().map(drop)
}

#[test]
fn a_host_that_speaks_something_else_is_told_once() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // It ends with the process, in which it waits for the next client.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            if client.read(&mut [0; 64]).is_err() {
                continue;
            }
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    let keys = "reconnect_ms_min = 10\nreconnect_ms_max = 10\nlink_down_ms = 1000";
    let site = Site::new(&tcp_source("web", port, keys))?;
    let hark = site.run()?;
    let away = wait_for_alert(&hark, "web", "link", "raised")?;
    let reason = away["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("does not answer in Modbus TCP"), "{away}");
    let events = hark.events();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    ensure!((of("link_up"), of("link_down")) == (1, 1), "{events:?}");
    hark.terminate()?.summary().map(drop)
}

/// The registers of pymodbus' simulator: `level` a float of 7.25, `flow` -5 in 64
/// bits, brought into the range of the model.
fn simulator_registers(level: &str) -> String {
    format!(
        "[[sources.registers]]\nchannel = \"level\"\n{level}\n\
         [[sources.registers]]\nchannel = \"flow\"\naddress = 10\ntype = \"i64\"\noffset = 10.0\n"
    )
}

fn simulator_source(port: u16, keys: &str, level: &str) -> String {
    format!(
        "[[sources]]\nname = \"sim\"\nkind = \"modbus\"\nhost = \"127.0.0.1:{port}\"\n\
         poll_ms = 100\nresponse_timeout_ms = 2000\n{keys}\n{}",
        simulator_registers(level)
    )
}

#[test]
fn pymodbus_simulator_is_read() -> Result<()> {
    let Some((_server, port)) = ModbusServer::simulator(&[1, 2])? else {
        return Ok(());
    };
    let level = "address = 0\ntype = \"f32\"\nscale = 2";
    let site = Site::new(&simulator_source(port, "unit = [1, 2]", level))?;
    let hark = site.run()?;
    for sensor in ["sim-1", "sim-2"] {
        let raised = wait_for_alert(&hark, sensor, "anomaly", "raised")?;
        ensure!(raised["score"] == 14.5, "{raised}");
    }
    let summary = hark.terminate()?.summary()?;
    ensure!(count(&summary, "rejected") == 0, "{summary}");
    Ok(())
}

#[test]
fn a_refused_address_says_what_to_write() -> Result<()> {
    let (_server, port) = ModbusServer::tcp()?;
    let source = tcp_source("press", port, "").replace("address = 10", "address = 40011");
    let site = Site::new(&source)?;
    let hark = site.run()?;
    let told = wait_for_fault(&hark, "press", "exception_2")?;
    ensure!(told.contains("illegal data address"), "{told}");
    ensure!(told.contains("address = 10"), "{told}");
    let summary = hark.terminate()?.summary()?;
    let faults = &summary["sources"]["press"]["link_faults"];
    ensure!(count(faults, "exception_2") > 0, "{faults}");
    Ok(())
}

/// What `hark check` says of a source.
fn check(source: &str) -> Result<String> {
    let site = Site::new(source)?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    Ok(format!("{}{}", ended.stdout, ended.stderr))
}

#[test]
fn check_names_channels_without_register_and_registers_without_channel() -> Result<()> {
    let source = tcp_source("press", 502, "");
    let said = check(&source)?;
    ensure!(said.contains("no errors"), "{said}");
    let said = check(&source.replace("\"flow\"", "\"flew\""))?;
    ensure!(said.contains("hark.toml:"), "{said}");
    ensure!(said.contains("no channel \"flew\""), "{said}");
    ensure!(said.contains("wants the channel \"flow\""), "{said}");
    Ok(())
}
