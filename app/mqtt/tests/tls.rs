//! TLS against a real mosquitto: what works, and what each failure says.
//!
//! Without mosquitto on the machine some of these tests say so and prove
//! nothing; `cargo xtask test` installs it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use common::secured::{PATIENCE, TURN, drive, endpoint, trusting};
use common::settings;
use hark_mosquitto::{Authority, Issued, Mosquitto, Settings, Subject};
use hark_mqtt::{ClientEvent, ClientSettings, Identity, Letter, Protocol, Tls};

fn shown(issued: &Issued) -> Option<Identity> {
    Some(Identity {
        cert_file: issued.certificate.clone(),
        key_file: issued.key.clone(),
    })
}

fn usual() -> ClientSettings {
    ClientSettings::new(settings(Protocol::V5))
}

/// What the first try at the broker says.
fn said(port: u16, tls: Option<Tls>) -> String {
    let mut one = endpoint(port, tls, usual());
    drive(&mut one, 1).remove(0)
}

fn check(port: u16, tls: Tls, expected: &str) {
    let said = said(port, Some(tls));
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}

/// A broker whose certificate is for `subject`, or nothing where there is no
/// mosquitto.
fn broker(authority: &Authority, subject: &Subject, client: Option<&Issued>) -> Option<Mosquitto> {
    let own = authority.issue("broker", subject).unwrap();
    start(&own, &authority.own().certificate, client)
}

fn start(own: &Issued, ca_file: &Path, client: Option<&Issued>) -> Option<Mosquitto> {
    let tls = hark_mosquitto::Tls {
        own,
        ca_file,
        client,
    };
    Mosquitto::start_or_skip(&Settings {
        tls: Some(tls),
        ..Settings::default()
    })
    .unwrap()
}

#[test]
fn letters_and_messages_of_many_records_cross_both_ways() {
    let authority = Authority::new("house").unwrap();
    let Some(broker) = broker(&authority, &Subject::default(), None) else {
        return;
    };
    let mut settings = usual();
    settings.session.packet_bytes_max = 200_000;
    settings.write_buffer_bytes = 400_000;
    settings.letters_max = 50;
    settings.subscriptions = vec![("t".to_owned(), 1)];
    let tls = trusting(&authority.own().certificate);
    let mut one = endpoint(broker.port(), Some(tls), settings);
    assert_eq!(drive(&mut one, 1), ["Up"]);
    for handle in 0..50_u8 {
        let letter = Letter {
            topic: "t".to_owned(),
            payload: vec![handle; 100_000],
            is_retained: false,
            handle: handle.into(),
        };
        assert_eq!(one.client().post(letter), None);
    }
    let start = Instant::now();
    let (mut published, mut received) = (0, 0_u8);
    while (published, received) != (50, 50) {
        assert!(start.elapsed() < PATIENCE, "{published} and {received}");
        one.wait(None, TURN);
        one.fill();
        while let Some(event) = one.poll_event() {
            match event {
                ClientEvent::Message { payload, .. } => {
                    assert_eq!(payload.len(), 100_000);
                    assert!(payload.iter().all(|byte| *byte == received));
                    received += 1;
                }
                ClientEvent::Published { .. } => published += 1,
                event => panic!("{event:?}"),
            }
        }
    }
}

#[test]
fn each_certificate_that_will_not_do_says_why() {
    let (house, other) = (
        Authority::new("house").unwrap(),
        Authority::new("other").unwrap(),
    );
    let trusting_house = || trusting(&house.own().certificate);
    let subject = Subject::default();
    let Some(good) = broker(&house, &subject, None) else {
        return;
    };
    let stranger = trusting(&other.own().certificate);
    let names_it = stranger.ca_file.clone().unwrap();
    check(good.port(), stranger, "comes from an unknown authority");
    let said = said(good.port(), Some(trusting(&names_it)));
    assert!(said.contains(&names_it.display().to_string()), "{said}");

    let years = [2000, 2001];
    let expired = broker(&house, &Subject { years, ..subject }, None).unwrap();
    let expected = "the broker's certificate expired at 2001-01-01T00:00:00Z, and it is 2";
    check(expired.port(), trusting_house(), expected);

    let years = [3000, 4000];
    let early = broker(&house, &Subject { years, ..subject }, None).unwrap();
    let expected = "is not valid before 3000-01-01T00:00:00Z";
    check(early.port(), trusting_house(), expected);

    let hosts = &["broker.example", "192.0.2.7"];
    let elsewhere = broker(&house, &Subject { hosts, ..subject }, None).unwrap();
    let expected =
        "is for broker.example, 192.0.2.7 and not for localhost: set host or server_name";
    check(elsewhere.port(), trusting_house(), expected);
    let mut named = trusting_house();
    named.server_name = Some("broker.example".to_owned());
    check(elsewhere.port(), named, "Up");

    let hosts = &[];
    let nameless = broker(&house, &Subject { hosts, ..subject }, None).unwrap();
    check(
        nameless.port(),
        trusting_house(),
        "names no host as subjectAltName",
    );

    let of_itself = start(&house.own(), &house.own().certificate, None).unwrap();
    check(
        of_itself.port(),
        trusting_house(),
        "basicConstraints=CA:FALSE",
    );
}

