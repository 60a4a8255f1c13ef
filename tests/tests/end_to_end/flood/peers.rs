//! The strangers of a flood. Each does one kind of harm until it is told that the
//! flood is over, and says how often it did.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hark_hal::Pty;
use hark_wire::Message;

use crate::{bundle, node};

/// How long a peer waits for a socket or a line that takes nothing.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often a client looks for what the broker answers.
const SENDS_PER_LOOK: u64 = 64;
/// As long as a payload may be.
const LONG_BYTES: usize = 60_000;

/// What is attacked.
pub(super) struct Site {
    /// Of mosquitto.
    pub(super) broker_port: u16,
    /// Of the broker inside hark.
    pub(super) embedded_port: u16,
    pub(super) text_line: PathBuf,
    pub(super) node_line: PathBuf,
}

type Attack = dyn FnOnce(&AtomicBool) -> Result<u64> + Send;

/// One stranger.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Returns how often it did what it does, once the flag is set.
    pub(super) attack: Box<Attack>,
}

impl Peer {
    fn new(
        name: &'static str,
        attack: impl FnOnce(&AtomicBool) -> Result<u64> + Send + 'static,
    ) -> Self {
        let attack = Box::new(attack);
        Self { name, attack }
    }
}

/// Every peer that comes over a line or a socket. Lines are made here; sockets when
/// the flood begins.
pub(super) fn plug_in(site: &Site) -> Result<Vec<Peer>> {
    let outside = SocketAddr::from(([127, 0, 0, 1], site.broker_port));
    let inside = SocketAddr::from(([127, 0, 0, 1], site.embedded_port));
    let text_line = Pty::open_at(&site.text_line).context("opening a line for text")?;
    let node_line = Pty::open_at(&site.node_line).context("opening a line for nodes")?;
    Ok(vec![
        Peer::new("topics", move |is_over| {
            invent_topics(outside, "crowd", is_over)
        }),
        Peer::new("topics_inside", move |is_over| {
            invent_topics(inside, "inside", is_over)
        }),
        Peer::new("commands", move |is_over| command_nodes(outside, is_over)),
        Peer::new("filters_inside", move |is_over| {
            subscribe_to_all(inside, is_over)
        }),
        Peer::new("retained_inside", move |is_over| {
            retain_all(inside, is_over)
        }),
        Peer::new("packets_inside", move |is_over| {
            send_nonsense(inside, is_over)
        }),
        Peer::new("connections_inside", move |is_over| {
            hold_connections(inside, is_over)
        }),
        Peer::new("lines", move |is_over| invent_sensors(&text_line, is_over)),
        Peer::new("nodes", move |is_over| invent_nodes(&node_line, is_over)),
    ])
}

/// Whether a broker takes a client that means no harm.
pub(super) fn takes_a_client(port: u16) -> bool {
    let broker = SocketAddr::from(([127, 0, 0, 1], port));
    let mut answer = [0xFF; 4];
    let greeted = TcpStream::connect_timeout(&broker, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&connect("friend", 4))?;
        stream.read_exact(&mut answer)
    });
    greeted.is_ok() && answer == *b"\x20\x02\x00\x00"
}

/// Swaps the model's file for what is none, and asks for a reload each time.
pub(super) fn bundles(folder: &Path, pid: u32) -> Peer {
    let bundle = folder.join(bundle::NAME);
    Peer::new("bundles", move |is_over| {
        let model = bundle.join(bundle::MODEL_FILE);
        let manifest = bundle.join("manifest.toml");
        let kept = [fs::read(&model)?, fs::read(&manifest)?];
        let harm: [(&Path, Vec<u8>); 5] = [
            (&model, Vec::new()),
            (&model, vec![0xFF; 1 << 20]),
            (&model, kept[0][..kept[0].len() / 2].to_vec()),
            (&manifest, b"[".repeat(100_000)),
            (&manifest, vec![0; 8 << 20]),
        ];
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            let (path, bytes) = &harm[count as usize % harm.len()];
            fs::write(path, bytes)?;
            reload(pid)?;
            count += 1;
            std::thread::sleep(Duration::from_millis(500));
            fs::write(&model, &kept[0])?;
            fs::write(&manifest, &kept[1])?;
        }
        Ok(count)
    })
}

