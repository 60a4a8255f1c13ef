//! The broker inside hark, for sites that have none: rumqttd on one address.
//!
//! rumqttd serves each protocol version on a listener of its own. The one that
//! is asked for speaks 3.1.1 or 5, whichever hark itself is configured for.

use anyhow::{Context, ensure};
use hark_config::Protocol;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long the broker may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients at once; a site with more has a broker of its own.
const CLIENTS_MAX: usize = 256;
/// The longest payload, bytes: above every payload limit of a source.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Messages kept for slow subscribers, bytes and segments a topic filter.
const SEGMENT_BYTES: usize = 1024 * 1024;
const SEGMENTS_MAX: usize = 4;

/// Starts the broker on a thread of its own; it runs as long as the process.
///
/// # Errors
/// If the address is taken or cannot be listened on.
pub fn start(listen: SocketAddr, protocol: Protocol) -> anyhow::Result<()> {
    let hint = "another broker may be running: set broker.listen, or broker.embedded = false";
    drop(
        TcpListener::bind(listen)
            .with_context(|| format!("broker.listen = \"{listen}\": {hint}"))?,
    );
    let mut broker = Broker::new(config(listen, protocol));
    std::thread::Builder::new()
        .name("broker".into())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::error!("the embedded broker stopped: {error}");
            }
        })
        .context("starting the broker's thread")?;
    wait_until_it_accepts(listen)?;
    let (speaks, options) = match protocol {
        Protocol::V311 => ("3.1.1", "the default of mosquitto_sub"),
        Protocol::V5 => ("5", "`mosquitto_sub -V 5`"),
    };
    tracing::info!("embedded broker on {listen}, for MQTT {speaks} only: {options}");
    Ok(())
}

fn wait_until_it_accepts(listen: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect_timeout(&listen, START_TIMEOUT).is_err() {
        ensure!(
            started.elapsed() < START_TIMEOUT,
            "the embedded broker does not accept connections on {listen}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn config(listen: SocketAddr, protocol: Protocol) -> Config {
    let server = ServerSettings {
        name: "hark".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: PAYLOAD_BYTES_MAX,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let servers = Some(HashMap::from([("1".to_owned(), server)]));
    let (v4, v5) = match protocol {
        Protocol::V311 => (servers, None),
        Protocol::V5 => (None, servers),
    };
    Config {
        id: 0,
        router: RouterConfig {
            max_connections: CLIENTS_MAX,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS_MAX,
            ..RouterConfig::default()
        },
        v4,
        v5,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = start(address, Protocol::V5).unwrap_err();
        assert!(format!("{error:#}").contains(&address.to_string()));
    }
}
