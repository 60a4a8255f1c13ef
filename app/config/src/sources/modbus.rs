//! `kind = "modbus"`: units that are asked, on a serial line or over TCP, and the
//! registers in which each of them keeps its channels.

mod register;

pub use register::ModbusRegister;
pub(super) use register::apply_register_defaults;

use hark_modbus::{Plan, PlanLimits, Register};

use register::read_register;

use super::read::{Stream, read_rs485, read_sensor};
use super::{Backoff, Format, Link, NodesConfig, Parity, Rs485Config, SensorTemplate};
use crate::section::Section;
use crate::tree::Origin;

/// The port of Modbus TCP.
const TCP_PORT: u16 = 502;
/// What the standard has for the units of a line.
const UNITS_SERIAL: std::ops::RangeInclusive<u8> = 1..=247;
/// Over TCP 0 and 255 mean the device itself.
const UNITS_TCP: std::ops::RangeInclusive<u8> = 0..=255;
/// A day.
const POLL_MS_MAX: u64 = 86_400_000;

/// Units that are polled.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusLink {
    /// Where they are.
    pub reach: ModbusReach,
    /// Their addresses, each once; at least one.
    pub units: Vec<u8>,
    /// Milliseconds between two polls of a unit, at most a day; none: the period of
    /// the schema.
    pub poll_ms: Option<u64>,
    /// How long a unit may take to begin its answer: 1 to 60 000.
    pub response_timeout_ms: u64,
    /// How long a unit that does not answer is left alone at most: 100 to a day.
    pub retry_ms_max: u64,
    /// How far neighbours are asked for together.
    pub limits: PlanLimits,
    /// At least one, each channel once.
    pub registers: Vec<ModbusRegister>,
    /// When to open the line or connect again.
    pub reconnect: Backoff,
}

/// Where units are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModbusReach {
    /// RTU on a serial line, eight data bits. Sources of one port share it.
    Serial {
        /// `/dev/ttyUSB0`
        port: String,
        /// Bits in a second: 50 to 4 000 000.
        baud: u32,
        /// The parity bit.
        parity: Parity,
        /// 1 or 2.
        stop_bits: u8,
        /// None: the driver does not switch a transceiver.
        rs485: Option<Rs485Config>,
    },
    /// Over TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
}

impl ModbusReach {
    /// How long a character is on the line: a start bit, eight of data, and what
    /// follows. None over TCP.
    pub fn character(&self) -> Option<std::time::Duration> {
        let Self::Serial {
            baud,
            parity,
            stop_bits,
            ..
        } = self
        else {
            return None;
        };
        let bits = 9 + u32::from(*parity != Parity::None) + u32::from(*stop_bits);
        Some(std::time::Duration::from_secs(1) * bits / *baud)
    }

    fn serial_port(&self) -> Option<&str> {
        match self {
            Self::Serial { port, .. } => Some(port),
            Self::Tcp { .. } => None,
        }
    }
}

impl ModbusLink {
    /// When a sensor is silent where the configuration leaves that to the period.
    pub(super) fn silent_after_ms(&self) -> Option<u64> {
        let poll_ms = self.poll_ms?;
        Some((10 * poll_ms).max(5_000))
    }

    /// The requests by which a unit is polled.
    pub fn plan(&self) -> Plan {
        let registers: Vec<Register> = self.registers.iter().map(|r| r.register).collect();
        Plan::new(&registers, self.limits)
    }
}

/// Reads `[defaults.modbus]` only for what is wrong in it.
pub(super) fn read_defaults(section: &mut Section<'_, '_>) {
    read(section);
    section.partial_table("register", |register| {
        read_register(register);
    });
}

pub(super) fn read(section: &mut Section<'_, '_>) -> Stream {
    let reach = read_reach(section);
    let units = match &reach {
        ModbusReach::Tcp { .. } => UNITS_TCP,
        ModbusReach::Serial { .. } => UNITS_SERIAL,
    };
    let units = section.numbers("unit", units);
    let sensor = read_unit_sensor(section, units.len());
    let mut channels = Vec::new();
    let registers = section.tables("registers", |register| {
        let read = read_register(register);
        crate::check_unique(register, "channel", &mut channels, &read.channel);
        read
    });
    if registers.is_empty() && section.is_sound(&["registers"]) {
        section.wrong("registers", "must name at least one register");
    }
    let link = ModbusLink {
        reach,
        units,
        poll_ms: Some(section.integer("poll_ms", 0..=POLL_MS_MAX)).filter(|ms| *ms > 0),
        response_timeout_ms: section.integer("response_timeout_ms", 1..=60_000),
        retry_ms_max: section.integer("retry_ms_max", 100..=POLL_MS_MAX),
        limits: PlanLimits {
            gap_max: section.integer("gap_max", 0..=hark_modbus::REGISTERS_MAX - 1),
            registers_max: section.integer("registers_max", 1..=hark_modbus::REGISTERS_MAX),
        },
        registers,
        reconnect: Backoff::read(section),
    };
    check_round(section, &link);
    (
        sensor,
        Format::Registers,
        NodesConfig::UNASKED,
        Link::Modbus(link),
    )
}