fn reload(pid: u32) -> Result<()> {
    let status = std::process::Command::new("kill")
        .args(["-HUP", &pid.to_string()])
        .status()
        .context("sending HUP")?;
    ensure!(status.success(), "kill: {status}");
    Ok(())
}

/// New topics under `root`, each with a payload as long as may be: some are
/// readings, the most are not.
fn invent_topics(broker: SocketAddr, root: &str, is_over: &AtomicBool) -> Result<u64> {
    let mut client = Client::default();
    let long = "x".repeat(LONG_BYTES);
    let reading = r#"{"level":1,"flow":0}"#;
    let hostile = format!("{{\"\\u001b[2J{long}\":1}}");
    run(is_over, |count| {
        let payload = match count % 4 {
            0 => reading,
            1 => &hostile,
            2 => &long,
            _ => "",
        };
        client.send(
            broker,
            &publish(&format!("{root}/invented-{count}"), payload, 0),
        )
    })
}

/// What a stranger may ask of nodes.
fn command_nodes(broker: SocketAddr, is_over: &AtomicBool) -> Result<u64> {
    let mut client = Client::default();
    run(is_over, |count| {
        let payload = match count % 3 {
            0 => r#"{"source":"nodes","running":false}"#.to_owned(),
            1 => format!("{{\"source\":\"\\u001b]0;{count}\\n\",\"period_ms\":1}}"),
            _ => "[".repeat(2000),
        };
        client.send(broker, &publish("hark/v1/gateway/cmd/node", &payload, 0))
    })
}

/// Subscriptions without end, each to a filter of its own.
fn subscribe_to_all(broker: SocketAddr, is_over: &AtomicBool) -> Result<u64> {
    let mut client = Client::default();
    let long = "f/".repeat(2000);
    run(is_over, |count| {
        let filter = match count % 3 {
            0 => format!("a/{count}/#"),
            1 => format!("{long}{count}"),
            _ => format!("+/{count}/+"),
        };
        let mut body = vec![0, 1];
        push_text(&mut body, &filter);
        body.push(1);
        client.send(broker, &packet(0x82, &body))
    })
}

/// Retained messages without end.
fn retain_all(broker: SocketAddr, is_over: &AtomicBool) -> Result<u64> {
    let mut client = Client::default();
    let long = "r".repeat(LONG_BYTES);
    run(is_over, |count| {
        client.send(broker, &publish(&format!("kept/{count}"), &long, 1))
    })
}

