//! How a broker is reached: the keys that `[mqtt]` and a source of its own broker
//! share, and what an address may be written like.
//!
//! An address is taken apart, and a credential's folder filled in, in the tree and
//! before anything is read: what is printed is then what will run.

mod address;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::error::ConfigError;
use super::section::Section;
use super::tree::{Entry, File, Origin, Table, Value};

pub use address::BrokerUrl;

#[cfg(test)]
mod tests;

/// The port of MQTT, and of MQTT over TLS, as registered with IANA.
pub(super) const PORTS: [u16; 2] = [1883, 8883];

/// Where systemd puts what a unit's `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// The keys that name files which a credential may be.
const CREDENTIAL_KEYS: [&str; 4] = ["ca_file", "cert_file", "key_file", "password_file"];

/// What TLS to a broker goes by; all files are PEM and read at each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The authorities that are trusted; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the broker's certificate is to have; none: `host`.
    pub server_name: Option<String>,
}

/// A password, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl TlsConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let ca_file = section.path_or_none("ca_file");
        let cert_file = section.path_or_none("cert_file");
        let key_file = section.path_or_none("key_file");
        if section.is_sound(&["cert_file", "key_file"]) {
            match (&cert_file, &key_file) {
                (Some(_), None) => {
                    section.wrong("cert_file", "a certificate needs a `key_file` beside it");
                }
                (None, Some(_)) => {
                    section.wrong("key_file", "a key needs a `cert_file` beside it");
                }
                _ => {}
            }
        }
        Self {
            ca_file,
            identity: cert_file.zip(key_file),
            server_name: section.text_or_none("server_name"),
        }
    }

    /// Reports keys that would make nobody safe, because there is no TLS.
    pub(super) fn check_used(&self, is_tls: bool, section: &mut Section<'_, '_>) {
        let keys = [
            ("ca_file", self.ca_file.is_some()),
            ("cert_file", self.identity.is_some()),
            ("server_name", self.server_name.is_some()),
        ];
        for (key, _) in keys.iter().filter(|(_, is_set)| *is_set && !is_tls) {
            section.wrong(key, "is of use with `tls = true` alone");
        }
    }

    /// With what `below` has, where this says nothing; the name only if that is for
    /// the same host.
    pub(super) fn over(&self, below: Option<&Self>, is_same_host: bool) -> Self {
        let Some(below) = below else {
            return self.clone();
        };
        let name = self.server_name.clone();
        Self {
            ca_file: self.ca_file.clone().or_else(|| below.ca_file.clone()),
            identity: self.identity.clone().or_else(|| below.identity.clone()),
            server_name: name.or_else(|| below.server_name.clone().filter(|_| is_same_host)),
        }
    }
}

/// A password; none in a file, where others may read it and `--show` would.
pub(super) fn read_password(section: &mut Section<'_, '_>) -> Option<Secret> {
    let is_variable = section
        .place_of("password")
        .is_some_and(|at| matches!(*at.file, File::Variable(_)));
    // Asked for without a look at its type: an error of that would print it.
    let text = match section.value("password")? {
        Value::Text(text) => text,
        _ => {
            refuse_password(section);
            return None;
        }
    };
    let secret = Secret(text.clone());
    if !secret.0.is_empty() && !is_variable {
        refuse_password(section);
    }
    Some(secret).filter(|secret| !secret.0.is_empty())
}

fn refuse_password(section: &mut Section<'_, '_>) {
    section.wrong(
        "password",
        "stands in no configuration, which others read: name a file of its own as \
         `password_file`, or set the environment variable HARK_<SECTION>__PASSWORD",
    );
}

/// Takes passwords out of a tree that may be printed.
pub(super) fn hide_passwords(root: &mut Table) {
    for table in ["mqtt", "broker"] {
        let Some(Value::Table(table)) = root.get_mut(table).map(|entry| &mut entry.value) else {
            continue;
        };
        if let Some(Value::Text(text)) = table.get_mut("password").map(|entry| &mut entry.value)
            && !text.is_empty()
        {
            *text = "***".to_owned();
        }
    }
}

/// The folder of credentials in these variables.
pub(super) fn credentials(variables: &[(OsString, OsString)]) -> Option<&OsStr> {
    let found = variables.iter().find(|(name, _)| name == CREDENTIALS);
    found.map(|(_, value)| value.as_os_str())
}

