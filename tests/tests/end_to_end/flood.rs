//! Every kind of hostile peer at once, against one hark that may hardly grow.
//!
//! A pump's bearing fails while strangers invent topics, sensors, nodes and
//! filters, send what no parser expects, ask for commands, swap the model's files
//! and leave the standard streams unread. hark may take [`ROOM_BYTES`] of address
//! space more than it had when it began to serve; the kernel refuses the rest.
//! What must hold: it is alive, its sums add up, the pump's alert arrived, and the
//! broker inside hark still takes clients.
//!
//! It takes [`SECONDS`], or as long as `HARK_FLOOD_S` says:
//!
//! ```sh
//! HARK_FLOOD_S=60 cargo test --release --workspace --test end_to_end flood -- --nocapture
//! ```
//!
//! The report is one line of JSON.

mod peers;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hark_tests::{Mosquitto, hark_command, wait_until};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::hark::{Ended, Site};
use peers::{Peer, Site as Attacked};

/// How long the flood lasts, unless `HARK_FLOOD_S` says otherwise.
const SECONDS: u64 = 8;
/// Address space beyond what hark had when it began to serve.
const ROOM_BYTES: u64 = 128 << 20;

#[test]
fn a_flood_of_hostile_peers_costs_no_alert() -> Result<()> {
    let seconds = match std::env::var("HARK_FLOOD_S") {
        Ok(seconds) => seconds.parse().context("HARK_FLOOD_S is a number")?,
        Err(_) => SECONDS,
    };
    let broker = Mosquitto::start()?;
    let heard = broker.subscribe("hark/v1/gateway/alert/#")?;
    let embedded_port = free_port()?;
    let lines = tempfile::tempdir()?;
    let attacked = Attacked {
        broker_port: broker.port(),
        embedded_port,
        text_line: lines.path().join("text"),
        node_line: lines.path().join("nodes"),
    };
    // Plugged in before hark looks for them, so that none is a lost link.
    let mut peers = peers::plug_in(&attacked)?;
    let site = Site::with(&mqtt(&attacked), &sources(&attacked))?;
    add_pump_model(&site)?;

    // Nobody reads either until the end.
    let (mut stdout, stdout_in) = std::io::pipe()?;
    let (mut stderr, stderr_in) = std::io::pipe()?;
    let mut command = hark_command()?;
    command.args(["run", "--config", "hark.toml", "--json"]);
    let streams = [stdout_in, stderr_in].map(|pipe| Stdio::from(OwnedFd::from(pipe)));
    let [stdout_in, stderr_in] = streams;
    let mut hark = site.spawn(command, stdout_in, stderr_in)?;
    for source in ["victim", "crowd", "text", "nodes", "inside"] {
        hark.wait_for_link(source)?;
    }
    peers.push(peers::bundles(site.path(), hark.pid()?));

    let mut pump = Pump::start(&broker)?;
    let began_bytes = vm_bytes(hark.pid()?, "VmSize")?;
    limit_address_space(hark.pid()?, began_bytes + ROOM_BYTES)?;

    let until = Instant::now() + Duration::from_secs(seconds);
    let sent = flood(peers, until)?;
    ensure!(hark.is_alive()?, "hark has ended:\n{}", drain(&mut stderr)?);

    // The pump goes on as long as it takes: on a busy machine its simulated time is
    // what counts, and the fault comes 20 s into it.
    let alert = heard.find(Duration::from_secs(60), |message| {
        message.topic.ends_with("/alert/pump") && message.text().is_ok_and(is_raised)
    });
    pump.stop()?;
    let embedded = wait_until(LIMIT, "the broker inside hark to take a client", || {
        peers::takes_a_client(embedded_port).then_some(())
    });
    let peak_bytes = vm_bytes(hark.pid()?, "VmPeak")?;
    let resident_bytes = vm_bytes(hark.pid()?, "VmHWM")?;

    hark.signal("TERM")?;
    let reading = thread::spawn(move || drain(&mut stdout));
    let said = thread::spawn(move || drain(&mut stderr));
    let status = hark.wait_for_status(LIMIT)?;
    let stdout = reading.join().expect("reading does not panic")?;
    let stderr = said.join().expect("reading does not panic")?;
    let ended = Ended {
        status,
        stdout,
        stderr,
    };
    // Its sums are checked there.
    let summary = ended.summary()?;
    let report = json!({
        "seconds": seconds,
        "sent": sent,
        "alive": true,
        "sums_add_up": true,
        "alert_arrived": alert.is_ok(),
        "embedded_broker_serves": embedded.is_ok(),
        "address_space_grew_mib": (peak_bytes - began_bytes) >> 20,
        "resident_peak_mib": resident_bytes >> 20,
        "readings": summary["readings"],
        "rejections": summary["rejections"],
        "outputs": summary["outputs"],
    });
    println!("{report}");
    alert.with_context(|| format!("the pump's alert: {report}"))?;
    embedded.with_context(|| format!("{report}\n{}", ended.stderr))
}