/// Packets that no client sends: before CONNECT, of the other version, torn,
/// longer than any, changed in a bit.
fn send_nonsense(broker: SocketAddr, is_over: &AtomicBool) -> Result<u64> {
    let valid = [
        connect("stranger", 4),
        connect("stranger", 5),
        publish("a/b", "c", 1),
    ]
    .concat();
    run(is_over, |count| {
        let mut bytes = match count % 5 {
            0 => vec![(count >> 3) as u8, 0],
            1 => vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            2 => packet(0xF0, b"\x19\x00"),
            3 => valid[..count as usize / 5 % valid.len()].to_vec(),
            _ => valid.clone(),
        };
        if count % 5 == 4 {
            let bit = count as usize / 5 % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let Ok(mut stream) = TcpStream::connect_timeout(&broker, PATIENCE) else {
            std::thread::sleep(Duration::from_millis(10));
            return Ok(());
        };
        // It may be closed at any byte, as it should.
        let _ = stream.write_all(&bytes);
        Ok(())
    })
}

/// As many connections as there may be, of clients that say who they are and then
/// read nothing of all that they ask for.
fn hold_connections(broker: SocketAddr, is_over: &AtomicBool) -> Result<u64> {
    let mut held = Vec::new();
    run(is_over, |count| {
        std::thread::sleep(Duration::from_millis(2));
        let Ok(mut stream) = TcpStream::connect_timeout(&broker, PATIENCE) else {
            return Ok(());
        };
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut body = vec![0, 1];
        push_text(&mut body, "#");
        body.push(0);
        let hello = [connect(&format!("held-{count}"), 4), packet(0x82, &body)].concat();
        if stream.write_all(&hello).is_ok() && held.len() < 500 {
            held.push(stream);
        }
        Ok(())
    })
}

/// Lines of invented sensors, and lines that are none.
fn invent_sensors(line: &Pty, is_over: &AtomicBool) -> Result<u64> {
    let long = "n".repeat(4000);
    run(is_over, |count| {
        let text = match count % 4 {
            0 => format!("{{\"name\":\"sensor-{count}\",\"level\":1,\"flow\":0}}\n"),
            1 => format!("{{\"name\":\"{long}{count}\",\"level\":1,\"flow\":0}}\n"),
            2 => format!("\x1b[31m{{\"{long}\n"),
            _ => "{\"level\":1e999,\"flow\":\"\\u0000\"}\r\n\n".to_owned(),
        };
        write(line, text.as_bytes())
    })
}

/// Nodes that nobody has installed, each with readings.
fn invent_nodes(line: &Pty, is_over: &AtomicBool) -> Result<u64> {
    run(is_over, |count| {
        let mut hello = node::hello(&format!("n{count}"), "bar");
        hello.boot_id = count as u32;
        let mut bytes = node::frame(&Message::Hello(hello));
        bytes.extend(node::frame(&node::reading(count as u32, 1.0)));
        if count % 3 == 0 {
            let torn = bytes.len() / 2;
            bytes[torn] ^= 0x10;
        }
        write(line, &bytes)
    })
}

fn write(line: &Pty, bytes: &[u8]) -> Result<()> {
    // What hark does not take within the time is lost, as on a real line.
    line.write(bytes, PATIENCE).context("writing to a line")?;
    Ok(())
}

/// Calls `attack` with a count until the flood is over.
fn run(is_over: &AtomicBool, mut attack: impl FnMut(u64) -> Result<()>) -> Result<u64> {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        attack(count)?;
        count += 1;
    }
    Ok(count)
}

/// A client that comes back when it was thrown out.
#[derive(Default)]
struct Client {
    stream: Option<TcpStream>,
    connects: u64,
    sent: u64,
}

impl Client {
    /// Sends `bytes`, or loses them with the connection.
    fn send(&mut self, broker: SocketAddr, bytes: &[u8]) -> Result<()> {
        if self.stream.is_none() {
            let Ok(mut stream) = TcpStream::connect_timeout(&broker, PATIENCE) else {
                std::thread::sleep(Duration::from_millis(10));
                return Ok(());
            };
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_read_timeout(Some(Duration::from_micros(1)))?;
            self.connects += 1;
            let name = format!("peer-{}-{}", std::process::id(), self.connects);
            if stream.write_all(&connect(&name, 4)).is_err() {
                return Ok(());
            }
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("it was opened above");
        self.sent += 1;
        // A look at what comes back costs a tick of the kernel's clock.
        let looks = self.sent.is_multiple_of(SENDS_PER_LOOK);
        if stream.write_all(bytes).is_err() || (looks && is_closed(stream)) {
            self.stream = None;
        }
        Ok(())
    }
}

/// Reads what there is, which nobody looks at.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(len) => len == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// A packet with a body of at most 268,435,455 bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let (low, rest) = ((left % 128) as u8, left / 128);
        bytes.push(low | if rest > 0 { 0x80 } else { 0 });
        left = rest;
        if left == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// CONNECT of MQTT 3.1.1 or 5, by its number, for a clean session.
fn connect(name: &str, version: u8) -> Vec<u8> {
    let mut body = Vec::new();
    push_text(&mut body, "MQTT");
    body.extend([version, 2, 0, 60]);
    if version == 5 {
        body.push(0);
    }
    push_text(&mut body, name);
    packet(0x10, &body)
}

/// PUBLISH of MQTT 3.1.1 at QoS 0, `flags` in its first byte.
fn publish(topic: &str, payload: &str, flags: u8) -> Vec<u8> {
    let mut body = Vec::new();
    push_text(&mut body, topic);
    body.extend_from_slice(payload.as_bytes());
    packet(0x30 | flags, &body)
}

fn push_text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}
