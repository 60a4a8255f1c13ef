//! A broker without sockets, and peers that speak to it in bytes.

use hark_broker::{Broker, ClientKey, Login};

pub(crate) const V311: u8 = 4;
pub(crate) const V5: u8 = 5;

/// A broker and its time.
pub(crate) struct Site {
    pub(crate) broker: Broker,
    pub(crate) now_ms: u64,
}

/// A packet of type and flags `first` with `body`.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}

/// What a CONNECT says; the rest is empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct Connect<'a> {
    pub(crate) version: u8,
    pub(crate) name: &'a str,
    pub(crate) keep_alive_s: u16,
    /// Topic, payload, flags of quality and retain.
    pub(crate) will: Option<(&'a str, &'a str, u8)>,
    pub(crate) login: Option<(&'a str, &'a str)>,
    pub(crate) properties: &'a [u8],
}

pub(crate) fn connect(connect: &Connect<'_>) -> Vec<u8> {
    let mut flags = 2;
    if let Some((_, _, will)) = connect.will {
        flags |= 4 | will;
    }
    if connect.login.is_some() {
        flags |= 0xC0;
    }
    let mut body = [text("MQTT"), vec![connect.version, flags]].concat();
    body.extend(connect.keep_alive_s.to_be_bytes());
    if connect.version == V5 {
        body.push(u8::try_from(connect.properties.len()).unwrap());
        body.extend(connect.properties);
    }
    body.extend(text(connect.name));
    if let Some((topic, payload, _)) = connect.will {
        if connect.version == V5 {
            body.push(0);
        }
        body.extend([text(topic), text(payload)].concat());
    }
    if let Some((user, password)) = connect.login {
        body.extend([text(user), text(password)].concat());
    }
    packet(0x10, &body)
}

/// A PUBLISH of MQTT 3.1.1, or with the `properties` of MQTT 5.
pub(crate) fn publish(
    flags: u8,
    topic: &str,
    id: Option<u16>,
    properties: Option<&[u8]>,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    if let Some(properties) = properties {
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend(properties);
    }
    body.extend(payload);
    packet(0x30 | flags, &body)
}

/// A SUBSCRIBE of either version.
pub(crate) fn subscribe(version: u8, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = Vec::from(id.to_be_bytes());
    if version == V5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = Vec::from(id.to_be_bytes());
    if version == V5 {
        body.push(0);
    }
    body.extend(filters.iter().flat_map(|filter| text(filter)));
    packet(0xA2, &body)
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with_login(Login::default())
    }

    pub(crate) fn with_login(login: Login) -> Self {
        Self {
            broker: Broker::new(login),
            now_ms: 0,
        }
    }

    /// A connection that has said nothing yet.
    pub(crate) fn open(&mut self) -> ClientKey {
        self.broker.handle_opened("peer".to_owned(), self.now_ms)
    }

    /// A client that was let in.
    pub(crate) fn client(&mut self, version: u8, name: &str) -> ClientKey {
        self.connected(&Connect {
            version,
            name,
            ..Connect::default()
        })
    }

    pub(crate) fn connected(&mut self, with: &Connect<'_>) -> ClientKey {
        let key = self.open();
        self.say(key, &connect(with));
        let answer = self.hear(key);
        assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:02x?}");
        key
    }

    /// `key` sends `bytes`, in as many reads as the server would need.
    pub(crate) fn say(&mut self, key: ClientKey, bytes: &[u8]) {
        for chunk in bytes.chunks(hark_broker::limits::READ_BYTES) {
            self.broker.handle_read(key, chunk, self.now_ms);
        }
        self.broker.handle_time(self.now_ms);
    }

    /// Takes everything that `key` is sent.
    pub(crate) fn hear(&mut self, key: ClientKey) -> Vec<u8> {
        let mut heard = Vec::new();
        loop {
            let output = self.broker.output(key).to_vec();
            if output.is_empty() && self.broker.next_timeout_ms() != Some(self.now_ms) {
                return heard;
            }
            self.broker.handle_written(key, output.len());
            heard.extend(output);
            self.broker.handle_time(self.now_ms);
        }
    }

    pub(crate) fn close(&mut self, key: ClientKey) {
        self.broker.handle_closed(key, self.now_ms);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.broker.handle_time(self.now_ms);
    }

    /// Who is to be closed, as the server does it: with what it is sent last.
    pub(crate) fn closed(&mut self) -> Vec<(ClientKey, Vec<u8>)> {
        let mut closed = Vec::new();
        while let Some(key) = self.broker.poll_closing() {
            let last = self.broker.output(key).to_vec();
            self.close(key);
            closed.push((key, last));
        }
        closed
    }

    /// Every notice so far.
    pub(crate) fn told(&mut self) -> String {
        let notices = std::iter::from_fn(|| self.broker.poll_notice());
        notices.collect::<Vec<_>>().join("\n")
    }
}
