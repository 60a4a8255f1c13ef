//! An endpoint that speaks TLS, and is driven until it has told enough.

use std::path::Path;
use std::time::{Duration, Instant};

use hark_mqtt::{Address, Client, ClientEvent, ClientSettings, Endpoint, Tls};

/// Everything here takes milliseconds; the rest is for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TURN: Duration = Duration::from_millis(100);

pub(crate) fn trusting(ca_file: &Path) -> Tls {
    Tls {
        ca_file: Some(ca_file.to_owned()),
        ..Tls::default()
    }
}

pub(crate) fn endpoint(port: u16, tls: Option<Tls>, settings: ClientSettings) -> Endpoint {
    let host = "localhost".to_owned();
    Endpoint::new(Client::new(settings).unwrap(), Address { host, port, tls })
}

/// Drives the endpoint until so many things were told.
pub(crate) fn drive(endpoint: &mut Endpoint, count: usize) -> Vec<String> {
    let start = Instant::now();
    let mut told = Vec::new();
    while told.len() < count {
        assert!(start.elapsed() < PATIENCE, "only {told:?} so far");
        endpoint.wait(None, PATIENCE);
        endpoint.fill();
        while let Some(event) = endpoint.poll_event() {
            told.push(match event {
                ClientEvent::Down { why, .. } => why.to_string(),
                event => format!("{event:?}"),
            });
        }
    }
    told
}
