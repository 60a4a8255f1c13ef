//! The broker inside hark, with hark at it and strangers beside.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::hark::{Site, count};
use crate::{LIMIT, bundle, node};

const SOURCE: &str =
    "[[sources]]\nname = \"bench\"\nkind = \"mqtt\"\ntopics = [\"bench/{sensor}\"]\n";

/// What a flooded hark may use beyond the address space of its start.
const GROWTH_BYTES: u64 = 128 * 1024 * 1024;

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// A site with an embedded broker, and more keys of `[broker]`.
fn site(port: u16, listen: &str, broker: &str) -> Result<Site> {
    let mqtt = format!(
        "[mqtt]\nport = {port}\n[broker]\nembedded = true\nlisten = \"{listen}:{port}\"\n{broker}\n"
    );
    Site::with(&mqtt, SOURCE)
}

fn publish(port: u16, args: &[&str]) -> Result<Output> {
    Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("running mosquitto_pub")
}

/// Readings that raise an alert of `press`, each acknowledged by the broker.
fn raise(port: u16, args: &[&str]) -> Result<()> {
    for seq in 0..node::ENOUGH {
        let json = format!(r#"{{"seq":{seq},"level":{},"flow":0}}"#, bundle::HIGH);
        let message = ["-t", "bench/press", "-m", &json];
        let output = publish(port, &[&message, args].concat())?;
        ensure!(output.status.success(), "{output:?}");
    }
    Ok(())
}

/// The retained message of `topic`, as a client of either version hears it.
fn retained(port: u16, version: &str, topic: &str, args: &[&str]) -> Result<String> {
    let output = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version])
        .args(["-C", "1", "-W", "30", "-t", topic])
        .args(args)
        .output()
        .context("running mosquitto_sub")?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn both_versions_of_mqtt_are_served_on_one_port() -> Result<()> {
    let port = free_port()?;
    let site = site(port, "127.0.0.1", "")?;
    let hark = site.run()?;
    hark.wait_for_link("bench")?;
    raise(port, &["-V", "311"])?;
    hark.wait_for_alerts(1)?;
    for version in ["311", "5"] {
        let alert = retained(port, version, "hark/v1/gateway/alert/press", &[])?;
        assert!(alert.contains("raised"), "{alert}");
    }
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.alerts_published"), 1, "{summary}");
    assert!(count(&summary, "broker.connects") > 3, "{summary}");
    Ok(())
}

#[test]
fn a_login_is_asked_of_everybody_and_known_to_hark() -> Result<()> {
    let port = free_port()?;
    let login = "username = \"me\"\npassword_file = \"password\"";
    let site = site(port, "0.0.0.0", login)?;
    fs::write(site.path().join("password"), "secret\n")?;
    let hark = site.run()?;
    hark.wait_for_link("bench")?;
    let stranger = publish(port, &["-t", "bench/press", "-m", "{}"])?;
    assert!(!stranger.status.success(), "{stranger:?}");
    raise(port, &["-u", "me", "-P", "secret"])?;
    hark.wait_for_alerts(1)?;
    hark.wait_for_stderr("its user name or password is wrong")?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.alerts_published"), 1, "{summary}");
    assert_eq!(count(&summary, "broker.connects_refused"), 1, "{summary}");
    Ok(())
}

#[test]
fn a_password_file_that_holds_none_is_named_by_check() -> Result<()> {
    let login = "username = \"me\"\npassword_file = \"password\"";
    let site = site(free_port()?, "127.0.0.1", login)?;
    fs::write(site.path().join("password"), "\n")?;
    let ended = site.finish(&["check", "--config", "hark.toml"])?;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("broker.password_file"),
        "{}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn a_reload_leaves_the_embedded_broker_and_its_clients_alone() -> Result<()> {
    let port = free_port()?;
    let site = site(port, "127.0.0.1", "")?;
    let mut hark = site.run()?;
    hark.wait_for_link("bench")?;
    let mut client = connect(port, b'c')?;
    let kept = publish(port, &["-r", "-t", "kept", "-m", "x"])?;
    ensure!(kept.status.success(), "{kept:?}");
    hark.signal("HUP")?;
    hark.wait_for_stderr("serving by the new configuration")?;
    assert_eq!(retained(port, "5", "kept", &[])?, "x\n");
    client.write_all(&[0xC0, 0])?;
    let mut answer = [0; 2];
    client.read_exact(&mut answer)?;
    assert_eq!(answer, [0xD0, 0]);
    raise(port, &[])?;
    hark.wait_for_alerts(1)?;
    assert!(hark.terminate()?.status.success());
    Ok(())
}

