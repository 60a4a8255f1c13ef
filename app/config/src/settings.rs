//! The single tables: `[device]`, `[mqtt]`, `[broker]`, `[events]`, `[output]`.
//!
//! Fields are named as their keys, with the unit last. The ranges in the
//! comments are those that reading checks; defaults are in `base.toml` alone.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    BrokerAddress,
    connection::{BrokerUrl, PORTS, Secret, TlsConfig, read_password},
    error::suggestion,
    section::Section,
    topics::check_level,
};

/// Sensors that a configuration may allow; beyond it memory, not a number, is the question.
const SENSORS_MAX: usize = 1_000_000;

/// The gateway itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceConfig {
    /// One level of an MQTT topic; empty: the host name.
    pub name: String,
    /// From a complete reading to its verdict, in milliseconds: 0.1 to 60 000.
    pub deadline_ms: f64,
    /// Sensors that patterns and payloads may create: 1 to 1 000 000.
    pub sensors_max: usize,
    /// Folder for what outlives a restart, relative to the working directory.
    pub data_dir: PathBuf,
}

impl DeviceConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let device = Self {
            name: section.text("name"),
            deadline_ms: section.float("deadline_ms", 0.1..=60_000.0),
            sensors_max: section.integer("sensors_max", 1..=SENSORS_MAX),
            data_dir: section.parsed("data_dir", parse_folder).unwrap_or_default(),
        };
        if !device.name.is_empty()
            && let Err(message) = check_level(&device.name)
        {
            section.wrong("name", message);
        }
        device
    }
}

/// What a broker is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// Where alerts go, and the broker of every MQTT source that names none.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttConfig {
    /// Whether anything is published; sources read from this broker anyway.
    pub enabled: bool,
    /// Host name or address, not empty.
    pub host: String,
    /// TCP port: 1 to 65 535.
    pub port: u16,
    /// The version of MQTT.
    pub protocol: Protocol,
    /// None: in the clear.
    pub tls: Option<TlsConfig>,
    /// None: `hark-<device>`.
    pub client_id: Option<String>,
    /// None: no login.
    pub username: Option<String>,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The password, which has the last word; from the environment alone.
    pub password: Option<Secret>,
    /// Seconds: 1 to 65 535.
    pub keep_alive_s: u16,
    /// Topics are `<root>/<device>/alert/<sensor>` and so on; no wildcard in it.
    pub root: String,
    /// Publish every verdict, not only alerts.
    pub verdicts: bool,
    /// What whoever reaches the broker may ask for; each once.
    pub commands: Vec<RemoteCommand>,
    /// Alerts that may wait for the broker: 1 to 1 000 000.
    pub alerts_queued_max: usize,
}

impl MqttConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let is_tls = section.boolean("tls");
        let tls = TlsConfig::read(section);
        tls.check_used(is_tls, section);
        let mqtt = Self {
            enabled: section.boolean("enabled"),
            host: section.parsed("host", not_empty).unwrap_or_default(),
            port: section.integer("port", 1..=u16::MAX),
            protocol: section.word(
                "protocol",
                &[("5", Protocol::V5), ("3.1.1", Protocol::V311)],
            ),
            tls: is_tls.then_some(tls),
            client_id: section.text_or_none("client_id"),
            username: section.text_or_none("username"),
            password_file: section.path_or_none("password_file"),
            password: read_password(section),
            keep_alive_s: section.integer("keep_alive_s", 1..=u16::MAX),
            root: section.parsed("root", parse_root).unwrap_or_default(),
            verdicts: section.boolean("verdicts"),
            commands: read_commands(section),
            alerts_queued_max: section.integer("alerts_queued_max", 1..=1_000_000),
        };
        if section.is_sound(&["username", "password_file", "password"]) && mqtt.username.is_none() {
            let message = "a password needs a `username` beside it";
            if mqtt.password_file.is_some() {
                section.wrong("password_file", message);
            } else if mqtt.password.is_some() {
                section.wrong("password", message);
            }
        }
        mqtt
    }
}

