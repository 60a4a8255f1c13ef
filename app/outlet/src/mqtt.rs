//! One connection to a broker, MQTT 3.1.1 or 5 behind one face.
//!
//! rumqttc speaks both through two sets of types; this is the one place that
//! knows. A [`Connection`] lives from one connect to the first error and is
//! then dropped: its successor starts with no requests left over, because
//! rumqttc would carry them, acknowledgements included, into the next session,
//! where an old packet id may acknowledge another message.
//!
//! `publish` gives no packet id away (rumqttc issues 349 and 1007). Ids are
//! seen in order as [`Event::Sent`], so whoever wants to know what was
//! acknowledged owns the connection and matches them in order.

mod publisher;

pub use publisher::{Outbox, OutboxCounts, Publisher, PublisherSettings};

use anyhow::{Context, bail};
use bytes::Bytes;
use hark_config::{BrokerAddress, MqttConfig, Protocol};
use rumqttc::v5;
use std::time::Duration;

/// Requests between the caller and the socket. More would only hide that the
/// broker is slow; a full queue is reported to the caller.
const REQUESTS_MAX: usize = 256;
/// The largest packet taken from a broker. Far above every payload limit, so
/// that a payload that is too long is counted and not a broken connection.
const PACKET_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// The same on the hot path, which skips and counts what is larger.
const PACKET_BYTES_SERVED: usize = 256 * 1024;
/// Messages of QoS 1 under way at once.
const INFLIGHT_MAX: u16 = 100;
/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach a broker, and as whom.
#[derive(Clone, Debug)]
pub struct Broker {
    address: BrokerAddress,
    client_id: String,
    login: Option<(String, String)>,
    keep_alive: Duration,
}

/// A message to be retained by the broker if the connection breaks.
#[derive(Clone, Debug)]
pub struct Will {
    /// The topic.
    pub topic: String,
    /// The message.
    pub payload: String,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the connection.
    Connected,
    /// A message of a subscription.
    Message {
        /// Its topic; what is not UTF-8 is replaced.
        topic: String,
        /// Its payload.
        payload: Bytes,
        /// The broker kept it from before the subscription.
        is_retained: bool,
    },
    /// The broker has answered a subscription.
    Subscribed {
        /// It will send what matches.
        is_granted: bool,
    },
    /// A QoS 1 message went out under this packet id.
    Sent(u16),
    /// The broker acknowledged this packet id.
    Acknowledged(u16),
    /// Anything else, such as pings.
    Other,
}

/// Delivery guarantees that hark uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// The queue to the socket is full.
#[derive(Clone, Copy, Debug)]
pub struct Full;

/// A connection and its queue of requests.
pub enum Connection {
    /// MQTT 3.1.1.
    V4(rumqttc::AsyncClient, Box<rumqttc::EventLoop>),
    /// MQTT 5.
    V5(v5::AsyncClient, Box<v5::EventLoop>),
}

impl Broker {
    /// The broker at `address`, with the login and keep-alive of `[mqtt]`.
    ///
    /// # Errors
    /// If the password file cannot be read.
    pub fn new(
        config: &MqttConfig,
        address: BrokerAddress,
        client_id: String,
    ) -> anyhow::Result<Self> {
        let login = config.username.as_ref().map(|username| {
            let password = match &config.password_file {
                Some(path) => std::fs::read_to_string(path)
                    .with_context(|| format!("reading mqtt.password_file {}", path.display()))?,
                None => String::new(),
            };
            anyhow::Ok((username.clone(), password.trim_end().to_owned()))
        });
        Ok(Self {
            address,
            client_id,
            login: login.transpose()?,
            keep_alive: Duration::from_secs(config.keep_alive_s.into()),
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

    /// How the hot path's own client presents itself, which reads and writes
    /// on a plain thread.
    pub fn session_settings(&self) -> hark_mqtt::Settings {
        hark_mqtt::Settings {
            protocol: match self.address.protocol {
                Protocol::V311 => hark_mqtt::Protocol::V311,
                Protocol::V5 => hark_mqtt::Protocol::V5,
            },
            client_id: self.client_id.clone(),
            login: self.login.clone(),
            keep_alive_s: self.keep_alive.as_secs() as u16,
            packet_bytes_max: PACKET_BYTES_SERVED,
        }
    }

    /// A new connection; it is made by the first [`Connection::poll`].
    pub fn connect(&self, will: Option<&Will>) -> Connection {
        match self.address.protocol {
            Protocol::V311 => self.connect_v4(will),
            Protocol::V5 => self.connect_v5(will),
        }
    }

    fn connect_v4(&self, will: Option<&Will>) -> Connection {
        let BrokerAddress { host, port, .. } = &self.address;
        let mut options = rumqttc::MqttOptions::new(&self.client_id, host, *port);
        options
            .set_keep_alive(self.keep_alive)
            .set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize)
            .set_inflight(INFLIGHT_MAX);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password);
        }
        if let Some(Will { topic, payload }) = will {
            let qos = rumqttc::QoS::AtLeastOnce;
            options.set_last_will(rumqttc::LastWill::new(topic, payload.as_bytes(), qos, true));
        }
        let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
        events.network_options.set_tcp_nodelay(true);
        events
            .network_options
            .set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        Connection::V4(client, Box::new(events))
    }

