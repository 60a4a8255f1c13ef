//! The configuration: one typed [`Config`], or every error in it at once.
//!
//! A file inherits from another, and in the end from the compiled-in
//! `base.toml`, which holds every default; the structs have none of their own.
//! The environment has the last word. The files are laid over one another as
//! trees that remember who wrote what (`tree`, `chain`, `environment`), and then
//! read key by key (`section`), so that every error names its file,
//! line and key.
//!
//! Nothing that the configuration names is opened here: no port, no bundle, no
//! broker.

mod board;
mod chain;
mod connection;
pub mod duration;
mod environment;
mod error;
mod machine;
mod mapping;
mod section;
mod settings;
mod show;
mod sources;
mod timing;
mod topics;
mod tree;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;

pub use board::{GpioConfig, WatchdogConfig};
pub use connection::{BrokerUrl, Secret, TlsConfig};
pub use error::{ConfigError, ConfigErrors};
pub use machine::BoardConfig;
pub use settings::{
    BrokerConfig, BundlePath, DeviceConfig, EventsConfig, ModelConfig, MqttConfig, OutputConfig,
    Protocol, RemoteCommand,
};
pub use sources::{
    AlertTimes, Backoff, Clock, FileLink, Format, Link, ModbusLink, ModbusReach, ModbusRegister,
    MqttLink, NodesConfig, Parity, Rs485Config, SerialLink, SourceConfig,
};
pub use timing::{BudgetConfig, LadderConfig};
pub use topics::check_level;
pub use topics::{CHANNEL_CAPTURE, SENSOR_NAME_MAX, SensorTemplate, TopicPattern};

use error::suggestion;
use section::Section;
use tree::{File, Origin, Table};

/// Everything that an operator may decide.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[board]`
    pub board: BoardConfig,
    /// `[device]`
    pub device: DeviceConfig,
    /// `[budget]`
    pub budget: BudgetConfig,
    /// `[ladder]`
    pub ladder: LadderConfig,
    /// `[threads]`
    pub threads: hark_hal::Realtime,
    /// `[gpio]`
    pub gpio: GpioConfig,
    /// `[watchdog]`
    pub watchdog: WatchdogConfig,
    /// `[mqtt]`
    pub mqtt: MqttConfig,
    /// `[broker]`
    pub broker: BrokerConfig,
    /// `[events]`
    pub events: EventsConfig,
    /// `[output]`
    pub output: OutputConfig,
    /// `[[models]]`, at least one.
    pub models: Vec<ModelConfig>,
    /// `[[sources]]`; each names one of `models`.
    pub sources: Vec<SourceConfig>,
    /// What all of the above was read from.
    effective: Table,
}

/// How to reach the broker of one MQTT source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The version of MQTT.
    pub protocol: Protocol,
    /// None: in the clear.
    pub tls: Option<TlsConfig>,
}

impl Config {
    /// Reads the file at `path`, what it inherits and the overrides in `environment`.
    ///
    /// Without a path the defaults are taken alone. Of `environment`, the names
    /// and values of variables, only `HARK_<SECTION>__<KEY>` is looked at.
    ///
    /// # Errors
    /// Everything that is wrong, at once; but syntax errors alone, if there are any.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        match path {
            Some(path) => {
                Self::of_tree(chain::load(path), File::Disk(path.to_owned()), environment)
            }
            None => Self::of_tree(chain::load_text(""), File::BASE, environment),
        }
    }

    /// As [`Config::load`], from a text. Its relative paths start from the
    /// working directory.
    ///
    /// # Errors
    /// As [`Config::load`].
    ///
    /// ```
    /// let config = hark_config::Config::of_text("device.name = \"gw7\"")?;
    /// assert_eq!(config.device.name, "gw7");
    /// # Ok::<(), hark_config::ConfigErrors>(())
    /// ```
    pub fn of_text(text: &str) -> Result<Self, ConfigErrors> {
        Self::of_tree(chain::load_text(text), File::Text, std::iter::empty())
    }

    /// The broker of an MQTT source: `[mqtt]`'s, but for what the source says itself.
    pub fn broker_of(&self, link: &MqttLink) -> BrokerAddress {
        let mqtt = &self.mqtt;
        let is_tls = link.tls.unwrap_or(mqtt.tls.is_some());
        // A port for the one way is none for the other.
        let port = if is_tls == mqtt.tls.is_some() {
            mqtt.port
        } else {
            connection::PORTS[usize::from(is_tls)]
        };
        let tls = || link.tls_files.over(mqtt.tls.as_ref(), link.host.is_none());
        BrokerAddress {
            host: link.host.as_ref().unwrap_or(&mqtt.host).clone(),
            port: link.port.unwrap_or(port),
            protocol: link.protocol.unwrap_or(mqtt.protocol),
            tls: is_tls.then(tls),
        }
    }

    /// `[mqtt]` as a client of the broker at `address` has it: at the embedded one
    /// with that one's login.
    pub fn mqtt_at(&self, address: &BrokerAddress) -> MqttConfig {
        let mut mqtt = self.mqtt.clone();
        if self.broker.is_at(&address.host, address.port) && self.broker.username.is_some() {
            mqtt.username.clone_from(&self.broker.username);
            mqtt.password_file.clone_from(&self.broker.password_file);
            mqtt.password.clone_from(&self.broker.password);
        }
        mqtt
    }

    /// How long a reading may wait to be served before it is shed: half of what
    /// the keeper leaves of the deadline, so that the model has the other half.
    /// Microseconds.
    pub fn wait_us_max(&self) -> u64 {
        let deadline_us = (self.device.deadline_ms * 1e3) as u64;
        deadline_us.saturating_sub(self.budget.keeper_margin_us()) / 2
    }

    /// The priorities that sources have, each once, the lowest first.
    pub fn priorities(&self) -> Vec<u8> {
        let mut priorities: Vec<u8> = self.sources.iter().map(|s| s.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }

    /// The configuration as it was loaded, complete, each key with the place that set it.
    ///
    /// It is TOML again; relative paths are left as they were written.
    pub fn to_toml(&self) -> String {
        show::to_toml(&self.effective)
    }

    /// Something to be said about the value at `key`, such as `sources[0].port`,
    /// with the file and the line that set it. It is no error: the configuration
    /// is sound.
    pub fn remark(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let nowhere = Origin::of(File::BASE);
        let at = tree::find(&self.effective, key).map_or(&nowhere, |entry| &entry.at);
        ConfigError::new(at, key, message)
    }

    fn of_tree(
        tree: Result<Table, Vec<ConfigError>>,
        file: File,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let mut tree = match tree {
            Ok(tree) => tree,
            Err(errors) => return Err(ConfigErrors::of(errors)),
        };
        let variables: Vec<_> = environment.collect();
        let mut errors = environment::apply(&mut tree, variables.iter().cloned());
        sources::apply_defaults(&mut tree);
        let credentials = connection::credentials(&variables);
        errors.extend(connection::resolve(&mut tree, credentials));
        let config = read(tree, &Origin::of(file), &mut errors);
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors::of(errors))
        }
    }
}

