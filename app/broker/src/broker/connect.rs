//! Who is let in, and as whom.

use super::{
    BAD_AUTHENTICATION, BAD_CLIENT_ID, BAD_LOGIN, BUSY, Broker, QUOTA, SUCCESS, TAKEN_OVER,
    is_in_bounds,
};
use crate::ClientKey;
use crate::client::{Session, Will};
use crate::fields::Header;
use crate::limits::{CLIENT_ID_BYTES_MAX, CLIENTS_MAX, PACKET_BYTES_MAX, RECEIVE_MAX};
use crate::message::Message;
use crate::notices::Kind;
use crate::output::{push_text, push_variable};
use crate::packet::{Connect, NotConnect, Version};
use crate::properties;

impl Broker {
    pub(super) fn handle_connect(&mut self, key: ClientKey, header: Header, body: &[u8]) {
        let connect = match Connect::parse(header, body) {
            Ok(connect) => connect,
            Err(NotConnect::Version) => {
                // 3.1.1, 3.2.2.3; older versions say it in the same words.
                let what = "it asks for a version of MQTT other than 3.1.1 and 5";
                return self.refuse(key, &[0x20, 2, 0, 1], what);
            }
            Err(NotConnect::Wrong(wrong)) => return self.refuse(key, &[], wrong.what),
        };
        if let Err((code, what)) = self.check_connect(&connect) {
            return self.refuse(key, &refusal(connect.version, code), what);
        }
        let will_bytes = connect.will.as_ref().map_or(0, Message::cost_of);
        if !self.make_room(will_bytes) {
            let answer = refusal(connect.version, QUOTA);
            return self.refuse(key, &answer, "there is no room for its will");
        }
        self.let_in(key, &connect);
    }

    /// What MQTT 5 calls it, and what is wrong.
    fn check_connect(&self, connect: &Connect<'_>) -> Result<(), (u8, &'static str)> {
        if connect.wants_authentication {
            return Err((BAD_AUTHENTICATION, "it wants to authenticate by a method"));
        }
        if let Some((user, password)) = &self.login.required {
            let is_user = is_equal(connect.user.unwrap_or("").as_bytes(), user.as_bytes());
            let given = connect.password.unwrap_or(&[]);
            if !(is_equal(given, password.as_bytes()) & is_user) {
                return Err((BAD_LOGIN, "its user name or password is wrong"));
            }
        }
        let is_nameless = connect.client_id.is_empty();
        if connect.client_id.len() > CLIENT_ID_BYTES_MAX
            || (is_nameless && connect.version == Version::V311 && !connect.is_clean)
        {
            return Err((BAD_CLIENT_ID, "its client identifier is empty or too long"));
        }
        if !self.names.contains_key(connect.client_id) && self.names.len() >= CLIENTS_MAX {
            return Err((BUSY, "there are as many clients as there may be"));
        }
        match &connect.will {
            Some(will) if !is_in_bounds(will) => Err((QUOTA, "its will's topic is too long")),
            _ => Ok(()),
        }
    }

    fn let_in(&mut self, key: ClientKey, connect: &Connect<'_>) {
        let is_nameless = connect.client_id.is_empty();
        let name = if is_nameless {
            self.free_name(key)
        } else {
            connect.client_id.to_owned()
        };
        if let Some(before) = self.names.get(&name) {
            let what = "another client of its name has come";
            self.leaving.push_back((*before, TAKEN_OVER, what));
            // Its will is published before its successor hears anything.
            self.settle();
        }
        let will = connect.will.as_ref().map(|will| Will {
            message: Message::new(will, self.now_ms, &self.budget),
            is_retained: will.is_retained,
        });
        let silence_ms = u64::from(connect.keep_alive_s) * 1500;
        let silence_ms_max = (silence_ms > 0).then_some(silence_ms);
        let mut session = Session::new(connect.version, name.clone());
        session.will = will;
        session.silence_ms_max = silence_ms_max;
        session.receive_max = connect.receive_max;
        session.packet_bytes_max = connect.packet_bytes_max;
        let answer = accepted(connect, is_nameless.then_some(name.as_str()));
        if let Some(client) = self.clients.get_mut(&key) {
            client.session = Some(session);
            client.heard_at_ms = self.now_ms;
            client.output.push_body(0x20, &answer);
            self.names.insert(name, key);
            self.counts.connects += 1;
        }
        if let Some(silence_ms) = silence_ms_max {
            self.due_ms = self.due_ms.min(self.now_ms + silence_ms);
        }
        self.list(key);
    }

    /// A name for a client that has none.
    fn free_name(&self, key: ClientKey) -> String {
        let names = (0..).map(|other| match other {
            0 => format!("auto-{}", key.0),
            other => format!("auto-{}-{other}", key.0),
        });
        let mut free = names.filter(|name| !self.names.contains_key(name));
        free.next().expect("there are fewer clients than numbers")
    }

    /// Answers a CONNECT by a no.
    pub(super) fn refuse(&mut self, key: ClientKey, answer: &[u8], what: &str) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        client.output.push(answer);
        client.is_closing = true;
        self.partial_bytes -= std::mem::take(&mut client.input).len();
        self.closing.push_back(key);
        self.counts.connects_refused += 1;
        let peer = &client.peer;
        self.notices.tell(Kind::Refused, self.now_ms, || {
            format!("refused {peer}: {what}")
        });
    }
}

/// Takes as long wherever the first difference is.
fn is_equal(given: &[u8], expected: &[u8]) -> bool {
    let pairs = given.iter().zip(expected);
    let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
    given.len() == expected.len() && difference == 0
}

/// The body of a CONNACK that lets a client in (3.1.1, 3.2; 5.0, 3.2).
fn accepted(connect: &Connect<'_>, assigned: Option<&str>) -> Vec<u8> {
    // No session was there before.
    let mut body = vec![0, SUCCESS];
    if connect.version == Version::V311 {
        return body;
    }
    let mut offer = Vec::new();
    if connect.session_expiry_s > 0 {
        offer.push(properties::SESSION_EXPIRY);
        offer.extend(0_u32.to_be_bytes());
    }
    offer.push(properties::RECEIVE_MAXIMUM);
    offer.extend(RECEIVE_MAX.to_be_bytes());
    offer.push(properties::MAXIMUM_PACKET_SIZE);
    offer.extend((PACKET_BYTES_MAX as u32).to_be_bytes());
    if let Some(name) = assigned {
        offer.push(properties::ASSIGNED_CLIENT_ID);
        push_text(&mut offer, name);
    }
    offer.extend([properties::SUBSCRIPTION_ID_AVAILABLE, 0]);
    offer.extend([properties::SHARED_SUBSCRIPTION_AVAILABLE, 0]);
    push_variable(&mut body, offer.len());
    body.extend(offer);
    body
}

/// A CONNACK that does not.
fn refusal(version: Version, code: u8) -> Vec<u8> {
    match version {
        Version::V5 => vec![0x20, 3, 0, code, 0],
        // 3.1.1, table 3.1.
        Version::V311 => {
            let code = match code {
                BAD_CLIENT_ID => 2,
                BAD_LOGIN => 4,
                BAD_AUTHENTICATION => 5,
                _ => 3,
            };
            vec![0x20, 2, 0, code]
        }
    }
}
