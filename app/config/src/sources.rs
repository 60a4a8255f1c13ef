//! `[[sources]]`: where readings come from.
//!
//! A source starts from `[defaults.all]`, then from the table of its kind, then
//! come its own keys. All three are laid over one another before anything is
//! read, so that what is printed and what is checked is what will run.

use std::path::PathBuf;

use hark_codec::MappingConfig;
use hark_engine::AlertPolicy;

use super::{
    connection::TlsConfig,
    settings::Protocol,
    topics::{SensorTemplate, TopicPattern},
    tree::{self, Entry, Table, Value},
};

mod modbus;
mod read;

pub(super) use modbus::check_line;
pub use modbus::{ModbusLink, ModbusReach, ModbusRegister};
pub(super) use read::read_defaults;

/// One stream of readings.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// Unique among the sources, not empty.
    pub name: String,
    /// The name of one of [`super::Config::models`].
    pub model: String,
    /// What the timestamps mean.
    pub clock: Clock,
    /// Under overload, sources with a lower priority are shed first: 0 to 9.
    pub priority: u8,
    /// More readings in a second are rejected; 0: no limit. At most 1 000 000.
    pub readings_per_second_max: u32,
    /// A longer payload or line is rejected, in bytes: 16 to [`hark_codec::PAYLOAD_MAX`].
    pub payload_bytes_max: usize,
    /// When there are alerts beside those of scores.
    pub alerts: AlertTimes,
    /// What a payload calls things.
    pub mapping: MappingConfig,
    /// At which count sequence numbers begin anew, at least 2; None: it is found out.
    pub sequence_modulo: Option<u64>,
    /// How long the last value of a channel stands for it where a payload has a part
    /// of the channels, milliseconds, at most a day; 0: payloads have all.
    pub hold_ms: u64,
    /// The sensor's name; captures only for MQTT. None: what the payload or the
    /// node says, or else the source's name.
    pub sensor: Option<SensorTemplate>,
    /// What a payload or line is written in.
    pub format: Format,
    /// What is known and wanted of the nodes at its other end; for the wire
    /// format only.
    pub nodes: NodesConfig,
    /// Where the payloads come from.
    pub link: Link,
}

/// When a source raises alerts that need no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTimes {
    /// Whether values out of range do.
    pub watches_range: bool,
    /// Milliseconds without anything from a sensor, at most a day; 0: never. None:
    /// ten periods of the schema, at least five seconds.
    pub silent_after_ms: Option<u64>,
    /// Milliseconds without a link, at most a day; 0: never.
    pub link_down_ms: u64,
}

impl AlertTimes {
    /// What the engine goes by, where readings come each `period_ms`.
    pub fn policy(&self, period_ms: f64) -> AlertPolicy {
        // Cast: a period is above 0, and one of ages saturates.
        let derived_ms = (10.0 * period_ms).max(SILENT_MS_MIN) as u64;
        let silent_after_ms = self.silent_after_ms.unwrap_or(derived_ms);
        AlertPolicy {
            watches_range: self.watches_range,
            silent_after_us: silent_after_ms.saturating_mul(1000),
            link_down_us: self.link_down_ms * 1000,
        }
    }
}

/// A sensor is not called silent before that unless a configuration says so: what
/// sends many times a second may still be held up on its way.
const SILENT_MS_MIN: f64 = 5_000.0;

/// What the timestamps of a source mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Nothing: the age is not checked.
    None,
    /// The node's own clock: its age is checked against the node's other readings.
    Node,
    /// Universal time: the age is checked against the gateway's clock.
    Utc,
}

/// What a payload or line is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Frames of `hark_wire`.
    Wire,
    /// What `hark_codec` decodes, by the source's mapping.
    Payload(hark_codec::Format),
    /// What a Modbus unit answers, by the source's registers.
    Registers,
}

/// What is known and wanted of a source's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesConfig {
    /// The ELF file of their firmware, by which their logs are read.
    pub elf: Option<PathBuf>,
    /// Milliseconds between two readings, up to an hour; 0: as the node has it.
    pub period_ms: u32,
    /// Whether they shall send readings.
    pub running: bool,
}