#[test]
fn a_broker_that_wants_a_certificate_gets_it_or_is_told_about() {
    let (house, other) = (
        Authority::new("house").unwrap(),
        Authority::new("other").unwrap(),
    );
    let subject = Subject::default();
    let client = house.issue("client", &subject).unwrap();
    let Some(broker) = broker(&house, &subject, Some(&client)) else {
        return;
    };
    let with = |identity| Tls {
        identity,
        ..trusting(&house.own().certificate)
    };
    check(broker.port(), with(shown(&client)), "Up");
    let expected = "the broker wants a certificate of this client: set cert_file and key_file";
    assert_eq!(said(broker.port(), Some(with(None))), expected);
    let stranger = other.issue("client", &subject).unwrap();
    let expected = "(cert_file): it does not know its authority";
    check(broker.port(), with(shown(&stranger)), expected);
    let years = [2000, 2001];
    let old = house.issue("old", &Subject { years, ..subject });
    let expected = "(cert_file): it has expired";
    check(broker.port(), with(shown(&old.unwrap())), expected);
}

#[test]
fn a_port_that_speaks_the_other_way_says_so() {
    let authority = Authority::new("house").unwrap();
    let Some(secured) = broker(&authority, &Subject::default(), None) else {
        return;
    };
    let told = said(secured.port(), None);
    assert!(told.contains("set tls = true"), "{told}");

    let plain = Mosquitto::start().unwrap();
    let tls = trusting(&authority.own().certificate);
    check(
        plain.port(),
        tls,
        "in the TLS handshake: if that port is without TLS, set tls = false",
    );
}

#[test]
fn a_port_that_says_nothing_or_something_else_is_told_as_that() {
    let authority = Authority::new("house").unwrap();
    let tls = trusting(&authority.own().certificate);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    check(
        port,
        tls.clone(),
        "does not answer the TLS handshake: if that port is without TLS",
    );

    // What has waited so far gets it, too.
    let shouting = thread::spawn(move || {
        for stream in listener.incoming() {
            let said = stream.unwrap().write_all(b"220 mail.example ready\r\n");
            if said.is_err() {
                break;
            }
        }
    });
    check(port, tls, "what answers there is not TLS");
    drop(shouting);
}

#[test]
fn files_that_will_not_do_are_named() {
    let authority = Authority::new("house").unwrap();
    let subject = Subject::default();
    let (one, two) = (
        authority.issue("one", &subject).unwrap(),
        authority.issue("two", &subject).unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let check = |ca_file: PathBuf, cert_file: &Path, key_file: &Path, expected: &str| {
        let tls = Tls {
            identity: Some(Identity {
                cert_file: cert_file.to_owned(),
                key_file: key_file.to_owned(),
            }),
            ..trusting(&ca_file)
        };
        let error = tls.check().unwrap_err();
        let said = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    };
    let ca_file = || authority.own().certificate;
    let (cert, key) = (one.certificate.as_path(), one.key.as_path());
    check(
        folder.path().join("none"),
        cert,
        key,
        "none: Some(Os { code: 2",
    );
    check(
        file("empty", ""),
        cert,
        key,
        "empty holds no certificate in PEM",
    );
    check(
        key.to_owned(),
        cert,
        key,
        "one.key holds no certificate in PEM",
    );
    check(ca_file(), cert, cert, "one.pem holds no private key in PEM");
    let expected = "two.key is not the key of the first certificate in";
    check(ca_file(), cert, &two.key, expected);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let expected = "holds no private key in PEM; one that is encrypted cannot be read";
    check(ca_file(), cert, &file("encrypted", encrypted), expected);
    let torn = fs::read_to_string(key).unwrap().replace("-----END", "");
    check(
        ca_file(),
        cert,
        &file("torn", &torn),
        "torn is damaged: it is no PEM",
    );
    let long = " ".repeat((1 << 20) + 1);
    check(
        file("long", &long),
        cert,
        key,
        "long has more than 1048576 bytes",
    );
}

#[test]
fn renewed_files_are_in_force_with_the_next_connection() {
    let (house, next) = (
        Authority::new("house").unwrap(),
        Authority::new("next").unwrap(),
    );
    let subject = Subject::default();
    let (own, client) = (
        house.issue("broker", &subject).unwrap(),
        house.issue("client", &subject).unwrap(),
    );
    let trusted = house.own();
    let Some(mut broker) = start(&own, &trusted.certificate, Some(&client)) else {
        return;
    };
    let tls = Tls {
        identity: shown(&client),
        ..trusting(&trusted.certificate)
    };
    let mut one = endpoint(broker.port(), Some(tls), usual());
    assert_eq!(drive(&mut one, 1), ["Up"]);
    broker.kill().unwrap();
    drive(&mut one, 1);
    // The broker's side first: what this client has does not fit any more.
    next.issue("broker", &subject)
        .unwrap()
        .replace(&own)
        .unwrap();
    broker.restart_on_same_port().unwrap();
    let start = Instant::now();
    loop {
        let told = drive(&mut one, 1).remove(0);
        if told.contains("comes from an unknown authority") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{told}");
    }
    one.client().post(Letter {
        topic: "t".to_owned(),
        payload: b"x".to_vec(),
        is_retained: false,
        handle: 7,
    });
    broker.kill().unwrap();
    next.issue("client", &subject)
        .unwrap()
        .replace(&client)
        .unwrap();
    next.own().replace(&trusted).unwrap();
    broker.restart_on_same_port().unwrap();
    loop {
        let told = drive(&mut one, 1).remove(0);
        if told.contains("Published { handle: 7 }") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{told}");
    }
}
