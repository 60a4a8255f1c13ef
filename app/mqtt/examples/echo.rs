//! Answers each message on `sensors/+` with its sequence number on
//! `verdict/<sensor>`, and does nothing else: the ceiling of this client.
//!
//! `echo <host:port> [3.1.1|5]`. Use it as any gateway under the load
//! generator; it runs until the broker is gone.

use std::time::{Duration, Instant};

use hark_mqtt::{Event, Link, Protocol, Session, Settings};

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
    let mut session = Session::new(&settings, BUFFER_BYTES, BUFFER_BYTES)?;
    session.subscribe(&[("sensors/+", 0)])?;
    let link = Link::connect(&address, session, Duration::from_secs(5))?;
    echo(link)
}

fn echo(mut link: Link) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut answer = Answer::default();
    loop {
        let is_written = link.flush()?;
        // Waiting costs less than a read in vain, and under load it returns
        // at once.
        link.wait(true, !is_written, Duration::from_secs(1))?;
        link.fill()?;
        let now_ms = u64::try_from(start.elapsed().as_millis())?;
        link.session().handle_time(now_ms)?;
        while let Some(event) = link.session().poll_event()? {
            match event {
                Event::Message { topic, payload } if answer.set(topic, payload) => {}
                Event::Subscribed { is_granted: false } => return Err("not granted".into()),
                _ => continue,
            }
            let Answer { sensor, payload } = &answer;
            while link
                .session()
                .publish(&["verdict/", sensor], payload)
                .is_err()
            {
                link.wait(false, true, Duration::from_secs(1))?;
                link.flush()?;
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
