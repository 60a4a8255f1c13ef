//! A broker's bytes in both versions of MQTT, whole against in chunks.
//!
//! The first byte is the length of the chunks; the rest follows a CONNECT and
//! a SUBSCRIBE of two filters. What is told and what is answered may not
//! depend on how the bytes come. And a client that is told the same, with the
//! time passing as the bytes say, stays bounded and says when it is due.
#![no_main]

use hark_mqtt::{Client, ClientSettings, Letter, Protocol, Session, SessionError, Settings};
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
        drive(protocol, bytes, usize::from(*chunk_len).max(1));
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

/// A client over as many connections as the bytes end.
fn drive(protocol: Protocol, bytes: &[u8], chunk_len: usize) {
    const LETTERS_MAX: usize = 3;
    let mut client = client(protocol, LETTERS_MAX);
    let (mut now_ms, mut handle) = (0, 0);
    for chunk in bytes.chunks(chunk_len) {
        now_ms += u64::from(chunk[0]) * 10;
        client.handle_time(now_ms);
        if client.wants_connection() {
            client.handle_opened();
        }
        handle += 1;
        client.post(Letter {
            topic: "t".to_owned(),
            payload: vec![chunk[0]],
            is_retained: true,
            handle,
        });
        assert!(client.waiting() <= LETTERS_MAX);
        if client.is_open() {
            // A socket that is slow now and then.
            let len = client.output().len();
            client.handle_written(if chunk[0] & 1 == 0 { len } else { len / 2 });
            let space = client.read_space();
            let len = space.len().min(chunk.len());
            space[..len].copy_from_slice(&chunk[..len]);
            client.handle_read(len);
        }
        while client.poll_event().is_some() {}
        let is_due = client.next_timeout_ms().is_some_and(|at| at < now_ms);
        client.handle_time(now_ms);
        while client.poll_event().is_some() {}
        let is_still_due = client.next_timeout_ms().is_some_and(|at| at < now_ms);
        assert!(
            !is_due || !is_still_due,
            "what is due is done, and not asked for again"
        );
        assert!(!client.has_more(), "everything was told");
    }
}

fn client(protocol: Protocol, letters_max: usize) -> Client {
    let mut settings = ClientSettings::new(settings(protocol));
    settings.subscriptions = vec![("a".to_owned(), 0), ("b".to_owned(), 2)];
    settings.letters_max = letters_max;
    settings.write_buffer_bytes = 0;
    Client::new(settings).expect("the settings are short")
}

fn settings(protocol: Protocol) -> Settings {
    Settings {
        protocol,
        client_id: String::new(),
        login: None,
        keep_alive_s: 60,
        packet_bytes_max: PACKET_BYTES_MAX,
    }
}

fn session(protocol: Protocol) -> Session {
    let mut session = Session::new(&settings(protocol), 0, 2048).expect("the settings are short");
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
