//! Who hark is at a broker, and the thread that publishes alerts there.
//!
//! Every client of hark is a [`hark_mqtt::Client`]; here are the settings that
//! all of them share.

mod publisher;

pub use publisher::{Outbox, OutboxCounts, PublisherSettings, publish};

use anyhow::{Context, ensure};
use hark_config::{BrokerAddress, MqttConfig, Protocol, Secret, TlsConfig};
use hark_mqtt::{Address, Client, ClientSettings, Endpoint, Identity, Tls};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest packet that is taken; what is larger is skipped and counted.
/// Above every payload limit of a source.
const PACKET_BYTES_MAX: usize = 256 * 1024;

/// The longest password that MQTT can say (3.1.1, 1.5.3).
const PASSWORD_BYTES_MAX: usize = 65_535;

/// How to reach a broker, and as whom.
#[derive(Clone, Debug)]
pub struct Broker {
    address: BrokerAddress,
    client_id: String,
    login: Option<(String, Secret)>,
    keep_alive_s: u16,
}

/// Delivery guarantees that hark uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// The password that the file at `path` holds, without white space at its end.
///
/// # Errors
/// If the file cannot be read, or holds more than MQTT can say.
pub fn read_password(path: &Path) -> anyhow::Result<String> {
    let named = || format!("reading the password file {}", path.display());
    let file = File::open(path).with_context(named)?;
    let mut password = String::new();
    let bytes_max = PASSWORD_BYTES_MAX as u64 + 1;
    file.take(bytes_max)
        .read_to_string(&mut password)
        .with_context(named)?;
    ensure!(
        password.len() <= PASSWORD_BYTES_MAX,
        "the password file {} has more than {PASSWORD_BYTES_MAX} bytes",
        path.display()
    );
    password.truncate(password.trim_end().len());
    Ok(password)
}

impl Broker {
    /// The broker at `address`, with the login and keep-alive of `[mqtt]`. Files of
    /// TLS are read at each connection, so that none is missed here.
    ///
    /// # Errors
    /// If the password file cannot be read.
    pub fn new(
        config: &MqttConfig,
        address: BrokerAddress,
        client_id: String,
    ) -> anyhow::Result<Self> {
        let login = config.username.as_ref().map(|username| {
            let password = match (&config.password, &config.password_file) {
                (Some(password), _) => password.clone(),
                (None, Some(path)) => read_password(path)?.into(),
                (None, None) => String::new().into(),
            };
            anyhow::Ok((username.clone(), password))
        });
        Ok(Self {
            address,
            client_id,
            login: login.transpose()?,
            keep_alive_s: config.keep_alive_s,
        })
    }

    /// `host:port`, for people.
    pub fn name(&self) -> String {
        format!("{}:{}", self.address.host, self.address.port)
    }

    /// What a connection that was made and lost at once makes one ask.
    pub fn hint_of_a_quick_loss(&self) -> String {
        format!(
            " (is another client called {:?}? each hark at a broker needs a device.name of its own)",
            self.client_id
        )
    }

    /// What every client of this broker has in common.
    pub fn client_settings(&self) -> ClientSettings {
        ClientSettings::new(hark_mqtt::Settings {
            protocol: match self.address.protocol {
                Protocol::V311 => hark_mqtt::Protocol::V311,
                Protocol::V5 => hark_mqtt::Protocol::V5,
            },
            client_id: self.client_id.clone(),
            login: self
                .login
                .as_ref()
                .map(|(user, password)| (user.clone(), password.reveal().to_owned())),
            keep_alive_s: self.keep_alive_s,
            packet_bytes_max: PACKET_BYTES_MAX,
        })
    }

    /// This client at this broker.
    pub fn endpoint(&self, client: Client) -> Endpoint {
        let address = Address {
            host: self.address.host.clone(),
            port: self.address.port,
            tls: self.address.tls.as_ref().map(tls),
        };
        Endpoint::new(client, address)
    }
}

/// What `config` asks of TLS, as the client takes it.
pub fn tls(config: &TlsConfig) -> Tls {
    let identity = config.identity.clone();
    Tls {
        ca_file: config.ca_file.clone(),
        identity: identity.map(|(cert_file, key_file)| Identity {
            cert_file,
            key_file,
        }),
        server_name: config.server_name.clone(),
    }
}