#[test]
fn a_reload_moves_the_embedded_broker_where_it_is_told_to() -> Result<()> {
    let (port, other) = (free_port()?, free_port()?);
    let site = site(port, "127.0.0.1", "")?;
    let mut hark = site.run()?;
    hark.wait_for_link("bench")?;
    let file = site.path().join("hark.toml");
    let config = fs::read_to_string(&file)?;
    fs::write(&file, config.replace(&port.to_string(), &other.to_string()))?;
    hark.signal("HUP")?;
    hark.wait_for_stderr("serving by the new configuration")?;
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    raise(other, &[])?;
    hark.wait_for_alerts(1)?;
    assert!(hark.terminate()?.status.success());
    Ok(())
}

#[test]
fn packets_before_connect_do_no_harm() -> Result<()> {
    let port = free_port()?;
    let site = site(port, "127.0.0.1", "")?;
    let hark = site.run()?;
    hark.wait_for_link("bench")?;
    for first in 0..=u8::MAX {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&[first, 3, 0, 1, 0])?;
        // CONNECT is not whole; whatever else it is, the connection ends.
        if first != 0x10 {
            let ended = stream.read_to_end(&mut Vec::new());
            assert!(ended.is_ok_and(|len| len == 0) || first >> 4 == 1);
        }
    }
    raise(port, &[])?;
    hark.wait_for_alerts(1)?;
    let ended = hark.terminate()?;
    assert!(ended.status.success(), "{}", ended.stderr);
    let summary = ended.summary()?;
    assert_eq!(count(&summary, "outputs.alerts_published"), 1, "{summary}");
    assert!(ended.stderr.lines().count() < 50, "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_flood_of_subscriptions_costs_fixed_memory() -> Result<()> {
    let port = free_port()?;
    let site = site(port, "127.0.0.1", "")?;
    let hark = site.run()?;
    hark.wait_for_link("bench")?;
    hark.limit_memory(GROWTH_BYTES)?;
    for client in 0..20 {
        flood(port, client)?;
    }
    raise(port, &[])?;
    hark.wait_for_alerts(1)?;
    let summary = hark.terminate()?.summary()?;
    assert_eq!(count(&summary, "outputs.alerts_published"), 1, "{summary}");
    assert!(
        count(&summary, "broker.subscriptions_refused") > 50_000,
        "{summary}"
    );
    Ok(())
}

/// A client of MQTT 5 of this name that was let in.
fn connect(port: u16, name: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let connect = [
        0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, name,
    ];
    stream.write_all(&connect)?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    ensure!(answer[..4] == [0x20, answer[1], 0, 0], "{answer:02x?}");
    let mut properties = vec![0; usize::from(answer[4])];
    stream.read_exact(&mut properties)?;
    Ok(stream)
}

/// 5,000 filters of 900 bytes from one client, as far as it is let.
fn flood(port: u16, client: u8) -> Result<()> {
    let mut stream = connect(port, b'a' + client)?;
    let mut answers = [0; 65_536];
    for index in 0..5_000_u32 {
        let filter = format!("{client}/{index}/{}", "x".repeat(900));
        let mut body = vec![0, 1, 0];
        body.extend(u16::try_from(filter.len())?.to_be_bytes());
        body.extend(filter.as_bytes());
        body.push(0);
        let [low, high] = [body.len() & 0x7F | 0x80, body.len() >> 7];
        let head = [0x82, u8::try_from(low)?, u8::try_from(high)?];
        let sent = stream.write_all(&[&head[..], &body].concat());
        match sent.and_then(|()| stream.read(&mut answers)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error.into()),
            // It was let go.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}
