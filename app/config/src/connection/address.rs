//! An address of a broker, however it is written.

use std::net::Ipv6Addr;
use std::str::FromStr;

/// What an address of a broker says: `name`, `name:1883`, `mqtt://name` or
/// `mqtts://name:8883`; an IPv6 address before a port in brackets.
///
/// ```
/// let url: hark_config::BrokerUrl = "mqtts://broker.example:8883".parse()?;
/// assert_eq!((url.host.as_str(), url.port, url.is_tls), ("broker.example", Some(8883), Some(true)));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// A name, or an address of either family without brackets.
    pub host: String,
    /// The port, if there is one.
    pub port: Option<u16>,
    /// Whether it is to be spoken to by TLS, if the scheme says.
    pub is_tls: Option<bool>,
}

/// The schemes in use, and whether each is TLS: MQTT has registered none.
const SCHEMES: [(&str, bool); 5] = [
    ("mqtt", false),
    ("mqtts", true),
    ("tcp", false),
    ("ssl", true),
    ("tls", true),
];

impl FromStr for BrokerUrl {
    type Err = String;

    /// The error says what to write instead. It shows no login.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(
                "a login does not stand in an address: set `username` beside it, and \
                        `password_file`"
                    .to_owned(),
            );
        }
        let (host, port) = split(authority)?;
        if let Some(scheme @ ("ws" | "wss")) = scheme.as_deref() {
            let (instead, port) = if scheme == "ws" {
                ("mqtt", 1883)
            } else {
                ("mqtts", 8883)
            };
            return Err(format!(
                "hark does not speak MQTT over WebSocket (`{scheme}://`): name the broker's port \
                 for MQTT itself, mostly \"{instead}://{host}:{port}\""
            ));
        }
        let is_tls = match &scheme {
            None => None,
            Some(scheme) => match SCHEMES.iter().find(|(known, _)| known == scheme) {
                Some((_, is_tls)) => Some(*is_tls),
                None => {
                    return Err(format!(
                        "`{scheme}://` is no scheme of MQTT: write \"mqtt://{host}\", or \
                         \"mqtts://{host}\" for TLS"
                    ));
                }
            },
        };
        if !matches!(path, "" | "/") {
            return Err(format!(
                "nothing follows the name and the port of a broker: leave {path:?} out"
            ));
        }
        Ok(Self { host, port, is_tls })
    }
}

fn split(authority: &str) -> Result<(String, Option<u16>), String> {
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let (host, port) = if is_ipv6(authority) {
        (authority, None)
    } else if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) = inner
            .split_once(']')
            .filter(|(host, _)| is_ipv6(host))
            .ok_or("brackets hold an IPv6 address, such as \"[2001:db8::7]:8883\"")?;
        let port = after.strip_prefix(':');
        if !after.is_empty() && port.is_none() {
            return Err(format!(
                "after the address a colon and a port, found {after:?}"
            ));
        }
        (host, port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "[]\\\"'<>".contains(c);
    if host.is_empty() || host.contains(is_odd) {
        return Err(format!(
            "must be the name or the address of a broker, such as \"broker.example\", \
             \"192.0.2.7:1883\" or \"mqtts://broker.example\", found {authority:?}"
        ));
    }
    let port = port.map(|port| {
        let number = port.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{port:?} is no port: 1 to 65535"))
    });
    Ok((host.to_owned(), port.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, host: &str, port: Option<u16>, is_tls: Option<bool>) {
        let host = host.to_owned();
        assert_eq!(text.parse(), Ok(BrokerUrl { host, port, is_tls }), "{text}");
    }

    fn check_refused(text: &str, expected: &str) {
        let said = text.parse::<BrokerUrl>().unwrap_err();
        assert!(said.contains(expected), "{text}: {said}");
    }

    #[test]
    fn an_address_is_taken_apart_however_it_is_written() {
        check("broker", "broker", None, None);
        check("name:1883", "name", Some(1883), None);
        check("192.0.2.7:1884", "192.0.2.7", Some(1884), None);
        check("mqtts://name:8883", "name", Some(8883), Some(true));
        check("mqtt://name", "name", None, Some(false));
        check("MQTTS://name/", "name", None, Some(true));
        check("ssl://name:8883", "name", Some(8883), Some(true));
        check("tcp://name:1883", "name", Some(1883), Some(false));
        check("2001:db8::7", "2001:db8::7", None, None);
        check("[2001:db8::7]", "2001:db8::7", None, None);
        check("mqtts://[::1]:8884", "::1", Some(8884), Some(true));
    }

    #[test]
    fn what_is_no_address_of_a_broker_says_what_to_write() {
        check_refused("", "must be the name or the address of a broker");
        check_refused("my broker", "must be the name");
        check_refused("mqtt://", "must be the name");
        check_refused("name:", "\"\" is no port: 1 to 65535");
        check_refused("name:0", "\"0\" is no port");
        check_refused("name:65536", "\"65536\" is no port");
        check_refused("name:1883:1", "\"1883:1\" is no port");
        check_refused("[name]:1883", "brackets hold an IPv6 address");
        check_refused("[::1]1883", "after the address a colon and a port");
        check_refused("mqtt://name/topic", "leave \"/topic\" out");
        check_refused("http://name", "write \"mqtt://name\", or \"mqtts://name\"");
        check_refused("ws://name:9001/mqtt", "mostly \"mqtt://name:1883\"");
        check_refused("wss://name/mqtt", "mostly \"mqtts://name:8883\"");
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for text in ["mqtt://me:hunter2@name", "me:hunter2@name:1883"] {
            let said = text.parse::<BrokerUrl>().unwrap_err();
            assert!(said.contains("`password_file`"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