/// Lets every peer loose, and says what each has sent.
fn flood(peers: Vec<Peer>, until: Instant) -> Result<Value> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let started: Vec<_> = peers
            .into_iter()
            .map(|peer| {
                let name = peer.name;
                (name, scope.spawn(move || (peer.attack)(is_over)))
            })
            .collect();
        thread::sleep(until.saturating_duration_since(Instant::now()));
        is_over.store(true, Ordering::Relaxed);
        let mut sent = json!({});
        for (name, thread) in started {
            let count = thread.join().expect("a peer does not panic");
            sent[name] = count.with_context(|| format!("the peer {name}"))?.into();
        }
        Ok(sent)
    })
}

fn mqtt(attacked: &Attacked) -> String {
    let Attacked {
        broker_port,
        embedded_port,
        ..
    } = attacked;
    format!(
        "[mqtt]\nport = {broker_port}\n\
         [broker]\nembedded = true\nlisten = \"127.0.0.1:{embedded_port}\"\n"
    )
}

fn sources(attacked: &Attacked) -> String {
    let Attacked {
        embedded_port,
        text_line,
        node_line,
        ..
    } = attacked;
    let [text_line, node_line] = [text_line.display(), node_line.display()];
    format!(
        "[[sources]]\nname = \"victim\"\nkind = \"mqtt\"\nmodel = \"pump\"\n\
         topics = [\"victim/{{sensor}}\"]\npriority = 9\n\
         [[sources]]\nname = \"crowd\"\nkind = \"mqtt\"\n\
         topics = [\"crowd/{{sensor}}\"]\npayload_bytes_max = 65536\n\
         [[sources]]\nname = \"text\"\nkind = \"serial\"\nport = \"{text_line}\"\n\
         format = \"json\"\nmapping.sensor = \"name\"\n\
         [[sources]]\nname = \"nodes\"\nkind = \"serial\"\nport = \"{node_line}\"\n\
         [[sources]]\nname = \"inside\"\nkind = \"mqtt\"\nport = {embedded_port}\n\
         topics = [\"inside/{{sensor}}\"]\n"
    )
}

/// The crowd's model, which is swapped, is the first; the pump has one of its own.
fn add_pump_model(site: &Site) -> Result<()> {
    let path = site.path().join("hark.toml");
    let config = fs::read_to_string(&path)?;
    let pump = "{ name = \"pump\", path = \"builtin:pump-rig\" }";
    let config = config.replacen("}]", &format!("}}, {pump}]"), 1);
    Ok(fs::write(&path, config)?)
}

fn is_raised(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|alert| alert["state"] == "raised")
}

/// The pump whose bearing fails; played by a hark of its own.
struct Pump(std::process::Child);

impl Pump {
    fn start(broker: &Mosquitto) -> Result<Self> {
        let address = format!("127.0.0.1:{}", broker.port());
        let child = hark_command()?
            .args(["simulate", "--mqtt", &address, "--topic", "victim/pump"])
            .args(["--fault", "outer_race@10s:0.9", "--speed", "4"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the pump")?;
        Ok(Self(child))
    }

    fn stop(&mut self) -> Result<()> {
        self.0.kill().context("stopping the pump")?;
        self.0.wait().context("waiting for the pump")?;
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.stop();
    }
}

/// A figure of `/proc/<pid>/status`, bytes.
fn vm_bytes(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(Path::new(&path)).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| {
        rest.trim_matches([':', '\t', ' ', 'k', 'B'])
            .parse::<u64>()
            .ok()
    });
    Ok(kib.with_context(|| format!("{name} in {path}"))? << 10)
}

fn limit_address_space(pid: u32, bytes: u64) -> Result<()> {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--as={bytes}")])
        .status()
        .context("running prlimit, of the package util-linux")?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

fn drain(pipe: &mut impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