/// Where the payloads of a source come from; its `kind`.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// `kind = "serial"`.
    Serial(SerialLink),
    /// `kind = "mqtt"`.
    Mqtt(MqttLink),
    /// `kind = "file"`.
    File(FileLink),
    /// `kind = "modbus"`.
    Modbus(ModbusLink),
}

/// How long to wait before a lost link is tried again: doubled from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Milliseconds, `reconnect_ms_min`: 10 to 600 000.
    pub ms_min: u64,
    /// Milliseconds, `reconnect_ms_max`: `ms_min` to 600 000.
    pub ms_max: u64,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialLink {
    /// `/dev/ttyUSB0`
    pub port: String,
    /// Bits in a second: 50 to 4 000 000.
    pub baud: u32,
    /// The parity bit.
    pub parity: Parity,
    /// 7 or 8.
    pub data_bits: u8,
    /// 1 or 2.
    pub stop_bits: u8,
    /// None: the driver does not switch a transceiver.
    pub rs485: Option<Rs485Config>,
    /// When to open the port again.
    pub reconnect: Backoff,
}

/// How the driver switches the transceiver of a half-duplex line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rs485Config {
    /// Whether RTS is active while sending, and inactive while receiving; or
    /// the other way round.
    pub is_rts_on_send: bool,
    /// From the switch to the first bit, milliseconds: 0 to 100.
    pub delay_before_ms: u32,
    /// From the last bit to the switch back, milliseconds: 0 to 100.
    pub delay_after_ms: u32,
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// None is sent.
    None,
    /// The ones are even in number.
    Even,
    /// The ones are odd in number.
    Odd,
}

/// Topics of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttLink {
    /// At least one.
    pub topics: Vec<TopicPattern>,
    /// Quality of service of the subscriptions: 0 to 2.
    pub qos: u8,
    /// Whether what the broker had kept is a reading.
    pub accepts_retained: bool,
    /// None: as `[mqtt]`. See [`super::Config::broker_of`].
    pub host: Option<String>,
    /// None: as `[mqtt]`.
    pub port: Option<u16>,
    /// None: as `[mqtt]`.
    pub protocol: Option<Protocol>,
    /// Whether by TLS; none: as `[mqtt]`.
    pub tls: Option<bool>,
    /// What TLS goes by; where it says nothing, as `[mqtt]`.
    pub tls_files: TlsConfig,
    /// When to connect again.
    pub reconnect: Backoff,
}

/// A file that is replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct FileLink {
    /// The file.
    pub path: PathBuf,
    /// 0: as fast as possible; 1: real time; N: N times as fast. At most 1 000 000.
    pub speed: f64,
    /// Between rows that carry no time, in milliseconds, at most a day.
    pub period_ms: Option<f64>,
    /// Start again at the end.
    pub repeat: bool,
}

/// Lays each source over the defaults of all and of its kind.
pub(super) fn apply_defaults(root: &mut Table) {
    let Some(Entry {
        value: Value::Table(defaults),
        ..
    }) = root.get("defaults")
    else {
        return;
    };
    let defaults = defaults.clone();
    let Some(Entry {
        value: Value::Array(sources),
        ..
    }) = root.get_mut("sources")
    else {
        return;
    };
    for entry in sources {
        if let Value::Table(own) = &mut entry.value {
            let own_keys = std::mem::take(own);
            *own = start_of(&own_keys, &defaults);
            tree::merge(own, own_keys);
            modbus::apply_register_defaults(own);
        }
    }
}

fn start_of(own: &Table, defaults: &Table) -> Table {
    let kind = match own.get("kind").map(|entry| &entry.value) {
        Some(Value::Text(kind)) if kind != "all" => kind,
        _ => return Table::new(),
    };
    let mut start = Table::new();
    for table in ["all", kind] {
        if let Some(Entry {
            value: Value::Table(table),
            ..
        }) = defaults.get(table)
        {
            tree::merge(&mut start, table.clone());
        }
    }
    start
}