impl MqttConfig {
    /// Where its broker is.
    pub fn address(&self) -> BrokerAddress {
        BrokerAddress {
            host: self.host.clone(),
            port: self.port,
            protocol: self.protocol,
            tls: self.tls.clone(),
        }
    }

    /// Makes the broker at `url` its own; TLS stays as it is where that does not say.
    pub fn point_at(&mut self, url: &BrokerUrl) {
        match url.is_tls {
            None => {}
            Some(true) => drop(self.tls.get_or_insert_default()),
            Some(false) => self.tls = None,
        }
        if let Some(tls) = &mut self.tls
            && self.host != url.host
        {
            tls.server_name = None;
        }
        self.host.clone_from(&url.host);
        let is_tls = self.tls.is_some();
        self.port = url.port.unwrap_or(PORTS[usize::from(is_tls)]);
    }
}

/// What may be asked for over the broker, by `cmd/<its name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteCommand {
    /// `node`: the period of nodes, and whether they send readings.
    Node,
}

const COMMANDS: &[(&str, RemoteCommand)] = &[("node", RemoteCommand::Node)];

fn read_commands(section: &mut Section<'_, '_>) -> Vec<RemoteCommand> {
    let mut commands = Vec::new();
    for (index, text) in section.texts("commands").iter().enumerate() {
        match COMMANDS.iter().find(|(name, _)| name == text) {
            Some((_, command)) if !commands.contains(command) => commands.push(*command),
            Some(_) => section.wrong_item("commands", index, "stands there already"),
            None => {
                let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
                let near = suggestion(text, &names);
                section.wrong_item("commands", index, format!("no command {text:?}{near}"));
            }
        }
    }
    commands
}

/// The broker inside hark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Whether it runs.
    pub embedded: bool,
    /// Address and port that it listens on; beyond the loopback only with a login.
    pub listen: SocketAddr,
    /// The only user that it takes; none: everybody.
    pub username: Option<String>,
    /// The file that holds the password; there is one if there is a user, or else
    /// the password itself.
    pub password_file: Option<PathBuf>,
    /// The password, which has the last word; from the environment alone.
    pub password: Option<Secret>,
}

impl BrokerConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let placeholder = SocketAddr::from(([0, 0, 0, 0], 0));
        let broker = Self {
            embedded: section.boolean("embedded"),
            listen: section
                .parsed("listen", parse_address)
                .unwrap_or(placeholder),
            username: section.text_or_none("username"),
            password_file: section.path_or_none("password_file"),
            password: read_password(section),
        };
        broker.check(section);
        broker
    }

    fn check(&self, section: &mut Section<'_, '_>) {
        if section.is_sound(&["username", "password_file", "password"]) {
            match (&self.username, &self.password_file, &self.password) {
                (None, Some(_), _) => {
                    section.wrong("password_file", "a password needs a `username` beside it");
                }
                (None, None, Some(_)) => {
                    section.wrong("password", "a password needs a `username` beside it");
                }
                (Some(_), None, None) => {
                    section.wrong("username", "a user needs a `password_file` beside it");
                }
                _ => {}
            }
        }
        let is_open = self.username.is_none() && !self.listen.ip().is_loopback();
        if self.embedded && is_open && section.is_sound(&["embedded", "listen", "username"]) {
            section.wrong(
                "listen",
                format!(
                    "whoever reaches {} could read and publish everything: set `username` and \
                     `password_file` beside it, or listen on 127.0.0.1",
                    self.listen
                ),
            );
        }
    }

    /// Whether a client of `host` and `port` reaches it, as far as that can be told
    /// without a look at the network.
    pub(super) fn is_at(&self, host: &str, port: u16) -> bool {
        let listens = self.listen.ip();
        let is_here = |ip: IpAddr| {
            ip == listens || (listens.is_unspecified() && (ip.is_loopback() || ip.is_unspecified()))
        };
        let is_host = match host.parse() {
            Ok(ip) => is_here(ip),
            Err(_) => host == "localhost" && (listens.is_loopback() || listens.is_unspecified()),
        };
        self.embedded && port == self.listen.port() && is_host
    }
}

