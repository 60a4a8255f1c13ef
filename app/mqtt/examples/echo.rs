//! Answers each message on `sensors/+` with its sequence number on
//! `verdict/<sensor>`, and does nothing else: the ceiling of this client.
//!
//! `echo <host:port> [3.1.1|5]`. Use it as any gateway under the load
//! generator; it runs until the broker is gone.

use std::time::Duration;

use hark_mqtt::{
    Address, Client, ClientEvent, ClientSettings, Endpoint, Protocol, Settings, Unpublished,
};

/// As large as a socket's buffer gets, so that a busy moment is one read.
const BUFFER_BYTES: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("usage: echo <host:port> [3.1.1|5]")?;
    let protocol = match args.next().as_deref() {
        None | Some("3.1.1") => Protocol::V311,
        Some("5") => Protocol::V5,
        Some(other) => return Err(format!("no protocol `{other}`; there are 3.1.1 and 5").into()),
    };
    let settings = Settings {
        protocol,
        client_id: "echo".to_owned(),
        login: None,
        keep_alive_s: 30,
        packet_bytes_max: 64 * 1024,
    };
    let client = Client::new(ClientSettings {
        subscriptions: vec![("sensors/+".to_owned(), 0)],
        needs_every_subscription: true,
        read_buffer_bytes: BUFFER_BYTES,
        write_buffer_bytes: BUFFER_BYTES,
        ..ClientSettings::new(settings)
    })?;
    let (host, port) = address.rsplit_once(':').ok_or("the address has no port")?;
    let address = Address::plain(host, port.parse()?);
    echo(Endpoint::new(client, address))
}

fn echo(mut link: Endpoint) -> Result<(), Box<dyn std::error::Error>> {
    let mut answer = Answer::default();
    loop {
        // Waiting costs less than a read in vain, and under load it returns
        // at once.
        link.wait(None, Duration::from_secs(1));
        link.fill();
        while let Some(event) = link.poll_event() {
            match event {
                ClientEvent::Message { topic, payload, .. } if answer.set(topic, payload) => {}
                ClientEvent::Down { why, .. } => return Err(why.to_string().into()),
                _ => continue,
            }
            let Answer { sensor, payload } = &answer;
            while let Err(Unpublished::Full(_)) =
                link.client().publish(&["verdict/", sensor], payload)
            {
                link.wait(None, Duration::from_secs(1));
            }
        }
    }
}

/// What a message is answered with; kept, so that its room is reused.
#[derive(Default)]
struct Answer {
    sensor: String,
    payload: Vec<u8>,
}

impl Answer {
    /// Whether there is a sequence number to answer.
    fn set(&mut self, topic: &str, payload: &[u8]) -> bool {
        let Some(seq) = sequence(payload) else {
            return false;
        };
        self.sensor.clear();
        self.sensor
            .push_str(topic.rsplit('/').next().unwrap_or(topic));
        self.payload.clear();
        self.payload.extend(b"{\"seq\":");
        self.payload.extend(seq);
        self.payload.extend(b",\"score\":0.0,\"anomaly\":false}");
        true
    }
}

/// The digits after `"seq":`.
fn sequence(payload: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"seq\":";
    let at = payload.windows(KEY.len()).position(|text| text == KEY)? + KEY.len();
    let rest = &payload[at..];
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len > 0).then(|| &rest[..len])
}
