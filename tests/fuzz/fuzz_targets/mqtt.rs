//! A broker's bytes in both versions of MQTT, whole against in chunks.
//!
//! The first byte is the length of the chunks; the rest follows a CONNECT and
//! a SUBSCRIBE of two filters. What is told and what is answered may not
//! depend on how the bytes come.
#![no_main]

use hark_mqtt::{Protocol, Session, SessionError, Settings};
use libfuzzer_sys::fuzz_target;

/// Small, so that messages that are too large are found.
const PACKET_BYTES_MAX: usize = 100;

fuzz_target!(|input: &[u8]| {
    let Some((chunk_len, bytes)) = input.split_first() else {
        return;
    };
    for protocol in [Protocol::V311, Protocol::V5] {
        let whole = outcome(protocol, bytes, bytes.len().max(1));
        assert_eq!(
            whole,
            outcome(protocol, bytes, usize::from(*chunk_len).max(1))
        );
    }
});

/// What is told, what is answered, and how it ends.
type Outcome = (Vec<String>, Vec<u8>, Option<SessionError>);

fn outcome(protocol: Protocol, bytes: &[u8], chunk_len: usize) -> Outcome {
    let mut session = session(protocol);
    let (mut told, mut answered) = (Vec::new(), Vec::new());
    for mut chunk in bytes.chunks(chunk_len) {
        while !chunk.is_empty() {
            let space = session.read_space();
            let len = space.len().min(chunk.len());
            assert!(len > 0, "every packet finds room or is skipped");
            space[..len].copy_from_slice(&chunk[..len]);
            session.handle_read(len);
            chunk = &chunk[len..];
            if let Err(error) = drain(&mut session, &mut told, &mut answered) {
                assert!(error.to_string().contains(' '));
                return (told, answered, Some(error));
            }
        }
    }
    (told, answered, None)
}

fn session(protocol: Protocol) -> Session {
    let settings = Settings {
        protocol,
        client_id: String::new(),
        login: None,
        keep_alive_s: 60,
        packet_bytes_max: PACKET_BYTES_MAX,
    };
    let mut session = Session::new(&settings, 0, 2048).expect("the settings are short");
    session
        .subscribe(&[("a", 0), ("b", 2)])
        .expect("there is room");
    session.handle_written(session.output().len());
    session
}

/// Tells every event and sends every answer.
fn drain(
    session: &mut Session,
    told: &mut Vec<String>,
    answered: &mut Vec<u8>,
) -> Result<(), SessionError> {
    loop {
        let result = session.poll_event();
        let event = result.map(|event| event.map(|event| format!("{event:?}")));
        assert!(session.consumed() <= session.received());
        answered.extend(session.output());
        session.handle_written(session.output().len());
        match event? {
            Some(event) => told.push(event),
            None if session.is_blocked() => {}
            None => return Ok(()),
        }
    }
}