/// The local log of alerts and of steps on the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// Within `data_dir`; none: no log.
    pub file: Option<PathBuf>,
    /// Of alerts alone, which nothing else can crowd out; within `data_dir`; none:
    /// no such log. Not the same as `file`.
    pub alerts_file: Option<PathBuf>,
    /// Where alerts that stand or wait for a broker are kept for the next start;
    /// within `data_dir`; none: they are not. Another than both logs.
    pub standing_file: Option<PathBuf>,
    /// The file is rotated at this size, in bytes: 4096 to 1 GiB.
    pub bytes_max: u64,
    /// Rotated files that are kept: 1 to 1000.
    pub files_max: usize,
}

impl EventsConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let events = Self {
            file: section.text_or_none("file").map(PathBuf::from),
            alerts_file: section.text_or_none("alerts_file").map(PathBuf::from),
            standing_file: section.text_or_none("standing_file").map(PathBuf::from),
            bytes_max: section.integer("bytes_max", 4096..=1 << 30),
            files_max: section.integer("files_max", 1..=1000),
        };
        if events.file.is_some() && events.file == events.alerts_file {
            section.wrong("alerts_file", "must be another file than `file`");
        }
        let logs = [&events.file, &events.alerts_file];
        if events.standing_file.is_some() && logs.contains(&&events.standing_file) {
            section.wrong("standing_file", "must be another file than the logs");
        }
        events
    }
}

/// What is said, and on standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// One line for each alert.
    pub alerts_stdout: bool,
    /// Each verdict says what its score comes from, as each alert does.
    pub verdict_causes: bool,
}

impl OutputConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        Self {
            alerts_stdout: section.boolean("alerts_stdout"),
            verdict_causes: section.boolean("verdict_causes"),
        }
    }
}

/// One of `[[models]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// Unique among the models, not empty.
    pub name: String,
    /// Where its bundle is.
    pub bundle: BundlePath,
    /// The bundle of the version before, which answers, flagged stale, while
    /// this one cannot.
    pub previous: Option<BundlePath>,
    /// Whether equal features in a row reuse the scores of the first.
    pub is_cached: bool,
}

/// Where a bundle is; the key `path` of `[[models]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundlePath {
    /// `builtin:<name>`: compiled in. Whether there is one is not checked here.
    Builtin(String),
    /// A folder.
    Folder(PathBuf),
}

impl FromStr for BundlePath {
    type Err = String;

    /// As an operator names one: `builtin:<name>`, or a folder.
    fn from_str(text: &str) -> Result<Self, String> {
        parse_bundle(text, Path::new(""))
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

impl ModelConfig {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let folder = section.folder_of("path");
        let bundle = section.parsed("path", |text| parse_bundle(text, folder));
        let folder = section.folder_of("previous");
        let previous = section.text_or_absent("previous");
        let previous = match previous.as_str() {
            "" => None,
            text => parse_bundle(text, folder)
                .map_err(|message| section.wrong("previous", message))
                .ok(),
        };
        Self {
            name: section.parsed("name", not_empty).unwrap_or_default(),
            bundle: bundle.unwrap_or_else(|| BundlePath::Builtin(String::new())),
            previous,
            is_cached: section.boolean_or_none("cache").unwrap_or(false),
        }
    }
}

fn parse_bundle(text: &str, folder: &Path) -> Result<BundlePath, String> {
    match text.strip_prefix("builtin:") {
        Some(name) => not_empty(name).map(BundlePath::Builtin),
        None => not_empty(text).map(|path| BundlePath::Folder(folder.join(path))),
    }
}

pub(super) fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn parse_folder(text: &str) -> Result<PathBuf, String> {
    not_empty(text).map(PathBuf::from)
}

fn parse_root(text: &str) -> Result<String, String> {
    match text.split('/').map(check_level).find_map(Result::err) {
        None => Ok(text.to_owned()),
        Some(_) => Err("must be topic levels with `/` between them, no `+` or `#`".to_owned()),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let hint = "must be an IP address and a port, such as \"127.0.0.1:1883\"";
    text.parse().map_err(|_| format!("{hint}, found {text:?}"))
}