fn read(mut tree: Table, at: &Origin, errors: &mut Vec<ConfigError>) -> Config {
    let mut root = Section::root(&tree, at, errors);
    let board = root.table("board", BoardConfig::read);
    let device = root.table("device", DeviceConfig::read);
    let deadline_ms = device.deadline_ms;
    let budget = root.table("budget", |section| BudgetConfig::read(section, deadline_ms));
    let ladder = root.table("ladder", LadderConfig::read);
    let threads = root.table("threads", timing::read_threads);
    let gpio = root.table("gpio", GpioConfig::read);
    let watchdog = root.table("watchdog", WatchdogConfig::read);
    let mqtt = root.table("mqtt", MqttConfig::read);
    let broker = root.table("broker", BrokerConfig::read);
    let events = root.table("events", EventsConfig::read);
    let output = root.table("output", OutputConfig::read);
    root.table("defaults", sources::read_defaults);
    let models = read_models(&mut root);
    let sources = read_sources(&mut root, &models, &mqtt);
    root.finish();
    connection::hide_passwords(&mut tree);
    Config {
        board,
        device,
        budget,
        ladder,
        threads,
        gpio,
        watchdog,
        mqtt,
        broker,
        events,
        output,
        models,
        sources,
        effective: tree,
    }
}

fn read_models(root: &mut Section<'_, '_>) -> Vec<ModelConfig> {
    let mut names = Vec::new();
    let models = root.tables("models", |section| {
        let model = ModelConfig::read(section);
        check_unique(section, "name", &mut names, &model.name);
        model
    });
    if models.is_empty() && root.is_sound(&["models"]) {
        root.wrong("models", "must name at least one model");
    }
    models
}

fn read_sources(
    root: &mut Section<'_, '_>,
    models: &[ModelConfig],
    mqtt: &MqttConfig,
) -> Vec<SourceConfig> {
    let (mut names, mut ports, mut buses) = (Vec::new(), Vec::new(), Vec::new());
    let sources = root.tables("sources", |section| {
        let mut source = SourceConfig::read(section)?;
        check_unique(section, "name", &mut names, &source.name);
        if let Link::Serial(link) = &source.link {
            // Each would get a part of the bytes.
            check_unique(section, "port", &mut ports, &link.port);
        }
        if let Link::Mqtt(link) = &source.link {
            let is_tls = link.tls.unwrap_or(mqtt.tls.is_some());
            link.tls_files.check_used(is_tls, section);
        }
        if let Link::Modbus(link) = &source.link {
            sources::check_line(section, link, &mut buses, &mut ports);
        }
        resolve_model(section, &mut source.model, models);
        Some(source)
    });
    sources.into_iter().flatten().collect()
}

/// Reports a value of `key` that an earlier element of the same array has.
fn check_unique(
    section: &mut Section<'_, '_>,
    key: &'static str,
    taken: &mut Vec<(String, Origin)>,
    value: &str,
) {
    if !section.is_sound(&[key]) {
        return;
    }
    match taken.iter().find(|(earlier, _)| earlier == value) {
        Some((_, place)) => {
            section.wrong(key, format!("{value:?} is taken already, at {place}"));
        }
        None => taken.extend(
            section
                .place_of(key)
                .map(|at| (value.to_owned(), at.clone())),
        ),
    }
}

/// Puts the first model's name for an empty one, and reports one that no model has.
fn resolve_model(section: &mut Section<'_, '_>, model: &mut String, models: &[ModelConfig]) {
    let known: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    if known.contains(&"") {
        return; // A model whose name is wrong, and perhaps the one that is meant.
    }
    match known.first() {
        Some(first) if model.is_empty() => *model = (*first).to_owned(),
        Some(_) if !known.contains(&model.as_str()) => {
            let near = suggestion(model, &known);
            section.wrong("model", format!("no [[models]] is named {model:?}{near}"));
        }
        _ => {}
    }
}
