//! TLS with a broker of the test's own, which cuts its records and reads as no
//! real one would.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use common::secured::{TURN, drive, endpoint, trusting};
use common::{conn_ack, packet, publish, settings};
use hark_mosquitto::{Authority, Issued, Subject};
use hark_mqtt::{ClientSettings, Endpoint, Protocol};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// A broker for one connection that says `bytes` after its CONNACK in records as
/// large as may be, all at once; then it reads as many bytes as it is told to,
/// returns them, and closes without a goodbye.
fn large_records(
    own: &Issued,
    bytes: Vec<u8>,
    wanted: Receiver<usize>,
) -> (u16, JoinHandle<Vec<u8>>) {
    let certificate = CertificateDer::from_pem_file(&own.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let mut connect = [0; 18];
        stream.read_exact(&mut connect).unwrap();
        stream.write_all(&conn_ack(Protocol::V311, 0)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut read = vec![0; wanted.recv().unwrap()];
        stream.read_exact(&mut read).unwrap();
        read
    };
    (port, thread::spawn(serve))
}

fn once(port: u16, authority: &Authority) -> Endpoint {
    let mut settings = ClientSettings::new(settings(Protocol::V311));
    settings.backoff_ms = [60_000, 60_000];
    let tls = trusting(&authority.own().certificate);
    endpoint(port, Some(tls), settings)
}

#[test]
fn what_waits_in_a_record_is_told_without_a_wait_for_the_socket() {
    let authority = Authority::new("house").unwrap();
    let own = authority.issue("broker", &Subject::default()).unwrap();
    let message = publish(Protocol::V311, 0, 0, b"t", b"0123456789");
    let count = 16 * 1024 / message.len();
    // More than the space for reading, in one record.
    let (close, wanted) = channel();
    let (port, broker) = large_records(&own, message.repeat(count), wanted);
    let mut one = once(port, &authority);
    let told = drive(&mut one, count + 1);
    assert_eq!(told[0], "Up");
    assert!(told[1].starts_with("Message"), "{}", told[1]);
    assert_eq!(told[1..].iter().filter(|t| **t == told[1]).count(), count);
    close.send(0).unwrap();
    assert_eq!(drive(&mut one, 1), ["the broker closed the connection"]);
    broker.join().unwrap();
}

#[test]
fn a_broker_that_reads_late_costs_no_turn_and_gets_everything_in_order() {
    let authority = Authority::new("house").unwrap();
    let own = authority.issue("broker", &Subject::default()).unwrap();
    let (read, wanted) = channel();
    let (port, broker) = large_records(&own, Vec::new(), wanted);
    let mut one = once(port, &authority);
    assert_eq!(drive(&mut one, 1), ["Up"]);
    // Until the socket takes nothing for a whole turn.
    let mut sent = Vec::new();
    loop {
        let mut payload = [b'x'; 1000];
        payload[..8].copy_from_slice(&sent.len().to_be_bytes());
        while one.client().publish(&["t"], &payload).is_ok() {
            sent.extend(packet(0x30, &[&[0, 1, b't'], &payload[..]].concat()));
            payload[..8].copy_from_slice(&sent.len().to_be_bytes());
        }
        let start = Instant::now();
        one.wait(None, TURN);
        one.fill();
        assert!(one.poll_event().is_none());
        if start.elapsed() >= TURN {
            break;
        }
    }
    read.send(sent.len()).unwrap();
    while !one.flush() {
        one.wait(None, TURN);
    }
    assert_eq!(broker.join().unwrap(), sent);
}