/// Fills in the folder of credentials, and takes every address of a broker apart.
pub(super) fn resolve(root: &mut Table, credentials: Option<&OsStr>) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for name in ["mqtt", "broker"] {
        if let Some(Value::Table(table)) = root.get_mut(name).map(|entry| &mut entry.value) {
            fill_credentials(table, name, credentials, &mut errors);
            if name == "mqtt" {
                take_apart(table, name, &mut errors);
                take_port_of_tls(table);
            }
        }
    }
    if let Some(Value::Array(sources)) = root.get_mut("sources").map(|entry| &mut entry.value) {
        for (index, source) in sources.iter_mut().enumerate() {
            if let Value::Table(table) = &mut source.value
                && is_mqtt(table)
            {
                let path = format!("sources[{index}]");
                fill_credentials(table, &path, credentials, &mut errors);
                take_apart(table, &path, &mut errors);
            }
        }
    }
    errors
}

fn is_mqtt(source: &Table) -> bool {
    let kind = source.get("kind").map(|kind| &kind.value);
    matches!(kind, Some(Value::Text(kind)) if kind == "mqtt")
}

fn fill_credentials(
    table: &mut Table,
    path: &str,
    credentials: Option<&OsStr>,
    errors: &mut Vec<ConfigError>,
) {
    for key in CREDENTIAL_KEYS {
        let Some(entry) = table.get_mut(key) else {
            continue;
        };
        let Value::Text(text) = &mut entry.value else {
            continue;
        };
        let Some(rest) = text
            .strip_prefix('$')
            .and_then(|rest| rest.strip_prefix(CREDENTIALS))
        else {
            continue;
        };
        match credentials.and_then(OsStr::to_str) {
            Some(folder) => *text = format!("{folder}{rest}"),
            None => errors.push(ConfigError::new(
                &entry.at,
                format!("{path}.{key}"),
                format!(
                    "${CREDENTIALS} is not set here: systemd sets it for a unit with \
                     `LoadCredential=`"
                ),
            )),
        }
    }
}

/// Puts what `host` says beside its name into the keys for it.
fn take_apart(table: &mut Table, path: &str, errors: &mut Vec<ConfigError>) {
    let Some(Entry {
        value: Value::Text(host),
        at,
        ..
    }) = table.get_mut("host")
    else {
        return;
    };
    let at = at.clone();
    if host.is_empty() {
        return;
    }
    let url = match host.parse::<BrokerUrl>() {
        Ok(url) => url,
        Err(message) => {
            errors.push(ConfigError::new(&at, format!("{path}.host"), message));
            return;
        }
    };
    host.clone_from(&url.host);
    let mut say = |key: &str, value: Value| {
        let said = table.get(key).filter(|entry| *entry.at.file != File::BASE);
        match said {
            Some(said) if is_equal(&said.value, &value) => {}
            Some(said) => errors.push(ConfigError::new(
                &said.at,
                format!("{path}.{key}"),
                format!("`host` says {}: leave one of the two out", shown(&value)),
            )),
            None => drop(table.insert(key.to_owned(), entry(value, &at))),
        }
    };
    if let Some(is_tls) = url.is_tls {
        say("tls", Value::Boolean(is_tls));
    }
    // `mqtt://name` beside a port of its own leaves that alone.
    let usual = url.is_tls.map(|is_tls| PORTS[usize::from(is_tls)]);
    match (url.port, usual) {
        (Some(port), _) => say("port", Value::Integer(port.into())),
        (None, Some(usual)) if is_unsaid(table, "port") => {
            table.insert("port".to_owned(), entry(Value::Integer(usual.into()), &at));
        }
        _ => {}
    }
}

/// Where nobody has said a port, that of TLS goes with TLS.
fn take_port_of_tls(mqtt: &mut Table) {
    if let Some(Entry {
        value: Value::Boolean(true),
        at,
        ..
    }) = mqtt.get("tls")
        && is_unsaid(mqtt, "port")
    {
        let port = entry(Value::Integer(PORTS[1].into()), at);
        mqtt.insert("port".to_owned(), port);
    }
}

fn is_unsaid(table: &Table, key: &str) -> bool {
    let said = table.get(key);
    said.is_none_or(|entry| *entry.at.file == File::BASE)
}

fn entry(value: Value, at: &Origin) -> Entry {
    Entry {
        value,
        key_at: at.clone(),
        at: at.clone(),
    }
}

fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one == other,
        (Value::Boolean(one), Value::Boolean(other)) => one == other,
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Integer(port) => format!("port {port}"),
        Value::Boolean(true) => "mqtts, which is `tls = true`".to_owned(),
        _ => "mqtt, which is `tls = false`".to_owned(),
    }
}
