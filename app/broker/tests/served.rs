//! The broker on its socket, with clients that are not hark's: those of mosquitto,
//! rumqttc, and bytes that no client sends.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hark_broker::{Login, Server};

/// Both versions of MQTT, as mosquitto's clients call them.
const VERSIONS: [&str; 2] = ["311", "5"];
/// For a machine that is busy with other builds.
const LIMIT: Duration = Duration::from_secs(30);

fn start(login: Login) -> Server {
    Server::start("127.0.0.1:0".parse().unwrap(), login).unwrap()
}

fn client(server: &Server, program: &str, version: &str) -> Command {
    let port = server.address().port().to_string();
    let mut client = Command::new(program);
    client.args(["-h", "127.0.0.1", "-p", &port, "-V", version]);
    client
}

/// Publishes with more arguments; what became of it.
fn publish(server: &Server, version: &str, args: &[&str]) -> Output {
    let mut publisher = client(server, "mosquitto_pub", version);
    let output = publisher.args(args).stdin(Stdio::null()).output();
    output.expect("mosquitto-clients is installed")
}

fn check_published(server: &Server, version: &str, args: &[&str]) {
    let output = publish(server, version, args);
    assert!(output.status.success(), "{output:?}");
}

/// `mosquitto_sub`, from when it is subscribed.
struct Subscriber {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Subscriber {
    fn start(server: &Server, version: &str, args: &[&str]) -> Self {
        // The last filter's retained message comes when all are subscribed to.
        check_published(server, "5", &["-r", "-t", "ready", "-m", "ready"]);
        let mut subscriber = client(server, "mosquitto_sub", version);
        let mut child = subscriber
            .args(["-W", "60", "-F", "%q %r %t %p"])
            .args(args)
            .args(["-t", "ready"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto-clients is installed");
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut subscriber = Self { child, lines };
        while subscriber.line() != "0 1 ready ready" {}
        subscriber
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "mosquitto_sub has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Until `is_so`.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < until, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn mosquittos_clients_of_both_versions_hear_each_other() {
    let server = start(Login::default());
    for (from, to) in VERSIONS.iter().flat_map(|v| VERSIONS.map(|w| (*v, w))) {
        for quality in ["0", "1", "2"] {
            let args = ["-t", "a/+/c", "-t", "$x/#", "-q", quality];
            let mut subscriber = Subscriber::start(&server, to, &args);
            check_published(&server, from, &["-t", "a/b/d", "-m", "other"]);
            check_published(&server, from, &["-t", "a/b/c", "-m", "x y", "-q", quality]);
            let granted = if quality == "0" { "0" } else { "1" };
            assert_eq!(subscriber.line(), format!("{granted} 0 a/b/c x y"));
            check_published(&server, from, &["-t", "$x/y", "-m", "z"]);
            assert_eq!(subscriber.line(), "0 0 $x/y z");
        }
    }
}

#[test]
fn retained_messages_and_wills_reach_mosquittos_clients() {
    let server = start(Login::default());
    for version in VERSIONS {
        check_published(
            &server,
            version,
            &["-r", "-q", "1", "-t", "r/1", "-m", "kept"],
        );
        let args = ["-t", "r/#", "-t", "will", "-q", "1"];
        let mut subscriber = Subscriber::start(&server, version, &args[..2]);
        drop(subscriber);
        subscriber = Subscriber::start(&server, version, &args[2..]);
        let mut dies = client(&server, "mosquitto_sub", version);
        let will = ["--will-topic", "will", "--will-payload", "gone"];
        let mut dies = dies.args(will).args(["-t", "dies/#"]).spawn().unwrap();
        let before = server.counts().connects;
        wait_until("it is there", || server.counts().connects > before);
        dies.kill().unwrap();
        dies.wait().unwrap();
        assert_eq!(subscriber.line(), "0 0 will gone");
    }
    let mut kept = client(&server, "mosquitto_sub", "311");
    let kept = kept.args(["-C", "1", "-W", "30", "-F", "%r %t %p", "-t", "r/+"]);
    assert_eq!(kept.output().unwrap().stdout, b"1 r/1 kept\n");
}

#[test]
fn properties_of_mqtt_5_reach_the_other_side() {
    let server = start(Login::default());
    let mut subscriber = Subscriber::start(&server, "5", &["-t", "p"]);
    // Its format shows them where they are.
    drop(subscriber);
    let mut reader = client(&server, "mosquitto_sub", "5");
    let mut reader = reader
        .args(["-C", "1", "-W", "60", "-F", "%C %R %D %P %p", "-t", "p"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let property = |name: &str| {
        let mut publisher = client(&server, "mosquitto_pub", "5");
        publisher.args(["-r", "-t", "p", "-m", "x", "-D", "publish"]);
        publisher.arg(name);
        publisher
    };
    let mut all = property("content-type");
    all.args(["json", "-D", "publish", "response-topic", "re/ply"]);
    all.args(["-D", "publish", "correlation-data", "id"]);
    all.args(["-D", "publish", "user-property", "name", "value"]);
    assert!(all.status().unwrap().success());
    let mut heard = String::new();
    reader
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut heard)
        .unwrap();
    reader.wait().unwrap();
    assert_eq!(heard, "json re/ply id name:value x\n");
    subscriber = Subscriber::start(&server, "5", &["-t", "other"]);
    drop(subscriber);
}

#[test]
fn a_large_payload_arrives_as_it_was_sent() {
    let server = start(Login::default());
    let payload: String = (0..50_000).map(|n| format!("{n:>6},")).collect();
    let folder = std::env::temp_dir().join(format!("hark-broker-{}", std::process::id()));
    std::fs::write(&folder, &payload).unwrap();
    for version in VERSIONS {
        let mut subscriber = Subscriber::start(&server, version, &["-q", "1", "-t", "large"]);
        let file = folder.to_str().unwrap();
        check_published(&server, version, &["-q", "1", "-t", "large", "-f", file]);
        assert_eq!(
            subscriber.line(),
            format!("1 0 large {}", payload.trim_end())
        );
    }
    std::fs::remove_file(&folder).unwrap();
}

#[test]
fn mosquittos_clients_are_told_that_their_login_is_wrong() {
    let server = start(Login {
        required: Some(("me".to_owned(), "secret".to_owned())),
    });
    for version in VERSIONS {
        let message = ["-t", "a", "-m", "x", "-q", "1"];
        let with = |login: &[&str]| publish(&server, version, &[&message[..], login].concat());
        assert!(with(&["-u", "me", "-P", "secret"]).status.success());
        for wrong in [
            &[][..],
            &["-u", "me", "-P", "wrong"],
            &["-u", "you", "-P", "secret"],
        ] {
            let output = with(wrong);
            assert!(!output.status.success());
            let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
            assert!(said.contains("bad user name or password"), "{said}");
        }
    }
    wait_until("they are counted", || server.counts().connects_refused == 6);
}

#[test]
fn rumqttc_of_both_versions_hears_itself() {
    let server = start(Login::default());
    let port = server.address().port();
    let options = rumqttc::MqttOptions::new("old", "127.0.0.1", port);
    let (old, mut events) = rumqttc::Client::new(options, 10);
    old.subscribe("t/+", rumqttc::QoS::ExactlyOnce).unwrap();
    old.publish("t/a", rumqttc::QoS::ExactlyOnce, false, "x")
        .unwrap();
    let heard = events.iter().find_map(|event| match event.unwrap() {
        rumqttc::Event::Incoming(rumqttc::Packet::Publish(heard)) => Some(heard),
        _ => None,
    });
    let heard = heard.unwrap();
    assert_eq!(
        (heard.topic.as_str(), &heard.payload[..]),
        ("t/a", &b"x"[..])
    );
    assert_eq!(heard.qos, rumqttc::QoS::AtLeastOnce);

    let options = rumqttc::v5::MqttOptions::new("new", "127.0.0.1", port);
    let (new, mut events) = rumqttc::v5::Client::new(options, 10);
    let quality = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
    new.subscribe("t/#", quality).unwrap();
    new.publish("t", quality, true, "y").unwrap();
    let heard = events.iter().find_map(|event| match event.unwrap() {
        rumqttc::v5::Event::Incoming(rumqttc::v5::Incoming::Publish(heard)) => Some(heard),
        _ => None,
    });
    let heard = heard.unwrap();
    assert_eq!(
        (&heard.topic[..], &heard.payload[..]),
        (&b"t"[..], &b"y"[..])
    );
    assert_eq!(heard.qos, quality);
}

#[test]
fn two_hundred_clients_hear_one() {
    const CLIENTS: usize = 200;
    let server = start(Login::default());
    let connect = |index: usize| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let name = format!("c{index:03}");
        let mut bytes = vec![0x10, 16, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 4];
        bytes.extend(name.as_bytes());
        bytes.extend([0x82, 6, 0, 1, 0, 1, b't', 1]);
        stream.write_all(&bytes).unwrap();
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 1]);
        stream
    };
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(connect).collect();
    check_published(&server, "311", &["-t", "t", "-m", "x", "-q", "1"]);
    for client in &mut clients {
        let mut message = [0; 8];
        client.read_exact(&mut message).unwrap();
        assert_eq!(message, [0x32, 6, 0, 1, b't', 0, 1, b'x']);
    }
    wait_until("it is counted", || {
        server.counts().messages_sent == CLIENTS as u64
    });
}

#[test]
fn a_stop_tells_the_clients_and_ends() {
    let server = start(Login::default());
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let connect = [
        0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, b'a',
    ];
    stream.write_all(&connect).unwrap();
    let mut answer = [0; 17];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [0x20, 15, 0, 0]);
    assert!(server.stop(Instant::now() + LIMIT));
    let mut last = Vec::new();
    stream.read_to_end(&mut last).unwrap();
    assert_eq!(last, [0xE0, 1, 0x8B]);
    assert!(TcpStream::connect(server.address()).is_err());
    assert!(server.threads().running().is_empty());
}

#[test]
fn a_client_that_leaves_without_a_word_frees_its_place() {
    let server = start(Login::default());
    for _ in 0..3 {
        // More than there may be at once.
        for _ in 0..hark_broker::limits::CLIENTS_MAX {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let connect = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0];
            stream.write_all(&connect).unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [0x20, 2, 0, 0]);
        }
    }
    wait_until("they are counted", || {
        server.counts().connects == 3 * hark_broker::limits::CLIENTS_MAX as u64
    });
}