    fn connect_v5(&self, will: Option<&Will>) -> Connection {
        let BrokerAddress { host, port, .. } = &self.address;
        let mut options = v5::MqttOptions::new(&self.client_id, host, *port);
        options
            .set_keep_alive(self.keep_alive)
            .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
            .set_max_packet_size(Some(PACKET_BYTES_MAX))
            .set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password);
        }
        if let Some(Will { topic, payload }) = will {
            let qos = v5::mqttbytes::QoS::AtLeastOnce;
            let will = v5::mqttbytes::v5::LastWill::new(topic, payload.as_bytes(), qos, true, None);
            options.set_last_will(will);
        }
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let (client, events) = v5::AsyncClient::new(options, REQUESTS_MAX);
        Connection::V5(client, Box::new(events))
    }
}

impl Connection {
    /// Waits for the next event; it also moves everything that is queued.
    ///
    /// Cancelling the future between events loses nothing.
    ///
    /// # Errors
    /// Why the connection broke. It is of no further use.
    pub async fn poll(&mut self) -> anyhow::Result<Event> {
        // Not the chain of causes: rumqttc's errors repeat theirs in their text.
        match self {
            Self::V4(_, events) => match events.poll().await {
                Ok(event) => Ok(event_v4(event)),
                Err(error) => bail!("{error}"),
            },
            Self::V5(_, events) => match events.poll().await {
                Ok(event) => Ok(event_v5(event)),
                Err(error) => bail!("{error}"),
            },
        }
    }

    /// Queues a publish.
    ///
    /// # Errors
    /// [`Full`] if the socket is behind.
    pub fn publish(
        &self,
        topic: &str,
        delivery: Delivery,
        retain: bool,
        payload: &[u8],
    ) -> Result<(), Full> {
        match self {
            Self::V4(client, _) => client
                .try_publish(topic, delivery.v4(), retain, payload)
                .map_err(|_| Full),
            Self::V5(client, _) => client
                .try_publish(topic, delivery.v5(), retain, payload.to_vec())
                .map_err(|_| Full),
        }
    }

    /// Queues a subscription at `qos`, 0 to 2.
    ///
    /// # Errors
    /// [`Full`] if the socket is behind.
    pub fn subscribe(&self, filter: &str, qos: u8) -> Result<(), Full> {
        match self {
            Self::V4(client, _) => {
                let qos = rumqttc::qos(qos).unwrap_or(rumqttc::QoS::AtLeastOnce);
                client.try_subscribe(filter, qos).map_err(|_| Full)
            }
            Self::V5(client, _) => {
                let qos = v5::mqttbytes::qos(qos).unwrap_or(v5::mqttbytes::QoS::AtLeastOnce);
                client.try_subscribe(filter, qos).map_err(|_| Full)
            }
        }
    }

    /// Queues a clean goodbye: the broker will not send the will.
    ///
    /// # Errors
    /// [`Full`] if the socket is behind.
    pub fn disconnect(&self) -> Result<(), Full> {
        match self {
            Self::V4(client, _) => client.try_disconnect().map_err(|_| Full),
            Self::V5(client, _) => client.try_disconnect().map_err(|_| Full),
        }
    }
}

impl Delivery {
    fn v4(self) -> rumqttc::QoS {
        match self {
            Self::AtMostOnce => rumqttc::QoS::AtMostOnce,
            Self::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        }
    }

    fn v5(self) -> v5::mqttbytes::QoS {
        match self {
            Self::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
            Self::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
        }
    }
}

fn event_v4(event: rumqttc::Event) -> Event {
    use rumqttc::{Event as E, Outgoing, Packet, SubscribeReasonCode};
    match event {
        E::Incoming(Packet::ConnAck(_)) => Event::Connected,
        E::Incoming(Packet::Publish(publish)) => Event::Message {
            topic: publish.topic,
            payload: publish.payload,
            is_retained: publish.retain,
        },
        E::Incoming(Packet::SubAck(ack)) => Event::Subscribed {
            is_granted: !ack.return_codes.contains(&SubscribeReasonCode::Failure),
        },
        E::Incoming(Packet::PubAck(ack)) => Event::Acknowledged(ack.pkid),
        E::Outgoing(Outgoing::Publish(id)) if id != 0 => Event::Sent(id),
        _ => Event::Other,
    }
}

fn event_v5(event: v5::Event) -> Event {
    use rumqttc::Outgoing;
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Packet::ConnAck(_)) => Event::Connected,
        v5::Event::Incoming(Packet::Publish(publish)) => Event::Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload,
            is_retained: publish.retain,
        },
        v5::Event::Incoming(Packet::SubAck(ack)) => Event::Subscribed {
            is_granted: ack
                .return_codes
                .iter()
                .all(|code| matches!(code, SubscribeReasonCode::Success(_))),
        },
        v5::Event::Incoming(Packet::PubAck(ack)) => Event::Acknowledged(ack.pkid),
        v5::Event::Outgoing(Outgoing::Publish(id)) if id != 0 => Event::Sent(id),
        _ => Event::Other,
    }
}