/// `port` names a line, or with a `host` it is a number.
fn read_reach(section: &mut Section<'_, '_>) -> ModbusReach {
    let parities = [
        ("none", Parity::None),
        ("even", Parity::Even),
        ("odd", Parity::Odd),
    ];
    let host = section.text_or_none("host");
    let (baud, parity) = (
        section.integer("baud", 50..=4_000_000),
        section.word("parity", &parities),
    );
    let (stop_bits, rs485) = (section.integer("stop_bits", 1..=2), read_rs485(section));
    if let Some(host) = host {
        return read_tcp(section, &host);
    }
    match section.is_text("port") {
        None if !section.is_partial() => {
            section.text_or_absent("port");
            let message = "missing: a source of this kind needs `port`, a serial line such as \
                           \"/dev/ttyUSB0\", or `host`, for Modbus TCP";
            section.wrong("port", message);
        }
        Some(false) if !section.is_partial() => {
            section.integer::<u16>("port", 0..=u16::MAX);
            let message = "is a number, so `host` must say whose; a serial line is \
                           port = \"/dev/ttyUSB0\"";
            section.wrong("port", message);
        }
        _ => {}
    }
    ModbusReach::Serial {
        port: section.text_or_absent("port"),
        baud,
        parity,
        stop_bits,
        rs485,
    }
}

fn read_tcp(section: &mut Section<'_, '_>, text: &str) -> ModbusReach {
    let (host, own_port) = match split_host(text) {
        Ok(parts) => parts,
        Err(message) => {
            section.wrong("host", message);
            (text, None)
        }
    };
    let key = match section.is_text("port") {
        None => {
            section.text_or_absent("port");
            None
        }
        Some(true) => {
            section.text_or_absent("port");
            let message = "names a serial line beside a `host`: leave out one of them; with a \
                           `host` it is a number, as port = 502";
            section.wrong("port", message);
            None
        }
        Some(false) => Some(section.integer("port", 1..=u16::MAX)),
    };
    if let (Some(own), Some(key)) = (own_port, key)
        && own != key
        && section.is_sound(&["port"])
    {
        section.wrong("port", format!("is {key}, but `host` says {own}"));
    }
    ModbusReach::Tcp {
        host: host.to_owned(),
        port: key.or(own_port).unwrap_or(TCP_PORT),
    }
}

/// The host and port of `name`, `name:1502`, `[::1]:1502` or `tcp://name`.
fn split_host(text: &str) -> Result<(&str, Option<u16>), String> {
    let wrong = || {
        format!(
            "must be a name or an address, such as \"192.0.2.9\" or \"192.0.2.9:502\", found {text:?}"
        )
    };
    let text = match text.split_once("://") {
        Some(("tcp" | "modbus" | "modbus+tcp", rest)) => rest.trim_end_matches('/'),
        Some(_) => return Err(wrong()),
        None => text,
    };
    let port = |port: &str| port.parse().ok().filter(|port| *port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((host, Some(port(text).ok_or_else(wrong)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(wrong()),
        };
    }
    match text.split_once(':') {
        // An address of version 6 has more of them.
        Some((host, rest)) if !rest.contains(':') => {
            Ok((host, Some(port(rest).ok_or_else(wrong)?)))
        }
        _ if text.is_empty() || text.contains(['/', ' ']) => Err(wrong()),
        _ => Ok((text, None)),
    }
}

/// A template that tells the units apart.
fn read_unit_sensor(section: &mut Section<'_, '_>, units: usize) -> Option<SensorTemplate> {
    let template = read_sensor(section)?;
    if let Some(name) = template.names().find(|name| *name != "unit") {
        let message = format!("`{{{name}}}` is captured by nothing: right is `{{unit}}`");
        section.wrong("sensor", message);
    } else if units > 1 && template.fixed().is_some() {
        let message = format!("{units} units cannot be one sensor: put `{{unit}}` into the name");
        section.wrong("sensor", message);
    }
    Some(template)
}

/// Refuses a period in which the line cannot even carry all requests and answers.
fn check_round(section: &mut Section<'_, '_>, link: &ModbusLink) {
    let keys = [
        "unit",
        "registers",
        "poll_ms",
        "baud",
        "parity",
        "stop_bits",
    ];
    let (Some(character), Some(poll_ms)) = (link.reach.character(), link.poll_ms) else {
        return;
    };
    if link.registers.is_empty() || !section.is_sound(&keys) {
        return;
    }
    let plan = link.plan();
    let characters: u32 = link.units.iter().map(|unit| plan.characters(*unit)).sum();
    let round = character * characters;
    let least_ms = round.as_micros().div_ceil(1000) as u64;
    if least_ms > poll_ms {
        let units = link.units.len();
        let ModbusReach::Serial { baud, .. } = link.reach else {
            return;
        };
        section.wrong(
            "poll_ms",
            format!(
                "must be at least {least_ms}, found {poll_ms}: so long {baud} baud take for the \
                 requests and answers of {units} units, without the units' own time"
            ),
        );
    }
}

/// Refuses a line that another source sets otherwise, or that is no bus.
pub(crate) fn check_line(
    section: &mut Section<'_, '_>,
    link: &ModbusLink,
    lines: &mut Vec<(ModbusReach, Origin)>,
    ports: &mut Vec<(String, Origin)>,
) {
    let Some(port) = link.reach.serial_port() else {
        return;
    };
    let earlier = lines
        .iter()
        .find(|(reach, _)| reach.serial_port() == Some(port));
    match earlier {
        Some((reach, place)) if *reach != link.reach => {
            let message = format!(
                "{port:?} is set otherwise at {place}: `baud` and the like belong to the line"
            );
            section.wrong("port", message);
        }
        Some(_) => {}
        None => {
            crate::check_unique(section, "port", ports, port);
            let place = section.place_of("port").cloned();
            lines.extend(place.map(|place| (link.reach.clone(), place)));
        }
    }
}
